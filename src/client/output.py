"""What a command shows: results on stdout, and on stderr what is said about them."""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ClientError

if TYPE_CHECKING:
    from rich.console import Console

UNBOUNDED = 1000
"""Width for what is not a terminal: a program that reads a table wants no line broken."""

# A terminal obeys these; whoever wrote the text must not command it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def say(text: str) -> None:
    """Tell something that is no result."""
    sys.stderr.write(f"sealpost: {make_harmless(text)}\n")
    sys.stderr.flush()


def make_harmless(text: str) -> str:
    """Return a text with its control characters written out, but for line breaks and tabs."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


@dataclass(frozen=True)
class Output:
    """Shows results, as JSON for programs or in words for people."""

    as_json: bool = False
    no_color: bool = False

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it."""
        return sys.stdout.isatty() and not self.as_json

    def records(self, records: Iterable[Mapping[str, object]]) -> None:
        """Write objects as JSON, one a line."""
        for record in records:
            self.line(json.dumps(record, ensure_ascii=False))

    def line(self, text: str) -> None:
        """Write one line."""
        self.exact(f"{text}\n")

    def exact(self, text: str) -> None:
        """Write a text as it is, in UTF-8; a terminal gets its control characters written out.

        Raises `ClientError` where it cannot be written, and `BrokenPipeError` where nobody reads on.
        """
        harmless = make_harmless(text) if sys.stdout.isatty() else text
        if harmless != text:
            say("the text has control characters, written here as \\x..; send stdout to a file to get them as they are")
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(harmless.encode())
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ClientError(f"stdout cannot be written: {error.strerror}") from None

    def fields(self, title: str, fields: Mapping[str, str]) -> None:
        """Write names and values: on a terminal in a panel, where they fit into one."""
        width = max(map(len, fields))
        lines = [f"{name:<{width}}  {make_harmless(value)}" for name, value in fields.items()]
        if not self.is_terminal:
            self.line("\n".join(lines))
            return
        from rich.panel import Panel  # noqa: PLC0415 (a tenth of a second, for people alone)
        from rich.text import Text  # noqa: PLC0415

        console = self._console()
        text = Text("\n".join(lines))
        text.highlight_regex(rf"(?m)^.{{{width}}}", "bold")
        if max(map(len, lines)) + 4 <= console.width:
            console.print(Panel(text, title=title, title_align="left", expand=False))
        else:
            # A link that is broken into two lines cannot be copied.
            console.print(text, soft_wrap=True)

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table."""
        from rich.table import Table  # noqa: PLC0415

        table = Table(*heads, box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for column in table.columns:
            column.overflow = "fold"
        for row in rows:
            table.add_row(*map(make_harmless, row))
        self._console().print(table)

    def _console(self) -> "Console":
        from rich.console import Console  # noqa: PLC0415

        return Console(
            markup=False,
            emoji=False,
            highlight=False,
            no_color=self.no_color or None,
            width=None if self.is_terminal else UNBOUNDED,
        )


def drop_stdout() -> None:
    """Let nothing more be written: whoever read stdout has gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
