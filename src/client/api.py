"""The API of one server: requests with the right token."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from .authentication import TokenSource
from .environment import TOKEN
from .errors import NotSignedIn
from .policy import Auth, Resend
from .responses import NO_HEADERS, Response
from .transport import Transport


class Api:
    """Sends requests. ``tokens`` is None for a server that must not get a token."""

    def __init__(self, transport: Transport, tokens: TokenSource | None) -> None:
        self.transport, self._tokens = transport, tokens

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        auth: Auth = Auth.NONE,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
        resend: Resend = Resend.NEVER,
        extra_seconds: float = 0,
    ) -> Response:
        """Return the response, whatever its status. Raises `NotSignedIn` and the errors of `Transport.send`.

        If the server rejects the token, the request is sent once more with a newer one; it had no effect before.
        """
        token = await self.token() if auth is Auth.REQUIRED else None

        async def send() -> Response:
            return await self.transport.send(
                method,
                path,
                body,
                query=query,
                headers=headers,
                token=token,
                resend=resend,
                extra_seconds=extra_seconds,
            )

        answer = await send()
        if token is None and auth is Auth.ON_DEMAND and answer.status == HTTPStatus.UNAUTHORIZED:
            token = await self.token()
            answer = await send()
        if token is not None and self._tokens is not None and answer.code == "invalid_token":
            token = await self._tokens.renew(token)
            answer = await send()
        return answer

    async def token(self) -> str:
        """Return the token of the signed-in user. Raises `NotSignedIn`."""
        token = await self._tokens.token() if self._tokens is not None else None
        if token is None:
            raise NotSignedIn(f"{self.transport.url} requires a sign-in: use `sealpost login`, or set {TOKEN}")
        return token
