"""Asking the person at the terminal. Ctrl-C and Ctrl-D at a prompt raise `Interrupted`, which ends quietly."""

import getpass
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .environment import read_variable
from .errors import Interrupted, WrongUsage

TERMINAL = Path("/dev/tty")


def ask_hidden(prompt: str, *, instead: str) -> str:
    """Return a line that is not shown. Raises `Interrupted`, and `WrongUsage` with what to do ``instead``."""
    with _asking(instead):
        # It would fall back to stdin, which may be the text to share.
        TERMINAL.open("rb").close()
        return getpass.getpass(f"{prompt}: ")


def ask_line(prompt: str, *, instead: str) -> str:
    """Return a line that is shown; as `ask_hidden`."""
    with _asking(instead), TERMINAL.open("r+b", buffering=0) as terminal:
        terminal.write(f"{prompt}: ".encode())
        line = terminal.readline()
        if not line:
            terminal.write(b"\n")
            raise EOFError
        return line.decode().rstrip("\r\n")


def ask_twice(prompt: str, *, instead: str) -> str:
    """Return something new that is not shown, typed twice alike; as `ask_hidden`."""
    while True:
        first = ask_hidden(prompt, instead=instead)
        if ask_hidden("Again", instead=instead) == first:
            return first
        sys.stderr.write("These were two different ones.\n")


def ask_text(prompt: str, *, hidden: bool) -> str:
    """Return lines from stdin, a terminal, up to Ctrl-D; without the last line's end."""
    sys.stderr.write(f"{prompt}{' (it is not shown)' if hidden else ''}. End with Enter and Ctrl-D:\n")
    sys.stderr.flush()
    with _asking(""), _echo(shown=not hidden):
        raw = sys.stdin.buffer.read()
        if not raw:
            raise EOFError
        return raw.decode().removesuffix("\n")


def secret_input(variable: str, prompt: str, *, new: bool = False) -> str:
    """Return what the environment has, or else what is typed unseen, a new one twice."""
    given = read_variable(variable)
    if given is not None:
        return given
    return (ask_twice if new else ask_hidden)(prompt, instead=f"set {variable}")


@contextmanager
def _asking(instead: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, KeyboardInterrupt):
        sys.stderr.write("\n")
        raise Interrupted from None
    except UnicodeError:
        raise WrongUsage("what was typed is not UTF-8") from None
    except OSError:
        raise WrongUsage(f"there is no terminal to ask on: {instead}") from None


@contextmanager
def _echo(*, shown: bool) -> Iterator[None]:
    if shown:
        yield
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(handle, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
