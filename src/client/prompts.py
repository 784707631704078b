"""Asking the person at the terminal. Ctrl-C and Ctrl-D at a prompt raise `Interrupted`, which ends quietly."""

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
"""Bytes; a terminal takes no longer line."""
TYPED = "what was typed"
LARGEST_TEXT = 1024 * 1024
"""Bytes of UTF-8; the body that a server takes has no more."""
LARGEST_INPUT = 4 * LARGEST_TEXT + 4
"""Bytes of a text in UTF-32, with its byte order mark."""
TOO_LONG = "the text is over 1 MiB, which is more than a server takes"
INSTEAD = f"use --phrase-file, or set {PHRASE}"


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


def read_text(argument: str | None, prompt: str, *, hidden: bool = False) -> str:
    """Return the text of the command line; without one, or for ``-``, that of stdin, decoded by `decode_text`.

    A terminal is asked. Raises `WrongUsage` and `Interrupted`.
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
        raise WrongUsage("there is no text: give it as an argument, or on stdin")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise WrongUsage("the text is not UTF-8") from None
    if size > LARGEST_TEXT:
        raise WrongUsage(TOO_LONG)
    return text


def given_phrase(phrase_file: Path | None) -> str | None:
    """Return the phrase of the file or of the environment, if there is one. Raises `WrongUsage`."""
    if phrase_file is None:
        return read_variable(PHRASE)
    try:
        phrase = decode_text(phrase_file.read_bytes(), str(phrase_file)).rstrip("\r\n")
    except OSError as error:
        raise WrongUsage(f"{phrase_file} cannot be read: {error.strerror}") from None
    if not phrase:
        raise WrongUsage(f"{phrase_file} is empty")
    if "\0" in phrase:
        # As UTF-8, "a" in UTF-16 is "a" and a NUL: another phrase, and wrong attempts destroy the secret.
        raise WrongUsage(f"{phrase_file} has NUL characters. If it is UTF-16, save it as UTF-8")
    return phrase


def new_phrase() -> str:
    """Ask for a phrase to seal with, twice."""
    return ask_twice("Phrase", instead=INSTEAD)


def ask_phrase() -> str:
    """Ask for the phrase of a secret that is there."""
    return ask("Phrase", hidden=True, instead=INSTEAD)


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
