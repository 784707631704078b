"""Transfers of files that are interrupted: they continue, and nothing is sealed twice under a key or lost."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from src.client.files import patience, receiving, saving
from src.client.files.memory import KEPT_SECONDS, InUse, Memory
from src.client.files.uploads import Body

from ..conftest import Api
from ..processes import PATIENCE, ROOT
from .conftest import Dialogue, Typed
from .liar import Forward, Told, liar, problem
from .meddler import STEP, Meddler, meddler

CUT = 20 * STEP
"""More than a chunk of the server: in tests, it is cancelled with the connection and stores complete chunks only."""
SIZE = 3 * CUT + 5


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client continue soon."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of several segments."""
    path = tmp_path / "file.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """Where it is saved."""
    return tmp_path / "received"


def give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client give up at the first failure."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.0)


async def run_until_it_stalls(proxy: Meddler, *arguments: str, **environment: str) -> None:
    """Run the client as a process, and kill it when the proxy no longer answers."""
    proxy.stalls = True
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "src.client", *arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(PATIENCE):
        await proxy.stalled.wait()
        process.send_signal(signal.SIGKILL)
        await process.wait()
    proxy.stalls = False
    proxy.released.set()


async def test_an_upload_continues_after_lost_connections(url: str, typed: Typed, file: Path, received: Path) -> None:
    """From where the server has it, in the same command."""
    async with meddler(url) as proxy:
        proxy.uploads = [CUT, CUT]
        ended = await typed("share", str(file), "--url", proxy.url)
        opened = await typed("open", ended.stdout.strip(), "-o", str(received))

    assert (0, 0) == (ended.code, opened.code), ended.stderr
    assert "was lost. Continuing in" in ended.stderr
    offsets = [int(offset) for offset in proxy.offsets("PATCH")]
    assert 3 == len(offsets)
    assert 0 == offsets[0] < offsets[1] < offsets[2]
    assert file.read_bytes() == (received / file.name).read_bytes()


@pytest.mark.lifecycle
@pytest.mark.parametrize("mode", [[], ["--server-side"]], ids=["sealed", "server-side"])
async def test_an_upload_continues_after_a_kill(
    url: str, typed: Typed, file: Path, received: Path, mode: list[str]
) -> None:
    """The same command sends the rest."""
    async with meddler(url) as proxy:
        proxy.uploads = [CUT]
        await run_until_it_stalls(proxy, "share", str(file), *mode, "--url", proxy.url)
        ended = await typed("share", str(file), *mode, "--url", proxy.url)
        opened = await typed("open", ended.stdout.strip(), "-o", str(received))

    assert (0, 0) == (ended.code, opened.code), ended.stderr
    assert ["POST"] == [method for method, path, _ in proxy.requests if path == "/files" and method == "POST"]
    first, second = (int(offset) for offset in proxy.offsets("PATCH"))
    assert first < second
    assert file.read_bytes() == (received / file.name).read_bytes()


@pytest.mark.parametrize("change", ["content", "same size and time", "another file"])
async def test_a_changed_file_is_sealed_under_a_new_key(
    url: str, typed: Typed, file: Path, received: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """An interrupted upload of an earlier content is not continued."""
    keys: list[bytes | None] = []
    begin = Body.__init__

    def note(body: Body, content: object, key: bytes | None) -> None:
        keys.append(key)
        begin(body, content, key)  # type: ignore[arg-type]

    monkeypatch.setattr(Body, "__init__", note)
    async with meddler(url) as proxy:
        proxy.uploads = [CUT]
        with monkeypatch.context() as patch:
            give_up(patch)
            ended = await typed("share", str(file), "--url", proxy.url)
        assert 3 == ended.code
        assert "Repeat the command to continue the upload" in ended.stderr
        info = file.stat()
        if change == "another file":
            file.rename(file.with_name("old"))
        file.write_bytes(os.urandom(SIZE))
        if change == "same size and time":
            os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
        ended = await typed("share", str(file), "--url", proxy.url)
        opened = await typed("open", ended.stdout.strip(), "-o", str(received))

    assert (0, 0) == (ended.code, opened.code), ended.stderr
    assert 2 == len(set(keys)) == len(keys)
    assert ["0", "0"] == proxy.offsets("PATCH")
    assert file.read_bytes() == (received / file.name).read_bytes()


async def test_a_file_that_changes_while_it_is_sent_is_not_shared(
    url: str, typed: Typed, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No segment of the new content is sealed under the key of the old one."""
    sealed, seal = [], Body.chunks

    async def chunks(body: Body, offset: int, progress: Callable[[int], None]) -> object:
        async for chunk in seal(body, offset, progress):
            sealed.append(chunk)
            if len(sealed) == 3:
                with file.open("ab") as other:
                    other.write(b"more")
            yield chunk

    monkeypatch.setattr(Body, "chunks", chunks)
    ended = await typed("share", str(file))

    assert (1, "") == (ended.code, ended.stdout)
    assert "was changed while it was being sent: share it again" in ended.stderr
    assert 3 == len(sealed)


async def test_an_upload_that_has_expired_starts_again(
    api: Api, url: str, typed: Typed, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server no longer has it."""
    async with meddler(url) as proxy:
        proxy.uploads = [CUT]
        with monkeypatch.context() as patch:
            give_up(patch)
            assert 3 == (await typed("share", str(file), "--url", proxy.url)).code
        await api.mongo.collection("uploads").delete_many({})
        ended = await typed("share", str(file), "--url", proxy.url)

    assert 0 == ended.code
    assert ["0", "0"] == proxy.offsets("PATCH")


async def test_the_same_file_twice_is_uploaded_twice(url: str, typed: Typed, file: Path, received: Path) -> None:
    """Because an upload belongs to one file of one secret; also after it was shared."""
    link = (await typed("share", str(file), str(file))).stdout.strip()
    again = (await typed("share", str(file))).stdout.strip()

    assert 0 == (await typed("open", link, "-o", str(received))).code
    assert 0 == (await typed("open", again, "-o", str(received))).code
    assert {"file.bin", "file (2).bin", "file (3).bin"} == {path.name for path in received.iterdir()}


async def test_a_download_continues_after_lost_connections(
    api: Api, url: str, typed: Typed, file: Path, received: Path
) -> None:
    """From the last complete segment, with a range; the secret is opened once."""
    created = json.loads((await typed("share", str(file), "--json")).stdout)
    async with meddler(url) as proxy:
        proxy.downloads = [5 * STEP, 7 * STEP]
        ended = await typed("open", created["url"].replace(url, proxy.url), "-o", str(received))
    receipt = json.loads((await typed("receipt", created["receipt_key"], "--json")).stdout)

    assert 0 == ended.code, ended.stderr
    ranges = proxy.offsets("GET")
    assert "" == ranges[0]
    assert all(start.startswith("bytes=") for start in ranges[1:])
    assert 3 == len(set(ranges))
    assert file.read_bytes() == (received / file.name).read_bytes()
    assert ("opened", 0) == (receipt["state"], receipt["late_attempts"])


@pytest.mark.lifecycle
@pytest.mark.parametrize("mode", [[], ["--server-side"]], ids=["sealed", "server-side"])
async def test_an_opening_continues_after_a_kill(
    url: str, typed: Typed, file: Path, received: Path, mode: list[str]
) -> None:
    """The same command asks again with the same reader's key, and gets the file."""
    created = json.loads((await typed("share", str(file), *mode, "--json")).stdout)
    async with meddler(url) as proxy:
        link = created["url"].replace(url, proxy.url)
        proxy.downloads = [9 * STEP]
        await run_until_it_stalls(proxy, "open", link, "-o", str(received))
        assert ["file.bin.part"] == [path.name for path in received.iterdir()]
        ended = await typed("open", link, "-o", str(received))
    receipt = json.loads((await typed("receipt", created["receipt_key"], "--json")).stdout)

    assert 0 == ended.code, ended.stderr
    assert file.read_bytes() == (received / file.name).read_bytes()
    assert ("opened", 0) == (receipt["state"], receipt["late_attempts"])
    assert receipt["received_at"]
    assert [] == list((received.parent / "state").rglob("*.json"))


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_an_opening_continues_where_it_stopped(
    url: str, typed: Typed, file: Path, received: Path, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    """Complete files are not downloaded again, parts only from their recorded position; to another directory, all."""
    monkeypatch.setattr(receiving, "SYNC_BYTES", STEP)
    file.with_name("first").write_bytes(b"first")
    link = (await typed("share", "--text", "a text", str(file.with_name("first")), str(file))).stdout.strip()
    async with meddler(url) as proxy:
        link = link.replace(url, proxy.url)
        proxy.downloads = [STEP, 9 * STEP]
        with monkeypatch.context() as patch:
            give_up(patch)
            ended = await typed("open", link, "-o", str(received))
        assert 3 == ended.code
        assert "The server keeps it for you until" in ended.stderr
        assert {"first", "file.bin.part"} == {path.name for path in received.iterdir()}
        before = len(proxy.requests)
        directory = received.with_name("elsewhere") if elsewhere else received
        ended = await typed("open", link, "-o", str(directory))

    assert (0, "a text") == (ended.code, ended.stdout), ended.stderr
    assert file.read_bytes() == (directory / file.name).read_bytes()
    assert {"first", "file.bin"} == {path.name for path in directory.iterdir()}
    later = [start for method, path, start in proxy.requests[before:] if method == "GET" and "/files/" in path]
    assert elsewhere == ("" in later)


async def test_a_full_disk_loses_nothing(
    api: Api, url: str, typed: Typed, file: Path, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The opening stays held and is not confirmed; the same command continues when there is space again."""
    created = json.loads((await typed("share", str(file), "--json", SEALPOST_PHRASE="old friend")).stdout)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_with_no_space)
        ended = await typed("open", created["url"], "-o", str(received), SEALPOST_PHRASE="old friend")
    receipt = json.loads((await typed("receipt", created["receipt_key"], "--json")).stdout)
    wrong = await typed("open", created["url"], "-o", str(received), SEALPOST_PHRASE="old foe")
    again = await typed("open", created["url"], "-o", str(received), SEALPOST_PHRASE="old friend")

    assert 1 == ended.code
    assert "file.bin.part: No space left on device" in ended.stderr
    assert "repeat the command to continue" in ended.stderr
    assert ("opened", None) == (receipt["state"], receipt["received_at"])
    assert 1 == wrong.code
    assert 0 == again.code, again.stderr
    assert file.read_bytes() == (received / file.name).read_bytes()


def fail_with_no_space(_: int) -> None:
    """Fail like a full disk."""
    raise OSError(28, os.strerror(28))


async def test_the_end_of_a_hold_is_told(url: str, typed: Typed, file: Path, received: Path) -> None:
    """If it ends during the download, nothing is left to continue."""
    link = (await typed("share", str(file))).stdout.strip()

    async def lie(line: str, forward: Forward) -> Told:
        return problem(404, "key_not_found") if "/files/" in line else await forward()

    async with liar(url, lie) as lying:
        ended = await typed("open", link.replace(url, lying), "-o", str(received))

    assert (1, "") == (ended.code, ended.stdout)
    assert "its files can no longer be downloaded" in ended.stderr
    assert "repeat the command" not in ended.stderr
    assert [] == list((received.parent / "state").rglob("openings/*.json"))


async def test_an_opening_that_continues_too_late_is_told(
    url: str, typed: Typed, file: Path, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the hold, the command says so, and then no longer remembers the opening."""
    created = json.loads((await typed("share", str(file), "--json")).stdout)
    async with meddler(url) as proxy:
        link = created["url"].replace(url, proxy.url)
        proxy.downloads = [5 * STEP]
        with monkeypatch.context() as patch:
            give_up(patch)
            assert 3 == (await typed("open", link, "-o", str(received))).code
        assert 0 == (await typed("burn", created["receipt_key"])).code
        late, later = [await typed("open", link, "-o", str(received)) for _ in range(2)]

    assert (1, 1) == (late.code, later.code)
    assert "the time to download its files is over" in late.stderr
    assert "nothing there: it was opened" in later.stderr


async def test_a_busy_server_delays_a_transfer(url: str, typed: Typed, file: Path, received: Path) -> None:
    """After 429, 500, 502, 503 and 504, uploads and downloads continue."""
    statuses = [429, 500, 502, 503, 504]
    async with meddler(url) as proxy:
        proxy.refusals = [*statuses]
        shared = await typed("share", str(file), "--url", proxy.url)
        proxy.refusals = [*statuses]
        opened = await typed("open", shared.stdout.strip().replace(url, proxy.url), "-o", str(received))

    assert (0, 0) == (shared.code, opened.code), shared.stderr + opened.stderr
    assert 5 == shared.stderr.count("Continuing in 0") == opened.stderr.count("Continuing in 0")
    assert file.read_bytes() == (received / file.name).read_bytes()


@pytest.mark.parametrize("status", [400, 413, 507])
async def test_a_refused_transfer_ends(url: str, typed: Typed, file: Path, received: Path, status: int) -> None:
    """At once, with the reason of the server."""
    async with meddler(url) as proxy:
        proxy.refusals = [status]
        shared = await typed("share", str(file), "--url", proxy.url)
        link = (await typed("share", str(file))).stdout.strip()
        proxy.refusals = [status]
        opened = await typed("open", link.replace(url, proxy.url), "-o", str(received))

    for ended in (shared, opened):
        assert ended.code == (3 if status >= 500 else 1)
        assert "refused by the test" in ended.stderr
        assert "Continuing" not in ended.stderr


async def test_an_unclear_offset_is_asked_for_again(url: str, typed: Typed, file: Path) -> None:
    """A HEAD that fails does not end the upload, unless the upload is gone."""
    async with meddler(url) as proxy:
        proxy.uploads, proxy.head_refusals = [CUT], [504, 504, 504]
        ended = await typed("share", str(file), "--url", proxy.url)
        assert 0 == ended.code, ended.stderr
        file.write_bytes(os.urandom(SIZE))
        proxy.uploads, proxy.head_refusals = [CUT], [404]
        gone = await typed("share", str(file), "--url", proxy.url)

    assert 1 == gone.code
    assert "the server no longer has the upload: share the file again" in gone.stderr


async def test_a_file_that_is_damaged_on_the_server_is_told(url: str, typed: Typed, file: Path, received: Path) -> None:
    """It is not downloaded again and again."""
    link = (await typed("share", str(file))).stdout.strip()
    async with meddler(url) as proxy:
        proxy.refusals = [410]
        ended = await typed("open", link.replace(url, proxy.url), "-o", str(received))

    assert 1 == ended.code
    assert "its content on the server was damaged or altered" in ended.stderr
    assert [] == list(received.iterdir())


async def test_one_command_at_a_time_receives_a_secret(url: str, typed: Typed, file: Path, received: Path) -> None:
    """Another one is told so, and opens nothing."""
    created = json.loads((await typed("share", str(file), "--json")).stdout)
    with Memory("openings", url, created["secret_key"]) as memory:
        memory.write({"reader": "x"})
        ended = await typed("open", created["url"], "-o", str(received))
        memory.forget()

    assert (1, True) == (ended.code, "another `sealpost open`" in ended.stderr)
    assert 0 == (await typed("open", created["url"], "-o", str(received))).code


async def test_a_damaged_memory_is_ignored(url: str, typed: Typed, file: Path, received: Path) -> None:
    """The secret is opened as if there were none."""
    created = json.loads((await typed("share", str(file), "--json")).stdout)
    with Memory("openings", url, created["secret_key"]) as memory:
        memory.write({"other": 1})

    assert 0 == (await typed("open", created["url"], "-o", str(received))).code


async def test_nothing_is_opened_that_could_not_be_continued(
    url: str, typed: Typed, file: Path, received: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the state directory cannot be used; sharing works without it."""
    (tmp_path / "no directory").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "no directory"))
    created = json.loads((await typed("share", str(file), "--json")).stdout)
    ended = await typed("open", created["url"], "-o", str(received))

    assert 1 == ended.code
    assert "Not a directory. It is needed to continue interrupted downloads" in ended.stderr
    assert "waiting" in (await typed("receipt", created["receipt_key"])).stdout


async def test_a_prompt_that_is_left_opens_nothing(
    url: str, typed: Typed, dialogue: Dialogue, file: Path, received: Path, tmp_path: Path
) -> None:
    """Ctrl-D at the password leaves nothing behind."""
    link = (await typed("share", str(file), SEALPOST_PHRASE="old friend")).stdout.strip()
    async with dialogue("open", link, "-o", str(received), code=130) as terminal:
        await terminal.expect("Password of this secret: ")
        await terminal.type("\x04", hidden=True)

    assert [] == list((tmp_path / "state").rglob("openings/*.json"))
    assert 0 == (await typed("open", link, "-o", str(received), SEALPOST_PHRASE="old friend")).code


def test_a_file_is_saved_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system has none; an existing file stays nevertheless."""

    def fail(*_: object) -> None:
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(Path, "hardlink_to", fail)
    for expected in (b"new", b"newer"):
        with saving.PartFile(tmp_path, ("d", "a"), kept=None) as part:
            part.write(expected)
            if expected == b"newer":
                with pytest.raises(saving.CannotSave, match="File exists"):
                    part.finish()
                part.discard()
            else:
                part.finish()

    assert b"new" == (tmp_path / "d" / "a").read_bytes()
    assert ["a"] == [path.name for path in (tmp_path / "d").iterdir()]


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    """As does the complete part, under its own name."""
    with saving.PartFile(tmp_path, ("a",), kept=None) as part:
        part.write(b"new")
        (tmp_path / "a").write_bytes(b"other")
        with pytest.raises(saving.CannotSave, match="File exists"):
            part.finish()

    assert (b"other", b"new") == ((tmp_path / "a").read_bytes(), (tmp_path / "a.part").read_bytes())


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither a folder nor a part that has become one."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "d").symlink_to(outside)
    (tmp_path / "a.part").symlink_to(outside / "x")
    for words in (("d", "a"), ("a",)):
        with pytest.raises(saving.CannotSave):
            saving.PartFile(tmp_path, words, kept=0)

    assert [] == list(outside.iterdir())


def test_memories_are_private_locked_and_forgotten(tmp_path: Path) -> None:
    """One process at a time has one; damaged ones are empty, and old ones are deleted."""
    directory = tmp_path / "state" / "sealpost" / "kind"
    with ExitStack() as stack:
        memory = stack.enter_context(Memory("kind", "a"))
        memory.write({"some": "thing, that is longer"})
        memory.write({"some": "thing"})
        [path] = directory.iterdir()
        with pytest.raises(InUse):
            Memory("kind", "a")
        assert {"some": "thing"} == memory.read()
        path.write_bytes(path.read_bytes() + b"that is longer}")
        assert {"some": "thing"} == memory.read()
        assert (0o600, 0o700) == (path.stat().st_mode & 0o777, directory.stat().st_mode & 0o777)
    for content in (b"{", b"[]"):
        path.write_bytes(content)
        with Memory("kind", "a") as memory:
            assert {} == memory.read()
    past = time.time() - KEPT_SECONDS - 1
    os.utime(path, (past, past))
    with Memory("kind", "b"):
        assert not path.exists()
    assert [] == list(directory.iterdir())
