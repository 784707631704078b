"""What a program may do with accounts that has a name and a password and no session: the gatherer's senders.

An identity is an account. A name that nobody has is reserved first, without a password, and lapses unless somebody sets
one in time: whoever authenticates or registers under it first.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from ..errors import Damaged
from .activity import Activity
from .credentials import Credentials
from .users import User, UserStore

PROOF_BYTES = 16


@dataclass(frozen=True)
class Identity:
    """A user by id; ``is_new`` where the name was free until now. ``counted_until`` is when its count ends."""

    user_id: bytes
    is_new: bool
    counted_until: datetime


@dataclass(frozen=True, repr=False)
class Authenticated:
    """A user who gave the right password, or the first one; ``proof`` is good as long as the password stays."""

    user_id: bytes
    proof: bytes
    is_new: bool


class Identities:
    """Reserves names, checks passwords, and tells later whether all of that still holds.

    ``shortest_password`` is how many characters a first password has at least.
    """

    def __init__(
        self, *, users: UserStore, credentials: Credentials, activity: Activity, shortest_password: int
    ) -> None:
        self._users = users
        self._credentials = credentials
        self._activity = activity
        self._shortest_password = shortest_password

    async def identify(self, username: str, network: str) -> Identity:
        """Return who has a name, which is reserved where nobody has it.

        Raises `UsernameTaken` while an account of that name is being deleted, `LimitReached`, `Damaged`, `Unavailable`.
        """
        user, is_new, counted_until = await self._credentials.reserve(username, network)
        return Identity(user.user_id, is_new, counted_until)

    async def take_back(self, network: str, counted_until: datetime) -> None:
        """Take back the count of an identification whose sender has authenticated; at most once for each.

        Raises `Unavailable`.
        """
        await self._credentials.take_back_identification(network, counted_until)

    async def find(self, username: str) -> bytes | None:
        """Return the id of who has a name; None where nobody does. Raises `Damaged`, `Unavailable`."""
        user = await self._users.find_by_name(username)
        return user.user_id if user else None

    async def authenticate(self, username: str, password: str, network: str) -> Authenticated:
        """Check a password, or make it the first one of a name that is reserved.

        Raises `IncorrectCredentials`, `AccountDisabled`, `Malformed` for a first one that is too short, `LimitReached`,
        `Damaged`, `Unavailable`.
        """
        with self._credentials.timed() as stopwatch:
            user, is_new = await self._credentials.verify_or_begin(
                username, password, network, stopwatch, shortest=self._shortest_password
            )
        return Authenticated(user.user_id, _proof(user), is_new)

    async def are_good(self, user_id: bytes, proof: bytes) -> bool:
        """Tell whether a user is there and not disabled, and has the password that the proof was made for.

        The user counts as active then. Raises `Unavailable`.
        """
        try:
            user = await self._users.find(user_id)
        except Damaged:
            return False
        if user is None or user.content.disabled or not hmac.compare_digest(_proof(user), proof):
            return False
        self._activity.note(user_id, None)
        return True


def _proof(user: User) -> bytes:
    # The salt in a password's hash is random and sealed with it, so nobody tries passwords on this.
    return sha256(b"sealpost/v1/password-proof" + (user.content.password_hash or "").encode()).digest()[:PROOF_BYTES]
