"""Passwords: bcrypt over a versioned pre-hash, checked in the same time whether or not the account exists.

A hash is ``v1$`` followed by bcrypt's own form. bcrypt reads at most 72 bytes and stops at a NUL (Provos and Mazières,
"A Future-Adaptable Password Scheme", USENIX 1999), so version 1 hashes the base64 of a SHA-256 over the password's NFC
form: 44 characters that depend on the whole password. A prefix inside that SHA-256 prevents plain SHA-256 hashes that
leaked elsewhere from being tried against ours.
"""

import base64
import re
import secrets
import unicodedata
from hashlib import sha256

import bcrypt

from ..core.crypto.hashing import HashingPool

SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 1024
"""How many characters a new password may have."""
_VERSION = "v1"
_FORM = re.compile(r"v1\$(?P<bcrypt>\$2b\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53})")


class Passwords:
    """Hashes and checks passwords on the hashing pool, at one cost (the binary logarithm of bcrypt's rounds)."""

    def __init__(self, pool: HashingPool, *, cost: int) -> None:
        self._pool = pool
        self._cost = cost

    async def hash(self, password: str) -> str:
        """Return a new hash. Raises `Unavailable` if the hashing queue is full."""
        return await self._pool.run("password", hash_password, password, self._cost)

    async def check(self, password: str, password_hash: str | None) -> bool:
        """Tell whether the password is right; without a hash, spend the same time and return False.

        Raises `Unavailable` if the hashing queue is full.
        """
        return await self._pool.run("password", check_password, password, password_hash, self._cost)

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether a hash has a lower cost than new ones."""
        return cost_of(password_hash) < self._cost


def hash_password(password: str, cost: int) -> str:
    """Return a new hash; blocks for about a quarter of a second at cost 12."""
    return f"{_VERSION}${bcrypt.hashpw(_prehash(password), bcrypt.gensalt(cost)).decode()}"


def check_password(password: str, password_hash: str | None, cost: int) -> bool:
    """Tell whether the password matches the hash, in the time of ``cost`` even if the hash has a lower one.

    Without a hash, or with an unreadable one, return False after the same time.
    """
    form = _FORM.fullmatch(password_hash or "")
    if form is None:
        bcrypt.hashpw(_prehash(password), bcrypt.gensalt(cost))
        return False
    fits = bcrypt.checkpw(_prehash(password), form["bcrypt"].encode())
    # 2^c + (2^c + 2^(c+1) + … + 2^(cost-1)) = 2^cost: the time of the answer does not reveal that the hash is old.
    for missing in range(int(form["cost"]), cost):
        bcrypt.hashpw(_prehash(password), bcrypt.gensalt(missing))
    return fits


def cost_of(password_hash: str) -> int:
    """Return the cost of a hash; 0 for an unreadable one."""
    form = _FORM.fullmatch(password_hash)
    return int(form["cost"]) if form else 0


def new_password() -> str:
    """Return a random password: 24 characters, 144 bits."""
    return secrets.token_urlsafe(18)


def _prehash(password: str) -> bytes:
    normalised = unicodedata.normalize("NFC", password).encode()
    return base64.b64encode(sha256(b"sealpost/v1/password" + normalised).digest())
