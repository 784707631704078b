"""`make bench-gathered`: how fast messages are gathered, how far the dump is behind, and what an export of many takes.

Starts nginx and four workers. First, clients send batches through them; then the dump must catch up and have each line
once. Then a year of messages is made up, and all of it exported over HTTP and by the operator's command. Prints every
figure and what is asked of it, and writes all of it to ``bench/results/``. The exit code is 1 where lines were missing
or something asked was missed.
"""

import argparse
import asyncio
import hashlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.running_stack import ROOT, RunningStack, running_stack
from src.core.crypto.keys import KeyRing
from src.core.database.embedded import embedded_mongod

from .fill_gathered import fill_gathered, make_operator
from .latency import percentile
from .machine import has_programs, write_result

CLIENTS = 16
EACH = 100
YEAR = "year"
OPERATOR, PASSWORD = "bench-operator", "a password of the bench"
PIECE = 1024 * 1024
MIB = 1024 * 1024
MOST_MIB = 100
LEAST_PER_SECOND = 2000
MOST_SECONDS_BEHIND = 1.0
ENOUGH_SECONDS = 5
"""In less time, how fast something was tells of what else the machine did."""
PATIENCE = 60.0
GLANCE_SECONDS = 0.02


@dataclass(frozen=True)
class Sending:
    """What came of clients that send as fast as they can, and how long the dump took after the last answer."""

    clients: int
    each: int
    messages: int
    per_second: float
    p50_ms: float
    p99_ms: float
    seconds_behind: float
    lines_dumped: int


@dataclass(frozen=True)
class Export:
    """What an export took; ``peak_mib`` is the most memory that the process ever had."""

    name: str
    lines: int
    mib: float
    seconds: float
    peak_mib: float
    digest: str


class WrongAnswerError(Exception):
    """An answer is not what was asked for."""


class _Client:
    """A program that has authenticated itself."""

    def __init__(self, running: RunningStack, name: str) -> None:
        self.name = name
        self.times: list[float] = []
        self._connection = _connection(running)
        self.post("/identify", message_type="IDENTIFY", username=name)
        answer = self.post("/authenticate", message_type="AUTHENTICATE", username=name, password=PASSWORD)
        self.token = answer["token"]

    def post(self, path: str, **body: object) -> Any:
        """Return an answer; while the service is busy, ask again. Raises `WrongAnswerError`."""
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


def send(running: RunningStack, path: Path, seconds: float) -> Sending:
    """Have clients send batches for a while, and wait for the dump."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        names = [f"bench-client-{number}" for number in range(CLIENTS)]
        clients = list(threads.map(lambda name: _Client(running, name), names))
        began = time.monotonic()
        sent = sum(threads.map(lambda client: _send(client, began + seconds), clients))
    ended = time.monotonic()
    while (dumped := _lines(path)) < sent and time.monotonic() - ended < PATIENCE:
        time.sleep(0.02)
    behind = time.monotonic() - ended
    times = [one for client in clients for one in client.times]
    return Sending(
        clients=CLIENTS,
        each=EACH,
        messages=sent,
        per_second=round(sent / (ended - began), 1),
        p50_ms=round(statistics.median(times) * 1000, 1),
        p99_ms=round(percentile(times, 0.99) * 1000, 1),
        seconds_behind=round(behind, 2),
        lines_dumped=dumped,
    )


def _send(client: _Client, until: float) -> int:
    """Send batches for a while and return how many messages that was."""
    sent = 0
    while time.monotonic() < until:
        messages = [
            f"{client.name}: line {sent + number} of a log, about a hundred bytes long" for number in range(EACH)
        ]
        began = time.perf_counter()
        answer = client.post("/message", message_type="MESSAGE", token=client.token, messages=messages, batch=str(sent))
        client.times.append(time.perf_counter() - began)
        sent += EACH
        if answer["last_sequence"] != sent:
            raise WrongAnswerError(f"{client.name}: number {answer['last_sequence']} after {sent} messages")
    return sent


def export_by_http(running: RunningStack) -> Export:
    """Read all that was gathered, and find how much memory the workers have had at the most."""
    connection = _connection(running)
    connection.request("POST", "/login", json.dumps({"username": OPERATOR, "password": PASSWORD}))
    token = json.loads(connection.getresponse().read())["access_token"]
    began = time.monotonic()
    connection.request("GET", "/gathered", headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    digest, lines, size = hashlib.sha256(), 0, 0
    while piece := response.read(PIECE):
        digest.update(piece)
        lines += piece.count(b"\n")
        size += len(piece)
    seconds = time.monotonic() - began
    peak = max(_peak(pid) for pid in running.worker_pids())
    return Export("GET /gathered", lines, round(size / MIB, 1), round(seconds, 1), peak, digest.hexdigest())


def export_by_command(environment: Mapping[str, str], output: Path) -> Export:
    """Run the operator's command."""
    began, peak = time.monotonic(), 0.0
    with subprocess.Popen(
        [sys.executable, "-m", "src.manage", "gathered", "export", "--output", str(output)],
        cwd=ROOT,
        env={**os.environ, **environment},
    ) as process:
        # What the system tells of one that has ended counts the memory of its parent before the start as well.
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(GLANCE_SECONDS)
    if process.returncode:
        raise WrongAnswerError(f"gathered export: exit code {process.returncode}")
    seconds = time.monotonic() - began
    digest, lines = hashlib.sha256(), 0
    with output.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            lines += piece.count(b"\n")
    mib = round(output.stat().st_size / MIB, 1)
    return Export("gathered export", lines, mib, round(seconds, 1), peak, digest.hexdigest())


def _connection(running: RunningStack) -> http.client.HTTPConnection:
    host, port = running.url.removeprefix("http://").split(":")
    return http.client.HTTPConnection(host, int(port), timeout=PATIENCE)


def _peak(pid: int) -> float:
    """Return the most memory that a process ever had, in MiB; 0 for one that has ended."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    return round(int(status.get("VmHWM", "0").split()[0]) / 1024, 1)


def _lines(path: Path) -> int:
    found = [one for one in path.parent.glob(f"{path.name}*") if one == path or one.name.startswith(f"{path.name}.2")]
    return sum(one.read_bytes().count(b"\n") for one in found)


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.gathered", description="Measure gathering and exporting.")
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many to export (default 1000000)")
    parser.add_argument("--each", type=int, default=1, help="how many of them a client sent at once (default 1)")
    parser.add_argument("--seconds", type=int, default=5, help="how long clients send (default 5)")
    parser.add_argument("--driver", choices=("motor", "pymongo"), default="motor", help="MongoDB client to measure")
    options = parser.parse_args()
    if options.each < 1 or options.messages < options.each or options.messages % options.each:
        parser.error("give messages in multiples of --each")
    if not has_programs("nginx"):
        return 2
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-bench-")))
        data_dir, log_dir = directory / "data", directory / "logs"
        environment = {"SEALPOST_RATE_LIMITS": "off", "SEALPOST_MONGO_DRIVER": options.driver}
        with running_stack(data_dir=data_dir, log_dir=log_dir, environment=environment) as running:
            sending = send(running, log_dir / "gathered.jsonl", options.seconds)
        print(
            f"sending, {sending.clients} clients, {sending.each} messages at once: {sending.per_second:,.0f} a second,"
            f" p50 {sending.p50_ms} ms, p99 {sending.p99_ms} ms",
            flush=True,
        )
        # In a database of its own: what is exported is then known to the last line.
        environment |= {"SEALPOST_MONGO_DATABASE": YEAR, "SEALPOST_GATHERED_FILE": "off"}
        running = stack.enter_context(running_stack(data_dir=data_dir, log_dir=log_dir, environment=environment))
        ring = KeyRing.parse((data_dir / "keys").read_text(encoding="ascii"))
        with embedded_mongod(data_dir) as mongo_url:
            asyncio.run(make_operator(mongo_url, YEAR, ring, OPERATOR, PASSWORD))
            asyncio.run(fill_gathered(mongo_url, YEAR, ring, messages=options.messages, each=options.each))
        exports = [
            export_by_http(running),
            export_by_command({**environment, "SEALPOST_DATA_DIR": str(data_dir)}, directory / "export"),
        ]
    for export in exports:
        print(
            f"{export.name:<16}{export.lines:>10,} lines, {export.mib} MiB in {export.seconds} s, at most"
            f" {export.peak_mib} MiB of memory"
        )
    return _judge(options, sending, exports)


def _judge(options: argparse.Namespace, sending: Sending, exports: list[Export]) -> int:
    """Say what was asked and whether it was kept, write the results, and return the exit code."""
    fast = {
        f"sending: {sending.per_second:,.0f} messages per second, asked: {LEAST_PER_SECOND}": sending.per_second
        >= LEAST_PER_SECOND,
        f"dump: {sending.seconds_behind} s behind, asked: at most {MOST_SECONDS_BEHIND}": sending.seconds_behind
        <= MOST_SECONDS_BEHIND,
    }
    kept = {
        f"dump: {sending.lines_dumped} lines of {sending.messages} messages, asked: as many": sending.lines_dumped
        == sending.messages,
        "exports: the same bytes, asked: the same": len({export.digest for export in exports}) == 1,
    }
    for export in exports:
        kept[f"{export.name}: {export.lines} lines, asked: {options.messages}"] = export.lines == options.messages
        kept[f"{export.name}: {export.peak_mib} MiB of memory, asked: under {MOST_MIB}"] = export.peak_mib < MOST_MIB
    if options.seconds < ENOUGH_SECONDS:
        print("\n".join(f"too short to tell: {name}" for name in fast))
    else:
        kept |= fast
    print("\n".join(f"{'kept' if promise else 'MISSED':>8}  {name}" for name, promise in kept.items()))
    write_result(
        {
            "driver": options.driver,
            "messages": options.messages,
            "each": options.each,
            "sending": asdict(sending),
            "exports": [asdict(export) for export in exports],
        },
        "gathered-",
    )
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
