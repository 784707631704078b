"""The disks: room, and whether it can be used."""

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

from ...settings import Settings
from .examination import Finding, Outcome, examine, failed, in_thread, in_words, not_checked, ok, warning, worst

GIB = 1024**3
SCANT_BYTES, TOO_FEW_BYTES = 2 * GIB, GIB // 4
SCANT_FILES, TOO_FEW_FILES = 10_000, 1_000


async def examine_disk(settings: Settings | None, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Check the directories that the service writes to, as they are seen by whoever runs this."""
    yield await examine("data directory", _examine_data(settings))
    yield await examine("log directory", _examine_logs(settings, environment))


async def _examine_data(settings: Settings | None) -> Outcome:
    if settings is None:
        return not_checked("the settings come first")
    if await in_thread(settings.data_dir.exists):
        return await in_thread(partial(look_at, settings.data_dir))
    if settings.mongo_url:
        return not_checked(f"{settings.data_dir} is not there and not needed: MongoDB and keys are elsewhere")
    return not_checked(f"{settings.data_dir} is not there: the service makes it when it starts first")


async def _examine_logs(settings: Settings | None, environment: Mapping[str, str]) -> Outcome:
    if directory := environment.get("LOG_DIR"):
        return await in_thread(partial(look_at, Path(directory)))
    if settings is not None and settings.log_file:
        return await in_thread(partial(look_at, settings.log_file.absolute().parent))
    logs = Path("logs")
    if await in_thread(logs.exists):
        return await in_thread(partial(look_at, logs))
    return not_checked("there is none: the log goes to standard output")


def look_at(directory: Path) -> Outcome:
    """Tell whether a directory can be written to, and how much room its disk has."""
    try:
        # Of no name, so that nothing is left behind however this ends.
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return failed(
            f"{directory} cannot be written to: {in_words(error)}",
            "Make it a directory on a working disk that belongs to the service's user, and run this as that user.",
        )
    disk = os.statvfs(directory)
    outcomes = [judge_room(disk.f_bavail * disk.f_frsize, f"on the disk of {directory}")]
    # Some file systems make room for files as they go, and tell of none.
    if disk.f_files:
        outcomes.append(_judge_files(disk.f_favail, directory))
    return worst(outcomes)


def judge_room(free: float, where: str) -> Outcome:
    """Tell whether so many free bytes are enough."""
    found = f"{free / GIB:.1f} GiB are free {where}"
    advice = "Make room: rotated logs and old backups first. A full disk stops MongoDB, and then nothing is stored."
    if free < TOO_FEW_BYTES:
        return failed(found, advice)
    return warning(found, advice) if free < SCANT_BYTES else ok(found)


def _judge_files(free: int, directory: Path) -> Outcome:
    found = f"{free} more files (inodes) can be made there"
    advice = f"Delete files that are not needed on the disk of {directory}, or move it to another one."
    if free < TOO_FEW_FILES:
        return failed(found, advice)
    return warning(found, advice) if free < SCANT_FILES else ok(found)
