"""The rules of API tokens."""

import random
from collections.abc import Sequence
from datetime import timedelta

from ..core.clock import DatabaseClock
from .api_tokens import ApiToken, ApiTokenContent, ApiTokenStore, hash_api_token, new_api_token
from .caller import Caller, Scope
from .problems import InvalidToken, TokenNotFound, TooManyTokens
from .users import UserStore

MOST_TOKENS = 50


class TokenService:
    """Makes, lists and deletes a user's API tokens."""

    def __init__(self, clock: DatabaseClock, tokens: ApiTokenStore, users: UserStore) -> None:
        self._clock = clock
        self._tokens = tokens
        self._users = users

    async def create(
        self, caller: Caller, *, name: str, scopes: Sequence[Scope], life: timedelta | None
    ) -> tuple[ApiToken, str]:
        """Make a token and return it with its text, which is not kept. Raises `TooManyTokens`."""
        text = new_api_token()
        content = ApiTokenContent(
            user_id=caller.user_id,
            hash=hash_api_token(text),
            name=name,
            scopes=tuple(sorted(scopes)),
            expires_at=self._clock.now() + life if life else None,
        )
        token = await self._add(content)
        if not await self._users.is_present(caller.user_id):
            # Deleted meanwhile, and its tokens perhaps before this one was there.
            await self._tokens.remove_all(caller.user_id)
            raise InvalidToken
        return token, text

    async def _add(self, content: ApiTokenContent) -> ApiToken:
        while slots := await self._tokens.free_slots(content.user_id, MOST_TOKENS):
            # Any of them, so that requests in parallel seldom meet.
            if token := await self._tokens.add(content, random.choice(slots)):  # noqa: S311 (no secret)
                return token
        raise TooManyTokens

    async def list(self, caller: Caller) -> list[ApiToken]:
        """Return the caller's tokens, newest first."""
        return await self._tokens.of_user(caller.user_id)

    async def delete(self, caller: Caller, token_id: bytes) -> None:
        """Delete one of the caller's tokens. Raises `TokenNotFound`."""
        if not await self._tokens.remove(caller.user_id, token_id):
            raise TokenNotFound
