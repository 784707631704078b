"""Logs requests, several at a time."""

import asyncio

from ..core.logs import AnsweredRequest, request_log


class RequestLog:
    """The requests that were answered in this iteration of the event loop; the next one logs them.

    One after another, they cost a third of what each costs between two responses. A process that is killed loses the
    lines of one iteration at most; one that ends otherwise loses none.
    """

    def __init__(self) -> None:
        self._log = request_log()
        self._requests: list[AnsweredRequest] = []

    def add(self, request: AnsweredRequest) -> None:
        """Add a request."""
        if not self._requests:
            asyncio.get_running_loop().call_soon(self.write)
        self._requests.append(request)

    def write(self) -> None:
        """Log all of them now."""
        if self._requests:
            requests, self._requests = self._requests, []
            self._log(requests)
