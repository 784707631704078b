"""Asking the person at the terminal. Ctrl-C and Ctrl-D at a prompt raise `Interrupted`, which ends quietly."""

import getpass
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from .encodings import decode_text
from .environment import read_variable
from .errors import InputEnded, Interrupted, WrongUsage

try:
    import termios
except ImportError:
    HAS_TERMIOS = False
else:
    HAS_TERMIOS = True

TERMINAL = "/dev/tty"
LONGEST_LINE = 4096
"""Bytes; a terminal takes no longer line."""
TYPED = "what was typed"


def ask(prompt: str, *, hidden: bool = False, instead: str) -> str:
    """Return a line, from the terminal even where stdin is a pipe. Raises `WrongUsage`, with what to do ``instead``."""
    if not HAS_TERMIOS:
        return _ask_without_termios(prompt, hidden=hidden, instead=instead)
    try:
        handle = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        raise WrongUsage(f"there is no terminal to ask on: {instead}") from None
    try:
        with _asking(), _echo(handle, shown=not hidden):
            os.write(handle, f"{prompt}: ".encode())
            line = os.read(handle, LONGEST_LINE)
            if hidden or not line:
                os.write(handle, b"\n")
            if not line:
                raise EOFError
            return decode_text(line, TYPED).rstrip("\r\n")
    finally:
        os.close(handle)


def ask_twice(prompt: str, *, instead: str) -> str:
    """Return something new that is not shown, typed twice alike; as `ask`."""
    while True:
        first = ask(prompt, hidden=True, instead=instead)
        if ask("Again", hidden=True, instead=instead) == first:
            return first
        sys.stderr.write("These were two different ones.\n")


def ask_text(prompt: str, *, hidden: bool) -> str:
    """Return lines from stdin, a terminal, up to Ctrl-D; without the end of the last line.

    Without termios only one line can be typed unseen.
    """
    if not HAS_TERMIOS and hidden:
        return _ask_without_termios(f"{prompt} (one line, it is not shown)", hidden=True, instead="give it on stdin")
    sys.stderr.write(f"{prompt}{' (it is not shown)' if hidden else ''}. End with Enter and Ctrl-D:\n")
    sys.stderr.flush()
    with _asking(), _echo(sys.stdin.fileno(), shown=not hidden):
        raw = sys.stdin.buffer.read()
        if not raw:
            raise EOFError
        return decode_text(raw, TYPED).removesuffix("\n")


def ask_secret(variable: str, prompt: str, *, new: bool = False) -> str:
    """Return what the environment has, or else what is typed unseen, something new twice."""
    given = read_variable(variable)
    if given is not None:
        return given
    instead = f"set {variable}"
    return ask_twice(prompt, instead=instead) if new else ask(prompt, hidden=True, instead=instead)


def _ask_without_termios(prompt: str, *, hidden: bool, instead: str) -> str:
    """Return a line as `ask` does, on a system such as Windows."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise WrongUsage(f"there is no terminal to ask on: {instead}")
    with _asking(), warnings.catch_warnings():
        # Where the echo cannot be switched off, it only warns.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            if hidden:
                return getpass.getpass(f"{prompt}: ")
            sys.stderr.write(f"{prompt}: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
        except getpass.GetPassWarning:
            raise WrongUsage(f"this terminal cannot hide what is typed: {instead}") from None
        if not line:
            raise EOFError
        return line.rstrip("\r\n")


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except EOFError:
        raise InputEnded from None
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise Interrupted from None


@contextmanager
def _echo(handle: int, *, shown: bool) -> Iterator[None]:
    if shown:
        yield
        return
    before = termios.tcgetattr(handle)
    silent = termios.tcgetattr(handle)
    silent[3] &= ~termios.ECHO
    try:
        # Inside, because Ctrl-C may come as soon as the echo is off.
        termios.tcsetattr(handle, termios.TCSAFLUSH, silent)
        yield
    finally:
        # What was pasted and not read must not end up in the shell.
        termios.tcsetattr(handle, termios.TCSAFLUSH, before)
