"""Where a request's token comes from, and how it is refreshed."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from .credentials import CredentialStore, StoredSession, StoredSessions
from .environment import TOKEN
from .errors import ClientError, NotSignedIn, OutcomeUnknown, WrongUsage
from .policy import Resend
from .responses import JsonObject, Response
from .transport import Transport

EARLY = 30
"""An access token is refreshed so many seconds before it expires."""

T = TypeVar("T")


class TokenSource(Protocol):
    """A source of tokens."""

    async def token(self) -> str | None:
        """Return the token to send, or None."""

    async def renew(self, refused: str) -> str:
        """Return a replacement for a rejected token. Raises `NotSignedIn`."""


class GivenToken:
    """A fixed token, from the environment or from a program."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self) -> str | None:
        """Return the token."""
        return self._token

    async def renew(self, refused: str) -> str:  # noqa: ARG002 (there is only the one)
        """Raise `NotSignedIn`, because there is no other token."""
        raise NotSignedIn(f"the server rejected the token in {TOKEN}: it is invalid or has expired")


class SessionTokens:
    """The stored session of a server; one command at a time refreshes it."""

    def __init__(self, store: CredentialStore, transport: Transport) -> None:
        self._store, self._transport = store, transport
        self._url = transport.url

    async def token(self) -> str | None:
        """Return the access token, refreshed if it expires soon. Raises `NotSignedIn` and `ClientError`."""
        session = self._store.read().sessions.get(self._url)
        if session is None:
            return None
        if session.is_fresh:
            return session.access_token
        return await self.renew(session.access_token)

    async def renew(self, refused: str) -> str:
        """Return a newer access token: one that another command has stored, or a refreshed one."""
        async with self._store.locked():
            credentials = self._store.read()
            session = credentials.sessions.get(self._url)
            if session is None:
                raise NotSignedIn(f"you are no longer signed in to {self._url}: use `sealpost login`")
            if session.access_token != refused and session.is_fresh:
                return session.access_token
            if session.is_api_token:
                raise NotSignedIn(f"{self._url} rejected the stored API token: it has expired or was deleted")
            # Make sure that the file is writable: a used refresh token whose successor is lost ends the session.
            self._store.write(credentials)
            return await _finish(self._refresh(credentials, session))

    def stored(self) -> StoredSession | None:
        """Return what is stored for this server. Raises `ClientError`."""
        return self._store.read().sessions.get(self._url)

    async def begin(self, username: str, password: str) -> None:
        """Sign in and store the session; an older session on the same server ends."""
        answer = await self._transport.send(
            "POST", "/login", {"username": username, "password": password}, resend=Resend.UNAVAILABLE
        )
        tokens = answer.checked({"not_found": f"{self._url} has no accounts"})
        await self._replace(_session(username, tokens, allow_http=self._transport.allow_http))

    async def begin_with_code(self, code: str, verifier: str) -> str:
        """Sign in with a code from the browser, store the session as `begin` does, and return the username."""
        answer = await self._transport.send(
            "POST", "/login/code", {"code": code, "verifier": verifier}, resend=Resend.UNAVAILABLE
        )
        tokens = answer.checked()
        me = await self._transport.send("GET", "/me", token=tokens.text("access_token"), resend=Resend.ALWAYS)
        session = _session(me.checked().text("username"), tokens, allow_http=self._transport.allow_http)
        await self._replace(session)
        return session.username

    async def keep_api_token(self, token: str) -> None:
        """Store an API token instead of a session, which ends. Raises `NotSignedIn` if the server rejects it."""
        # No scope suffices for this request, so the server says whether it knows the token and no more.
        answer = await self._transport.send("GET", "/me", token=token, resend=Resend.ALWAYS)
        if answer.ok:
            raise WrongUsage("this is an access token, which expires in 10 minutes: use an API token")
        if answer.code != "insufficient_scope":
            raise answer.error()
        await self._replace(StoredSession.of_api_token(token, allow_http=self._transport.allow_http))

    async def _replace(self, session: StoredSession) -> None:
        try:
            await self._end_on_server()
            async with self._store.locked():
                credentials = self._store.read()
                self._store.write(replace(credentials.with_session(self._url, session), default_url=self._url))
        except ClientError:
            if not session.is_api_token:
                with suppress(ClientError):
                    await self._log_out(session.access_token)
            raise

    async def end(self) -> bool:
        """Delete the stored session and return whether the server ended it too. Raises `NotSignedIn`."""
        if self.stored() is None:
            raise NotSignedIn(f"you are not signed in to {self._url}")
        ended = await self._end_on_server()
        # Delete it here even if the server is unreachable.
        async with self._store.locked():
            self._store.write(self._store.read().without_session(self._url))
        return ended

    async def _end_on_server(self) -> bool:
        """Return whether the session has ended; a refresh on the way is stored. An API token stays valid."""
        stored = self.stored()
        if stored and stored.is_api_token:
            return True
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
            raise OutcomeUnknown(f"{error}. Try again; if that is refused, sign in again") from None
        if answer.code == "invalid_refresh_token":
            self._store.write(credentials.without_session(self._url))
            raise NotSignedIn(
                f"your session on {self._url} has ended. Sign in again: sealpost login {session.username}"
            )
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
    """Await a coroutine that must run to its end; a cancellation is raised after it."""
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
