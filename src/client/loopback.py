"""The browser's way back to the terminal: a small server on 127.0.0.1 that receives one sign-in code."""

import asyncio
import hmac
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit

ADDRESS = "127.0.0.1"
MOST_BYTES = 16 * 1024
"""Bytes of a request's header."""
READ_SECONDS = 10.0
DONE = "You are signed in at the terminal. You may close this window."
NOT_FOUND = "There is nothing here."
WRONG_STATE = "This is not the sign-in that the terminal waits for. Start again with sealpost login --browser."
_PAGE = (
    "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n"
    "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n"
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\nConnection: close\r\n\r\n{text}"
)


class Loopback:
    """An asynchronous context manager that listens on a free port; nothing is left of it at the end.

    ``verifier`` proves to the service that the code is for this program, and never leaves it except to the service.
    """

    def __init__(self) -> None:
        self.verifier = secrets.token_urlsafe(32)
        self._state = secrets.token_urlsafe(32)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, ADDRESS, 0, limit=MOST_BYTES)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server:
            # Without waiting: a browser may hold connections that it does not use.
            self._server.close()

    def page(self, url: str) -> str:
        """Return the address of the page that asks the user, on the service at ``url``."""
        challenge = urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        query = urlencode({"terminal": self._port, "challenge": challenge, "state": self._state})
        return f"{url}/signin?{query}"

    async def code(self) -> str:
        """Return the first code that arrives with the right state; later ones are refused."""
        return await self._code

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                header = await reader.readuntil(b"\r\n\r\n")
                status, text = self._respond(header.decode("ascii"))
                writer.write(_PAGE.format(status=status, length=len(text), text=text).encode())
                await writer.drain()
        except (OSError, TimeoutError, UnicodeError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # no browser
        finally:
            writer.close()

    def _respond(self, header: str) -> tuple[str, str]:
        """Return the status and text of the response to a request."""
        request, *fields = header.split("\r\n")
        method, _, rest = request.partition(" ")
        target = urlsplit(rest.rpartition(" ")[0])
        # A page of another site may send requests here, by a name that leads to this address.
        is_ours = any(field.lower().replace(" ", "") == f"host:{ADDRESS}:{self._port}" for field in fields)
        if not is_ours or method != "GET" or target.path != "/" or self._code.done():
            return "404 Not Found", NOT_FOUND
        query = parse_qs(target.query)
        code, state = ("".join(query.get(name, [])) for name in ("code", "state"))
        if not code or not hmac.compare_digest(state.encode(), self._state.encode()):
            return "400 Bad Request", WRONG_STATE
        self._code.set_result(code)
        return "200 OK", DONE
