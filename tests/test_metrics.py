"""Metrics: where they are stored, which clients may read them, and what they must not disclose."""

import os
import stat
import struct
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import hdrs
from aiohttp.test_utils import make_mocked_request

from src.api.origin import Origin
from src.core.metrics import Metrics, StorageError, storage
from src.core.metrics.storage import Memory, SharedDirectory
from src.settings import Settings

from . import programs
from .conftest import PASSWORD, Api
from .counts import Counts

Serve = Callable[..., Awaitable[Api]]

# A process that counts 3 requests under a name, prints a line, and waits for its end.
COUNTING = """
import sys
from pathlib import Path
from src.core.metrics import Metrics
from src.core.metrics.storage import SharedDirectory
metrics = Metrics(SharedDirectory(Path(sys.argv[1]), sys.argv[2]))
for _ in range(3):
    metrics.request("GET", "/hello", 200, 0.2)
metrics.seen_time.set(7)
print("counted", flush=True)
sys.stdin.read()
metrics.close()
"""


@pytest.fixture
async def api(serve: Serve) -> Api:
    """A server without any counts yet."""
    return await serve()


async def scrape(api: Api) -> Counts:
    """Return the metrics of a server."""
    answer = await api.send("GET", "/metrics")

    assert 200 == answer.status
    return Counts(answer.body.decode())


@asynccontextmanager
async def counting(directory: Path, worker: str) -> AsyncIterator[programs.Process]:
    """Run a process that has counted 3 requests, and end it with the block."""
    program = ("-c", COUNTING, str(directory), worker)
    async with programs.running(*program, environment={}, stdin=PIPE) as process:
        assert process.stdout

        assert b"counted\n" == await process.stdout.readline()
        yield process


def shared(directory: Path, worker: str) -> Metrics:
    """Return the metrics of a process with this name."""
    return Metrics(SharedDirectory(directory, worker))


def hello(count: int) -> dict[tuple[str, str, str], int]:
    """Return the expected counts after a number of greetings."""
    return {("GET", "/hello", "2xx"): count}


async def test_requests_are_counted_by_method_route_and_status(api: Api) -> None:
    """Each response counts once under the template of its route, whatever its outcome."""
    created = await api.create()
    await api.open(created["secret_key"])
    await api.open(created["secret_key"])
    await api.call("POST", "/generate", {"secret": 3})
    await api.send("HEAD", "/hello")
    await api.send("GET", "/nowhere")
    await api.send("PUT", "/hello")
    counts = await scrape(api)

    assert {
        ("POST", "/generate", "2xx"): 1,
        ("POST", "/generate", "4xx"): 1,
        ("POST", "/secrets/{secret_key}", "2xx"): 1,
        ("POST", "/secrets/{secret_key}", "4xx"): 1,
        ("HEAD", "/hello", "2xx"): 1,
        ("GET", "unmatched", "4xx"): 1,
        ("PUT", "unmatched", "4xx"): 1,
    } == counts.requests()
    assert 0 < counts.total("sealpost_request_duration_seconds_sum", route="/generate") < 60
    assert {"app"} == counts.values("sealpost_build_info", "worker")


async def test_the_text_format_is_that_of_prometheus(api: Api) -> None:
    """The media type has format and version, and every metric has its help and type."""
    answer = await api.send("GET", "/metrics")
    lines = answer.body.decode().splitlines()

    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["Content-Type"]
    for definition in Metrics.off().definitions:
        assert f"# TYPE {definition.name} {definition.kind}" in lines
        assert f"# HELP {definition.name} {definition.meaning}" in lines


async def test_every_application_counts_for_itself(serve: Serve) -> None:
    """Two applications in one process share no counts."""
    first, second = await serve(), await serve()
    await first.send("GET", "/hello")

    assert hello(1) == (await scrape(first)).requests()
    assert {} == (await scrape(second)).requests()


async def test_every_worker_reports_the_counts_of_all(serve: Serve, tmp_path: Path) -> None:
    """Applications with one directory and their own names add up, whichever is scraped."""
    directory = tmp_path / "counts"
    first = await serve(metrics_dir=directory, worker="worker-1")
    second = await serve(metrics_dir=directory, worker="worker-2")
    for api in (first, second, second):
        await api.send("GET", "/hello")
    told = [await scrape(api) for api in (first, second)]

    assert [hello(3), hello(3)] == [counts.requests() for counts in told]
    assert {"worker-1", "worker-2"} == told[0].values("sealpost_build_info", "worker")
    assert not [sample for counts in told for sample in counts.samples if "pid" in sample.labels]


async def test_the_counts_of_a_killed_process_remain(tmp_path: Path) -> None:
    """Its successor continues them; of its gauges only the time of the last update remains."""
    watcher = shared(tmp_path, "worker-2")
    for number in (3, 6):
        async with counting(tmp_path, "worker-1") as process:
            living = Counts(watcher.collect())
            process.kill()
            await process.wait()
        dead = Counts(watcher.collect())

        assert hello(number) == living.requests() == dead.requests()
        assert {"worker-1", "worker-2"} == living.values("sealpost_build_info", "worker")
        assert {"worker-2"} == dead.values("sealpost_build_info", "worker")
        assert 7 == dead.total("sealpost_process_seen_timestamp_seconds", worker="worker-1")
    assert len(list(tmp_path.glob("*_worker-1.db"))) == len(storage.FILE_SIZES)


async def test_a_process_removes_its_gauges_at_exit(tmp_path: Path) -> None:
    """After a clean exit its counts remain, and no file with gauges."""
    async with counting(tmp_path, "worker-1") as process:
        await process.communicate()

    assert 0 == process.returncode
    assert [] == list(tmp_path.glob("gauge_*"))
    assert hello(3) == Counts(shared(tmp_path, "worker-2").collect()).requests()


async def test_two_living_processes_never_share_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second waits for the first to end, logs that, and finally exits with the reason."""
    monkeypatch.setattr(storage, "PATIENCE", 0.3)
    monkeypatch.setattr(storage, "NOTICEABLE", 0.1)
    async with counting(tmp_path, "worker-1"):
        with pytest.raises(StorageError, match="Another process uses the worker name worker-1"):
            shared(tmp_path, "worker-1")

    assert 1 == capsys.readouterr().out.count("waiting for another process")
    assert hello(3) == Counts(shared(tmp_path, "worker-1").collect()).requests()


def test_the_directory_is_private(tmp_path: Path) -> None:
    """No other user can read its files; a directory with other permissions is rejected and unchanged."""
    directory = tmp_path / "some" / "counts"
    shared(directory, "worker-1")
    (tmp_path / "link").symlink_to(directory)
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)

    assert {0o700} == {stat.S_IMODE(directory.stat().st_mode)}
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    for other in ("link", "file", "open"):
        with pytest.raises(StorageError, match="directory that you own, with mode 0700"):
            shared(tmp_path / other, "worker-1")
    assert 0o755 == stat.S_IMODE((tmp_path / "open").stat().st_mode)


def key_of(content: bytes) -> tuple[int, int]:
    """Return the position of the first key in a file."""
    (length,) = struct.unpack_from("i", content, 8)
    return 12, 12 + length


def value_of(content: bytes) -> int:
    """Return the position of the first value in a file."""
    return (key_of(content)[1] + 8) // 8 * 8


def with_value(content: bytes, value: float) -> bytes:
    """Return a file with another first value."""
    place = value_of(content)
    return content[:place] + struct.pack("d", value) + content[place + 8 :]


def with_key(content: bytes, key: bytes) -> bytes:
    """Return a file with another first key, of the same length."""
    begin, end = key_of(content)
    return content[:begin] + key.ljust(end - begin) + content[end:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "shorter than its header": lambda content: content[:3],
    "cut off": lambda content: content[: struct.unpack_from("i", content)[0] - 1],
    "less than nothing in use": lambda content: struct.pack("i", -5) + content[4:],
    "more in use than there is": lambda content: struct.pack("i", 1 << 30) + content[4:],
    "zeros": lambda content: content[:8] + bytes(len(content) - 8),
    "a negative length": lambda content: content[:8] + struct.pack("i", -28) + content[12:],
    "a length past the end": lambda content: content[:8] + struct.pack("i", 1 << 30) + content[12:],
    "no text": lambda content: with_key(content, b"\xff"),
    "other JSON": lambda content: with_key(content, b'["a", "b", [], "d"]'),
    "a bound that is none": lambda content: with_key(content, b'["a", "a_bucket", {"le": "x"}, "d"]'),
    "no number": lambda content: with_value(content, float("nan")),
    "fewer than none": lambda content: with_value(content, -1.0),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_file_prevents_no_start(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    """Others ignore it, and its owner starts without it; all other counts remain."""
    shared(tmp_path / "elsewhere", "worker-1").request("GET", "/hello", 200, 0.2)
    whole = (tmp_path / "elsewhere" / "histogram_worker-1.db").read_bytes()
    watcher = shared(tmp_path / "counts", "worker-2")
    watcher.request("GET", "/hello", 200, 0.2)
    path = tmp_path / "counts" / "histogram_worker-1.db"
    path.write_bytes(whole)
    before = Counts(watcher.collect()).requests()
    path.write_bytes(DAMAGES[case](whole))
    meanwhile = Counts(watcher.collect()).requests()
    successor = shared(tmp_path / "counts", "worker-1")
    successor.request("GET", "/hello", 200, 0.2)
    printed = capsys.readouterr().out

    assert [hello(2), hello(1), hello(2)] == [before, meanwhile, Counts(watcher.collect()).requests()]
    assert "corrupt metrics file ignored" in printed
    assert "corrupt metrics file removed" in printed


async def test_the_files_are_large_enough(api: Api, tmp_path: Path) -> None:
    """With every route and outcome counted, no file has grown: its blocks were allocated at the start."""
    app = api.client.app
    assert app is not None
    metrics = shared(tmp_path, "worker-1")
    for route in app.router.routes():
        for status in (200, 400, 500):
            metrics.request(route.method, route.resource.canonical if route.resource else "", status, 0.1)
    for method in (*hdrs.METH_ALL, "other"):
        metrics.request(method, "unmatched", 404, 0.1)

    assert storage.FILE_SIZES == {
        path.name.removesuffix("_worker-1.db"): path.stat().st_size for path in tmp_path.glob("*.db")
    }
    assert all(path.stat().st_blocks * 512 >= path.stat().st_size for path in tmp_path.glob("*.db"))


def test_a_file_that_disappears_is_ignored(tmp_path: Path) -> None:
    """A file may be deleted between being listed and being read."""
    metrics = shared(tmp_path, "worker-1")
    metrics.request("GET", "/hello", 200, 0.2)
    content, ended = (tmp_path / "gauge_sum_worker-1.db").read_bytes(), threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            draft, path = tmp_path / "draft", tmp_path / "gauge_sum_worker-2.db"
            draft.write_bytes(content)
            draft.replace(path)
            path.unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        told = [Counts(metrics.collect()).requests() for _ in range(200)]
    finally:
        ended.set()
        thread.join()

    assert [hello(1)] * 200 == told


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"])
async def test_proxied_scrapes_are_rejected(api: Api, serve: Serve, header: str) -> None:
    """Over TCP and over the socket: the public nginx adds a proxy's header."""
    behind_nginx = await serve(behind_nginx=True)

    assert [404, 404] == [
        (await one.send("GET", "/metrics", None, **{header: "127.0.0.1"})).status for one in (api, behind_nginx)
    ]


@pytest.mark.parametrize(
    ("address", "local"),
    [
        *(("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True)),
        *(("192.0.2.7", False), ("10.0.0.1", False), ("2001:db8::1", False), ("fe80::1%eth0", False)),
        *(("::ffff:192.0.2.7", False), ("localhost", False)),
    ],
)
def test_another_host_is_refused(make_settings: Callable[..., Settings], address: str, local: bool) -> None:
    """On a TCP port only loopback addresses count as this host; on the socket, nginx decides."""
    over_tcp, over_socket = (make_mocked_request("GET", "/metrics").clone(remote=remote) for remote in (address, ""))

    assert local == Origin(make_settings()).is_local(over_tcp)
    assert Origin(make_settings()).is_local(over_socket)


async def test_metrics_can_be_switched_off(serve: Serve, tmp_path: Path) -> None:
    """Nothing is counted or written, and the route does not exist."""
    api = await serve(metrics="off", metrics_dir=tmp_path / "counts")
    await api.send("GET", "/hello")

    assert (404, "not_found") == (
        (await api.send("GET", "/metrics")).status,
        (await api.call("GET", "/metrics"))[1]["code"],
    )
    assert not (tmp_path / "counts").exists()


async def test_metrics_contain_no_client_data(api: Api) -> None:
    """Names, keys, odd methods and paths, headers and bodies: none of them is in a label."""
    token = await api.sign_up("Visible-Name")
    created = await api.create("Visible-Secret", phrase="Visible-Phrase")
    link = created["secret_key"]
    for path in (f"/secrets/{link}", f"/message/{link}", f"/receipts/{created['receipt_key']}", "/Visible-Path"):
        for method in ("GET", "POST", "DELETE", "OPTIONS", "TRACE", "VISIBLE-METHOD"):
            await api.send(
                method, f"{path}?Visible=Query", b"{}", **{"X-Visible": "Header", hdrs.USER_AGENT: "Visible"}
            )
    await api.open(link, phrase="Visible-Wrong-Phrase")
    await api.call("GET", "/me", token=token)
    await api.call("POST", "/login", {"username": "Visible-Name", "password": "Visible-Password"})
    text = (await scrape(api)).text

    assert "visible" not in text.lower()
    for needle in (link, created["receipt_key"], token, PASSWORD, "127.0.0.1"):
        assert needle not in text


async def test_the_number_of_labels_is_bounded(api: Api) -> None:
    """A client that invents methods and paths creates no time series."""
    await api.create()  # after the first check of the storage limits
    await api.send("GET", "/nowhere")
    await api.send("MADE-UP", "/nowhere")
    before = len((await scrape(api)).samples)
    await scrape(api)
    known = len((await scrape(api)).samples)
    for number in range(50):
        await api.send(f"MADE-UP-{number}", f"/made/up/{number}")
        await api.send("GET", f"/{number}")
    after = len((await scrape(api)).samples)

    assert before < known == after


def test_metrics_without_storage_count_nothing() -> None:
    """All methods can be called, and the result is empty."""
    metrics = Metrics.off()
    metrics.request("GET", "/hello", 200, 0.2)
    metrics.unexpected_errors.inc()
    metrics.close()

    assert (False, "") == (metrics.are_on, metrics.collect())


def test_the_library_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Global state of the library is changed only while a metric is created."""
    monkeypatch.setenv(storage.DIRECTORY_VARIABLE, "elsewhere")
    shared(tmp_path, "worker-1").request("GET", "/hello", 200, 0.2)

    assert "elsewhere" == os.environ[storage.DIRECTORY_VARIABLE]
    assert "" != Metrics(Memory("app")).collect()
