"""A greeting, and an echo that requires a token: a test of the whole request path."""

from typing import Any

from aiohttp import hdrs, web
from pydantic import ConfigDict, Field

from .accounts.auth import Authenticator, Scope
from .accounts.guards import BearerGuard, bearer_token, token_required
from .api.routing import Route, Shell
from .api.schema import Answer, RequestBody, example

ECHO = "echo"
LARGEST_ECHO = 1_000_000
"""Largest body in bytes: the limit of the older service."""


class Greeting(Answer):
    """A greeting."""

    model_config = ConfigDict(serialize_by_alias=True)

    hello: str = Field("Welcome to the Echo Room.", serialization_alias="Hello", description="The greeting.")


class EchoRequest(RequestBody):
    """The text to echo; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", **example({"str": "Hello, world."}))

    auth: str | None = Field(
        None, max_length=4096, description="An access or API token. Default: the token in the Authorization header."
    )
    text: str = Field(alias="str", description="The text to echo.")


class EchoAnswer(Answer):
    """The text, unchanged."""

    model_config = ConfigDict(serialize_by_alias=True)

    text: str = Field(serialization_alias="str", description="The text as sent.")


class EchoRoutes:
    """The handlers and their declarations; ``shell`` serves browsers at the root."""

    def __init__(self, authenticator: Authenticator, shell: Shell) -> None:
        self._authenticator = authenticator
        self._shell = shell

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            *(
                Route(
                    method="GET",
                    path=path,
                    tag=ECHO,
                    summary="Return a greeting",
                    handler=self.hello,
                    answer=Greeting,
                    needs_database=False,
                    shell=shell,
                )
                for path, shell in {"/": self._shell, "/hello": None}.items()
            ),
            Route(
                method="POST",
                path="/echo",
                tag=ECHO,
                summary="Echo a text",
                description="Requires an access token, or an API token with the scope `echo`, in `auth` or as a Bearer"
                " token in the Authorization header. If both are present, `auth` is used.",
                handler=self.echo,
                body=EchoRequest,
                max_body=LARGEST_ECHO,
                answer=EchoAnswer,
                optional_guard=BearerGuard(self._authenticator, Scope.ECHO),
            ),
        ]

    async def hello(self, _: web.Request, __: None) -> Greeting:
        """Return a greeting."""
        return Greeting()

    async def echo(self, request: web.Request, body: EchoRequest) -> EchoAnswer:
        """Echo a text."""
        token = body.auth if body.auth is not None else bearer_token(request.headers.get(hdrs.AUTHORIZATION, ""))
        if token is None:
            raise token_required(Scope.ECHO, where="auth")
        await self._authenticator.identify(token, Scope.ECHO)
        return EchoAnswer(text=body.text)
