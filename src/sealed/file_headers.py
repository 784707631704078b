"""The header fields of a download: its range, and a name and media type that are safe for every recipient.

The sender of a file chooses its name and type, so neither is trusted.
"""

import re
import unicodedata
from typing import NamedTuple
from urllib.parse import quote

from .problems import RangeNotSatisfiable

LONGEST_NAME = 255
"""Bytes of a name in UTF-8: the limit of common file systems."""
BINARY = "application/octet-stream"
INERT_TYPES = frozenset(
    (
        *("audio/aac", "audio/flac", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/wav", "audio/webm"),
        *("image/avif", "image/gif", "image/jpeg", "image/png", "image/tiff", "image/webp"),
        *("video/mp4", "video/mpeg", "video/ogg", "video/quicktime", "video/webm"),
        *("application/gzip", "application/zip", "text/plain"),
    )
)
"""Media types without scripts, macros or references to other content."""
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
_MOST_DIGITS = 20
"""More than the size of any file has."""
_JOINERS = "\u200c\u200d"
"""Invisible, but part of the spelling of Persian and of emoji."""
_UNWANTED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: controls, bidirectional and other invisible characters, surrogates, and line separators."""
_RESERVED = re.compile(r'[<>:"|?*]')
"""Not allowed in names on Windows. A colon would name a drive or a stream."""
_ENDS = re.compile(r"\A\s+|[\s.]+\Z")
"""Windows ignores spaces and dots at the end. Without these, no name is ``.`` or ``..``."""
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$|clock\$) *(\.|\Z)", re.IGNORECASE)
"""Names that Windows opens as devices, with any extension."""
_LONGEST_SUFFIX = 16
# RFC 8187, section 3.2.1: attr-char, without letters, digits and -._~, which are never quoted.
_ATTRIBUTE_CHARACTERS = "!#$&+^`|"


class Span(NamedTuple):
    """The bytes of a file from ``start`` up to, but not including, ``stop``."""

    start: int
    stop: int


def requested_span(ranges: str, if_range: str | None, *, etag: str, size: int) -> Span | None:
    """Return the requested part of a file of ``size`` bytes; None if the whole file is to be sent.

    ``ranges`` and ``if_range`` are the header fields. As RFC 9110, section 14.2, allows, a field that is invalid or has
    several ranges is ignored. Raises `RangeNotSatisfiable`.
    """
    unit, _, wanted = ranges.partition("=")
    parts = [part for part in (part.strip(" \t") for part in wanted.split(",")) if part]
    # No range of an empty file can be satisfied, but a client that always asks for ranges should get it.
    if unit.lower() != "bytes" or len(parts) != 1 or not size:
        return None
    # Section 13.1.5: only a strong validator matches. A date never does, because files have none here.
    if if_range is not None and if_range.strip() != etag:
        return None
    match = _RANGE.fullmatch(parts[0])
    if match is None or match[0] == "-":
        return None
    first, last = (_number(digits) if digits else None for digits in match.groups())
    if first is None:
        span = Span(size - min(last or 0, size), size)
    elif last is None or last >= first:
        span = Span(first, size if last is None else min(last + 1, size))
    else:
        return None
    if span.start >= size:
        raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return span


def content_range(span: Span, size: int) -> str:
    """Return the value of Content-Range for a part of a file."""
    return f"bytes {span.start}-{span.stop - 1}/{size}"


def media_type(given: str | None) -> str:
    """Return the given type without parameters if it is an inert one, or else `BINARY`."""
    kind = (given or "").partition(";")[0].strip().lower()
    return kind if kind in INERT_TYPES else BINARY


def safe_name(given: str | None, position: int) -> str:
    """Return a name that every file system accepts and that names nothing but a file in the current directory.

    It is the last component of the given path; a name of which nothing is left becomes ``file-<position>``.
    """
    component = re.split(r"[/\\]", given or "")[-1]
    kept = (one for one in component if one in _JOINERS or unicodedata.category(one) not in _UNWANTED)
    return _named(_RESERVED.sub("_", "".join(kept))) or f"file-{position}"


def content_disposition(name: str) -> str:
    """Return the value of Content-Disposition that saves a download under a name that is safe.

    A name that a quoted string cannot hold unchanged is encoded as well (RFC 6266, section 4.3), after a similar one
    for programs such as curl that do not decode it.
    """
    plain = _named("".join(map(_plain, name)))
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE_CHARACTERS)}"


def _number(digits: str) -> int:
    return int(digits.lstrip("0")[:_MOST_DIGITS] or "0")


def _named(text: str) -> str:
    """Return a text as the name of a file, without characters that Windows drops, and not too long."""
    name = _ENDS.sub("", text)
    if _DEVICE.match(name):
        name = f"_{name}"
    if len(name.encode()) > LONGEST_NAME:
        stem, dot, suffix = name.rpartition(".")
        if not stem or len(suffix) > _LONGEST_SUFFIX:
            stem, dot, suffix = name, "", ""
        ending = f"{dot}{suffix}"
        # The rest of a long name may be that of a device.
        return _named(stem.encode()[: LONGEST_NAME - len(ending.encode())].decode(errors="ignore") + ending)
    return name


def _plain(character: str) -> str:
    """Return an ASCII character that is safe in a quoted string, or the letters and digits that resemble one."""
    if character.isascii():
        # Some programs decode percent signs, and a backslash would quote the next character.
        return character if character not in '"\\%' else "_"
    decomposed = unicodedata.normalize("NFKD", character)
    letters = "".join(one for one in decomposed if not unicodedata.combining(one))
    return letters if letters.isascii() and letters.isalnum() else "_"
