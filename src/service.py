"""`GET /service`: what this service offers, by which programs and the page shape themselves."""

from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from . import __version__
from .api.bodies import MAX_BODY
from .api.routing import Route
from .api.schema import Answer
from .settings import FEATURES, FeatureName, Settings

Registration = Literal["open", "invite", "closed"]
SignInMethod = Literal["password", "passkey", "oidc"]


class ServiceLimits(Answer):
    """Sizes in bytes, and times in seconds."""

    ttl_default: int = Field(description="Seconds after which an item expires if the request has no `ttl`.")
    ttl_max: int = Field(description="Maximum time to live of an item, in seconds.")
    body_max: int = Field(description="Maximum size of a JSON body in bytes.")
    file_max: int = Field(description="Maximum size of a file in bytes; 0: no files.")
    files_max: int = Field(description="Maximum number of files of a secret.")
    hold: int = Field(description="Seconds for which a reader with a key may open the same secret again; 0: never.")
    file_hold: int = Field(description="Seconds for which the reader of an opened secret may download its files.")


class Service(Answer):
    """What this service offers."""

    name: str = Field(description="The name of the service on its page.")
    version: str = Field(description="The version of Sealpost.")
    features: list[FeatureName] = Field(description="What the service has, in addition to secrets.")
    registration: Registration = Field(
        description="Who may create an account: `open`: everyone, `invite`: only with an invitation, `closed`: no one."
    )
    anonymous_create: bool = Field(description="Whether secrets and messages can be created without an account.")
    sign_in: list[SignInMethod] = Field(description="The ways to sign in; empty without accounts.")
    oidc_name: str | None = Field(description="The name of the OpenID provider, for a button; null without one.")
    limits: ServiceLimits = Field(description="The limits of sizes and times.")


class ServiceRoutes:
    """The handler and its declaration; ``sign_in`` has the ways to sign in, none without accounts."""

    def __init__(
        self,
        settings: Settings,
        *,
        sign_in: list[SignInMethod],
        oidc_name: str | None = None,
    ) -> None:
        off = {*settings.features_off, *(() if settings.file_limit else ("files",))}
        self._service = Service(
            name=settings.brand_name,
            version=__version__,
            features=[name for name in FEATURES if name not in off],
            registration=settings.registration if settings.has("accounts") else "closed",
            anonymous_create=settings.anonymous_create,
            sign_in=sign_in,
            oidc_name=oidc_name,
            limits=ServiceLimits(
                ttl_default=settings.default_ttl,
                ttl_max=settings.ttl_max,
                body_max=MAX_BODY,
                file_max=settings.file_limit,
                files_max=settings.files_max,
                hold=settings.hold,
                file_hold=settings.file_hold,
            ),
        )

    def routes(self) -> list[Route[Any]]:
        """Return the declaration."""
        return [
            Route(
                method="GET",
                path="/service",
                tag="operations",
                summary="Tell what this service offers",
                description="Its features, who may create accounts and secrets, the ways to sign in, and the limits.",
                handler=self.service,
                answer=Service,
                needs_database=False,
            )
        ]

    async def service(self, _: web.Request, __: None) -> Service:
        """Tell what this service offers."""
        return self._service
