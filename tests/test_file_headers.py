"""The header fields of a download, for every request and every name that a sender may choose."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from src.sealed.file_headers import (
    BINARY,
    INERT_TYPES,
    LONGEST_NAME,
    Span,
    content_disposition,
    content_range,
    media_type,
    requested_span,
    safe_name,
)
from src.sealed.problems import RangeNotSatisfiable

ETAG = '"0123"'
SIZE = 1000
NAMES = st.text(st.characters(), max_size=400) | st.text('aé报./\\"% :\u202e\u200d\r\n\0', max_size=400)
BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def requested(ranges: str, if_range: str | None = None, *, size: int = SIZE) -> Span | None:
    return requested_span(ranges, if_range, etag=ETAG, size=size)


@pytest.mark.parametrize(
    ("ranges", "span"),
    [
        ("bytes=0-", (0, SIZE)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=999-", (999, SIZE)),
        ("bytes=500-999999999999999999999999999999", (500, SIZE)),
        ("bytes=-1", (999, SIZE)),
        ("bytes=-5000", (0, SIZE)),
        ("bytes=0000000000000000000000000000001-2", (1, 3)),
        ("BYTES=1-2", (1, 3)),
        ("bytes=, 1-2 ,\t,", (1, 3)),
    ],
)
def test_a_single_range_is_served(ranges: str, span: tuple[int, int]) -> None:
    """In each form of RFC 9110, and no further than the end of the file."""
    assert span == requested(ranges)


@pytest.mark.parametrize(
    "ranges",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=5-4", "bytes=-1-2", "bytes = 1-2"),
        *("bytes=1 - 2", "bytes=+1-2", "bytes=٣-٤", "bytes=1-2,4-5", "bytes=1-2, bytes=4-5", "lines=1-2", "=1-2"),
    ],
)
def test_any_other_range_is_ignored(ranges: str) -> None:
    """The whole file is sent for an invalid field, several ranges and another unit."""
    assert requested(ranges) is None


@pytest.mark.parametrize("ranges", ["bytes=1000-", "bytes=1000-1000", "bytes=-0", "bytes=99999999999999999999999-"])
def test_a_range_past_the_end_is_refused(ranges: str) -> None:
    """With the size of the file, from which a client learns that it has everything."""
    with pytest.raises(RangeNotSatisfiable) as refused:
        requested(ranges)

    assert {"Content-Range": "bytes */1000"} == refused.value.headers


@pytest.mark.parametrize("ranges", ["bytes=0-", "bytes=0-99", "bytes=-5", "bytes=7-"])
def test_an_empty_file_has_no_ranges(ranges: str) -> None:
    """It is sent as a whole, to a client that always asks for a range, too."""
    assert requested(ranges, size=0) is None


@pytest.mark.parametrize(
    ("if_range", "counts"),
    [
        *((None, True), (ETAG, True), (f" {ETAG} ", True), (f"W/{ETAG}", False), ('"4567"', False), ("0123", False)),
        *(("", False), ("*", False), ("Mon, 30 Nov 2026 12:00:00 GMT", False)),
    ],
)
def test_a_range_counts_only_for_the_same_file(if_range: str | None, counts: bool) -> None:
    """If-Range needs the strong ETag of this file; with any other, the whole file is sent."""
    assert ((1, 3) if counts else None) == requested("bytes=1-2", if_range)


def test_if_range_comes_before_the_check_of_the_range() -> None:
    """A range past the end of a file that is not the same is no error."""
    assert requested("bytes=5000-", '"4567"') is None


@given(st.integers(0, 2 * SIZE), st.none() | st.integers(0, 10**30), st.integers(1, SIZE))
def test_a_range_is_what_it_says(first: int, last: int | None, size: int) -> None:
    """The same bytes as Python's slice, for every satisfiable range."""
    assume(last is None or last >= first)
    ranges = f"bytes={first}-{'' if last is None else last}"
    if first >= size:
        with pytest.raises(RangeNotSatisfiable):
            requested(ranges, size=size)
        return
    content = bytes(number % 251 for number in range(size))
    span = requested(ranges, size=size)

    assert span is not None
    assert content[span.start : span.stop] == content[first : size if last is None else last + 1]
    assert f"bytes {first}-{span.stop - 1}/{size}" == content_range(span, size)


@given(st.text(max_size=40) | st.from_regex(r"bytes=[0-9, \t-]*", fullmatch=True), st.integers(0, SIZE))
def test_any_range_gives_a_part_of_the_file(ranges: str, size: int) -> None:
    """Whatever the field contains, the result is None, a refusal, or bytes of the file."""
    try:
        span = requested(ranges, size=size)
    except RangeNotSatisfiable:
        return

    assert span is None or 0 <= span.start < span.stop <= size


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *(("report.pdf", "report.pdf"), ("/etc/passwd", "passwd"), ("..\\..\\boot.ini", "boot.ini"), ("a/../b", "b")),
        *(
            ("a/..", "file-3"),
            (".", "file-3"),
            ("", "file-3"),
            (None, "file-3"),
            ("a/", "file-3"),
            ("\0\r\n", "file-3"),
        ),
        *(("C:evil.txt", "C_evil.txt"), ("a.txt:stream", "a.txt_stream"), ("what?*.txt", "what__.txt")),
        *(("photo\u202egpj.exe", "photogpj.exe"), ("a\r\nSet-Cookie: b", "aSet-Cookie_ b"), ("a.txt. . ", "a.txt")),
        *(("con", "_con"), ("Nul.tar.gz", "_Nul.tar.gz"), ("COM¹ .txt", "_COM¹ .txt"), ("console.log", "console.log")),
        *((".bashrc", ".bashrc"), ("报告 2026.pdf", "报告 2026.pdf"), ("👩\u200d🚀.png", "👩\u200d🚀.png")),
        *(("x" * 300 + ".jpeg", "x" * 250 + ".jpeg"), ("é" * 300, "é" * 127), ("a." + "x" * 300, "a." + "x" * 253)),
        *(("\ud800a", "a"), ("a\u2028b", "ab"), ("\ufeffa", "a")),
    ],
)
def test_a_name_is_made_safe(given: str | None, name: str) -> None:
    """It keeps what it can: other scripts, emoji, the dot of a hidden file, and the extension of a long name."""
    assert name == safe_name(given, 3)


@given(NAMES)
@example("con. ")
@example("a" * 255 + " b")
@example("a" * 250 + "." * 20 + "b")
@example("con" + " " * 300 + "x")
@example("con" + " " * 300 + "x.jpeg")
@example("com٣")
def test_every_name_is_safe(given: str) -> None:
    """It is a file in the current directory, on every system, and shows no other characters than it has."""
    name = safe_name(given, 1)

    assert 0 < len(name.encode()) <= LONGEST_NAME
    assert not re.search(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f]', name)
    assert not set(BIDIRECTIONAL) & set(name)
    assert name == name.strip().rstrip(".")
    assert not re.match(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9]) *(\.|$)", name)
    assert name == safe_name(name, 2)


@given(NAMES)
@example("\uff43\uff4f\uff4e.txt")
@example("\uff0e\uff0e")
@example("\u3389" * 85)
@example("100%41.txt")
def test_every_name_fits_into_the_header(given: str) -> None:
    """A recipient of either form gets a safe name, and one of the encoded form gets the very name."""
    name = safe_name(given, 1)
    value = content_disposition(name)
    parsed = re.fullmatch(
        r"attachment; filename=\"([ !#-\[\]-~]+)\"(?:; filename\*=UTF-8''([\w.~!#$&+^`|%-]+))?", value
    )

    assert parsed, value
    plain, encoded = parsed.groups()
    assert plain == safe_name(plain, 1)
    assert "%" not in plain
    assert name == (plain if encoded is None else unquote(encoded, errors="strict"))


def test_programs_that_do_not_decode_get_a_similar_name() -> None:
    """Accents are left out, and other characters become underscores."""
    assert 'attachment; filename="a b.txt"' == content_disposition("a b.txt")
    assert (
        "attachment; filename=\"resume __.pdf\"; filename*=UTF-8''r%C3%A9sum%C3%A9%20%E6%8A%A5%E5%91%8A.pdf"
        == content_disposition("résumé 报告.pdf")
    )


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        *(("image/png", "image/png"), (" Image/PNG ; name=x", "image/png"), ("text/plain;charset=x", "text/plain")),
        *((None, BINARY), ("", BINARY), ("text/html", BINARY), ("image/svg+xml", BINARY), ("text/xml", BINARY)),
        *(("application/pdf", BINARY), ("text/javascript", BINARY), ("image/png\r\nX: y", BINARY), (";", BINARY)),
    ],
)
def test_only_inert_types_are_kept(given: str | None, kind: str) -> None:
    """A browser that ignores everything else could still not run the content."""
    assert kind == media_type(given)


@given(st.text(max_size=60))
def test_every_type_is_a_known_one(given: str) -> None:
    """Nothing of a given type reaches the header unchecked."""
    assert media_type(given) in INERT_TYPES | {BINARY}
