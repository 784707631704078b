"""Wires accounts, sessions and API tokens together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from ..api.features import Feature
from ..api.origin import Origin
from ..api.routing import Route
from ..core.audit import Audit
from ..core.background import background_tasks
from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing
from ..core.database.failure_limits import FailureLimit
from ..core.database.group_commit import Batching
from ..core.database.limits import Limit
from ..core.database.mongo import Indexes, Mongo
from ..core.metrics import Metrics
from ..settings import Settings, parse_limit
from . import api_tokens, codes, invitations, sessions, users
from .access_tokens import AccessTokens
from .activity import Activity
from .administration import AccountAdministration, InvitationAdministration
from .administration_routes import AdministrationRoutes
from .api_tokens import ApiTokenStore
from .auth import Authenticator
from .code_routes import CodeRoutes
from .codes import SignInCodes
from .cookies import RefreshCookie
from .credentials import CredentialLimits, PasswordAuthenticator
from .deletion import AccountDeletion
from .directory import UserDirectory
from .guards import BearerGuard, LogoutGuard, OperatorGuard
from .identities import Identities
from .invitations import InvitationStore
from .oidc import links as oidc_links
from .oidc.feature import OidcPart
from .passkeys import challenges as passkey_challenges
from .passkeys import store as passkey_store
from .passkeys.challenges import Challenges
from .passkeys.routes import PasskeyRoutes
from .passkeys.service import PasskeyService
from .passkeys.store import PasskeyStore
from .passwords import Passwords
from .reauthentication import Reauthentication
from .registration import Registration
from .routes import SESSIONS, AccountRoutes, ApiTokenRoutes
from .service import AccountService, ApiTokenService
from .sessions import EndedSessions, SessionStore
from .sign_in import SignIn
from .sign_in_ways import SignInWays, Way
from .users import UserStore

INDEXES: Indexes = {
    **users.INDEXES,
    **sessions.INDEXES,
    **api_tokens.INDEXES,
    **invitations.INDEXES,
    **oidc_links.INDEXES,
    **passkey_store.INDEXES,
    **passkey_challenges.INDEXES,
    **codes.INDEXES,
}
NETWORKS = 10
"""Failed logins that an account may have from all networks, as a multiple of those from one."""
SIGN_IN_CODES = "20 per 15 minutes"
"""Sign-in codes that one account may issue."""
LONGEST_OVERTIME = timedelta(minutes=1)
"""How long a request may continue after its timeout."""
RESEALABLE = (
    users.RESEALABLE,
    sessions.RESEALABLE,
    api_tokens.RESEALABLE,
    invitations.RESEALABLE,
    oidc_links.RESEALABLE,
    passkey_store.RESEALABLE,
)


class AccountsFeature(Feature):
    """Users, sessions, API tokens and invitations.

    ``authenticator``, ``directory``, ``identities`` and ``deletion`` are for the other features.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        mongo: Mongo,
        hashing: HashingPool,
        batching: Batching,
        origin: Origin,
        metrics: Metrics,
        audit: Audit,
    ) -> None:
        self._mongo = mongo
        self._users = UserStore(mongo, ring, batching, metrics.damaged)
        self._tokens = ApiTokenStore(mongo, ring, batching, metrics.damaged)
        self._activity = Activity(mongo, batching)
        life = timedelta(seconds=settings.session_ttl)
        sessions = SessionStore(mongo, ring, life=life, damaged=metrics.damaged, audit=audit)
        access_tokens = AccessTokens(ring, mongo.clock)
        self._ended_sessions = EndedSessions(sessions, metrics.ended_sessions_known)
        invitations = InvitationStore(mongo, ring, metrics.damaged)
        self.deletion = AccountDeletion(self._users, sessions, self._tokens, audit)
        self.deletion.add(invitations.remove_of)
        self.authenticator = Authenticator(
            access_tokens=access_tokens,
            ended_sessions=self._ended_sessions,
            api_tokens=self._tokens,
            users=self._users,
            activity=self._activity,
            metrics=metrics,
        )
        self.directory = UserDirectory(self._users)
        passwords = Passwords(hashing, cost=settings.bcrypt_cost)
        limits = credential_limits(settings, mongo, ring, metrics)
        password_authenticator = PasswordAuthenticator(
            users=self._users, passwords=passwords, limits=limits, metrics=metrics, audit=audit
        )
        self.identities = Identities(
            users=self._users,
            authenticator=password_authenticator,
            limits=limits,
            activity=self._activity,
            audit=audit,
            shortest_password=settings.gather_password_min,
            registration_is_open=settings.registration == "open",
        )
        registration = Registration(
            mode=settings.registration,
            users=self._users,
            invitations=invitations,
            passwords=passwords,
            limits=limits,
            audit=audit,
        )
        sign_in = SignIn(
            clock=mongo.clock, users=self._users, sessions=sessions, access_tokens=access_tokens, audit=audit
        )
        reauthentication = Reauthentication(
            users=self._users, sessions=sessions, passwords=passwords, authenticator=password_authenticator
        )
        passkeys = PasskeyStore(mongo, ring, metrics.damaged)
        self.deletion.add(passkeys.remove_all)
        ways = SignInWays(mongo, self._users)
        ways.add(Way.PASSKEY, passkeys.has_any)
        service = AccountService(
            users=self._users,
            sessions=sessions,
            ended_sessions=self._ended_sessions,
            sign_in=sign_in,
            authenticator=password_authenticator,
            reauthentication=reauthentication,
            ways=ways,
            passwords=passwords,
            deletion=self.deletion,
            audit=audit,
        )
        cookie = RefreshCookie(origin, life)
        guard = BearerGuard(self.authenticator, None)
        self._oidc = OidcPart(
            settings=settings,
            ring=ring,
            mongo=mongo,
            origin=origin,
            metrics=metrics,
            audit=audit,
            users=self._users,
            sign_in=sign_in,
            ways=ways,
            limits=limits,
            deletion=self.deletion,
            cookie=cookie,
            tag=SESSIONS,
        )
        self._parts = (
            AccountRoutes(
                service=service,
                registration=registration,
                sessions=sessions,
                sign_in=sign_in,
                guard=guard,
                logout_guard=LogoutGuard(self.authenticator, cookie),
                cookie=cookie,
                origin=origin,
            ),
            ApiTokenRoutes(ApiTokenService(mongo.clock, self._tokens, self._users, audit), self._tokens, guard, origin),
            CodeRoutes(
                SignInCodes(mongo=mongo, ring=ring, sessions=sessions, sign_in=sign_in, limits=limits, audit=audit),
                guard,
                cookie,
                origin,
            ),
            PasskeyRoutes(
                service=PasskeyService(
                    users=self._users,
                    passkeys=passkeys,
                    challenges=Challenges(mongo, ring),
                    authenticator=self.authenticator,
                    reauthentication=reauthentication,
                    ways=ways,
                    sign_in=sign_in,
                    failures=limits.login_address,
                    metrics=metrics,
                    audit=audit,
                ),
                passkeys=passkeys,
                guard=guard,
                cookie=cookie,
                origin=origin,
                name=settings.brand_name,
            ),
            AdministrationRoutes(
                accounts=AccountAdministration(
                    users=self._users,
                    sessions=sessions,
                    tokens=self._tokens,
                    limits=limits,
                    bcrypt_cost=settings.bcrypt_cost,
                    audit=audit,
                ),
                invitations=InvitationAdministration(
                    invitations, mongo.clock, audit, registration_is_closed=settings.registration == "closed"
                ),
                users=self._users,
                directory=self.directory,
                guard=OperatorGuard(self.authenticator),
                origin=origin,
            ),
            self._oidc,
        )

    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes."""
        return [route for part in self._parts for route in part.routes()]

    @asynccontextmanager
    async def background_tasks(self) -> AsyncIterator[None]:
        """Follow the sessions that other processes end, and finish deletions that they left unfinished."""
        async with background_tasks(self._ended_sessions.watch(), self._mongo.when_set_up(self.deletion.watch)):
            yield

    async def close(self) -> None:
        """Wait for the commands in flight."""
        await self._activity.close()
        await self._users.close()
        await self._tokens.close()
        await self._oidc.close()


def credential_limits(
    settings: Settings, mongo: Mongo, ring: KeyRing, metrics: Metrics | None = None
) -> CredentialLimits:
    """Return the limits on credentials that the settings define."""
    refusals = (metrics or Metrics.off()).limit_refusals
    enabled = settings.rate_limits == "on"

    def limit(name: str, rate: str, label: str) -> Limit:
        return Limit(mongo, ring, name, *parse_limit(rate), enabled=enabled, refusals=refusals.child(label))

    def failures(name: str, rate: str, label: str, *, times: int = 1) -> FailureLimit:
        maximum, window = parse_limit(rate)
        return FailureLimit(
            mongo,
            ring,
            name,
            maximum * times,
            window,
            patience=settings.hashing_wait,
            lease=timedelta(seconds=settings.request_timeout) + LONGEST_OVERTIME,
            enabled=enabled,
            refusals=refusals.child(label),
        )

    return CredentialLimits(
        register=limit("register by network", settings.limit_register, "register"),
        identify=limit("identify by network", settings.limit_identify, "identify"),
        login_address=failures("login by network", settings.limit_login_address, "login_address"),
        login_account=failures("login by username and network", settings.limit_login_account, "login_account"),
        login_account_total=failures(
            "login by username", settings.limit_login_account, "login_account_total", times=NETWORKS
        ),
        sign_in_codes=limit("sign-in codes by account", SIGN_IN_CODES, "sign_in_codes"),
        own_password=failures("password by session", settings.limit_login_account, "own_password"),
    )
