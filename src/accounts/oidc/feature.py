"""Wires sign-in through the OpenID provider together."""

from typing import Any

from ...api.origin import Origin
from ...api.routing import Route
from ...core.audit import Audit
from ...core.crypto.keys import KeyRing
from ...core.database.mongo import Mongo
from ...core.metrics import Metrics
from ...settings import Settings
from ..cookies import RefreshCookie
from ..credentials import CredentialLimits
from ..deletion import AccountDeletion
from ..sign_in import SignIn
from ..sign_in_ways import SignInWays, Way
from ..users import UserStore
from .links import LinkStore
from .provider import Provider
from .routes import OidcRoutes
from .rules import SignInRules
from .sign_in import ProviderSignIn


class OidcPart:
    """Sign-in through the provider, if the settings name one.

    Without one, it still deletes the links of deleted accounts.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        mongo: Mongo,
        origin: Origin,
        metrics: Metrics,
        audit: Audit,
        users: UserStore,
        sign_in: SignIn,
        ways: SignInWays,
        limits: CredentialLimits,
        deletion: AccountDeletion,
        cookie: RefreshCookie,
        tag: str,
    ) -> None:
        links = LinkStore(mongo, ring, metrics.damaged)
        deletion.add(links.erase)
        self._sign_in: ProviderSignIn | None = None
        self._routes: list[Route[Any]] = []
        if not settings.oidc_issuer:
            return
        ways.add(Way.OIDC, links.has)
        self._sign_in = ProviderSignIn(
            provider=Provider(settings, mongo.clock),
            rules=SignInRules(settings),
            links=links,
            users=users,
            sign_in=sign_in,
            limits=limits,
            mongo=mongo,
            ring=ring,
            times=metrics.authentication.child("oidc"),
            audit=audit,
        )
        self._routes = OidcRoutes(self._sign_in, cookie, origin, tag).routes()

    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes."""
        return self._routes

    async def close(self) -> None:
        """Close the connections to the provider."""
        if self._sign_in:
            await self._sign_in.close()
