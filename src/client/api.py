"""The API of one server, as a command or a program calls it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from .authentication import TokenSource
from .environment import TOKEN
from .errors import NotSignedIn
from .policy import Auth, Resend
from .responses import Response
from .transport import Transport


class Api:
    """Sends requests with the right token; ``tokens`` is None for a server that must not get any."""

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
        resend: Resend = Resend.NEVER,
    ) -> Response:
        """Return the answer, whatever its status. Raises as `Transport.send`, and `NotSignedIn`.

        A request whose token is refused is sent once more with a newer one: nothing was done before that.
        """
        token = await self.token() if auth is Auth.NEEDED else None

        async def send() -> Response:
            return await self.transport.send(method, path, body, query=query, token=token, resend=resend)

        answer = await send()
        if token is None and auth is Auth.WHERE_ASKED and answer.status == HTTPStatus.UNAUTHORIZED:
            token = await self.token()
            answer = await send()
        if token is not None and self._tokens is not None and answer.code == "invalid_token":
            token = await self._tokens.renew(token)
            answer = await send()
        return answer

    async def token(self) -> str:
        """Return the token of the one who is signed in. Raises `NotSignedIn`."""
        token = await self._tokens.token() if self._tokens is not None else None
        if token is None:
            raise NotSignedIn(f"{self.transport.url} asks who you are. Sign in first (sealpost login), or set {TOKEN}")
        return token
