"""Decoding of every file and stream that the client reads: UTF-8, or UTF-16 or UTF-32 with a byte order mark."""

import codecs

from .errors import NotText

BYTE_ORDER_MARK = "\ufeff"
"""Marks the encoding at the start of a text; not part of the text."""
_LONGEST_MARK = 4
# The mark of UTF-16-LE is a prefix of UTF-32-LE's, so UTF-32 comes first.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)


def decode_text(raw: bytes, source: str) -> str:
    """Return the text in ``raw`` without a byte order mark. Raises `NotText`, which names the ``source``."""
    mark, encoding = _detect(raw)
    try:
        return raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError:
        stated = f" or valid {encoding[:6].upper()}, despite its byte order mark" if mark else " text"
        raise NotText(f"{source} is not UTF-8{stated}") from None


class Utf8Stream:
    """Converts a stream to UTF-8, chunk by chunk. Invalid bytes in UTF-8 pass unchanged."""

    def __init__(self) -> None:
        self._start = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._has_begun = False

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Return the next bytes as UTF-8. An incomplete character is held back unless ``final``.

        Invalid UTF-16 or UTF-32 becomes U+FFFD.
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
