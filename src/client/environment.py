"""The environment variables that the client reads; none of them is a setting of the server."""

import os
from pathlib import Path

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
    """Return a variable's value; what is empty counts as unset."""
    return os.environ.get(name) or None


def config_directory() -> Path:
    """Return the directory for what the client keeps, whether or not it is there."""
    return _directory("XDG_CONFIG_HOME", ".config")


def state_directory() -> Path:
    """Return the directory for what is under way, whether or not it is there."""
    return _directory("XDG_STATE_HOME", ".local/state")


def _directory(variable: str, usual: str) -> Path:
    base = os.environ.get(variable, "")
    # A relative path there is to be ignored, says the XDG specification.
    root = Path(base) if base.startswith("/") else Path.home() / usual
    return root / "sealpost"
