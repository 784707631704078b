"""The dump file: complete, without duplicates and in order, at whichever system call its writer dies."""

import errno
import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from src.core.clock import utc_now
from src.gatherer.dump import file as dump_file
from src.gatherer.dump import journal
from src.gatherer.dump.file import DumpFile
from src.gatherer.dump.lock import DumpFailure, DumpLock

EPOCH = b"\x01" * 16
LARGE = 10_000_000
MANY = 1_000_000


def lines_of(position: int) -> bytes:
    """Return the lines of the delivery at a position: none, one or several."""
    return b"".join(
        b'{"delivery": %d, "line": %d, "text": "%s"}\n' % (position, line, b"x" * (position * 7 % 50))
        for line in range(position % 4)
    )


def at(position: int) -> journal.Checkpoint:
    """Return the mark of the delivery at a position."""
    return journal.Checkpoint(position=position, arrived_at=position)


def lines_up_to(last: int) -> bytes:
    """Return the lines of all deliveries up to a position."""
    return b"".join(map(lines_of, range(1, last + 1)))


def content(path: Path) -> bytes:
    """Return the complete dump: rotated files in order, and the current one."""
    parts = [part for part in sorted(path.parent.iterdir()) if part.name.startswith(f"{path.name}.2")]
    return b"".join(part.read_bytes() for part in [*parts, path] if part.exists())


class Crashed(BaseException):
    """The process has died at this system call."""


class Machine:
    """The system calls of the dump; at one of them the process dies, after a write has written half.

    After a power cut, unsynced changes are also lost: bytes become zeros, and replaced files get their old content.
    """

    CALLS = ("open", "write", "fsync", "replace", "rename", "ftruncate", "close", "fchmod", "unlink")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.dies_at = 0
        self._thread = threading.current_thread()
        self._synced: dict[int, int] = {}
        self._replaced: tuple[Path, bytes | None] | None = None
        for name in self.CALLS:
            monkeypatch.setattr(f"src.gatherer.dump.journal.os.{name}", self._watched(name, getattr(os, name)))

    def cut_power(self, directory: Path) -> None:
        """Lose everything that is not synced."""
        for path in directory.iterdir():
            status = path.stat()
            synced = min(self._synced.get(status.st_ino, 0), status.st_size)
            with path.open("r+b") as file:
                file.seek(synced)
                file.write(bytes(status.st_size - synced))
        if self._replaced:
            path, before = self._replaced
            path.write_bytes(before) if before is not None else path.unlink()

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            # The watchdog of the tests' MongoDB runs in another thread.
            if threading.current_thread() is not self._thread:
                return call(*arguments, **named)
            self.calls += 1
            if self.calls == self.dies_at:
                if name == "write":
                    descriptor, data = arguments
                    call(descriptor, bytes(data)[: len(data) // 2])
                raise Crashed
            if name == "replace":
                target = arguments[1]
                self._replaced = (target, target.read_bytes() if target.exists() else None)
            outcome = call(*arguments, **named)
            if name == "fsync":
                status = os.fstat(arguments[0])
                if stat.S_ISDIR(status.st_mode):
                    self._replaced = None
                self._synced[status.st_ino] = status.st_size
            return outcome

        return watched


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The system calls."""
    return Machine(monkeypatch)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, if possible: each of these tests syncs 1000 times."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as directory:
        yield Path(directory)


@pytest.fixture
def path(place: Path) -> Path:
    """The path of the dump."""
    return place / "logs" / "gathered.jsonl"


def write_on(
    path: Path, last: int, *, max_bytes: int = LARGE, backups: int = MANY, each: int = 3, epoch: bytes = EPOCH
) -> None:
    """Continue where the last writer stopped, as the dump does, in portions; then settle."""
    file = DumpFile(path, max_bytes=max_bytes, backups=backups)
    try:
        position = file.open(epoch).position
        while position < last:
            reached = min(position + each, last)
            file.append(b"".join(map(lines_of, range(position + 1, reached + 1))), at(reached))
            position = reached
        file.settle()
    finally:
        if file._descriptor is not None:
            file.close()


def test_everything_is_in_the_file_once_and_in_order(path: Path) -> None:
    """Over several runs, including deliveries without lines; readable only by the owner."""
    for last in (5, 5, 17, 40):
        write_on(path, last)

        assert lines_up_to(last) == path.read_bytes()
    assert {0o600} == {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert {"gathered.jsonl", "gathered.jsonl.state"} == {one.name for one in path.parent.iterdir()}


@pytest.mark.parametrize("power_cut", [False, True])
@pytest.mark.parametrize("max_bytes", [LARGE, 400])
def test_a_crash_at_any_system_call_loses_and_duplicates_nothing(
    place: Path, machine: Machine, max_bytes: int, power_cut: bool
) -> None:
    """The writer dies at its first call, its second, and so on, and the next one continues seamlessly."""
    crashes = 0
    while True:
        path = place / str(crashes) / "gathered.jsonl"
        write_on(path, 7, max_bytes=max_bytes)
        machine.calls, machine.dies_at = 0, crashes + 1
        try:
            write_on(path, 21, max_bytes=max_bytes)
        except Crashed:
            crashes += 1
            machine.dies_at = 0
            if power_cut:
                machine.cut_power(path.parent)
        else:
            break
        finally:
            machine.dies_at = 0
        write_on(path, 30, max_bytes=max_bytes)

        assert lines_up_to(30) == content(path), crashes
    assert crashes > 50


@pytest.mark.parametrize("distance", [1, 2, 5, 9, 14])
def test_a_second_crash_during_recovery_changes_nothing(place: Path, machine: Machine, distance: int) -> None:
    """The next writer may die at any call, too."""
    for first in range(1, 60, 3):
        path = place / str(first) / "gathered.jsonl"
        for dies_at, last in ((first, 12), (distance, 21)):
            machine.calls, machine.dies_at = 0, dies_at
            with pytest.raises(Crashed):
                write_on(path, last, max_bytes=500)
        machine.dies_at = 0
        write_on(path, 30, max_bytes=500)

        assert lines_up_to(30) == content(path), first


def rename(path: Path) -> None:
    """Rotate as logrotate does."""
    path.rename(path.with_name(f"{path.name}.2026-01-01"))


def rename_and_create(path: Path) -> None:
    """Rotate as logrotate does with `create`."""
    rename(path)
    path.touch(0o644)


@pytest.mark.parametrize("rotate", [rename, rename_and_create])
def test_an_external_rotation_loses_and_duplicates_nothing(path: Path, rotate: Callable[[Path], None]) -> None:
    """The next append goes to a new file with the old name."""
    file = DumpFile(path, max_bytes=LARGE, backups=MANY)
    file.open(EPOCH)
    file.append(lines_up_to(10), at(10))
    rotate(path)
    file.append(b"".join(map(lines_of, range(11, 21))), at(20))
    file.append(lines_of(21), at(21))
    file.close()

    assert lines_up_to(10) == path.with_name(f"{path.name}.2026-01-01").read_bytes()
    assert lines_up_to(21) == content(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("rotate", [rename, rename_and_create])
def test_a_crash_and_a_rotation_lose_and_duplicate_nothing(
    place: Path, machine: Machine, rotate: Callable[[Path], None]
) -> None:
    """The torn line is found and repaired in the renamed file."""
    crashes = 0
    while True:
        path = place / str(crashes) / "gathered.jsonl"
        write_on(path, 7)
        machine.calls, machine.dies_at = 0, crashes + 1
        try:
            write_on(path, 21)
        except Crashed:
            crashes += 1
        else:
            break
        finally:
            machine.dies_at = 0
        rotate(path)
        write_on(path, 30)

        assert lines_up_to(30) == content(path), crashes
    assert crashes > 20


def test_a_removed_file_is_recreated(path: Path) -> None:
    """Its content is gone, by the operator's choice; new lines go to the new file."""
    file = DumpFile(path, max_bytes=LARGE, backups=MANY)
    file.open(EPOCH)
    file.append(lines_up_to(10), at(10))
    path.unlink()
    file.append(lines_of(11), at(11))
    file.close()
    assert lines_of(11) == path.read_bytes()

    path.unlink()
    with capture_logs() as entries:
        write_on(path, 14)
    assert ["dump file is missing: repeating the interrupted write"] == [entry["event"] for entry in entries]
    assert lines_up_to(14).endswith(path.read_bytes())
    assert path.read_bytes().startswith(lines_of(11))


def test_a_truncated_or_extended_file_is_continued(path: Path) -> None:
    """No hole after truncation, and a new line after foreign content."""
    file = DumpFile(path, max_bytes=LARGE, backups=MANY)
    file.open(EPOCH)
    file.append(lines_up_to(10), at(10))
    os.truncate(path, 0)
    file.append(lines_of(11), at(11))
    with path.open("ab") as other:
        other.write(b"a note")
    file.append(lines_of(13), at(13))
    file.settle()
    file.close()
    write_on(path, 14)

    assert lines_of(11) + b"a note\n" + lines_of(13) + lines_of(14) == path.read_bytes()


def test_foreign_content_over_a_torn_line_is_kept(path: Path, machine: Machine) -> None:
    """The dump does not cut it off, and repeats its write after it."""
    write_on(path, 7)
    file = DumpFile(path, max_bytes=LARGE, backups=MANY)
    file.open(EPOCH)
    lines = lines_of(9) + lines_of(10) + lines_of(11)
    intended = journal.PendingWrite(end=path.stat().st_size + len(lines), mark=at(11), digest="00")
    file._write_record(intended)
    file.close()
    with path.open("ab") as other:
        other.write(b"z" * (len(lines) + 5))

    with capture_logs() as entries:
        write_on(path, 11)

    assert "dump file was modified by another program: repeating the interrupted write at its end" in [
        entry["event"] for entry in entries
    ]
    assert (
        lines_up_to(7) + b"z" * (len(lines) + 5) + b"\n" + lines_up_to(11)[len(lines_up_to(7)) :] == path.read_bytes()
    )


@pytest.mark.parametrize("damage", [b"", b"nonsense", b'{"epoch": "01"}', None])
def test_a_dump_without_its_record_starts_a_new_file(path: Path, damage: bytes | None) -> None:
    """No file has duplicates, and nothing is deleted."""
    write_on(path, 7)
    record = path.with_name(f"{path.name}.state")
    record.write_bytes(damage) if damage is not None else record.unlink()

    with capture_logs() as entries:
        write_on(path, 9)

    assert lines_up_to(9) == path.read_bytes()
    [entry] = entries
    assert lines_up_to(7) == path.with_name(entry["kept"]).read_bytes()


def test_the_dump_of_another_database_starts_a_new_file(path: Path) -> None:
    """Positions in different databases are unrelated."""
    write_on(path, 7)

    with capture_logs() as entries:
        write_on(path, 3, epoch=b"\x02" * 16)

    assert lines_up_to(3) == path.read_bytes()
    assert "of another database" == entries[0]["reason"]


def rotated(path: Path) -> list[Path]:
    """Return the rotated files, oldest first."""
    return sorted(one for one in path.parent.iterdir() if one.name.startswith(f"{path.name}.2"))


@pytest.mark.parametrize("power_cut", [False, True])
@pytest.mark.parametrize("backups", [0, 2])
def test_a_crash_while_old_files_are_deleted_loses_no_other_lines(
    place: Path, machine: Machine, backups: int, power_cut: bool
) -> None:
    """At whichever call of a rotation the writer dies, the newest files are complete and in order."""
    crashes = 0
    while True:
        path = place / str(crashes) / "gathered.jsonl"
        write_on(path, 21, max_bytes=300, backups=backups)
        machine.calls, machine.dies_at = 0, crashes + 1
        try:
            write_on(path, 42, max_bytes=300, backups=backups)
        except Crashed:
            crashes += 1
            machine.dies_at = 0
            if power_cut:
                machine.cut_power(path.parent)
            before = content(path)
            write_on(path, 42, max_bytes=LARGE, backups=backups)

            # The next writer deletes nothing before its own rotation.
            assert lines_up_to(42).endswith(content(path))
            assert len(before) <= len(content(path)) or b"\0" in before
            assert len(rotated(path)) in {backups, backups + 1}
        else:
            break
        finally:
            machine.dies_at = 0
        write_on(path, 63, max_bytes=300, backups=backups)

        assert lines_up_to(63).endswith(content(path)), crashes
        assert backups == len(rotated(path)), crashes
    assert crashes > 50


def test_only_the_oldest_of_its_own_files_are_deleted(path: Path) -> None:
    """Files with other names are kept, and a clock that was set back changes nothing."""
    path.parent.mkdir()
    others = [path.with_name(f"{path.name}.{end}") for end in ("1", "2026-01-01", "20260101T000000.000000Z.gz")]
    for other in others:
        other.write_text("kept")
    ahead = path.with_name(f"{path.name}.29981231T235959.999998Z")
    ahead.write_text("oldest")

    write_on(path, 40, max_bytes=300, backups=3)

    assert ["kept"] * 3 == [other.read_text() for other in others]
    own = [one for one in rotated(path) if one not in others]
    assert 3 == len(own)
    assert all(one.name > ahead.name for one in own)
    assert lines_up_to(40).endswith(b"".join(one.read_bytes() for one in [*own, path]))


def test_its_own_rotation_keeps_the_configured_number_of_files(path: Path) -> None:
    """At the configured size, a file is renamed with a timestamp."""
    write_on(path, 200, max_bytes=1000)

    files = rotated(path)
    assert len(files) > 10
    assert max(one.stat().st_size for one in files) <= 1000
    assert lines_up_to(200) == content(path)
    assert {0o600} == {stat.S_IMODE(one.stat().st_mode) for one in files}


def test_a_crash_during_its_own_rotation_does_not_repeat_lines(
    path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rotated file may be removed at once: its lines count as written."""
    rename = os.rename

    def rename_and_die(*arguments: Any) -> None:
        rename(*arguments)
        raise Crashed

    file = DumpFile(path, max_bytes=300, backups=MANY)
    file.open(EPOCH)
    file.append(lines_up_to(6), at(6))
    monkeypatch.setattr("src.gatherer.dump.file.os.rename", rename_and_die)
    with pytest.raises(Crashed):
        file.append(lines_of(7), at(7))
    monkeypatch.undo()
    [aside] = path.parent.glob("gathered.jsonl.2*")
    aside.rename(place / "elsewhere")
    write_on(path, 9)

    assert lines_up_to(9) == (place / "elsewhere").read_bytes() + path.read_bytes()


def test_special_files_are_rejected(path: Path) -> None:
    """A pipe or a device stores nothing."""
    path.parent.mkdir()
    os.mkfifo(path)

    with pytest.raises(OSError, match="not a regular file") as caught:
        write_on(path, 3)
    assert errno.EINVAL == caught.value.errno


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[DumpLock]:
    """A lock, and the processes that want it."""
    lock = DumpLock(tmp_path / "lock")
    yield lock
    lock.release()


def test_the_lock_is_exclusive_and_passed_on(lock: DumpLock, tmp_path: Path) -> None:
    """While it is held, no other process gets it, even if its file is removed and recreated."""
    other = DumpLock(tmp_path / "lock")

    assert lock.take()
    assert lock.take()
    assert not other.take()
    (tmp_path / "lock").unlink()
    assert other.take()
    assert not lock.take()
    other.release()
    assert lock.take()
    assert 0o600 == stat.S_IMODE((tmp_path / "lock").stat().st_mode)


def test_the_holder_reports_its_error(lock: DumpLock, tmp_path: Path) -> None:
    """In space that the file has from the start; the next holder starts without one."""
    other = DumpLock(tmp_path / "lock")
    assert other.published() is None
    lock.take()
    size = (tmp_path / "lock").stat().st_size
    trouble = DumpFailure(since=utc_now(), reason="No space left on device")

    lock.publish(trouble)

    assert trouble == other.published()
    assert size == (tmp_path / "lock").stat().st_size
    lock.release()
    assert other.take()
    assert lock.published() is None
    (tmp_path / "lock").write_bytes(b"nonsense")
    assert lock.published() is None


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A record that cannot be written leaves only the old one."""
    path = tmp_path / "state"
    record = journal.JournalRecord(epoch="00", inode=1, offset=2, mark=at(3))
    journal.write_record(path, record)
    assert record == journal.read_record(path)

    (tmp_path / "state.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        journal.write_record(path, record)
    assert record == journal.read_record(path)
    assert hashlib.sha256(b"x").hexdigest() == journal.digest(b"x")
    assert dump_file.MODE == 0o600
