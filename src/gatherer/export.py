"""Gathered messages as lines of JSON, for the dump, the export command and the HTTP response.

A line is safe to show on a terminal: it has no line break, no control character and no character that reorders text.
JSON escapes the controls below U+0020; this module escapes the others.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping

from pydantic_core import to_json

from ..api.times import in_milliseconds
from .bundle import BundleContent, BundleSealer
from .bundle_reader import BundleReader, SealedBundle, Span

Names = Callable[[Iterable[bytes]], Awaitable[Mapping[bytes, str]]]
"""Returns the names of users by id, without users that do not exist or cannot be read."""

CHUNK_BYTES = 65_536
# DEL, C1 controls, bidirectional controls (UAX #9, section 2), and the separators of lines and paragraphs.
_UNSAFE = (0x7F, *range(0x80, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {chr(code).encode(): f"\\u{code:04x}".encode() for code in _UNSAFE}


class Export:
    """Reads bundles as lines of JSON."""

    def __init__(self, reader: BundleReader, sealer: BundleSealer, names: Names) -> None:
        self._reader = reader
        self._sealer = sealer
        self._names = names

    async def page(self, span: Span, after: int, last: int | None = None) -> Iterator[tuple[SealedBundle, bytes]]:
        """Return the next bundles with their lines, which are made lazily, bundle by bundle.

        Bundles that cannot be decrypted and messages of deleted users have no lines.
        """
        bundles = await self._reader.page(span, after, last)
        names = await self._names({sender for bundle in bundles for sender in bundle.senders})

        def open_each() -> Iterator[tuple[SealedBundle, bytes]]:
            for bundle in bundles:
                # Do not decrypt a bundle if all of its senders were deleted.
                content = self._sealer.open(bundle.document) if any(one in names for one in bundle.senders) else None
                yield bundle, _lines(content, names, span.user_id) if content else b""

        return open_each()

    async def chunks(self, span: Span) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a span, up to the bundle that is the last one now, in non-empty chunks of whole lines."""
        after, last = await self._reader.ends(span)
        while True:
            before, chunk = after, b""
            for bundle, lines in await self.page(span, before, last):
                after, chunk = bundle.position, chunk + lines
                if len(chunk) >= CHUNK_BYTES:
                    yield chunk
                    chunk = b""
            if chunk:
                yield chunk
            if after == before:
                return


def _lines(content: BundleContent, names: Mapping[bytes, str], user_id: bytes | None = None) -> bytes:
    received_at = in_milliseconds(content.received_at)
    lines = b"".join(
        to_json(
            {
                "received_at": received_at,
                "username": names[delivery.user_id],
                "sequence": sequence,
                "message": message,
            }
        )
        + b"\n"
        for delivery in content.deliveries
        if delivery.user_id in names and user_id in {None, delivery.user_id}
        for sequence, message in enumerate(delivery.messages, start=delivery.sequence)
    )
    for character, escaped in _ESCAPES.items():
        lines = lines.replace(character, escaped)
    return lines
