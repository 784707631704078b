"""Counts and logs requests, several at a time."""

import asyncio

from ..core.logs import AnsweredRequest, request_log
from ..core.metrics import Metrics


class AnsweredRequests:
    """The requests that were answered in this iteration of the event loop; the next one counts and logs them.

    One after another they cost a third of what each costs between two responses. A process that is killed loses those
    of one iteration at most.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = request_log()
        self._requests: list[AnsweredRequest] = []

    def add(self, request: AnsweredRequest) -> None:
        """Add a request."""
        if not self._requests:
            asyncio.get_running_loop().call_soon(self.record)
        self._requests.append(request)

    def record(self) -> None:
        """Count and log all of them now."""
        requests, self._requests = self._requests, []
        for request in requests:
            self._metrics.request(request.method, request.route, request.status, request.seconds)
        if requests:
            self._log(requests)
