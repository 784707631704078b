"""The environment variables that the client reads; none of them is a setting of the server."""

import os
from pathlib import Path

from .encodings import BYTE_ORDER_MARK
from .errors import NotText

PREFIX = "SEALPOST_"
URL = PREFIX + "URL"
TOKEN = PREFIX + "TOKEN"
PASSWORD = PREFIX + "PASSWORD"
NEW_PASSWORD = PREFIX + "NEW_PASSWORD"
PHRASE = PREFIX + "PHRASE"
CA_FILE = PREFIX + "CA_FILE"

VARIABLES = {
    URL: "The server, where `--url` does not name it.",
    TOKEN: "An API token or an access token, in place of a sign-in.",
    PASSWORD: "The password, in place of a prompt.",
    NEW_PASSWORD: "The new password for `passwd`, in place of a prompt.",
    PHRASE: "The phrase of a secret, in place of a prompt.",
    CA_FILE: "As `--ca-file`.",
}


def read_variable(name: str) -> str | None:
    """Return a variable's value without a byte order mark, which `$(cat FILE)` brings along; empty counts as unset.

    Raises `NotText`.
    """
    value = os.environ.get(name, "").removeprefix(BYTE_ORDER_MARK)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NotText(f"{name} is not UTF-8 text") from None
    return value or None


def config_directory() -> Path:
    """Return the directory for what the client keeps, whether or not it is there."""
    return _directory("XDG_CONFIG_HOME", ".config")


def state_directory() -> Path:
    """Return the directory for what is under way, whether or not it is there."""
    return _directory("XDG_STATE_HOME", ".local/state")


def _directory(variable: str, usual: str) -> Path:
    base = os.environ.get(variable, "")
    # A relative path there is to be ignored, says the XDG specification.
    root = Path(base) if Path(base).is_absolute() else Path.home() / usual
    return root / "sealpost"
