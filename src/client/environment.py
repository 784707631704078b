"""The environment of the client: its variables, none of them a server setting, and its directories."""

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
    URL: "The server, unless `--url` is given.",
    TOKEN: "An API token or an access token, instead of a sign-in.",
    PASSWORD: "Your account's password, instead of a prompt.",
    NEW_PASSWORD: "The new password for `passwd`, instead of a prompt.",
    PHRASE: "The password of a secret, instead of a prompt.",
    CA_FILE: "A certificate to trust, like `--ca-file`.",
}


def read_variable(name: str) -> str | None:
    """Return a variable's value; None if it is unset or empty. Raises `NotText`.

    A byte order mark, which `$(cat FILE)` may include, is removed.
    """
    value = os.environ.get(name, "").removeprefix(BYTE_ORDER_MARK)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NotText(f"{name} is not UTF-8 text") from None
    return value or None


def config_directory() -> Path:
    """Return the directory for stored sessions; it may not exist."""
    return _directory("XDG_CONFIG_HOME", ".config")


def state_directory() -> Path:
    """Return the directory for undelivered lines; it may not exist."""
    return _directory("XDG_STATE_HOME", ".local/state")


def _directory(variable: str, usual: str) -> Path:
    base = os.environ.get(variable, "")
    # The XDG specification says to ignore a relative path.
    root = Path(base) if Path(base).is_absolute() else Path.home() / usual
    return root / "sealpost"
