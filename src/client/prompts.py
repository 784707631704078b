"""Input from the user: texts, passwords and other answers, from arguments, stdin, files, variables or prompts.

Ctrl-C and Ctrl-D at a prompt raise `Interrupted`, which ends the program without a message.
"""

import getpass
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .encodings import decode_text
from .environment import PHRASE, read_variable
from .errors import InputEnded, Interrupted, WrongUsage

try:
    import termios
except ImportError:
    HAS_TERMIOS = False
else:
    HAS_TERMIOS = True

TERMINAL = "/dev/tty"
LONGEST_LINE = 4096
"""Bytes; the longest line of a terminal."""
TYPED = "the input"
LARGEST_TEXT = 1024 * 1024
"""Bytes of UTF-8; a server accepts no larger body."""
LARGEST_INPUT = 4 * LARGEST_TEXT + 4
"""Bytes of the largest text in UTF-32, with its byte order mark."""
TOO_LONG = "the text is larger than 1 MiB, the limit of a server"
INSTEAD = f"use --password-file, or set {PHRASE}"


def ask(prompt: str, *, hidden: bool = False, instead: str) -> str:
    """Return a line from the terminal, even if stdin is a pipe.

    Raises `WrongUsage` without a terminal; its message ends with ``instead``.
    """
    if not HAS_TERMIOS:
        return _ask_without_termios(prompt, hidden=hidden, instead=instead)
    try:
        handle = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        raise WrongUsage(f"no terminal to prompt on: {instead}") from None
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
    """Return a new password, which has to be typed twice; raises as `ask`."""
    while True:
        first = ask(prompt, hidden=True, instead=instead)
        if ask("Again", hidden=True, instead=instead) == first:
            return first
        sys.stderr.write("They do not match. Try again.\n")


def ask_text(prompt: str, *, hidden: bool) -> str:
    """Return lines from a terminal as stdin, up to Ctrl-D, without the last line break.

    Without termios, only a single line can be hidden.
    """
    if not HAS_TERMIOS and hidden:
        return _ask_without_termios(f"{prompt} (one line, hidden)", hidden=True, instead="use stdin")
    sys.stderr.write(f"{prompt}{' (hidden)' if hidden else ''}; finish with Enter and Ctrl-D:\n")
    sys.stderr.flush()
    with _asking(), _echo(sys.stdin.fileno(), shown=not hidden):
        raw = sys.stdin.buffer.read()
        if not raw:
            raise EOFError
        return decode_text(raw, TYPED).removesuffix("\n")


def ask_password(variable: str, prompt: str, *, new: bool = False) -> str:
    """Return the password in a variable, or prompt for it; prompt for a ``new`` one twice."""
    given = read_variable(variable)
    if given is not None:
        return given
    instead = f"set {variable}"
    return ask_twice(prompt, instead=instead) if new else ask(prompt, hidden=True, instead=instead)


def read_text(argument: str | None, prompt: str, *, hidden: bool = False) -> str:
    """Return the argument; if it is missing or ``-``, the text on stdin. On a terminal, prompt for it.

    Raises `WrongUsage` and `Interrupted`.
    """
    if argument is not None and argument != "-":
        text = argument
    elif sys.stdin is None:
        text = ""
    elif sys.stdin.isatty():
        text = ask_text(prompt, hidden=hidden)
    else:
        raw = sys.stdin.buffer.read(LARGEST_INPUT + 1)
        if len(raw) > LARGEST_INPUT:
            raise WrongUsage(TOO_LONG)
        text = decode_text(raw, "stdin")
    if not text:
        raise WrongUsage("no text: give it as an argument or on stdin")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise WrongUsage("the text is not UTF-8") from None
    if size > LARGEST_TEXT:
        raise WrongUsage(TOO_LONG)
    return text


def given_password(password_file: Path | None) -> str | None:
    """Return the password of a secret from the file or the environment, if any. Raises `WrongUsage`."""
    if password_file is None:
        return read_variable(PHRASE)
    try:
        password = decode_text(password_file.read_bytes(), str(password_file)).rstrip("\r\n")
    except OSError as error:
        raise WrongUsage(f"cannot read {password_file}: {error.strerror}") from None
    if not password:
        raise WrongUsage(f"{password_file} is empty")
    if "\0" in password:
        # UTF-16 without a byte order mark is a wrong password in UTF-8, and wrong attempts destroy the secret.
        raise WrongUsage(f"{password_file} contains NUL characters. If it is UTF-16, save it as UTF-8")
    return password


def new_secret_password() -> str:
    """Prompt twice for the password of a new secret."""
    return ask_twice("Password for this secret", instead=INSTEAD)


def ask_secret_password() -> str:
    """Prompt for the password of a secret."""
    return ask("Password of this secret", hidden=True, instead=INSTEAD)


def _ask_without_termios(prompt: str, *, hidden: bool, instead: str) -> str:
    """Return a line as `ask` does, on systems such as Windows."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise WrongUsage(f"no terminal to prompt on: {instead}")
    with _asking(), warnings.catch_warnings():
        # getpass only warns if it cannot turn the echo off.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            if hidden:
                return getpass.getpass(f"{prompt}: ")
            sys.stderr.write(f"{prompt}: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
        except getpass.GetPassWarning:
            raise WrongUsage(f"this terminal cannot hide the input: {instead}") from None
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
        # Inside the block, because Ctrl-C may arrive as soon as the echo is off.
        termios.tcsetattr(handle, termios.TCSAFLUSH, silent)
        yield
    finally:
        # Discard pasted input that was not read, so that the shell does not get it.
        termios.tcsetattr(handle, termios.TCSAFLUSH, before)
