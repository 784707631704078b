"""The rules of gathering: identify, authenticate, send; and what comes out of order begins anew."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..accounts.auth import (
    Authenticator,
    Caller,
    Identities,
    IncorrectCredentials,
    IncorrectPassword,
    InvalidToken,
    Scope,
    is_api_token,
)
from ..core.clock import DatabaseClock
from .bundle_store import BundleStore, Sequences
from .problems import OtherAddress, OutOfOrder
from .sender_states import SenderClaims, SenderStates, SenderTokens

NOBODY = bytes(16)
"""A user's id that nobody has."""


class InvalidSenderToken(InvalidToken):
    """The token of a sender is invalid, expired or revoked."""

    default = (
        "The token is invalid, expired or revoked. This request requires a token from POST /authenticate (after POST"
        " /identify) or an API token with the scope gather."
    )


@dataclass(frozen=True, repr=False)
class Admitted:
    """A sender that may send; ``is_new`` where its password was the first one."""

    token: str
    is_new: bool


class GathererService:
    """Takes what senders say. A sender is a user at an address; what is refused there grounds nobody elsewhere.

    ``stored`` is called whenever there is something new.
    """

    def __init__(
        self,
        *,
        clock: DatabaseClock,
        states: SenderStates,
        bundles: BundleStore,
        tokens: SenderTokens,
        authenticator: Authenticator,
        identities: Identities,
        stored: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._states = states
        self._bundles = bundles
        self._tokens = tokens
        self._authenticator = authenticator
        self._identities = identities
        self._stored = stored

    async def identify(self, username: str, network: str) -> bool:
        """Let a sender be identified; return whether the name was free until now.

        Raises `UsernameTaken`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        identity = await self._identities.identify(username, network)
        await self._states.identify(identity.user_id, network, identity.counted_until)
        return identity.is_new

    async def authenticate(self, username: str, password: str, network: str) -> Admitted:
        """Let an identified sender send.

        Raises `OutOfOrder`, `IncorrectPassword`, `AccountDisabled`, `Malformed` for a first password that is too short,
        `LimitReached`, `Damaged`, `Unavailable`.
        """
        # Looked for also where there is nobody, so that the time tells nothing.
        state = await self._states.find(await self._identities.find(username) or NOBODY, network)
        if state is None:
            raise OutOfOrder
        try:
            authenticated = await self._identities.authenticate(username, password, network)
        except IncorrectCredentials:
            raise IncorrectPassword from None
        is_present, counted_until = False, None
        if authenticated.user_id == state.user_id:
            is_present, counted_until = await self._states.authenticate(state.state_id)
        if not is_present:
            # Meanwhile it was grounded, or the name has gone to somebody else.
            raise OutOfOrder
        if counted_until:
            await self._identities.take_back(network, counted_until)
        claims = SenderClaims(
            user_id=state.user_id,
            state_id=state.state_id,
            address_index=self._states.index(state.user_id, network),
            proof=authenticated.proof,
        )
        return Admitted(self._tokens.write(claims, issued_at=self._clock.now()), authenticated.is_new)

    async def send(self, token: str, messages: Sequence[str], batch: str | None, network: str) -> Sequences:
        """Store messages, all or none of them, and return the sender's numbers of the first and the last.

        Raises `InvalidToken`, `InsufficientScope`, `OtherAddress`, `OutOfOrder`, `BatchReused`, `Damaged`,
        `Unavailable`.
        """
        user_id = await (self._token_owner(token) if is_api_token(token) else self._sender(token, network))
        sequences = await self._bundles.add(user_id, messages, batch)
        try:
            await self._authenticator.confirm(Caller(user_id))
        except InvalidToken:
            # Deleted meanwhile, and its messages perhaps before these were there.
            await self.erase(user_id)
            raise InvalidSenderToken from None
        self._stored()
        return sequences

    async def end(self, token: str, network: str) -> None:
        """Ground a sender that logs out with its own token. Raises what `send` raises of tokens."""
        await self._states.ground(await self._sender(token, network), network)

    async def erase(self, user_id: bytes) -> None:
        """Delete what a user has sent and how far they had come; may be done again."""
        await self._states.erase(user_id)
        await self._bundles.erase(user_id)

    async def _token_owner(self, api_token: str) -> bytes:
        try:
            return (await self._authenticator.identify(api_token, Scope.GATHER)).user_id
        except InvalidToken:
            raise InvalidSenderToken from None

    async def _sender(self, token: str, network: str) -> bytes:
        claims = self._tokens.read(token)
        if claims is None:
            raise InvalidSenderToken
        if not self._states.is_index(claims.address_index, claims.user_id, network):
            # The same user may be here as well, and has shown the token of another place. Nobody is grounded there.
            await self._states.ground(claims.user_id, network)
            raise OtherAddress
        is_authenticated, is_good = await asyncio.gather(
            self._states.is_authenticated(claims.state_id, claims.user_id),
            self._identities.are_good(claims.user_id, claims.proof),
        )
        if is_authenticated and is_good:
            return claims.user_id
        await self._states.ground(claims.user_id, network)
        raise OutOfOrder if is_good else InvalidSenderToken
