"""Names and ids of users, for features that know users by the one or the other."""

import asyncio
from collections.abc import Iterable

from ..errors import Damaged
from .users import UserStore


class UserDirectory:
    """Looks users up by id and by name."""

    def __init__(self, users: UserStore) -> None:
        self._users = users

    async def names(self, user_ids: Iterable[bytes]) -> dict[bytes, str]:
        """Return the names of users by id, without users that do not exist (any more) or cannot be read."""
        found: dict[bytes, str] = {}
        wanted = list(set(user_ids))
        users = await asyncio.gather(*(self._users.find(user_id) for user_id in wanted), return_exceptions=True)
        for user_id, user in zip(wanted, users, strict=True):
            if isinstance(user, BaseException):
                if not isinstance(user, Damaged):
                    raise user
            elif user is not None:
                found[user_id] = user.name
        return found

    async def id_of(self, username: str) -> bytes | None:
        """Return the id of a user by name, in any case; None if there is no such user, or it cannot be read."""
        try:
            user = await self._users.find_by_name(username)
        except Damaged:
            return None
        return user.user_id if user else None
