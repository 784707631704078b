"""Uploads: the tus protocol, version 1.0.0. An upload continues after any interruption."""

from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from ..errors import ClientError, NotSealpost, Unreachable
from ..policy import Auth, Resend
from ..responses import Response
from ..segments import SEALED_SEGMENT_BYTES, SEGMENT_BYTES, SegmentCipher, sealed_size
from .patience import PASSING, Patience, attempt, may_pass
from .sources import Content

if TYPE_CHECKING:
    from ..api import Api

TUS = {"Tus-Resumable": "1.0.0"}
PATH = "/files"
Progress = Callable[[int], None]
_NO_FILES = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


class Body:
    """The bytes of an upload: the content, sealed if there is a key."""

    def __init__(self, content: Content, key: bytes | None) -> None:
        self._content = content
        self._cipher = SegmentCipher(key, content.size) if key else None
        self._step = SEALED_SEGMENT_BYTES if key else SEGMENT_BYTES
        self.size = sealed_size(content.size) if key else content.size

    async def chunks(self, offset: int, progress: Progress) -> AsyncGenerator[bytes, None]:
        """Yield everything from an offset, and report how far it has been read. Raises `ClientError`."""
        while offset < self.size:
            index, skipped = divmod(offset, self._step)
            content = self._content.segment(index)
            chunk = (self._cipher.seal(index, content) if self._cipher else content)[skipped:]
            yield chunk
            offset += len(chunk)
            progress(offset)


class Uploads:
    """Uploads to one server. ``notify`` is called before each retry."""

    def __init__(self, api: "Api", notify: Callable[[str], None]) -> None:
        self._api, self._notify = api, notify

    async def limits(self) -> tuple[int, int]:
        """Return the largest upload in bytes, and the number of files of a secret. Raises `ClientError`.

        Servers that do not accept files have no such limits.
        """
        answer = await self._api.call("OPTIONS", PATH, resend=Resend.ALWAYS)
        if answer.status in _NO_FILES:
            raise ClientError(
                f"{self._api.transport.url} does not accept files: they are switched off there, or the server is older"
                " than this client"
            )
        answer.checked()
        return answer.header_number("Tus-Max-Size"), answer.header_number("Sealpost-Files-Max")

    async def create(self, size: int) -> str:
        """Return the key of a new upload."""
        headers = {**TUS, "Upload-Length": str(size)}
        # A lost response leaves an empty upload, which expires.
        answer = await self._api.call("POST", PATH, headers=headers, auth=Auth.ON_DEMAND, resend=Resend.ALWAYS)
        return answer.checked().text("upload")

    async def find(self, upload: str, size: int) -> int | None:
        """Return the number of bytes that the server has of an upload; None if it has no such upload."""
        answer = await self._api.call("HEAD", f"{PATH}/{upload}", headers=TUS, resend=Resend.ALWAYS)
        if answer.status in _GONE:
            return None
        if answer.status in PASSING:
            # The response to a HEAD has no body that says why.
            raise Unreachable(f"{self._api.transport.url} cannot answer now ({answer.status})", passing=True)
        answer.checked()
        offset = answer.header_number("Upload-Offset")
        return offset if answer.header_number("Upload-Length") == size and offset <= size else None

    async def send(self, upload: str, body: Body, offset: int, progress: Progress) -> None:
        """Send everything from an offset; continue after interruptions, for as long as there is progress."""
        patience = Patience(self._notify)
        progress(offset)
        while offset < body.size:
            answer, failure = await attempt(self._send_once(upload, body, offset, progress))
            if failure is None:
                return
            await patience.wait(failure, answer)
            try:
                found = await self.find(upload, body.size)
            except Unreachable as error:
                if not may_pass(error):
                    raise
                continue
            if found is None:
                raise ClientError("the server no longer has the upload: share the file again")
            if found > offset:
                patience.renew()
            offset = found
            progress(offset)

    async def _send_once(self, upload: str, body: Body, offset: int, progress: Progress) -> Response:
        """Return a success, or a response after which sending may continue; raises `ClientError` for any other."""
        headers = {
            **TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(body.size - offset),
        }
        chunks = body.chunks(offset, progress)
        answer = await self._api.transport.send_stream("PATCH", f"{PATH}/{upload}", chunks, headers)
        if answer.status not in PASSING and answer.status != HTTPStatus.CONFLICT:
            answer.checked()
            if answer.header_number("Upload-Offset") != body.size:
                raise NotSealpost("the response is not from Sealpost: the upload is incomplete")
        return answer
