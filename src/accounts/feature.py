"""The feature as the composition root sees it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from ..api.origin import Origin
from ..api.routing import Route
from ..core.background import background_tasks
from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing
from ..core.database import limits
from ..core.database.failure_limits import FailureLimit
from ..core.database.group_commit import Batching
from ..core.database.limits import Limit
from ..core.database.mongo import Indexes, Mongo
from ..core.metrics import Metrics
from ..settings import Settings, parse_limit
from . import api_tokens, sessions, users
from .access_tokens import AccessTokens
from .activity import Activity
from .api_tokens import ApiTokenStore
from .auth import Authenticator, Identities
from .credentials import CredentialLimits, Credentials
from .deletion import AccountDeletion
from .ended_sessions import EndedSessions
from .passwords import Passwords
from .routes import AccountRoutes
from .service import AccountService
from .sessions import SessionStore
from .token_routes import TokenRoutes
from .token_service import TokenService
from .users import UserStore

INDEXES: Indexes = {**users.INDEXES, **sessions.INDEXES, **api_tokens.INDEXES, **limits.INDEXES}
NETWORKS = 10
"""How many times the failed logins from one network an account may have from all of them."""
LONGEST_OVERTIME = timedelta(minutes=1)
"""How long a request goes on, at the most, after it has timed out."""
RESEALABLE = (users.RESEALABLE, sessions.RESEALABLE, api_tokens.RESEALABLE)


class AccountsFeature:
    """Users, sessions and API tokens, wired.

    ``authenticator``, ``identities`` and ``deletion`` are for the other features.
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
    ) -> None:
        self._mongo = mongo
        self._users = UserStore(mongo, ring, batching, metrics.damaged)
        self._tokens = ApiTokenStore(mongo, ring, batching, metrics.damaged)
        self._activity = Activity(mongo, batching)
        life = timedelta(seconds=settings.session_ttl)
        sessions = SessionStore(mongo, ring, life=life, damaged=metrics.damaged)
        access_tokens = AccessTokens(ring, mongo.clock)
        self._ended_sessions = EndedSessions(sessions, metrics.ended_sessions_known)
        self.deletion = AccountDeletion(self._users, sessions, self._tokens)
        self.authenticator = Authenticator(
            access_tokens=access_tokens,
            ended_sessions=self._ended_sessions,
            api_tokens=self._tokens,
            users=self._users,
            activity=self._activity,
            metrics=metrics,
        )
        credentials = Credentials(
            users=self._users,
            passwords=Passwords(hashing, cost=settings.bcrypt_cost),
            limits=credential_limits(settings, mongo, ring, metrics),
            metrics=metrics,
        )
        self.identities = Identities(
            users=self._users,
            credentials=credentials,
            activity=self._activity,
            shortest_password=settings.gather_password_min,
        )
        service = AccountService(
            clock=mongo.clock,
            users=self._users,
            sessions=sessions,
            ended_sessions=self._ended_sessions,
            access_tokens=access_tokens,
            credentials=credentials,
            deletion=self.deletion,
        )
        self._routes = AccountRoutes(service, self.authenticator, origin)
        self._token_routes = TokenRoutes(TokenService(mongo.clock, self._tokens, self._users), self.authenticator)

    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes."""
        return [*self._routes.routes(), *self._token_routes.routes()]

    @asynccontextmanager
    async def background_tasks(self) -> AsyncIterator[None]:
        """Keep up with what other processes have ended and begun, and finish what they left."""
        async with background_tasks(self._ended_sessions.watch(), self._mongo.when_set_up(self.deletion.watch)):
            yield

    async def close(self) -> None:
        """Wait for what is in flight."""
        await self._activity.close()
        await self._users.close()
        await self._tokens.close()


def credential_limits(
    settings: Settings, mongo: Mongo, ring: KeyRing, metrics: Metrics | None = None
) -> CredentialLimits:
    """Return the limits on credentials as they are set."""
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
        own_password=failures("password by session", settings.limit_login_account, "own_password"),
    )
