"""Text from bytes, for every file and stream that the client reads: UTF-8, or Unicode that says what it is."""

import codecs

from .errors import NotText

BYTE_ORDER_MARK = "\ufeff"
"""A mark of the encoding at the start of a text, and no character of it."""
_LONGEST_MARK = 4
# UTF-32's mark begins with that of UTF-16, so it is looked for first.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)


def decode_text(raw: bytes, source: str) -> str:
    """Return the text in ``raw``: UTF-8, or UTF-16 or UTF-32 with a byte order mark. The mark is dropped.

    Raises `NotText`, which names the ``source``.
    """
    mark, encoding = _detect(raw)
    try:
        return raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError:
        stated = f" or valid {encoding[:6].upper()}, which its byte order mark announces" if mark else " text"
        raise NotText(f"{source} is not UTF-8{stated}") from None


class Utf8Stream:
    """Turns a stream into UTF-8 piece by piece, as `decode_text` does; invalid bytes of UTF-8 pass as they are."""

    def __init__(self) -> None:
        self._start = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._has_begun = False

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Return the UTF-8 of the next bytes, without an incomplete character at the end unless they are ``final``.

        What is invalid in UTF-16 or UTF-32 becomes U+FFFD.
        """
        if not self._has_begun:
            self._start += data
            if not final and _may_begin_with_mark(self._start):
                return b""
            self._has_begun = True
            mark, encoding = _detect(self._start)
            data = self._start[len(mark) :]
            if encoding != "utf-8":
                self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        return self._decoder.decode(data, final).encode() if self._decoder else data


def _detect(raw: bytes) -> tuple[bytes, str]:
    """Return the byte order mark and the encoding."""
    return next((found for found in _ENCODINGS if raw.startswith(found[0])), (b"", "utf-8"))


def _may_begin_with_mark(start: bytes) -> bool:
    return len(start) < _LONGEST_MARK and any(mark != start and mark.startswith(start) for mark, _ in _ENCODINGS)
