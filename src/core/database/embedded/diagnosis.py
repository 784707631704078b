"""Explain why mongod exited, from its exit code or signal and its log."""

import json
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path

_TAIL_BYTES = 256 * 1024
"""Bytes read from the end of the log, so that old entries do not count."""
_SHELL_SIGNALS = range(128 + 1, 128 + signal.NSIG)
"""Exit codes by which a shell reports that its last command died of a signal."""

_SIGNALS = {
    "SIGABRT": "mongod aborted: its log says why",
    "SIGBUS": "a file of mongod or of its data cannot be read: the disk is full, failing or disconnected",
    "SIGILL": "the processor lacks instructions that this mongod needs, probably AVX, which MongoDB 5.0 and later"
    " require. Set SEALPOST_MONGO_URL to a MongoDB on another machine, or enable AVX for this virtual machine",
    "SIGKILL": "mongod was killed, probably by the kernel because memory ran out",
    "SIGSEGV": "mongod crashed: it may have been built for another system",
    "SIGSYS": "a sandbox (seccomp) forbids a system call that mongod needs",
    "SIGTERM": "another process stopped mongod",
    "SIGXFSZ": "a limit on the size of files (ulimit -f) was reached",
}

_FULL = (
    "The disk of {database} is full, and MongoDB needs some space to start. Delete other files on that disk or enlarge"
    " it, but delete nothing in {database}; then MongoDB can start and delete expired data."
)
_NO_ROOM = 128 * 1024 * 1024
"""Free bytes below which a disk counts as full even if the log, on the same disk, does not say so. A journal file has
100 MB, which mongod frees when it exits."""

# The first match counts: after a full disk, for example, WiredTiger logs many other errors.
_COMPLAINTS = {
    r"No space left on device|Disk quota exceeded|\"error\": ?(28|122)\b": _FULL,
    r"Read-only file system": "{database} is on a file system that is mounted read-only.",
    r"permissions on \S+ are too open|Read security file failed|Unable to acquire security key": "{key} must belong to"
    " this user, and others must not be able to read it: chmod 600 {key}",
    r"Permission denied|Operation not permitted|is not readable|Attempted to create a lock": "mongod is not allowed to"
    " read or write a file. {database} and its contents must belong to this user: chown -R $(id -un) {database}",
    r"Is a directory|Not a directory|Unable to determine status of lock file": "{database} is not a data directory of"
    " MongoDB, or was changed: a file is in place of a directory, or a directory in place of a file.",
    r"Address already in use": "Another program listens on the port of mongod. Stop that program, or start again to"
    " use another port.",
    r"DBPathInUse|another mongod instance is already running": "Another mongod is using {database}. Stop it first.",
    r"unsupported WiredTiger file version|UPGRADE PROBLEM|Invalid feature ?Compatibility ?Version"
    r"|featureCompatibilityVersion document": "{database} was written by a newer MongoDB, or by one that is several"
    " major versions older. Set SEALPOST_MONGOD to a mongod of the version that wrote it.",
    r"Too many open files": "The limit on open files is too low for mongod. Raise the limit: ulimit -n 16384",
    r"error while loading shared libraries|GLIBC\w*_[\d.]+' not found": "A shared library that this mongod needs is"
    " missing or too old. Install it, or set SEALPOST_MONGOD to a mongod that was built for this system.",
    r"WT_TRY_SALVAGE|WT_PANIC|InvalidBSON|checksum error": "The files in {database} are damaged. Restore a backup, or"
    " move them away to start without data.",
}


def describe_end(returncode: int | None) -> str:
    """Return how a process exited, or an empty string if that is unknown because another process started it."""
    if returncode is None:
        return ""
    number = -returncode if returncode < 0 else returncode - 128
    if returncode >= 0 and returncode not in _SHELL_SIGNALS:
        return f"exit code {returncode}"
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}" if returncode < 0 else f"exit code {returncode}"
    return f"{name}: {_SIGNALS[name]}" if name in _SIGNALS else name


def explain(log: Path, *, database: Path, key: Path) -> str:
    """Return the likely cause according to the log of mongod or its disk, or an empty string if none is known."""
    text = "\n".join(_complaints(_read(log)))
    for pattern, explanation in _COMPLAINTS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return explanation.format(database=database, key=key)
    with suppress(OSError):
        if shutil.disk_usage(database).free < _NO_ROOM:
            return _FULL.format(database=database)
    return ""


def summarise(log: Path) -> str:
    """Return the last errors in the log, or its last lines if it contains none."""
    lines = _read(log)
    return "\n".join(line[:500] for line in (_complaints(lines) or lines)[-8:])


def _read(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _complaints(lines: list[str]) -> list[str]:
    """Return the errors in a log: entries of that severity or text, and lines that are not entries."""
    complaints = []
    for line in lines:
        try:
            entry = json.loads(line)
            # Some errors are logged as information with this prefix.
            if entry["s"] in {"E", "F"} or entry["msg"].startswith("ERROR"):
                attributes = json.dumps(entry["attr"]) if entry.get("attr") else ""
                complaints.append(" ".join(f"{entry['msg']} {attributes}".split()))
        except (ValueError, KeyError, TypeError, AttributeError):
            complaints.append(line)
    return complaints
