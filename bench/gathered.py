"""`make bench-gathered`: throughput of gathering, lag of the dump, and time and memory of a large export.

First, clients send single messages and batches to one process, and to nginx with 4 workers; the dump must catch up and
contain each line once. Then a year of messages is created and exported over HTTP and with the operator's command.
Prints every measurement with its target, and writes all of them to ``bench/results/``. The exit code is 1 if lines were
missing or a target was missed.
"""

import argparse
import asyncio
import hashlib
import http
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.running_stack import ROOT, RunningStack, free_port, running_stack
from src.core.database.embedded import embedded_mongod

from .connection import WrongAnswerError, connect, log_in
from .fill import read_ring
from .fill_gathered import fill_gathered, make_operator
from .latency import percentile
from .machine import has_programs, write_result
from .processor_time import memory, processor_time

SENDING = {1: 8, 100: 16}
"""The number of clients, by the number of messages in each of their requests."""
PROCESS, STACK = "one process", "nginx and 4 workers"
YEAR = "year"
OPERATOR, PASSWORD = "bench-operator", "a password of the bench"
PIECE = 1024 * 1024
MIB = 1024 * 1024
MOST_MIB = 100
LEAST_PER_SECOND = 2000
MOST_SECONDS_BEHIND = 1.0
ENOUGH_SECONDS = 5
"""Minimum duration for a verdict: in a shorter run, the other load on the machine decides the speed."""
PATIENCE = 60.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class SendingResult:
    """The result of sending at full speed; ``seconds_behind`` is the lag of the dump after the last response.

    The processor time of workers and mongod is in microseconds a message.
    """

    server: str
    clients: int
    each: int
    messages: int
    per_second: float
    p50_ms: float
    p99_ms: float
    seconds_behind: float
    lines_dumped: int
    worker_us: float
    nginx_us: float
    mongod_us: float


@dataclass(frozen=True)
class ExportResult:
    """The result of an export; ``peak_mib`` is the peak resident memory of the process."""

    name: str
    lines: int
    mib: float
    seconds: float
    peak_mib: float
    digest: str


@dataclass(frozen=True)
class Server:
    """A running server: its URL, the process that started all others, and the file of its dump."""

    name: str
    url: str
    pid: int
    dump: Path


@contextmanager
def one_process(directory: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run one process without nginx until the block ends."""
    port, data_dir = free_port(), directory / "one"
    data_dir.mkdir(mode=0o700)
    dump = data_dir / "gathered.jsonl"
    command = [sys.executable, "-m", "src.app", "-H", "127.0.0.1", "-P", str(port)]
    variables = {**environment, "SEALPOST_DATA_DIR": str(data_dir), "SEALPOST_GATHERED_FILE": str(dump)}
    log = data_dir / "output"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, **variables}, stdout=output) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            _await_ready(url)
            yield Server(PROCESS, url, process.pid, dump)
        finally:
            process.terminate()


def _await_ready(url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with suppress(OSError):
            connection = connect(url)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(POLL_SECONDS)
    raise TimeoutError("the process is not ready")


class _BatchClient:
    """An authenticated client that sends batches."""

    def __init__(self, url: str, name: str, each: int) -> None:
        self.name = name
        self.each = each
        self.times: list[float] = []
        self._connection = connect(url, PATIENCE)
        self.post("/identify", message_type="IDENTIFY", username=name)
        answer = self.post("/authenticate", message_type="AUTHENTICATE", username=name, password=PASSWORD)
        self.token = answer["token"]

    def post(self, path: str, **body: object) -> Any:
        """Send a request, retrying while the service is busy, and return the answer. Raises `WrongAnswerError`."""
        until = time.monotonic() + PATIENCE
        while True:
            self._connection.request("POST", path, json.dumps(body))
            response = self._connection.getresponse()
            answer = json.loads(response.read())
            if response.status in {http.HTTPStatus.CREATED, http.HTTPStatus.ACCEPTED}:
                return answer
            if response.status != http.HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > until:
                raise WrongAnswerError(f"{path}: {response.status} {answer['detail']}")
            time.sleep(int(response.headers["Retry-After"]))


def send(server: Server, each: int, seconds: float) -> SendingResult:
    """Let clients send for ``seconds``, with ``each`` messages a request, and wait for the dump to catch up."""
    count, already = SENDING[each], _lines(server.dump)
    with ThreadPoolExecutor(count) as threads:
        names = [f"bench-{each}-{number}" for number in range(count)]
        clients = list(threads.map(lambda name: _BatchClient(server.url, name, each), names))
        used, began = processor_time(server.pid), time.monotonic()
        sent = sum(threads.map(lambda client: _send(client, began + seconds), clients))
    ended = time.monotonic()
    while (dumped := _lines(server.dump) - already) < sent and time.monotonic() - ended < PATIENCE:
        time.sleep(POLL_SECONDS)
    behind = time.monotonic() - ended
    times = [seconds for client in clients for seconds in client.times]
    return SendingResult(
        server=server.name,
        clients=count,
        each=each,
        messages=sent,
        per_second=round(sent / (ended - began), 1),
        p50_ms=round(statistics.median(times) * 1000, 1),
        p99_ms=round(percentile(times, 0.99) * 1000, 1),
        seconds_behind=round(behind, 2),
        lines_dumped=dumped,
        **(processor_time(server.pid) - used).microseconds_each(sent),
    )


def _send(client: _BatchClient, until: float) -> int:
    """Send batches until a moment of the monotonic clock, and return the number of messages sent."""
    sent = 0
    while time.monotonic() < until:
        messages = [
            f"{client.name}: line {sent + number} of a log, about a hundred bytes long" for number in range(client.each)
        ]
        began = time.perf_counter()
        answer = client.post("/message", message_type="MESSAGE", token=client.token, messages=messages, batch=str(sent))
        client.times.append(time.perf_counter() - began)
        sent += client.each
        if answer["last_sequence"] != sent:
            raise WrongAnswerError(f"{client.name}: sequence number {answer['last_sequence']} after {sent} messages")
    return sent


def export_by_http(running: RunningStack) -> ExportResult:
    """Export all messages over HTTP, and measure the peak memory of the workers."""
    token = log_in(running.url, {"username": OPERATOR, "password": PASSWORD})
    connection = connect(running.url, PATIENCE)
    began = time.monotonic()
    connection.request("GET", "/gathered", headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    digest, lines, size = hashlib.sha256(), 0, 0
    while piece := response.read(PIECE):
        digest.update(piece)
        lines += piece.count(b"\n")
        size += len(piece)
    seconds = time.monotonic() - began
    peak = max(round(memory(pid, "VmHWM") / 2**20, 1) for pid in running.worker_pids())
    return ExportResult("GET /gathered", lines, round(size / MIB, 1), round(seconds, 1), peak, digest.hexdigest())


def export_by_command(environment: Mapping[str, str], output: Path) -> ExportResult:
    """Export all messages with the operator's command."""
    began, peak = time.monotonic(), 0.0
    with subprocess.Popen(
        [sys.executable, "-m", "src.manage", "gathered", "export", "--output", str(output)],
        cwd=ROOT,
        env={**os.environ, **environment},
    ) as process:
        # Polled, because the peak that the system reports after the end includes the memory of the parent before exec.
        while process.poll() is None:
            peak = max(peak, round(memory(process.pid, "VmHWM") / 2**20, 1))
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise WrongAnswerError(f"gathered export: exit code {process.returncode}")
    seconds = time.monotonic() - began
    digest, lines = hashlib.sha256(), 0
    with output.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            lines += piece.count(b"\n")
    mib = round(output.stat().st_size / MIB, 1)
    return ExportResult("gathered export", lines, mib, round(seconds, 1), peak, digest.hexdigest())


def _lines(path: Path) -> int:
    # The names of rotated files continue with their date.
    files = [
        file for file in path.parent.glob(f"{path.name}*") if file == path or file.name.startswith(f"{path.name}.2")
    ]
    return sum(file.read_bytes().count(b"\n") for file in files)


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.gathered", description="Measure gathering and exports.")
    parser.add_argument(
        "--messages", type=int, default=1_000_000, help="number of messages to export (default 1000000)"
    )
    parser.add_argument("--each", type=int, default=1, help="number of messages per batch (default 1)")
    parser.add_argument("--seconds", type=int, default=5, help="duration of sending (default 5)")
    parser.add_argument("--driver", choices=("motor", "pymongo"), default="motor", help="MongoDB client to measure")
    options = parser.parse_args()
    if options.each < 1 or options.messages < options.each or options.messages % options.each:
        parser.error("--messages must be a multiple of --each")
    if not has_programs("nginx"):
        return 2
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-bench-")))
        data_dir, log_dir = directory / "data", directory / "logs"
        environment = {"SEALPOST_RATE_LIMITS": "off", "SEALPOST_MONGO_DRIVER": options.driver}
        with one_process(directory, environment) as server:
            sendings = [send(server, each, options.seconds) for each in SENDING]
        with running_stack(data_dir=data_dir, log_dir=log_dir, environment=environment) as running:
            server = Server(STACK, running.url, running.launcher.pid, log_dir / "gathered.jsonl")
            sendings += [send(server, each, options.seconds) for each in SENDING]
        for sending in sendings:
            print(
                f"{sending.server}, {sending.clients} clients, {sending.each} a request:"
                f" {sending.per_second:,.0f} per s, p50 {sending.p50_ms} ms, p99 {sending.p99_ms} ms; each"
                f" {sending.worker_us:,.0f} us of workers, {sending.nginx_us:,.0f} of nginx, and"
                f" {sending.mongod_us:,.0f} of mongod",
                flush=True,
            )
        # In a separate database, so that the number of exported lines is known.
        environment |= {"SEALPOST_MONGO_DATABASE": YEAR, "SEALPOST_GATHERED_FILE": "off"}
        running = stack.enter_context(running_stack(data_dir=data_dir, log_dir=log_dir, environment=environment))
        ring = read_ring(data_dir)
        with embedded_mongod(data_dir) as mongo_url:
            asyncio.run(make_operator(mongo_url, YEAR, ring, OPERATOR, PASSWORD))
            asyncio.run(fill_gathered(mongo_url, YEAR, ring, messages=options.messages, each=options.each))
        exports = [
            export_by_http(running),
            export_by_command({**environment, "SEALPOST_DATA_DIR": str(data_dir)}, directory / "export"),
        ]
    for export in exports:
        print(
            f"{export.name:<16}{export.lines:>10,} lines, {export.mib} MiB in {export.seconds} s, peak"
            f" {export.peak_mib} MiB of memory"
        )
    return _judge(options, sendings, exports)


def _judge(options: argparse.Namespace, sendings: list[SendingResult], exports: list[ExportResult]) -> int:
    """Print each target and whether it was met, write the results, and return the exit code."""
    sending = sendings[-1]
    speed = {
        f"sending: {sending.per_second:,.0f} messages per second, target: {LEAST_PER_SECOND}": sending.per_second
        >= LEAST_PER_SECOND,
        f"dump: {sending.seconds_behind} s behind, target: at most {MOST_SECONDS_BEHIND}": sending.seconds_behind
        <= MOST_SECONDS_BEHIND,
    }
    targets = {
        **{
            f"{one.server}, dump: {one.lines_dumped} lines of {one.messages} messages, target: equal": one.messages
            == one.lines_dumped
            for one in sendings
        },
        "exports: both with the same bytes": len({export.digest for export in exports}) == 1,
    }
    for export in exports:
        targets[f"{export.name}: {export.lines} lines, target: {options.messages}"] = export.lines == options.messages
        targets[f"{export.name}: {export.peak_mib} MiB of memory, target: under {MOST_MIB}"] = (
            export.peak_mib < MOST_MIB
        )
    if options.seconds < ENOUGH_SECONDS:
        print("\n".join(f"too short for a verdict: {target}" for target in speed))
    else:
        targets |= speed
    print("\n".join(f"{'met' if is_met else 'MISSED':>8}  {target}" for target, is_met in targets.items()))
    write_result(
        {
            "driver": options.driver,
            "messages": options.messages,
            "each": options.each,
            "sending": [asdict(sending) for sending in sendings],
            "exports": [asdict(export) for export in exports],
        },
        "gathered-",
    )
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
