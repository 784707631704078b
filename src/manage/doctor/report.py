"""How findings are shown."""

import json
from collections import Counter

from rich.console import Console
from rich.text import Text

from ..output import say, show_line
from .findings import Finding, Mark

_STYLES = {Mark.OK: "green", Mark.WARNING: "yellow", Mark.FAILED: "bold red", Mark.NOT_CHECKED: "dim"}
_MARK_WIDTH = max(map(len, Mark)) + 2
_CHECK_WIDTH = 18


class Report:
    """Shows each finding as it comes: a line, and one with what to do; or, with ``as_json``, an object a line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(markup=False, emoji=False, highlight=False)
        self._counts = Counter[Mark]()

    def show(self, finding: Finding) -> None:
        """Show one."""
        outcome = finding.outcome
        self._counts[outcome.mark] += 1
        if self._as_json:
            record = {"check": finding.check, "mark": outcome.mark, "found": outcome.found, "advice": outcome.advice}
            show_line(json.dumps(record))
            return
        line = Text(f"{outcome.mark:<{_MARK_WIDTH}}", style=_STYLES[outcome.mark])
        line.append(f"{finding.check:<{_CHECK_WIDTH}}{outcome.found}", style="not bold not dim default")
        if outcome.advice:
            line.append(f"\n{'':<{_MARK_WIDTH + _CHECK_WIDTH}}{outcome.advice}", style="not bold default")
        # Wrapped by the terminal, if at all: whoever copies a path wants it whole.
        self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Say on stderr how many there were of each."""
        say("; ".join(f"{mark}: {self._counts[mark]}" for mark in Mark))

    def code(self, *, strict: bool) -> int:
        """Return the exit code: 1 where something failed, and with ``strict`` also where there was a warning."""
        return int(bool(self._counts[Mark.FAILED] or (strict and self._counts[Mark.WARNING])))
