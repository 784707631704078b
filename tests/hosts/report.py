"""Measurements of a run: operations by fault and outcome, and the longest gaps between acknowledged creations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .checker import longest_gap
from .cluster import HOSTS
from .history import Kind, Operation, Outcome, write_history


@dataclass
class FaultReport:
    """Collects measurements from histories, and writes the histories to a directory if one is given."""

    directory: Path | None
    _rows: list[tuple[str, ...]] = field(default_factory=list)
    _kinds: Counter[tuple[Kind, Outcome]] = field(default_factory=Counter)

    def add(self, name: str, history: Sequence[Operation], violations: int) -> None:
        """Add the history of a fault."""
        if self.directory:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_history(self.directory / f"{name.replace(' ', '-')}.jsonl", history)
        fault = next(one for one in history if one.kind is Kind.FAULT)
        end = max(one.end for one in history if one.kind is Kind.CREATE)
        gaps = [longest_gap(history, fault.begin, end, host) for host in (None, *HOSTS)]
        operations = [one for one in history if one.kind is not Kind.FAULT]
        self._kinds.update((one.kind, one.outcome) for one in operations)
        unknown = sum(one.outcome is Outcome.UNKNOWN for one in operations)
        row = [name, f"{fault.end - fault.begin:.0f} s", str(len(operations)), str(unknown)]
        self._rows.append((*row, *(f"{gap:.1f} s" for gap in gaps), str(violations)))

    def table(self) -> str:
        """Return the measurements as Markdown tables."""
        heads = ["fault", "duration", "operations", "unknown outcome", "longest gap between 201s"]
        faults = _table((*heads, *HOSTS, "violations"), self._rows)
        outcomes = tuple(Outcome)
        kinds = [
            (kind.value, *(str(self._kinds[kind, outcome]) for outcome in outcomes))
            for kind in Kind
            if kind is not Kind.FAULT
        ]
        return faults + "\n" + _table(("operation", *(outcome.value for outcome in outcomes)), kinds)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
