"""The manual page, made from the help: ``python -m src.client.manual`` writes it to stdout."""

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from typer.core import TyperGroup

from .. import __version__
from .__main__ import PROGRAM, app, command_of
from .environment import VARIABLES
from .errors import MEANINGS
from .options import PANEL

FILES = {
    "$XDG_CONFIG_HOME/sealpost/credentials.json": "The session of each server; ~/.config by default.",
    "$XDG_STATE_HOME/sealpost/spool": "Lines that `gather --follow` has not delivered yet; ~/.local/state by default.",
}
SEE_ALSO = "docs/client.md in the source describes every command in detail."


def write_manual() -> str:
    """Return the page in roff's man macros."""
    root: Any = command_of(app)
    lines = [
        '.\\" Made by `make man` from the help of the commands.',
        f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {__version__}"',
        ".SH NAME",
        f"{PROGRAM} \\- {_escape(str(root.help)).rstrip('.')}",
        ".SH SYNOPSIS",
        f".B {PROGRAM}",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
    ]
    panel = ""
    for section, name, command in _commands(root):
        if section != panel:
            panel = section
            lines.append(f".SH {panel.upper()}")
        lines += _describe(name, command)
    lines.append(f".SH {PANEL.upper()}")
    lines += _definitions((_signature(one), one.help) for one in root.params if _is_shared(one))
    lines.append(".SH OTHER OPTIONS")
    lines += _definitions((_signature(one), one.help) for one in root.params if not _is_shared(one))
    lines.append(".SH EXIT STATUS")
    lines += _definitions((f"\\fB{code:d}\\fR", meaning) for code, meaning in MEANINGS.items())
    for title, entries in (("ENVIRONMENT", VARIABLES), ("FILES", FILES)):
        lines.append(f".SH {title}")
        lines += _definitions((f"\\fB{_escape(name)}\\fR", meaning) for name, meaning in entries.items())
    return "\n".join([*lines, ".SH SEE ALSO", _escape(SEE_ALSO)]) + "\n"


def _commands(root: Any) -> Iterator[tuple[str, str, Any]]:
    """Return the panel, the full name and the object of each command."""
    for name, command in root.commands.items():
        members = command.commands if isinstance(command, TyperGroup) else {"": command}
        for member, found in members.items():
            yield str(command.rich_help_panel), f"{name} {member}".rstrip(), found


def _describe(name: str, command: Any) -> list[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not _is_shared(one)]
    words = [f"\\fI{one.metavar}\\fR" if one.required else f"[\\fI{one.metavar}\\fR]" for one in arguments]
    words += [f"[{_signature(one)}]" if not one.required else _signature(one) for one in options]
    return [
        f".SS {PROGRAM} {name}",
        " ".join([f"\\fB{PROGRAM} {name}\\fR".replace("-", "\\-"), *words]),
        ".PP",
        *_paragraphs(command.help),
        *_definitions((f"\\fI{one.metavar}\\fR", one.help) for one in arguments),
        *_definitions((_signature(one), one.help) for one in options),
    ]


def _signature(option: Any) -> str:
    names = ", ".join(f"\\fB{_escape(name)}\\fR" for name in option.opts)
    return f"{names} \\fI{option.metavar}\\fR" if option.metavar else names


def _is_shared(option: Any) -> bool:
    return getattr(option, "rich_help_panel", None) == PANEL


def _definitions(entries: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    for term, text in entries:
        yield from (".TP", term, _escape(text or ""))


def _paragraphs(text: str) -> list[str]:
    paragraphs = [" ".join(one.split()) for one in re.split(r"\n\s*\n", text.strip())]
    return [line for one in paragraphs for line in (_escape(one), ".PP")][:-1]


def _escape(text: str) -> str:
    """Return text for roff; code between backticks is bold."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", re.sub(r"^([.'])", r"\\&\1", text))


if __name__ == "__main__":
    sys.stdout.write(write_manual())
