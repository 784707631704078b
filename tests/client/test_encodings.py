"""Text from files and streams: whatever its encoding, it arrives as it was written or is refused before it is sent."""

import asyncio
import codecs
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.client.encodings import Utf8Stream, decode_text
from src.client.errors import NotText
from src.client.gathering.follower import StandardInput

from ..processes import PATIENCE
from .conftest import Typed
from .servers import LOSE, odd_server

MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
PHRASE = "Grüße ☕ \U0001f511"
texts = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith(("\ufeff", "\0")))


def encode(text: str, encoding: str) -> bytes:
    """Return a text with the byte order mark of its encoding."""
    return MARKS[encoding] + text.encode(encoding)


def pieces_of(raw: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return bytes cut into pieces."""
    places = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[begin:end] for begin, end in pairwise(places)]


@given(texts, st.sampled_from([*MARKS, "plain"]))
def test_a_text_is_the_same_in_every_encoding(text: str, encoding: str) -> None:
    """To the character, white space and line breaks included; the byte order mark is none of it."""
    raw = text.encode() if encoding == "plain" else encode(text, encoding)

    assert text == decode_text(raw, "a file")


@given(st.binary())
def test_bytes_are_a_text_or_refused(raw: bytes) -> None:
    """With the file's name, and never with a part of what is in it."""
    said = ""
    try:
        text = decode_text(raw, "a file")
    except NotText as error:
        said = str(error)

    assert said.startswith("a file is not UTF-8") or raw in {text.encode(), *(encode(text, one) for one in MARKS)}


@given(texts, st.sampled_from([*MARKS, "plain"]), st.lists(st.integers(min_value=0), max_size=8))
def test_a_stream_is_the_same_in_every_encoding(text: str, encoding: str, cuts: list[int]) -> None:
    """However it is cut into pieces."""
    raw = text.encode() if encoding == "plain" else encode(text, encoding)
    stream = Utf8Stream()
    written = b"".join(stream.feed(piece) for piece in pieces_of(raw, cuts)) + stream.feed(b"", final=True)

    assert text.encode() == written


@given(st.binary(), st.lists(st.integers(min_value=0), max_size=4))
def test_bytes_that_are_no_text_pass_a_stream(raw: bytes, cuts: list[int]) -> None:
    """A log may have them; what is not UTF-16 or UTF-32 comes out as it went in."""
    stream = Utf8Stream()
    written = b"".join(stream.feed(piece) for piece in pieces_of(raw, cuts)) + stream.feed(b"", final=True)

    assert written.decode(errors="replace") is not None
    if not raw.startswith(tuple(MARKS.values())):
        assert raw == written


@pytest.mark.parametrize("encoding", MARKS)
async def test_a_phrase_file_is_the_same_phrase_in_every_encoding(
    url: str, typed: Typed, tmp_path: Path, encoding: str
) -> None:
    """Windows editors write UTF-16 and byte order marks; another phrase would destroy the secret."""
    file = tmp_path / "phrase"
    file.write_bytes(encode(f"{PHRASE}\r\n", encoding))
    link = (await typed("share", "--phrase-file", str(file), stdin=encode("  a text\n", encoding))).stdout

    opened = await typed("open", f"\ufeff{link}", SEALPOST_PHRASE=f"\ufeff{PHRASE}")

    assert (0, "  a text\n") == (opened.code, opened.stdout)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"Gr\xfc\xdfe", "is not UTF-8 text"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8", "UTF-16"),
        (codecs.BOM_UTF32_LE + b"abcd", "UTF-32"),
        ("phrase".encode("utf-16-le"), "contains NUL characters"),
        (codecs.BOM_UTF8, "is empty"),
    ],
)
async def test_a_phrase_file_that_is_no_text_sends_nothing(
    typed: Typed, tmp_path: Path, raw: bytes, words: str
) -> None:
    """Neither a look nor an attempt."""
    file = tmp_path / "phrase"
    file.write_bytes(raw)
    async with odd_server([LOSE]) as server:
        ended = await typed("open", f"{server.url}/secrets/{'A' * 43}", "--phrase-file", str(file))

    assert (2, "", []) == (ended.code, ended.stdout, server.requests)
    assert words in ended.stderr
    assert 1 == len(ended.stderr.splitlines())


@pytest.mark.parametrize("variable", ["SEALPOST_PHRASE", "SEALPOST_PASSWORD", "SEALPOST_TOKEN", "SEALPOST_URL"])
async def test_a_variable_that_is_no_text_sends_nothing(typed: Typed, variable: str) -> None:
    """As from a file in another encoding."""
    commands = {"SEALPOST_PHRASE": ("share", "a text"), "SEALPOST_PASSWORD": ("login", "ann")}
    async with odd_server([LOSE]) as server:
        where = {} if variable == "SEALPOST_URL" else {"SEALPOST_URL": server.url}
        ended = await typed(*commands.get(variable, ("whoami",)), **where, **{variable: "Gr\udcfc\udcdfe"})

    assert (2, f"sealpost: {variable} is not UTF-8 text\n", []) == (ended.code, ended.stderr, server.requests)


async def test_a_text_in_utf_16_has_the_same_limit(typed: Typed) -> None:
    """That of its UTF-8."""
    async with odd_server([LOSE]) as server:
        ended = [
            await typed("share", "--url", server.url, stdin=raw)
            for raw in (encode("a" * (2**20 + 1), "utf-16-le"), b"a" * (4 * 2**20 + 5))
        ]

    assert [(2, True)] * 2 == [(one.code, "larger than 1 MiB" in one.stderr) for one in ended]
    assert [] == server.requests


@pytest.mark.parametrize("encoding", MARKS)
async def test_lines_are_read_in_every_encoding(encoding: str) -> None:
    """Also where the byte order mark and a character come in two parts."""
    inner, outer = os.pipe()
    raw, read, lines = encode("eins ☕\nzwei\n", encoding), b"", StandardInput(inner)
    for piece in (raw[:1], raw[1:5], raw[5:]):
        os.write(outer, piece)
        async with asyncio.timeout(PATIENCE):
            await lines.wait()
        read += lines.read()
    os.close(outer)
    read += lines.read()
    os.close(inner)

    assert ("eins ☕\nzwei\n", True) == (read.decode(), lines.has_ended)
