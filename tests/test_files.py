"""Files on disk: atomic replacement, locks between processes, and rotation."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from src.core.files import (
    create_private,
    is_locked,
    locked,
    release_lock,
    replacing,
    rotate,
    rotate_at,
    take_lock,
    write_private,
)

from .processes import PATIENCE


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_replaced_file_is_private_and_no_draft_is_left(tmp_path: Path) -> None:
    """Whatever its mode was; the content is the new one."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)

    write_private(path, b"new")

    assert ("new", 0o600) == (path.read_text(), mode_of(path))
    assert ["file"] == names_in(tmp_path)


def test_a_file_keeps_its_mode_on_request(tmp_path: Path) -> None:
    """With ``like``, the new file has the mode of another one."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)

    with replacing(path, like=path.stat()) as file:
        file.write(b"new")

    assert ("new", 0o640) == (path.read_text(), mode_of(path))


def test_a_failed_replacement_changes_nothing(tmp_path: Path) -> None:
    """If the block raises, the file is the old one, and no draft is left."""
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()

    assert "old" == path.read_text()
    assert ["file"] == names_in(tmp_path)


def test_a_draft_of_a_killed_process_does_not_interfere(tmp_path: Path) -> None:
    """The next replacement removes it."""
    path = tmp_path / "file"
    (tmp_path / ".file.new").write_text("half")

    write_private(path, b"new")

    assert "new" == path.read_text()
    assert ["file"] == names_in(tmp_path)


def test_of_several_creators_the_first_wins(tmp_path: Path) -> None:
    """All of them return, and the file has the whole content of one."""
    path = tmp_path / "file"
    contents = [bytes([65 + number]) * 10_000 for number in range(8)]

    with ThreadPoolExecutor(len(contents)) as threads:
        list(threads.map(partial(create_private, path), contents))
    first = path.read_bytes()
    create_private(path, b"late")

    assert first in contents
    assert (first, 0o600) == (path.read_bytes(), mode_of(path))
    assert ["file"] == names_in(tmp_path)


@pytest.mark.parametrize("is_directory", [False, True])
def test_a_lock_is_exclusive_until_it_is_released(tmp_path: Path, is_directory: bool) -> None:
    """On a file or a directory; a second holder gets an error at once."""
    path = tmp_path if is_directory else tmp_path / "lock"

    with locked(path, is_directory=is_directory):
        assert is_locked(path)
        with pytest.raises(BlockingIOError):
            take_lock(path, is_directory=is_directory)

    assert not is_locked(path)


def test_shared_locks_are_seen_on_request(tmp_path: Path) -> None:
    """Two holders share one; it excludes an exclusive lock, and counts only with ``or_shared``."""
    path = tmp_path / "lock"
    holders = [take_lock(path, shared=True) for _ in range(2)]

    assert (False, True) == (is_locked(path), is_locked(path, or_shared=True))
    with pytest.raises(BlockingIOError):
        take_lock(path)
    for holder in holders:
        release_lock(holder)
    assert not is_locked(path, or_shared=True)


def test_a_missing_file_is_not_locked(tmp_path: Path) -> None:
    """Asking creates nothing."""
    assert not is_locked(tmp_path / "lock")
    assert [] == names_in(tmp_path)


def test_a_child_that_inherits_a_lock_holds_it(tmp_path: Path) -> None:
    """Closing the descriptor here leaves the lock to the child; its end releases the lock."""
    path = tmp_path / "lock"
    lock = take_lock(path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock])
    os.close(lock)

    assert is_locked(path)
    child.communicate(b"\n", PATIENCE)
    assert not is_locked(path)


def test_rotation_renumbers_the_backups_and_deletes_the_oldest(tmp_path: Path) -> None:
    """``name`` becomes ``name.1``, and so on; a gap in the numbers does not matter."""
    path = tmp_path / "log"
    for name, text in {"log": "new", "log.1": "old", "log.3": "oldest"}.items():
        (tmp_path / name).write_text(text)

    rotate(path, backups=3)

    assert {"log.1": "new", "log.2": "old"} == {name: (tmp_path / name).read_text() for name in names_in(tmp_path)}


def test_rotation_without_backups_deletes_the_file(tmp_path: Path) -> None:
    """As with `SEALPOST_LOG_BACKUPS=0`."""
    path = tmp_path / "log"
    path.write_text("text")

    rotate(path, backups=0)

    assert [] == names_in(tmp_path)


def test_a_file_is_rotated_once_it_has_its_size(tmp_path: Path) -> None:
    """Not a byte earlier, and not if it does not exist."""
    path = tmp_path / "log"
    missing = rotate_at(path, 4, 1)
    path.write_text("123")
    small = rotate_at(path, 4, 1)
    path.write_text("1234")

    assert (False, False, True) == (missing, small, rotate_at(path, 4, 1))
    assert ["log.1"] == names_in(tmp_path)
