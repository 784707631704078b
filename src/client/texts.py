"""The text that a command is to send, and the phrase of a secret."""

import sys
from pathlib import Path

from .environment import PHRASE, read_variable
from .errors import WrongUsage
from .prompts import ask, ask_text, ask_twice

LARGEST_TEXT = 1024 * 1024
"""Bytes; the body that a server takes has no more."""
INSTEAD = f"use --phrase-file, or set {PHRASE}"


def read_text(argument: str | None, prompt: str, *, hidden: bool = False) -> str:
    """Return the text of the command line; without one, or for ``-``, that of stdin, to the byte.

    A terminal is asked. Raises `WrongUsage` and `Interrupted`.
    """
    if argument is not None and argument != "-":
        text = argument
    elif sys.stdin is None:
        text = ""
    elif sys.stdin.isatty():
        text = ask_text(prompt, hidden=hidden)
    else:
        text = _decode(sys.stdin.buffer.read(LARGEST_TEXT + 1), "stdin")
    if not text:
        raise WrongUsage("there is no text: give it as an argument, or on stdin")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise WrongUsage("the text is not UTF-8") from None
    if size > LARGEST_TEXT:
        raise WrongUsage("the text is over 1 MiB, which is more than a server takes")
    return text


def given_phrase(phrase_file: Path | None) -> str | None:
    """Return the phrase of the file or of the environment, if there is one. Raises `WrongUsage`."""
    if phrase_file is None:
        return read_variable(PHRASE)
    try:
        phrase = _decode(phrase_file.read_bytes(), str(phrase_file)).rstrip("\r\n")
    except OSError as error:
        raise WrongUsage(f"{phrase_file} cannot be read: {error.strerror}") from None
    if not phrase:
        raise WrongUsage(f"{phrase_file} is empty")
    return phrase


def new_phrase() -> str:
    """Ask for a phrase to seal with, twice."""
    return ask_twice("Phrase", instead=INSTEAD)


def ask_phrase() -> str:
    """Ask for the phrase of a secret that is there."""
    return ask("Phrase", hidden=True, instead=INSTEAD)


def _decode(raw: bytes, source: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise WrongUsage(f"{source} is not UTF-8 text") from None
