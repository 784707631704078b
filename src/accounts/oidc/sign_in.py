"""Signing in with an account at the provider; the first sign-in creates the account here.

An account is found only by the provider's issuer and subject, which never change. Names and e-mail addresses do: by
them, a user of the provider could take over the account of someone else.
"""

import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256

from ...core.audit import Audit, AuditEvent, AuditKind
from ...core.crypto.keys import KeyRing
from ...core.crypto.records import Content
from ...core.crypto.sealed_tokens import SealedTokens
from ...core.crypto.sealing import encode
from ...core.database.failure_limits import failures_counted
from ...core.database.mongo import Mongo
from ...core.metrics import Histogram, Stopwatch
from ...errors import Problem, Unavailable
from ..credentials import CredentialLimits
from ..problems import AccountDisabled
from ..sign_in import SignIn, TokenPair
from ..users import User, UserContent, UserStore
from .links import AlreadyLinked, LinkStore
from .problems import InvalidSignIn, ProviderUnavailable, SignInRefused
from .provider import Exchange, Identity, Provider
from .rules import NAME_CLAIM, SignInRules, usernames

METHOD = "oidc"
LIFE = timedelta(minutes=10)
"""How long a user may take to sign in at the provider."""
SECRET_BYTES = 32
_PASSING = {"temporarily_unavailable", "server_error"}
"""Errors of the provider that a later sign-in may not meet (RFC 6749, section 4.1.2.1)."""


class SignInState(Content):
    """A sign-in in progress: the secrets that tie the answer to the browser in which it began."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, repr=False)
class Answer:
    """The provider's answer, which the browser brings; empty texts for missing parameters."""

    state: str
    code: str
    error: str
    issuer: str | None


class ProviderSignIn:
    """Begins sign-ins at the provider and completes them."""

    def __init__(
        self,
        *,
        provider: Provider,
        rules: SignInRules,
        links: LinkStore,
        users: UserStore,
        sign_in: SignIn,
        limits: CredentialLimits,
        mongo: Mongo,
        ring: KeyRing,
        times: Histogram,
        audit: Audit,
    ) -> None:
        self._provider = provider
        self._rules = rules
        self._links = links
        self._users = users
        self._sign_in = sign_in
        self._limits = limits
        self._times = times
        self._audit = audit
        self._states = SealedTokens(ring, "oidc state", SignInState, mongo.clock, life=LIFE)

    async def begin(self, redirect_uri: str) -> tuple[str, str]:
        """Return the URL at the provider, and the sealed state for the browser.

        Raises `ProviderUnavailable`, `ProviderFaulty`.
        """
        content = SignInState(state=_secret(), nonce=_secret(), verifier=_secret())
        url = await self._provider.authorization_url(
            redirect_uri=redirect_uri,
            state=content.state,
            nonce=content.nonce,
            challenge=encode(sha256(content.verifier.encode()).digest()),
        )
        return url, self._states.write(content)

    async def complete(self, sealed_state: str, answer: Answer, *, redirect_uri: str, network: str) -> TokenPair:
        """Start a session for the user who has signed in at the provider.

        Raises `InvalidSignIn`, `SignInRefused`, `NotAdmitted`, `AccountDisabled`, `ProviderUnavailable`,
        `ProviderFaulty`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        with Stopwatch(self._times) as stopwatch:
            # Without the state of this browser, the answer costs no request to the provider.
            state = self._states.read(sealed_state)
            if state is None or not hmac.compare_digest(state.state.encode(), answer.state.encode(errors="replace")):
                raise InvalidSignIn
            if answer.error:
                raise ProviderUnavailable(retry_after=5) if answer.error in _PASSING else SignInRefused
            if not answer.code:
                raise InvalidSignIn
            exchange = Exchange(
                code=answer.code,
                issuer=answer.issuer,
                verifier=state.verifier,
                nonce=state.nonce,
                redirect_uri=redirect_uri,
            )
            # Anyone can begin a sign-in and invent a code for it.
            async with failures_counted(self._limits.login_address.of(network)):
                with stopwatch.paused():
                    identity = await self._provider.identify(exchange, self._rules.needed)
                return await self._admitted(identity, network, stopwatch)

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._provider.close()

    async def _admitted(self, identity: Identity, network: str, stopwatch: Stopwatch) -> TokenPair:
        user: User | None = None
        try:
            user = await self._linked(identity)
            self._rules.check(identity.claims)
            if user is None:
                with stopwatch.paused():
                    identity = await self._provider.complete(identity, (NAME_CLAIM,))
                user = await self._created(identity, network)
            if user.content.disabled:
                raise AccountDisabled
            await self._follow_groups(user, identity, network)
            pair = await self._sign_in.start(user.user_id, method=METHOD, network=network)
            if pair is None:
                # Disabled or deleted meanwhile.
                raise InvalidSignIn
        except Unavailable:
            raise
        except Problem:
            if user is not None:
                self._record(AuditKind.SIGN_IN_FAILED, user, network)
            raise
        return pair

    async def _linked(self, identity: Identity) -> User | None:
        """Return the account of a user of the provider; None if there is none, or if it has been deleted."""
        link = await self._links.find(self._provider.issuer, identity.subject)
        if link is None:
            return None
        user = await self._users.find(link.user_id)
        if user is None:
            await self._links.remove(link)
        return user

    async def _created(self, identity: Identity, network: str) -> User:
        """Return the new account of a user of the provider, or that of a parallel first sign-in."""
        step = partial(self._links.add, self._provider.issuer, identity.subject)
        operator = bool(self._rules.is_operator(identity.claims))
        for username in usernames(identity.claims):
            try:
                user = await self._users.claim(UserContent(username=username, operator=operator), step)
            except AlreadyLinked:
                if user := await self._linked(identity):
                    return user
                break
            if user is not None:
                self._record(AuditKind.REGISTERED, user, network)
                if operator:
                    self._record(AuditKind.OPERATOR_GRANTED, user, network)
                return user
        # No name is free, or the account of the parallel sign-in is gone already.
        raise Unavailable

    async def _follow_groups(self, user: User, identity: Identity, network: str) -> None:
        """Make the user an operator, or revoke it, as the groups decide."""
        operator = self._rules.is_operator(identity.claims)
        current: User | None = user
        while operator is not None and current is not None and current.content.operator != operator:
            if await self._users.change(current, operator=operator):
                kind = AuditKind.OPERATOR_GRANTED if operator else AuditKind.OPERATOR_REVOKED
                self._record(kind, user, network)
                return
            # Sealed again meanwhile, under another key for example.
            current = await self._users.find(user.user_id)

    def _record(self, kind: AuditKind, user: User, network: str) -> None:
        self._audit.record(AuditEvent(kind=kind, user_id=user.user_id, method=METHOD, network=network))


def _secret() -> str:
    return encode(secrets.token_bytes(SECRET_BYTES))
