"""Output: results go to stdout, messages to stderr."""

import json
import os
import re
import select
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ClientError, PipeClosed, WrongUsage

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

ID_WIDTH = 32
PANEL_FRAME = 4
UNBOUNDED = 1000
"""Width if stdout is not a terminal, so that table rows do not wrap."""

# Control characters, and the bidirectional ones of UAX #9, section 2, which reorder the text after them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def say(text: str) -> None:
    """Write a message to stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"sealpost: {make_harmless(text)}\n")
        sys.stderr.flush()


def say_on_terminal(text: str) -> None:
    """Write a message to stderr if it is a terminal, because it must not end up in a log."""
    if sys.stderr is not None and sys.stderr.isatty():
        say(text)


def make_harmless(text: str) -> str:
    """Return a text with its control characters escaped, except line breaks and tabs."""
    return _CONTROL.sub(_escape, text.replace("\r\n", "\n"))


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return f"\\x{ord(character):02x}" if character < "\u0100" else f"\\u{ord(character):04x}"


@dataclass(frozen=True)
class Output:
    """Writes results to stdout, as JSON or as text."""

    as_json: bool = False
    no_color: bool = False

    @property
    def is_terminal(self) -> bool:
        """Whether a user reads the output directly."""
        return sys.stdout is not None and sys.stdout.isatty() and not self.as_json

    def records(self, records: Iterable[Mapping[str, object]]) -> None:
        """Write objects as JSON, one per line."""
        for record in records:
            written = json.dumps(record, ensure_ascii=False)
            _write(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", written) + "\n")

    def line(self, text: str) -> None:
        """Write a line."""
        _write(f"{make_harmless(text) if self.is_terminal else text}\n")

    def exact(self, text: str) -> None:
        """Write a text unchanged, as UTF-8; for a terminal, control characters are escaped.

        Raises `PipeClosed`, and `ClientError` if stdout fails.
        """
        if not self.is_terminal:
            _write(text)
            return
        _write(make_harmless(text))
        if sys.stderr is not None and sys.stderr.isatty() and text[-1:] not in ("", "\n"):
            # The shell's prompt should start on a new line, but stdout must contain only the text.
            sys.stderr.write("\n")
        if _CONTROL.search(text.replace("\r\n", "\n")):
            say("control characters in the text are shown as \\x.. or \\u....; redirect stdout to a file to keep them")

    def done(self, record: Mapping[str, object], words: str) -> None:
        """Report success: with ``--json`` a record on stdout, otherwise ``words`` on stderr."""
        if self.as_json:
            self.records([record])
        else:
            say(words)

    def heading(self, text: str) -> None:
        """Write a line, in bold on a terminal."""
        if not self.is_terminal:
            self.line(text)
            return
        from rich.text import Text  # noqa: PLC0415 (a tenth of a second, for terminals only)

        self._render(Text(make_harmless(text), style="bold"), soft_wrap=True)

    def check(self) -> None:
        """Raise `WrongUsage` if stdout is already known to be unwritable."""
        if sys.stdout is None:
            raise WrongUsage("stdout is closed")
        try:
            handle = sys.stdout.fileno()
        except OSError:
            return
        if not hasattr(select, "poll"):
            return
        poll = select.poll()
        poll.register(handle, 0)
        if poll.poll(0):
            raise WrongUsage("the program that reads stdout has ended")

    def fields(self, title: str, fields: Mapping[str, str]) -> None:
        """Write names and values: on a terminal in a panel, if they fit."""
        width = max(map(len, fields))
        lines = [f"{name:<{width}}  {make_harmless(value)}" for name, value in fields.items()]
        if not self.is_terminal:
            self.line("\n".join(lines))
            return
        from rich.panel import Panel  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        text = Text("\n".join(lines))
        text.highlight_regex(rf"(?m)^.{{{width}}}", "bold")
        if max(map(len, lines)) + PANEL_FRAME <= self._console().width:
            self._render(Panel(text, title=title, title_align="left", expand=False))
        else:
            # A wrapped link cannot be copied.
            self._render(text, soft_wrap=True)

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> None:
        """Write a table. The last ``numbers`` columns are numbers; if 0, the last column has ids, which do not wrap."""
        from rich.table import Table  # noqa: PLC0415

        table = Table(*heads, box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for column in table.columns:
            column.overflow = "fold"
        if numbers:
            for column in table.columns[-numbers:]:
                column.justify = "right"
        else:
            table.columns[-1].min_width = ID_WIDTH
        for row in rows:
            table.add_row(*map(make_harmless, row))
        self._render(table)

    def _render(self, what: "RenderableType", *, soft_wrap: bool = False) -> None:
        console = self._console()
        with console.capture() as captured:
            console.print(what, soft_wrap=soft_wrap)
        _write(captured.get())

    def _console(self) -> "Console":
        from rich.console import Console  # noqa: PLC0415

        return Console(
            markup=False,
            emoji=False,
            highlight=False,
            no_color=self.no_color or None,
            width=None if self.is_terminal else UNBOUNDED,
        )


def _write(text: str) -> None:
    write_bytes(text.encode(errors="backslashreplace"))


def write_bytes(content: bytes) -> None:
    """Write to stdout. Raises `PipeClosed`, and `ClientError` if stdout fails."""
    if sys.stdout is None:
        raise WrongUsage("stdout is closed")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Otherwise the interpreter would flush the buffer again when it exits.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        if isinstance(error, BrokenPipeError):
            raise PipeClosed from None
        raise ClientError(f"cannot write to stdout: {error.strerror}") from None
