"""Which token goes with a request, and how it is kept good."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from .credentials import CredentialStore, StoredSession, StoredSessions
from .environment import TOKEN
from .errors import ClientError, NotSignedIn, OutcomeUnknown
from .policy import Resend
from .responses import JsonObject, Response
from .transport import Transport

EARLY = 30
"""Seconds before its end from which an access token is refreshed."""

T = TypeVar("T")


class TokenSource(Protocol):
    """Where a token comes from."""

    async def token(self) -> str | None:
        """Return the token to send; None where there is none."""

    async def renew(self, refused: str) -> str:
        """Return another one in the place of one that the server has refused. Raises `NotSignedIn`."""


class GivenToken:
    """A token that was given by the environment, or a program's own."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self) -> str | None:
        """Return it."""
        return self._token

    async def renew(self, refused: str) -> str:  # noqa: ARG002 (there is only the one)
        """Raise `NotSignedIn`: there is no other one."""
        raise NotSignedIn(f"the server does not accept the token in {TOKEN}: it is no good, or no longer")


class SessionTokens:
    """The session that is stored for a server; it is refreshed by one command at a time."""

    def __init__(self, store: CredentialStore, transport: Transport) -> None:
        self._store, self._transport = store, transport
        self._url = transport.url

    async def token(self) -> str | None:
        """Return the access token, refreshed where it is too old. Raises `NotSignedIn` and `ClientError`."""
        session = self._store.read().sessions.get(self._url)
        if session is None:
            return None
        if session.is_fresh:
            return session.access_token
        return await self.renew(session.access_token)

    async def renew(self, refused: str) -> str:
        """Return a newer access token: another command's, or else a refreshed one."""
        async with self._store.locked():
            credentials = self._store.read()
            session = credentials.sessions.get(self._url)
            if session is None:
                raise NotSignedIn(f"nobody is signed in to {self._url} any more: sealpost login")
            if session.access_token != refused and session.is_fresh:
                return session.access_token
            # A refresh token that is used, and whose successor cannot be stored, ends the session.
            self._store.write(credentials)
            return await _finish(self._refresh(credentials, session))

    async def begin(self, username: str, password: str) -> None:
        """Sign in, and keep the session; an older one on the same server is ended."""
        answer = await self._transport.send(
            "POST", "/login", {"username": username, "password": password}, resend=Resend.UNAVAILABLE
        )
        session = _session(username, answer.checked(), allow_http=self._transport.allow_http)
        try:
            await self._end_on_server()
            async with self._store.locked():
                credentials = self._store.read()
                self._store.write(replace(credentials.with_session(self._url, session), default_url=self._url))
        except ClientError:
            with suppress(ClientError):
                await self._log_out(session.access_token)
            raise

    async def end(self) -> bool:
        """Forget the session and end it; tell whether it has ended on the server, too. Raises `NotSignedIn`."""
        if self._store.read().sessions.get(self._url) is None:
            raise NotSignedIn(f"nobody is signed in to {self._url}")
        ended = await self._end_on_server()
        # What is kept here goes even where the server could not be told.
        async with self._store.locked():
            self._store.write(self._store.read().without_session(self._url))
        return ended

    async def _end_on_server(self) -> bool:
        """Tell whether there is no session any more; one that had to be refreshed to end it is stored meanwhile."""
        try:
            token = await self.token()
            if token is None:
                return True
            answer = await self._log_out(token)
            if answer.status == HTTPStatus.UNAUTHORIZED:
                answer = await self._log_out(await self.renew(token))
        except NotSignedIn:
            return True
        except ClientError:
            return False
        return answer.ok

    async def _log_out(self, token: str) -> Response:
        return await self._transport.send("POST", "/logout", token=token, resend=Resend.ALWAYS)

    async def _refresh(self, credentials: StoredSessions, session: StoredSession) -> str:
        try:
            answer = await self._transport.send(
                "POST", "/refresh", {"refresh_token": session.refresh_token}, resend=Resend.UNAVAILABLE
            )
        except OutcomeUnknown as error:
            raise OutcomeUnknown(f"{error}: try again, and where that is refused, sign in again") from None
        if answer.code == "invalid_refresh_token":
            self._store.write(credentials.without_session(self._url))
            raise NotSignedIn(f"the session on {self._url} has ended. Sign in again: sealpost login {session.username}")
        renewed = _session(session.username, answer.checked(), allow_http=session.allow_http)
        self._store.write(credentials.with_session(self._url, renewed))
        return renewed.access_token


def _session(username: str, tokens: JsonObject, *, allow_http: bool) -> StoredSession:
    return StoredSession(
        username=username,
        access_token=tokens.text("access_token"),
        refresh_token=tokens.text("refresh_token"),
        access_until=time.time() + tokens.number("expires_in") - EARLY,
        allow_http=allow_http,
    )


async def _finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await what must not be interrupted in its middle; a cancellation waits for its end."""
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
