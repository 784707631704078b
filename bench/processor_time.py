"""Processor time and memory of the processes of a stack, from ``/proc``.

The processor time repeats even on a machine with other work.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
NGINX, MONGOD, WORKER = "nginx", "mongod", "worker"
_TICKS = os.sysconf("SC_CLK_TCK")  # a second; 100 on Linux
_PARENT, _USER, _SYSTEM = 1, 11, 12  # fields of /proc/PID/stat after the name of the program


@dataclass(frozen=True)
class ProcessorTime:
    """Processor time of all workers, nginx processes and mongod, in seconds."""

    workers: float
    nginx: float
    mongod: float

    def __sub__(self, before: "ProcessorTime") -> "ProcessorTime":
        return ProcessorTime(self.workers - before.workers, self.nginx - before.nginx, self.mongod - before.mongod)

    def microseconds_each(self, requests: int) -> dict[str, float]:
        """Return the processor time of one of several requests in microseconds, by program."""
        share = 1e6 / requests if requests else 0.0
        return {
            name: round(seconds * share, 1)
            for name, seconds in (("worker_us", self.workers), ("nginx_us", self.nginx), ("mongod_us", self.mongod))
        }


def processor_time(*roots: int) -> ProcessorTime:
    """Return the processor time that processes and their descendants have used until now; ended ones do not count."""
    used: Counter[str] = Counter()
    for pid in _with_descendants(roots):
        try:
            fields, command = _fields(pid), (PROC / str(pid) / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        used[_kind(command)] += int(fields[_USER]) + int(fields[_SYSTEM])
    return ProcessorTime(*(used[kind] / _TICKS for kind in (WORKER, NGINX, MONGOD)))


def memory(pid: int, field: str) -> int:
    """Return a field of a process's status in bytes: ``VmRSS``, or its peak ``VmHWM``; 0 if the process has ended."""
    status = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields.get(field, "0").split()[0]) * 1024


def _kind(command: bytes) -> str:
    program = command.split(b"\0", 1)[0]
    if program.startswith(b"nginx") or program.endswith(b"/nginx"):
        return NGINX
    if program.endswith(b"mongod"):
        return MONGOD
    is_worker = b".sock" in command or b"src.app" in command
    return WORKER if is_worker and b"supervisor" not in command else ""


def _with_descendants(roots: Sequence[int]) -> Iterator[int]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for path in PROC.glob("[0-9]*"):
        try:
            children[int(_fields(int(path.name))[_PARENT])].append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = [*roots]
    while found:
        pid = found.pop()
        yield pid
        found += children[pid]


def _fields(pid: int) -> list[str]:
    # The name, in parentheses, may contain spaces and parentheses.
    return (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
