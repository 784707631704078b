"""Downloads of the files of an opened secret, verified segment by segment. A download continues after interruptions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from ..addresses import Kind
from ..envelopes import NotOpened
from ..errors import ClientError, NotSealpost
from ..responses import Response
from ..segments import SEALED_SEGMENT_BYTES, SEGMENT_BYTES, SegmentCipher, sealed_size
from .patience import PASSING, Patience, attempt

if TYPE_CHECKING:
    from ..transport import Transport

READER = "Sealpost-Reader"

ALTERED = "its content on the server was damaged or altered"


class Altered(ClientError):
    """The content of a file is incomplete or not what its sender encrypted."""


class HoldEnded(ClientError):
    """The server no longer has the files for this reader."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the server; ``size`` is that of its content in bytes, ``key`` is None if the server encrypted it."""

    id: str
    name: str
    size: int
    stored_size: int
    key: bytes | None = field(repr=False)


class Sink(Protocol):
    """Takes the content of a file."""

    position: int

    def write(self, content: bytes) -> None:
        """Append content."""
        ...


class Decoder(Protocol):
    """Turns a download into the content, from the position of a sink."""

    @property
    def is_complete(self) -> bool:
        """Whether all content has been written."""
        ...

    def begin(self) -> int:
        """Return the offset from which the download has to continue."""
        ...

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, and write what is verified. Raises `Altered`."""
        ...


class PlainDecoder:
    """Writes a file that the server has decrypted."""

    def __init__(self, file: RemoteFile, sink: Sink) -> None:
        self._size, self._sink = file.size, sink

    @property
    def is_complete(self) -> bool:
        """Whether all content has been written."""
        return self._sink.position == self._size

    def begin(self) -> int:
        """Return the offset from which the download has to continue."""
        return self._sink.position

    def feed(self, chunk: bytes) -> None:
        """Write the next bytes."""
        self._sink.write(chunk)


class SealedDecoder:
    """Decrypts a file and writes it, segment by segment."""

    def __init__(self, key: bytes, file: RemoteFile, sink: Sink) -> None:
        self._cipher, self._sink = SegmentCipher(key, file.size), sink
        self._index, self._written = divmod(sink.position, SEGMENT_BYTES)
        if sink.position == file.size > 0:
            self._index = self._cipher.segments
        self._buffer = bytearray()

    @property
    def is_complete(self) -> bool:
        """Whether all segments, including the last one, have been written."""
        return self._index == self._cipher.segments

    def begin(self) -> int:
        """Return the offset from which the download has to continue."""
        self._buffer.clear()
        return self._index * SEALED_SEGMENT_BYTES

    def feed(self, chunk: bytes) -> None:
        """Decrypt and write complete segments. Raises `Altered`."""
        self._buffer += chunk
        while not self.is_complete:
            needed = sealed_size(self._cipher.content_bytes(self._index))
            if len(self._buffer) < needed:
                return
            sealed = bytes(self._buffer[:needed])
            del self._buffer[:needed]
            try:
                content = self._cipher.open(self._index, sealed)
            except NotOpened:
                raise Altered(ALTERED) from None
            self._sink.write(content[self._written :])
            self._index, self._written = self._index + 1, 0


class Downloads:
    """Downloads from one secret for one reader. ``notify`` is called before each retry."""

    def __init__(self, transport: "Transport", secret_key: str, reader: str, notify: Callable[[str], None]) -> None:
        self._transport, self._notify = transport, notify
        self._path, self._headers = f"/{Kind.SECRET}/{secret_key}/files", {READER: reader}

    async def fetch(self, file: RemoteFile, sink: Sink, progress: Callable[[int], None]) -> None:
        """Write the content of a file from the sink's position to its end; ``progress`` is called with each position.

        Raises `Altered`, `HoldEnded`, the errors of `Transport.send`, and those of the sink.
        """
        patience = Patience(self._notify)
        decoder: Decoder = SealedDecoder(file.key, file, sink) if file.key else PlainDecoder(file, sink)
        while not decoder.is_complete:
            before = sink.position
            answer, failure = await attempt(self._fetch_once(file, decoder, lambda: progress(sink.position)))
            if failure is None:
                continue
            if sink.position > before:
                patience.renew()
            await patience.wait(failure, answer)

    async def _fetch_once(self, file: RemoteFile, decoder: Decoder, progress: Callable[[], None]) -> Response:
        """Return a success, or a response after which the download may continue; raises `ClientError` for any other."""
        offset = decoder.begin()
        headers = {**self._headers, "Range": f"bytes={offset}-"} if offset else self._headers
        async with self._transport.receive_stream(f"{self._path}/{file.id}", headers) as incoming:
            if incoming.answer.status in PASSING:
                return incoming.answer
            _check(file, incoming.answer, offset)
            async for chunk in incoming.chunks:
                decoder.feed(chunk)
                progress()
        return incoming.answer


def _check(file: RemoteFile, answer: Response, offset: int) -> None:
    """Raise an error unless the response has the whole rest of a file."""
    if answer.status == HTTPStatus.NOT_FOUND:
        raise HoldEnded("its files can no longer be downloaded")
    if answer.status == HTTPStatus.GONE:
        raise Altered(ALTERED)
    answer.checked()
    if answer.status != (HTTPStatus.PARTIAL_CONTENT if offset else HTTPStatus.OK):
        raise NotSealpost("the response is not from Sealpost: it is another part of the file than requested")
    if answer.header_number("Content-Length") != file.stored_size - offset:
        raise Altered(ALTERED)
