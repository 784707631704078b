"""The rules for senders: identify, authenticate, send. A sender that breaks the order has to start again."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..accounts.auth import Authenticator, Scope, is_api_token
from ..accounts.identities import Identities
from ..accounts.problems import IncorrectCredentials, IncorrectPassword, InvalidToken
from ..core.clock import DatabaseClock
from .bundle_store import BundleStore, Sequences
from .problems import OtherAddress, OutOfOrder
from .sender_states import SenderClaims, SenderStates, SenderTokens

NOBODY = bytes(16)
"""An id that no user has."""


class InvalidSenderToken(InvalidToken):
    """The token of a sender is invalid, expired or revoked."""

    default = (
        "The token is invalid, expired or revoked. This request requires a token from POST /authenticate (after POST"
        " /identify) or an API token with the scope gather."
    )


@dataclass(frozen=True, repr=False)
class Admitted:
    """A sender that has authenticated; ``is_new`` if it has set its first password."""

    token: str
    is_new: bool


class GathererService:
    """Serves senders. A sender is a user at an address; a refusal there never resets the user at another address.

    ``on_stored`` is called after messages are stored.
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
        on_stored: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._states = states
        self._bundles = bundles
        self._tokens = tokens
        self._authenticator = authenticator
        self._identities = identities
        self._on_stored = on_stored

    async def identify(self, username: str, network: str) -> bool:
        """Identify a sender, and return whether its username is new.

        Raises `UsernameTaken`, `RegistrationClosed`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        identity = await self._identities.identify(username, network)
        await self._states.identify(identity.user_id, network, identity.counted_until)
        return identity.is_new

    async def authenticate(self, username: str, password: str, network: str) -> Admitted:
        """Authenticate an identified sender, and return its token.

        Raises `OutOfOrder`, `IncorrectPassword`, `AccountDisabled`, `RegistrationClosed`, `Malformed` for a first
        password that is too short, `LimitReached`, `Damaged`, `Unavailable`.
        """
        # Queried for unknown names as well, so that the response time does not reveal them.
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
            # Meanwhile the state was reset, or the name was given to another user.
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
        """Store messages atomically, and return the sender's numbers of the first and the last.

        Raises `InvalidToken`, `InsufficientScope`, `OtherAddress`, `OutOfOrder`, `BatchReused`, `Damaged`,
        `Unavailable`.
        """
        user_id = await (self._token_owner(token) if is_api_token(token) else self._sender(token, network))
        sequences = await self._bundles.add(user_id, messages, batch)
        try:
            await self._authenticator.confirm(user_id)
        except InvalidToken:
            # The user was deleted meanwhile, perhaps before these messages were stored.
            await self.erase(user_id)
            raise InvalidSenderToken from None
        self._on_stored()
        return sequences

    async def end(self, token: str, network: str) -> None:
        """Log a sender out. Raises the token errors of `send`."""
        await self._states.reset(await self._sender(token, network), network)

    async def erase(self, user_id: bytes) -> None:
        """Delete all states and messages of a user. Idempotent."""
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
            # Reset the user at this address, and not at the address that the token was issued to.
            await self._states.reset(claims.user_id, network)
            raise OtherAddress
        is_authenticated, is_good = await asyncio.gather(
            self._states.is_authenticated(claims.state_id, claims.user_id),
            self._identities.are_good(claims.user_id, claims.proof),
        )
        if is_authenticated and is_good:
            return claims.user_id
        await self._states.reset(claims.user_id, network)
        raise OutOfOrder if is_good else InvalidSenderToken
