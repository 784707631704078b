"""API tokens over HTTP."""

from datetime import timedelta
from typing import Any

from aiohttp import web

from ..api.routing import Route, id_of
from .api_tokens import ApiToken
from .auth import CALLER, Authenticator
from .caller import Scope
from .problems import TokenNotFound, TooManyTokens
from .schemas import CreateToken, TokenAnswer, TokenCreated, TokenList
from .token_service import TokenService

TOKENS = "tokens"


class TokenRoutes:
    """The handlers and their declarations."""

    def __init__(self, service: TokenService, authenticator: Authenticator) -> None:
        self._service = service
        self._signed_in = authenticator.guard(None)

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="POST",
                path="/tokens",
                tag=TOKENS,
                summary="Create an API token",
                description="The response contains the only copy of the token.",
                guard=self._signed_in,
                handler=self.create,
                body=CreateToken,
                stores=True,
                answer=TokenCreated,
                status=201,
                problems=(TooManyTokens,),
            ),
            Route(
                method="GET",
                path="/tokens",
                tag=TOKENS,
                summary="List your API tokens",
                guard=self._signed_in,
                handler=self.list,
                answer=TokenList,
            ),
            Route(
                method="DELETE",
                path="/tokens/{token_id}",
                tag=TOKENS,
                summary="Delete one of your API tokens",
                guard=self._signed_in,
                handler=self.delete,
                status=204,
                problems=(TokenNotFound,),
            ),
        ]

    async def create(self, request: web.Request, body: CreateToken) -> TokenCreated:
        """Create an API token."""
        life = timedelta(days=body.expires_in_days) if body.expires_in_days else None
        token, text = await self._service.create(request[CALLER], name=body.name, scopes=body.scopes, life=life)
        return TokenCreated(**_answer(token).model_dump(), token=text)

    async def list(self, request: web.Request, _: None) -> TokenList:
        """List the caller's API tokens."""
        return TokenList(tokens=[_answer(token) for token in await self._service.list(request[CALLER])])

    async def delete(self, request: web.Request, _: None) -> None:
        """Delete one of the caller's API tokens."""
        await self._service.delete(request[CALLER], id_of(request, "token_id"))


def _answer(token: ApiToken) -> TokenAnswer:
    return TokenAnswer(
        id=token.token_id.hex(),
        name=token.content.name,
        scopes=[Scope(scope) for scope in token.content.scopes],
        created_at=token.created_at,
        expires_at=token.content.expires_at,
        last_used_at=token.last_used_at,
    )
