"""The ways in which an account can sign in. No change may take the last one from it."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

from ..core.database.mongo import Mongo
from .problems import InvalidToken, LastWayToSignIn
from .users import User, UserStore


class Way(StrEnum):
    """A way to sign in."""

    PASSWORD = "password"  # noqa: S105 (a name)
    PASSKEY = "passkey"
    OIDC = "oidc"


Has = Callable[[bytes, Any], Awaitable[bool]]
"""Tells whether a user, given by id, has a way to sign in, within the transaction of a database session or outside."""


class SignInWays:
    """Knows the ways of each account; each way except for the password is added by the part that offers it."""

    def __init__(self, mongo: Mongo, users: UserStore) -> None:
        self._mongo = mongo
        self._users = users
        self._others: dict[Way, Has] = {}

    def add(self, way: Way, has: Has) -> None:
        """Add a way."""
        self._others[way] = has

    async def of(self, user: User, session: Any = None) -> list[Way]:
        """Return the ways of an account."""
        others = [way for way, has in self._others.items() if await has(user.user_id, session)]
        return [Way.PASSWORD, *others] if user.content.password_hash else others

    async def remove(self, user_id: bytes, removal: Callable[[Any], Awaitable[None]]) -> None:
        """Remove a way, or a part of one, with commands in the transaction of the session that ``removal`` is given.

        Raises `LastWayToSignIn` if the account could not sign in any more, in which case nothing has changed,
        `InvalidToken` if the account is gone, `Damaged`, `Unavailable`.
        """

        async def work(session: Any) -> None:
            # Both of two removals change the user, so the second one begins again after the first.
            if not await self._users.touch(user_id, session):
                raise InvalidToken
            await removal(session)
            user = await self._users.find_in(user_id, session)
            if user is None:
                raise InvalidToken
            if not await self.of(user, session):
                raise LastWayToSignIn

        await self._mongo.transact(work)
