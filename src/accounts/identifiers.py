"""How the ids of users, sessions and API tokens are written in paths and answers."""

import re

_FORM = re.compile(r"[0-9a-f]{32}")


def parse_id(text: str) -> bytes | None:
    """Read an id from its 32 hexadecimal digits in lower case; None for anything else."""
    return bytes.fromhex(text) if _FORM.fullmatch(text) else None
