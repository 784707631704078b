"""The behaviour of nginx itself, in front of workers that follow the tests' instructions."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import ClientSession
from yarl import URL

from bench.running_stack import RunningStack

from ..processes import PATIENCE
from .conftest import grep_logs, until_logged
from .traffic import assert_problem

pytestmark = pytest.mark.stack

MEBIBYTE = 1024 * 1024


async def chunks(size: int, chunk: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, size, chunk):
        yield b"x" * min(chunk, size - start)


async def raw(stack: RunningStack, request: bytes) -> bytes:
    """Send raw bytes, and return all bytes received until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]))
    writer.write(request)
    async with asyncio.timeout(PATIENCE):
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
    writer.close()
    return answer


def nginx_files(stack: RunningStack) -> list[str]:
    """List the open files of the nginx processes."""
    master = (stack.run_dir / "nginx.pid").read_text().strip()
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    descriptors = [path for pid in (master, *workers) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return [str(path.readlink()) for path in descriptors if path.is_symlink()]


def bodies_on_disk(stack: RunningStack) -> list[str]:
    temp_dir = stack.run_dir / "nginx"
    return [str(path) for path in temp_dir.rglob("*") if path.is_file()] + [
        name for name in nginx_files(stack) if name.startswith(str(temp_dir))
    ]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_body_of_exactly_one_mebibyte_passes_and_one_more_byte_does_not(
    prober: ClientSession, *, chunked: bool
) -> None:
    """The limit is 1 MiB, however the body is sent."""
    for size, status in ((MEBIBYTE, 200), (MEBIBYTE + 1, 413), (2 * MEBIBYTE, 413)):
        async with prober.post("/generate", data=chunks(size) if chunked else BytesIO(b"x" * size)) as response:
            assert status == response.status
            if status == 200:
                assert size == json.loads(await response.text())["length"]
            else:
                await assert_problem(response, 413, "too_large")


@pytest.mark.parametrize(("chunk", "count"), [(65_536, 8), (1, 40_000)], ids=["big", "tiny"])
async def test_a_body_never_touches_the_disk(
    probes: RunningStack, prober: ClientSession, chunk: int, count: int
) -> None:
    """Nginx buffers half a body in memory, without a file, however it is cut into chunks."""
    looked: list[list[str]] = []

    async def halting() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * chunk
        await asyncio.sleep(0.5)
        looked.append(bodies_on_disk(probes))
        for _ in range(count):
            yield b"x" * chunk

    async with prober.post("/generate", data=halting()) as response:
        assert response.status == 200
        assert 2 * chunk * count == json.loads(await response.text())["length"]
    assert looked == [[]]


async def test_a_response_never_touches_the_disk(probes: RunningStack, prober: ClientSession) -> None:
    """A large response to a slow reader is buffered in memory and in the worker."""
    size = 16 * MEBIBYTE
    async with prober.get("/", params={"size": size}) as response:
        first = await response.content.read(1000)
        await asyncio.sleep(0.5)

        assert bodies_on_disk(probes) == []
        assert size == len(first) + len(await response.content.read())


def timeouts(stack: RunningStack) -> set[str]:
    """Return the timeouts of clients in the configuration of a running nginx."""
    master = (stack.run_dir / "nginx.pid").read_text().strip()
    arguments = Path(f"/proc/{master}/cmdline").read_bytes().split(b"\0")[0].decode().split()
    text = Path(arguments[arguments.index("-c") + 1]).read_text()
    return set(re.findall(r"client_(?:header|body)_timeout \w+", text))


async def test_slow_clients_are_cut_off(probes: RunningStack) -> None:
    """An incomplete header closes the connection after 5 seconds without a response, an incomplete body after 10.

    By default, nginx waits 60 seconds for either.
    """
    begun = time.monotonic()

    async def wait_for_the_end(request: bytes) -> tuple[bytes, float]:
        return await raw(probes, request), time.monotonic() - begun

    (of_header, header_seconds), (of_body, body_seconds) = await asyncio.gather(
        wait_for_the_end(b"POST /secrets/SLOWKEY HTTP/1.1\r\nHost: a\r\n"),
        wait_for_the_end(b"POST /secrets/SLOWKEY HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nslow"),
    )

    assert [of_header, of_body] == [b"", b""]
    assert 4 < header_seconds < body_seconds
    assert 8 < body_seconds < PATIENCE / 2
    # Only uploads of files have more time.
    expected = {"client_header_timeout 5s", "client_body_timeout 10s", "client_body_timeout 60s"}
    assert expected == await asyncio.to_thread(timeouts, probes)
    assert await grep_logs(probes, "SLOWKEY") == []


async def test_headers_of_clients_are_overwritten(prober: ClientSession) -> None:
    """Workers get address and request id from nginx, and nothing that a client says about other proxies."""
    removed = [f"X-Forwarded-{name}" for name in ("For", "Host", "Proto", "Prefix")] + [
        "Forwarded",
        "X-Untrusted-Proxy",
    ]
    forged = ["X-Real-IP", "X-Request-ID", *removed]
    async with prober.get("/", headers={**dict.fromkeys(forged, "forged"), "Host": "words.example:81"}) as response:
        headers = json.loads(await response.text())["headers"]

    assert "forged" not in headers.values()
    assert headers["X-Real-IP"] == "127.0.0.1"
    assert [] == [name for name in removed if name in headers]
    assert "words.example:81" == headers["Host"]
    assert len(headers["X-Request-ID"]) == 32


async def test_metrics_are_not_public(probes: RunningStack, prober: ClientSession) -> None:
    """No spelling of the path reaches a worker."""
    for path in ("/metrics", "/metrics?x", "/%6detrics", "//metrics", "/x/../metrics"):
        async with prober.get(URL(probes.url + path, encoded=True)) as response:
            await assert_problem(response, 404, "not_found")


async def test_errors_of_workers_pass_unchanged(prober: ClientSession) -> None:
    """Only nginx's own errors have nginx's text."""
    for status in (400, 404, 413, 429, 500, 503):
        async with prober.get("/", params={"status": status}) as response:
            assert status == response.status
            assert json.loads(await response.text())["method"] == "GET"


async def test_a_worker_that_times_out_is_a_504(prober: ClientSession) -> None:
    """Nginx waits longer than a worker's timeout, but not for ever."""
    async with prober.post("/login", params={"sleep": 8}) as response:
        await assert_problem(response, 504, "timeout")
        assert "Retry-After" not in response.headers


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GARBAGE BADKEY\r\n\r\n", 400),
        (b"POST /secrets/BADKEY HTTP/1.1\r\n\r\n", 400),
        (b"POST /secrets/BADKEY HTTP/1.1\r\nHost: a\r\nBad\x01: 1\r\n\r\n", 400),
        (b"POST /secrets/BADKEY HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /secrets/BADKEY\xff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
        (b"POST /secrets/BADKEY%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /secrets/BADKEY HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 400),
        (b"BADKEY /secrets/BADKEY HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
        (b"TRACE /secrets/BADKEY HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405),
        (b"GET /secrets/BADKEY" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"POST /secrets/BADKEY HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /secrets/BADKEY HTTP/9.1\r\nHost: a\r\n\r\n", 505),
    ],
    ids=lambda value: value if isinstance(value, int) else value[:12].decode(),
)
async def test_invalid_requests_get_a_problem_and_leave_no_trace(
    probes: RunningStack, request_: bytes, status: int
) -> None:
    """They are answered in the API's format, and no log contains them."""
    head, _, body = (await raw(probes, request_)).partition(b"\r\n\r\n")
    problem = json.loads(body)

    assert f" {status} ".encode() in head.splitlines()[0]
    assert status == problem["status"]
    assert f"X-Request-ID: {problem['request_id']}".encode() in head
    assert b"application/problem+json" in head
    assert b"BADKEY" not in body
    assert await grep_logs(probes, "BADKEY") == []


async def test_the_access_log_names_routes_and_not_paths(probes: RunningStack, prober: ClientSession) -> None:
    """A line has route, duration and worker, and no client data."""
    paths = ["/secrets/LOGKEY?LOGKEY=1", "/message/LOGKEY", "/receipts/LOGKEY", "/LOGKEY", "/secrets/LOGKEY/LOGKEY"]
    request_ids = []
    for path in paths:
        async with prober.get(path, headers={"User-Agent": "LOGKEY", "Referer": "LOGKEY"}) as response:
            request_ids.append(json.loads(await response.text())["headers"]["X-Request-ID"])
    lines = [json.loads(line) for line in (await until_logged(probes, "access.jsonl", *request_ids)).splitlines()]
    assert await grep_logs(probes, "LOGKEY") == []
    mine = {line["request_id"]: line for line in lines if line["request_id"] in request_ids}

    routes = ["/secrets/{secret_key}", "/message/{message_key}", "/receipts/{receipt_key}", "other", "other"]
    assert routes == [mine[request_id]["route"] for request_id in request_ids]
    assert {("GET", 200)} == {(line["method"], line["status"]) for line in mine.values()}
    assert {line["worker"] for line in mine.values()} <= {"1", "2", "3", "4"}
