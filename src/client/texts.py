"""The text that a command is to send, and the phrase of a secret."""

import sys
from pathlib import Path

from .encodings import decode_text
from .environment import PHRASE, read_variable
from .errors import WrongUsage
from .prompts import ask, ask_text, ask_twice

LARGEST_TEXT = 1024 * 1024
"""Bytes of UTF-8; the body that a server takes has no more."""
LARGEST_INPUT = 4 * LARGEST_TEXT + 4
"""Bytes of a text in UTF-32, with its byte order mark."""
TOO_LONG = "the text is over 1 MiB, which is more than a server takes"
INSTEAD = f"use --phrase-file, or set {PHRASE}"


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
