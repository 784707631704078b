"""The same service with one MongoDB command per request, the benchmark's comparison for group commit.

`python -m bench.single -U SOCKET` replaces `src.app` in a worker.
"""

import sys
from collections.abc import Callable, Hashable

from src.command import main
from src.core.database.group_commit import Command, Committer, Request, Result


class OnePerRequest(Committer[Request, Result]):
    """Sends a separate command for each request, immediately."""

    def __init__(self, command: Command[Request, Result]) -> None:
        self._command = command

    async def submit(self, request: Request) -> Result:
        """Return the result of the request, or raise its error."""
        (result,) = await self._command([request])
        if isinstance(result, Exception):
            raise result
        return result

    async def close(self) -> None:
        """Do nothing: there is no queue to flush."""


def one_per_request(
    name: str,  # noqa: ARG001 (no metrics)
    command: Command[Request, Result],
    *,
    key: Callable[[Request], Hashable] | None = None,  # noqa: ARG001 (no two requests share a command)
    abandoned: Callable[[Request, Result], None] | None = None,  # noqa: ARG001 (the bench cancels nothing)
) -> Committer[Request, Result]:
    """Return a committer without batching."""
    return OnePerRequest(command)


if __name__ == "__main__":
    sys.exit(main(batching=one_per_request))
