"""Checks of the disks: free space and permissions."""

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

from ...settings import Settings
from .examination import (
    Finding,
    Outcome,
    describe_os_error,
    examine,
    failed,
    in_thread,
    not_checked,
    ok,
    warning,
    worst,
)

GIB = 1024**3
SCANT_BYTES, TOO_FEW_BYTES = 2 * GIB, GIB // 4
SCANT_FILES, TOO_FEW_FILES = 10_000, 1_000


async def examine_disk(settings: Settings | None, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Check the directories that the service writes to, with the permissions of this user."""
    yield await examine("data directory", _examine_data(settings))
    yield await examine("log directory", _examine_logs(settings, environment))


async def _examine_data(settings: Settings | None) -> Outcome:
    if settings is None:
        return not_checked("the settings are invalid")
    if await in_thread(settings.data_dir.exists):
        return await in_thread(partial(examine_directory, settings.data_dir))
    if settings.mongo_url:
        return not_checked(f"{settings.data_dir} does not exist and is not needed: MongoDB and keys are elsewhere")
    return not_checked(f"{settings.data_dir} does not exist yet: the service creates it at its first start")


async def _examine_logs(settings: Settings | None, environment: Mapping[str, str]) -> Outcome:
    if directory := environment.get("LOG_DIR"):
        return await in_thread(partial(examine_directory, Path(directory)))
    if settings is not None and settings.log_file:
        return await in_thread(partial(examine_directory, settings.log_file.absolute().parent))
    logs = Path("logs")
    if await in_thread(logs.exists):
        return await in_thread(partial(examine_directory, logs))
    return not_checked("the log goes to standard output")


def examine_directory(directory: Path) -> Outcome:
    """Check whether a directory is writable, and the free space of its disk."""
    try:
        # An unnamed file disappears even if this process is killed.
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return failed(
            f"{directory} is not writable: {describe_os_error(error)}",
            "It must be a directory on a working disk, owned by the user of the service. Run this command as that"
            " user.",
        )
    disk = os.statvfs(directory)
    outcomes = [judge_free_space(disk.f_bavail * disk.f_frsize, f"on the disk of {directory}")]
    # Some file systems allocate inodes dynamically and report none.
    if disk.f_files:
        outcomes.append(_judge_files(disk.f_favail, directory))
    return worst(outcomes)


def judge_free_space(free: float, where: str) -> Outcome:
    """Compare an amount of free bytes with the limits."""
    found = f"{free / GIB:.1f} GiB free {where}"
    advice = (
        "Free space: delete rotated logs and old backups first. A full disk stops MongoDB, and then nothing is stored."
    )
    if free < TOO_FEW_BYTES:
        return failed(found, advice)
    return warning(found, advice) if free < SCANT_BYTES else ok(found)


def _judge_files(free: int, directory: Path) -> Outcome:
    found = f"{free} inodes free there"
    advice = f"Delete unneeded files on the disk of {directory}, or move the directory to another disk."
    if free < TOO_FEW_FILES:
        return failed(found, advice)
    return warning(found, advice) if free < SCANT_FILES else ok(found)
