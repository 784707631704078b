"""Files at the terminal: shared, opened, and refused before anything is lost."""

import json
import os
import shutil
import stat
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest

from src.client.errors import ClientError, NotSealpost
from src.client.files.manifest import Manifest, SharedFile
from src.client.files.receiving import list_files
from src.client.responses import JsonObject
from src.client.segments import SEGMENT_BYTES
from src.core.crypto.sealing import encode

from ..conftest import Api
from ..uploads import upload
from .conftest import Dialogue, Typed, go_to
from .meddler import meddler
from .servers import odd_server, reply

Serve = Callable[..., Awaitable[Api]]
# As text, a whole second would be later than the milliseconds after it.
moment = datetime.fromisoformat
OLD_FRIEND = {"SEALPOST_PHRASE": "old friend"}


def contents(directory: Path) -> dict[str, bytes]:
    """Return the files below a directory by their relative names."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with files of all sizes that matter, some in folders."""
    directory = tmp_path / "shared"
    (directory / "plans" / "deep").mkdir(parents=True)
    (directory / "empty").write_bytes(b"")
    (directory / "Grüße ☕.txt").write_text("Grüße")
    (directory / "plans" / "full").write_bytes(os.urandom(SEGMENT_BYTES))
    (directory / "plans" / "more.bin").write_bytes(os.urandom(SEGMENT_BYTES + 1))
    (directory / "plans" / "deep" / ".hidden").write_bytes(os.urandom(3 * SEGMENT_BYTES))
    return directory


@pytest.mark.parametrize("password", [{}, OLD_FRIEND], ids=["open", "password"])
@pytest.mark.parametrize("mode", [[], ["--server-side"]], ids=["sealed", "server-side"])
async def test_files_and_folders_arrive(
    api: Api, url: str, typed: Typed, files: Path, tmp_path: Path, mode: list[str], password: dict[str, str]
) -> None:
    """With their names, and with a text; stdout gets only the text, and the server keeps nothing."""
    shared = [str(files / name) for name in ("empty", "Grüße ☕.txt", "plans")]
    created = await typed("share", "--text", "the plans", *shared, *mode, "--json", **password)
    answer = json.loads(created.stdout)
    opened = await typed("open", answer["url"], "-o", str(tmp_path / "received"), **password)
    receipt = json.loads((await typed("receipt", answer["receipt_key"], "--json")).stdout)

    assert (0, "the plans") == (opened.code, opened.stdout), opened.stderr
    assert contents(files) == contents(tmp_path / "received")
    assert 5 == opened.stderr.count("sealpost: saved ")
    assert moment(receipt["received_at"]) >= moment(receipt["opened_at"])
    assert 0 == await api.mongo.collection("chunks").count_documents({})
    assert [] == [path for path in (tmp_path / "state").rglob("*") if path.is_file()]


async def test_the_server_learns_no_names(api: Api, url: str, typed: Typed, files: Path) -> None:
    """Names and types are in the envelope that it cannot open."""
    created = json.loads((await typed("share", str(files / "Grüße ☕.txt"), "--json")).stdout)
    status, opened = await api.open(created["secret_key"])

    assert 200 == status
    assert opened["secret"].startswith("sealpost-files-1.")
    assert {"id", "size"} == set(opened["files"][0])


async def test_files_are_only_for_their_reader(url: str, typed: Typed, files: Path, tmp_path: Path) -> None:
    """Other users of the machine can read neither file nor folder."""
    link = (await typed("share", str(files / "plans"))).stdout.strip()
    assert 0 == (await typed("open", link, "-o", str(tmp_path / "received"))).code

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "received").rglob("*")}
    assert {"plans": 0o700, "deep": 0o700, "full": 0o600, "more.bin": 0o600, ".hidden": 0o600} == modes


async def test_a_stream_is_shared_and_opened(url: str, typed: Typed, tmp_path: Path) -> None:
    """From stdin to stdout, unchanged, although it is no text."""
    content = os.urandom(2 * SEGMENT_BYTES + 7)
    link = (await typed("share", "-", "--name", "dump.bin", stdin=content)).stdout.strip()
    with (tmp_path / "out").open("w+") as out:
        ended = await typed("open", link, "-o", "-", stdout=out)

    assert (0, "") == (ended.code, ended.stderr)
    assert content == (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("arguments", [("--name", "empty"), ("-", "--name", "empty", "--text", "a text")], ids=str)
async def test_an_empty_stream_is_a_file(url: str, typed: Typed, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A text that accompanies it goes to stderr if stdout has the file."""
    link = (await typed("share", *arguments)).stdout.strip()
    ended = await typed("open", link, "-o", "-")

    assert (0, "") == (ended.code, ended.stdout)
    assert ("a text" in arguments) == ("the secret also has a text: a text" in ended.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "missing"), "argument 1 is not a file or folder"),
        (("--text", "x", "missing"), "argument 1 is not a file or folder"),
        (("--name", "x", "{files}/empty"), "--name names stdin"),
        (("--name", ""), "--name names stdin"),
        (("-", "--name", "x", "--text", "-"), "stdin cannot be both"),
        (("-", "{files}/empty"), "name it with --name"),
        (("-", "--text", "x"), "name it with --name"),
        (("{files}/nothing",), "contains no files"),
        (("/dev/null",), "is not a regular file"),
    ],
)
async def test_unclear_arguments_are_refused(
    url: str, typed: Typed, files: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Before anything is sent."""
    (files / "nothing").mkdir()
    ended = await typed("share", *(argument.format(files=files) for argument in arguments))

    assert (2, "") == (ended.code, ended.stdout)
    assert said in ended.stderr


async def test_a_text_is_not_mistaken_for_a_file(
    url: str, typed: Typed, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--text`, a file of the same name is not sent, and `-` is stdin."""
    monkeypatch.chdir(files)
    for arguments, stdin in ((["--text", "empty"], b""), (["--text", "-"], b"empty")):
        link = (await typed("share", *arguments, stdin=stdin)).stdout

        assert "empty" == (await typed("open", link)).stdout


async def test_unreadable_files_are_refused(url: str, typed: Typed, files: Path) -> None:
    """Also if they disappear after they were found."""
    (files / "link").symlink_to(files / "nowhere")
    assert "argument 1" in (await typed("share", str(files / "link"), str(files / "empty"))).stderr

    assert "link" not in (await typed("share", str(files), "--json")).stderr


@pytest.mark.parametrize("stream", [False, True])
async def test_too_large_files_are_refused_before_anything_is_sent(
    serve: Serve, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    """The message names the file and the limit of the server; the largest file is accepted."""
    api = await serve(file_max=100_000)
    go_to(api, monkeypatch)
    (tmp_path / "large").write_bytes(bytes(100_001))
    (tmp_path / "fits").write_bytes(bytes(100_000))
    if stream:
        ended = await typed("share", "--name", "stream", stdin=bytes(100_001))
    else:
        ended = await typed("share", str(tmp_path / "fits"), str(tmp_path / "large"))

    assert (2, "") == (ended.code, ended.stdout)
    assert f"{'stdin' if stream else 'large'} is too large: the server accepts files of up to 97.7 KiB" in ended.stderr
    assert 0 == await api.mongo.collection("uploads").count_documents({})
    assert 0 == (await typed("share", str(tmp_path / "fits"))).code


async def test_too_many_files_are_refused_before_anything_is_sent(
    serve: Serve, typed: Typed, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limit of the server; stdin counts as well."""
    api = await serve(files_max=3)
    go_to(api, monkeypatch)
    plans = str(files / "plans")
    ended = await typed("share", plans, "-", "--name", "more", stdin=b"x")

    assert (2, "") == (ended.code, ended.stdout)
    assert "4 files are too many: the server accepts 3" in ended.stderr
    assert 0 == await api.mongo.collection("uploads").count_documents({})
    assert 0 == (await typed("share", plans)).code


@pytest.mark.parametrize("server", ["off", "older"])
async def test_a_server_without_files_is_told_apart(
    serve: Serve, typed: Typed, files: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """Whether the operator has switched files off or the server is older."""
    if server == "off":
        go_to(await serve(file_max=0), monkeypatch)
        ended = await typed("share", str(files / "empty"))
    else:
        async with odd_server([reply(405, '{"code": "method_not_allowed", "detail": "No."}')]) as odd:
            ended = await typed("share", str(files / "empty"), "--url", odd.url)

    assert (1, "") == (ended.code, ended.stdout)
    assert "does not accept files: they are switched off there, or the server is older" in ended.stderr


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "..\\evil", "a\0\u202eb", "CON", ".bashrc", "d/" * 2000 + "x"]
)
async def test_hostile_names_stay_in_the_directory(url: str, typed: Typed, tmp_path: Path, name: str) -> None:
    """Whatever the sender calls a file, exactly one appears, below the directory."""
    link = (await typed("share", "--name", name, stdin=b"x")).stdout.strip()
    before = contents(tmp_path)
    ended = await typed("open", link, "-o", str(tmp_path / "in" / "received"))

    assert 0 == ended.code, ended.stderr
    assert "\u202e" not in ended.stderr
    [(path, content)] = contents(tmp_path / "in" / "received").items()
    assert b"x" == content
    assert not {"..", ".", ""} & set(Path(path).parts)
    assert before == {name: found for name, found in contents(tmp_path).items() if not name.startswith("in/")}


async def test_nothing_is_overwritten(url: str, typed: Typed, tmp_path: Path) -> None:
    """An existing file stays, unless `--force` is given; links are not followed in either case."""
    received, outside = tmp_path / "received", tmp_path / "outside"
    received.mkdir()
    outside.write_text("before")
    (received / "a.txt").write_text("before")
    (received / "link").symlink_to(outside)
    for name, options, saved in (
        ("a.txt", [], "a (2).txt"),
        ("a.txt", ["--force"], "a.txt"),
        ("link", [], "link (2)"),
        ("link", ["--force"], "link"),
    ):
        link = (await typed("share", "--name", name, stdin=b"after")).stdout.strip()
        ended = await typed("open", link, "-o", str(received), *options)

        assert f"saved {received / saved} (5 bytes)\n" in ended.stderr
        assert b"after" == (received / saved).read_bytes()
    assert "before" == outside.read_text()


async def test_a_result_as_json_has_paths(url: str, typed: Typed, files: Path, tmp_path: Path) -> None:
    """With the names from the sender, the text, and neither keys nor the hold."""
    link = (await typed("share", "--text", "a text", str(files / "plans" / "full"), "--opens", "2")).stdout.strip()
    ended = await typed("open", link, "-o", str(tmp_path), "--json")

    saved = {"name": "full", "size": SEGMENT_BYTES, "path": str(tmp_path / "full")}
    assert {"secret": "a text", "opens_left": 1, "files": [saved]} == json.loads(ended.stdout)
    assert 0 == ended.code


async def test_files_from_curl_open(api: Api, url: str, typed: Typed, tmp_path: Path) -> None:
    """Their names come from the API; a file without one gets a number."""
    uploads = [encode(await upload(api, content)) for content in (b"first", b"second")]
    secret = await api.create("a text", files=[{"upload": uploads[0], "name": "../a.txt"}, {"upload": uploads[1]}])
    ended = await typed("open", secret["secret_key"], "-o", str(tmp_path / "received"))

    assert (0, "a text") == (ended.code, ended.stdout)
    assert {"a.txt": b"first", "file-2": b"second"} == contents(tmp_path / "received")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["-o", "-"], 2, "has 2 files, but stdout can hold only one"),
        (["-o", "-", "--json"], 2, "has 2 files"),
        (["-o", "/dev/null/x"], 1, "cannot write to /dev/null/x: Not a directory. Nothing was opened"),
        (["-o", "/proc"], 1, "cannot write to /proc"),
    ],
)
async def test_an_unusable_destination_is_found_before_opening(
    url: str, typed: Typed, files: Path, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    """The secret stays available."""
    created = json.loads((await typed("share", str(files / "empty"), str(files / "plans/full"), "--json")).stdout)
    ended = await typed("open", created["url"], *options)

    assert (code, "") == (ended.code, ended.stdout)
    assert said in ended.stderr
    assert "waiting" in (await typed("receipt", created["receipt_key"])).stdout
    assert 0 == (await typed("open", created["url"], "-o", str(tmp_path / "received"))).code


async def test_a_full_disk_is_found_before_opening(
    url: str, typed: Typed, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the files do not fit."""
    created = json.loads((await typed("share", str(files / "plans"), "--json")).stdout)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Free)
    ended = await typed("open", created["url"], "-o", str(tmp_path))

    assert 1 == ended.code
    assert "the files need 320.1 KiB, but only 1.5 KiB are free" in ended.stderr
    assert "waiting" in (await typed("receipt", created["receipt_key"])).stdout


class Free:
    """The free space of a nearly full disk."""

    free = 1536


async def test_a_file_does_not_go_to_a_terminal(url: str, typed: Typed, files: Path, dialogue: Dialogue) -> None:
    """It could control it; the secret stays available."""
    link = (await typed("share", str(files / "empty"))).stdout.strip()
    async with dialogue("open", link, "-o", "-", code=2) as terminal:
        await terminal.expect("a file cannot be written to a terminal")

    assert 0 == (await typed("open", link, "-o", "-")).code


async def test_a_receipt_shows_number_and_size(url: str, typed: Typed, files: Path) -> None:
    """Of the files as they are stored; without files, there is no such line."""
    with_files = json.loads((await typed("share", str(files / "plans"), "--json")).stdout)
    without = json.loads((await typed("share", "a text", "--json")).stdout)

    shown = (await typed("receipt", with_files["receipt_key"])).stdout
    [line] = [line for line in shown.splitlines() if line.startswith("files")]
    assert "3 files, 320.1 KiB" == line.removeprefix("files").strip()
    assert "files" not in (await typed("receipt", without["receipt_key"])).stdout


async def test_a_bare_key_of_encrypted_files_opens_nothing(url: str, typed: Typed, files: Path, tmp_path: Path) -> None:
    """The complete link still does, while the server holds the secret."""
    created = json.loads((await typed("share", str(files / "empty"), "--json")).stdout)
    bare = await typed("open", created["secret_key"], "-o", str(tmp_path / "received"))
    whole = await typed("open", created["url"], "-o", str(tmp_path / "received"))

    assert (1, "") == (bare.code, bare.stdout)
    assert "give the complete link" in bare.stderr
    assert 0 == whole.code, whole.stderr
    assert {"empty": b""} == contents(tmp_path / "received")


async def test_a_wrong_password_costs_no_file(url: str, typed: Typed, files: Path, tmp_path: Path) -> None:
    """It is said as for a text, and the right one opens the secret."""
    link = (await typed("share", str(files / "empty"), **OLD_FRIEND)).stdout.strip()
    wrong = await typed("open", link, "-o", str(tmp_path / "received"), SEALPOST_PHRASE="old foe")
    right = await typed("open", link, "-o", str(tmp_path / "received"), **OLD_FRIEND)

    assert "wrong password; 4 attempts left" in wrong.stderr
    assert (0, {"empty": b""}) == (right.code, contents(tmp_path / "received"))


async def test_progress_is_shown_at_a_terminal(url: str, files: Path, tmp_path: Path, dialogue: Dialogue) -> None:
    """With the current file; the panel names number and size."""
    async with dialogue("share", str(files / "plans"), columns=200) as terminal:
        await terminal.expect("Uploading plans/")
        await terminal.expect("3 files, 320 KiB")
    link = next(word for word in terminal.screen.split() if word.startswith(url))
    async with dialogue("open", link, "-o", str(tmp_path / "received"), columns=200) as terminal:
        await terminal.expect("Downloading plans/")
        await terminal.expect("saved ")


def altered(kind: str) -> Callable[[bytes], bytes]:
    """Return how a sealed file of 3 segments is altered."""
    size = SEGMENT_BYTES + 16

    def alter(raw: bytes) -> bytes:
        first, second, last = raw[:size], raw[size : 2 * size], raw[2 * size :]
        return {
            "swapped": second + first + last,
            "doubled": first + first + last,
            "dropped": first + last,
            "truncated": first + second,
            "cut": raw[:-1],
            "longer": raw + b"x",
            "last first": last + second + first,
            "bit": raw[:-20] + bytes([raw[-20] ^ 1]) + raw[-19:],
        }[kind]

    return alter


@pytest.mark.parametrize("kind", ["swapped", "doubled", "dropped", "truncated", "cut", "longer", "last first", "bit"])
async def test_an_altered_file_never_looks_complete(url: str, typed: Typed, tmp_path: Path, kind: str) -> None:
    """It is deleted, the others are saved, and the opening stays held."""
    (tmp_path / "file").write_bytes(os.urandom(2 * SEGMENT_BYTES + 100))
    created = json.loads((await typed("share", str(tmp_path / "file"), "--json")).stdout)
    async with meddler(url) as proxy:
        proxy.alter = altered(kind)
        link = created["url"].replace(url, proxy.url)
        ended = await typed("open", link, "-o", str(tmp_path / "received"))
        proxy.alter = None
        again = await typed("open", link, "-o", str(tmp_path / "received"))

    assert (1, "") == (ended.code, ended.stdout)
    assert "file: its content on the server was damaged or altered" in ended.stderr
    assert "repeat the command to continue" in ended.stderr
    assert 0 == again.code, again.stderr
    assert {"file": (tmp_path / "file").read_bytes()} == contents(tmp_path / "received")


async def test_an_altered_file_does_not_stop_the_others(url: str, typed: Typed, tmp_path: Path) -> None:
    """They are saved, and the number of missing ones is said."""
    for name in "ab":
        (tmp_path / name).write_bytes(os.urandom(100))
    link = (await typed("share", str(tmp_path / "a"), str(tmp_path / "b"))).stdout.strip()
    left = [True, False]
    async with meddler(url) as proxy:
        proxy.alter = lambda raw: bytes(len(raw)) if left.pop(0) else raw
        ended = await typed("open", link.replace(url, proxy.url), "-o", str(tmp_path / "received"))

    assert 1 == ended.code
    assert "1 of 2 files could not be decrypted" in ended.stderr
    assert {"b": (tmp_path / "b").read_bytes()} == contents(tmp_path / "received")


@pytest.mark.parametrize("sizes", [[], [17, 17], [18]], ids=str)
def test_files_of_another_secret_are_refused(sizes: list[int]) -> None:
    """If their number or sizes do not fit the manifest."""
    manifest = Manifest("", [SharedFile("a", "text/plain", 1, bytes(32))])
    opened = JsonObject(files=[{"id": "0" * 32, "size": size} for size in sizes])

    with pytest.raises(ClientError, match="do not belong to this link"):
        list_files(opened, manifest)


def test_an_id_that_is_none_is_refused() -> None:
    """It becomes part of a path."""
    with pytest.raises(NotSealpost):
        list_files(JsonObject(files=[{"id": "../../x", "size": 1}]), None)
