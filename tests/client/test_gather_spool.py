"""The spool of `gather --follow`: whatever the disk or a crash does to it, no line is wrong and none is there twice."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.client.errors import ClientError
from src.client.gathering.batch_file import decode_records, encode_record
from src.client.gathering.batches import LARGEST_BODY, MOST_LINES, parts_of
from src.client.gathering.spool import LONGEST_LINE, Spool
from src.client.transport import _encode

NAME = "0000000001-" + "ab" * 16 + ".batch"
LIMIT = 1 << 30
payloads = st.lists(st.binary(max_size=60), min_size=1, max_size=8)


def encode_records(name: str, payloads: Iterable[bytes]) -> bytes:
    """Return a whole file."""
    written = b""
    for payload in payloads:
        written += encode_record(name, len(written), payload)
    return written


def opened(directory: Path, source: str = "a pipe", limit: int = LIMIT) -> Spool:
    """Open a spool."""
    found = Spool(directory, source=source, limit=limit)
    found.open()
    return found


def put(spool: Spool, *chunks: bytes) -> None:
    """Let a spool take what was read."""
    for chunk in chunks:
        spool.take(chunk)
        spool.write()


def batches(spool: Spool) -> dict[str, list[bytes]]:
    """Close what is open and return the lines of each batch by its id."""
    spool.close_batch()
    return {one.id: spool.read(one).split(b"\n")[:-1] for one in spool._waiting}


def lines(spool: Spool) -> list[bytes]:
    """Close what is open and return all lines."""
    return [line for found in batches(spool).values() for line in found]


@given(payloads)
def test_whole_records_are_read_as_they_were_written(written: list[bytes]) -> None:
    """Whatever is in them."""
    raw = encode_records(NAME, written)

    assert (written, len(raw)) == decode_records(NAME, raw)


@given(payloads, st.data())
def test_a_torn_file_gives_its_first_records(written: list[bytes], data: st.DataObject) -> None:
    """Cut anywhere, with zeros or anything else behind, or with a byte changed: what comes before that, and no more."""
    raw = encode_records(NAME, written)
    place = data.draw(st.integers(0, len(raw) - 1))
    flipped = bytes([raw[place] ^ data.draw(st.integers(1, 255))])
    tail = data.draw(st.sampled_from([b"", b"\x00" * 100, flipped + raw[place + 1 :], flipped, raw]))
    torn = raw[:place] + tail
    found, good = decode_records(NAME, torn)
    # The tail may begin as what was cut off: a record can end with zeros.
    differs = (place for place, (one, other) in enumerate(zip(raw, torn, strict=False)) if one != other)
    same = next(differs, min(len(raw), len(torn)))
    whole = [count for count in range(len(written) + 1) if len(encode_records(NAME, written[:count])) <= same]

    assert written[: whole[-1]] == found
    assert len(encode_records(NAME, found)) == good


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20), st.data())
def test_lines_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, written: list[bytes], data: st.DataObject
) -> None:
    """However they are cut into chunks, and however often the process is killed in between."""
    directory = tmp_path_factory.mktemp("spool")
    content = b"".join(one.replace(b"\n", b"") + b"\n" for one in written)
    spool = opened(directory)
    left, got = content, list[bytes]()
    while left:
        length = data.draw(st.integers(1, len(left)))
        put(spool, left[:length])
        left = left[length:]
        match data.draw(st.sampled_from(["go on", "kill", "deliver"])):
            case "kill":
                spool.close()
                spool = opened(directory)
            case "deliver":
                got += lines(spool)
                while spool.next:
                    spool.forget(spool.next)
    got += lines(spool)
    spool.close()

    assert content.split(b"\n")[:-1] == got
    assert 0 == spool.torn


def test_a_batch_keeps_its_id_and_its_lines(tmp_path: Path) -> None:
    """A process that was killed after sending it sends the same under the same id."""
    spool = opened(tmp_path / "spool")
    put(spool, b"one\ntwo\nth")
    before = batches(spool)
    put(spool, b"ree\n")
    spool.close()
    again = opened(tmp_path / "spool")
    after = batches(again)
    again.close()

    assert [[b"one", b"two"]] == list(before.values())
    assert [*before.items(), (list(after)[1], [b"three"])] == list(after.items())


def test_what_the_power_took_is_left_out(tmp_path: Path) -> None:
    """A tail that is not whole is cut off, and a line whose beginning is in it is not made up."""
    spool = opened(tmp_path / "spool")
    put(spool, b"one\n", b"two\nthr", b"ee\n")
    (path,) = (tmp_path / "spool").glob("*.batch")
    spool.close()
    path.write_bytes(path.read_bytes()[:-2])
    again = opened(tmp_path / "spool", source="another pipe")
    found, torn = lines(again), again.torn
    again.close()

    assert [b"one", b"two", b"thr"] == found
    assert torn > 0


def test_a_file_without_a_whole_record_is_gone(tmp_path: Path) -> None:
    """The one before it still has the beginning of the line that it was made for."""
    spool = opened(tmp_path / "spool")
    put(spool, b"one\ntw")
    spool.close_batch()
    spool.close()
    newest = max((tmp_path / "spool").glob("*.batch"))
    newest.write_bytes(newest.read_bytes()[:-1])
    again = opened(tmp_path / "spool")
    put(again, b"o\n")
    found = lines(again)
    again.close()

    assert [b"one", b"two"] == found
    assert not newest.exists()


@pytest.mark.parametrize("content", [b"", b"damaged", encode_records(NAME, [b"[]\n"])])
def test_a_damaged_file_is_kept_and_not_sent(tmp_path: Path, content: bytes) -> None:
    """Not even the part that could be read: it may be stored already under the same id, with the rest."""
    directory = tmp_path / "spool"
    spool = opened(directory)
    put(spool, b"x\n" * MOST_LINES, b"last\n")
    spool.close()
    oldest = min(directory.glob("*.batch"))
    (directory / NAME).write_bytes(content)
    oldest.unlink()
    again = opened(directory)
    found, damaged = lines(again), again.damaged
    again.close()

    assert [b"last"] == found
    assert [directory / NAME.replace(".batch", ".refused")] == damaged


def test_a_batch_has_no_more_lines_than_a_request(tmp_path: Path) -> None:
    """However many come at once."""
    spool = opened(tmp_path / "spool")
    put(spool, b"\n" * (2 * MOST_LINES + 1))
    found = [len(one) for one in batches(spool).values()]
    spool.close()

    assert [MOST_LINES, MOST_LINES, 1] == found


@pytest.mark.parametrize("character", ["x", "€", "\x01"])
def test_a_line_that_is_too_long_is_cut(tmp_path: Path, character: str) -> None:
    """At characters; the pieces are the line, and each request is one that a server takes."""
    spool = opened(tmp_path / "spool")
    line = character * (2_300_000 // len(character.encode()))
    raw = b"short\n" + line.encode() + b"\nshort\n"
    put(spool, *(raw[begin : begin + 65536] for begin in range(0, len(raw), 65536)))
    spool.close_batch()
    parts = [part for batch in spool._waiting for part in parts_of(batch.id, spool.read(batch))]
    spool.close()
    messages = [message for part in parts for message in part.messages]

    assert ["short", line, "short"] == [messages[0], "".join(messages[1:-1]), messages[-1]]
    assert len(parts) == len({part.id for part in parts})
    assert all(len(_encode({"messages": part.messages})) <= LARGEST_BODY + 100 for part in parts)
    assert 2 == spool.cut


def test_what_is_no_text_is_replaced() -> None:
    """By the mark that stands for it; a line of many such bytes is no longer than a request."""
    (part,) = parts_of("id", b"caf\xe9\n\n\xff\r\n")

    assert ("caf�", "", "�\r") == part.messages
    assert (
        LONGEST_LINE
        < sum(len(message) for part in parts_of("id", b"\xff" * LONGEST_LINE + b"\n\n") for message in part.messages)
        + 1
    )


@pytest.mark.parametrize("written", [0, 7])
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """What was taken is written once there is room, and what was half written is not there."""
    spool = opened(tmp_path / "spool")
    put(spool, b"one\ntw")
    real, calls = os.write, [0]

    def full(handle: int, data: bytes) -> int:
        calls[0] += 1
        if calls[0] == 1 and written:
            return real(handle, data[:written])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            put(spool, b"o\nthree\n")
        with pytest.raises(OSError, match="No space"):
            spool.write()
    spool.write()
    spool.close()
    again = opened(tmp_path / "spool")
    found, torn = lines(again), again.torn
    again.close()

    assert ([b"one", b"two", b"three"], 0) == (found, torn)


def test_files_are_for_their_user_alone(tmp_path: Path) -> None:
    """Also under a directory that others can read; one of the spool's own that they can is refused."""
    spool = opened(tmp_path / "spool")
    put(spool, b"one\n")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()}
    spool.close()

    assert ({0o600}, 0o700) == (modes, (tmp_path / "spool").stat().st_mode & 0o777)
    (tmp_path / "spool").chmod(0o755)
    with pytest.raises(ClientError, match="chmod 700"):
        opened(tmp_path / "spool")
    (tmp_path / "file").touch()
    with pytest.raises(ClientError, match="cannot use"):
        opened(tmp_path / "file" / "spool")


def test_a_batch_that_was_changed_is_not_sent(tmp_path: Path) -> None:
    """While it waits."""
    spool = opened(tmp_path / "spool")
    put(spool, b"one\n")
    spool.close_batch()
    batch = spool.next

    assert batch is not None
    batch.path.write_bytes(batch.path.read_bytes()[:-1])
    with pytest.raises(ClientError, match="has changed"):
        spool.read(batch)
    batch.path.unlink()
    with pytest.raises(ClientError, match="has changed"):
        spool.read(batch)
    spool.close()
