"""Logs."""

import asyncio
import errno
import json
import logging
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import structlog

from src.api.request_log import RequestLog
from src.core.logs import AnsweredRequest, LogFile, configure_logs, request_log
from src.settings import Settings


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Restore the logging configuration after the test."""
    root = logging.getLogger()
    before, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    # The loggers of a running server keep the configured list of processors, which `capture_logs` changes in place.
    structlog.configure(**configuration)
    root.handlers[:] = before
    root.setLevel(level)


def lines(path: Path) -> list[dict[str, object]]:
    """Return the parsed lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_json_with_time_and_level(tmp_path: Path, make_settings: Callable[..., Settings]) -> None:
    """Each event is one JSON object a line, in a file readable only by the owner."""
    path = tmp_path / "logs" / "app.jsonl"
    configure_logs(make_settings(log_file=path))

    structlog.get_logger().info("an event", route="/secrets/{secret_key}")
    structlog.get_logger().debug("too fine")

    (line,) = lines(path)
    assert ("an event", "info", "/secrets/{secret_key}") == (line["event"], line["level"], line["route"])
    assert str(line["time"]).endswith("Z")
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


REQUEST = AnsweredRequest("0" * 32, "GET", "/secrets/{secret_key}", 200, 0.0123456)


@pytest.mark.parametrize(("level", "count"), [("debug", 2), ("info", 2), ("warning", 0)])
def test_requests_are_lines_like_any_other(
    tmp_path: Path, make_settings: Callable[..., Settings], level: str, count: int
) -> None:
    """With the fields of every line first; a level above info leaves them out."""
    path = tmp_path / "app.jsonl"
    configure_logs(make_settings(log_file=path, log_level=level))

    request_log()([REQUEST, REQUEST._replace(route='a "route"')])

    found = lines(path)
    assert [REQUEST.route, 'a "route"'][:count] == [line["route"] for line in found]
    for line in found:
        assert ["time", "level", "event", "request_id", "method", "route", "status", "duration_ms"] == list(line)
        assert ("info", "request", "0" * 32, "GET", 200, 12.35) == tuple(
            line[name] for name in ("level", "event", "request_id", "method", "status", "duration_ms")
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(line["time"]))


async def test_requests_are_logged_by_the_next_iteration_of_the_event_loop(
    tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    """All of one iteration in one write, each once; a process that exits before it loses none."""
    path = tmp_path / "app.jsonl"
    configure_logs(make_settings(log_file=path))
    log, counts = RequestLog(), []
    log.add(REQUEST)
    log.add(REQUEST)
    counts.append(len(lines(path)))
    await asyncio.sleep(0)
    counts.append(len(lines(path)))
    log.add(REQUEST)
    log.write()
    counts.append(len(lines(path)))
    await asyncio.sleep(0)

    assert [0, 2, 3] == counts
    assert 3 == len(lines(path))


def test_a_full_disk_does_not_fail_requests(
    tmp_path: Path, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their lines are lost, and the next ones are written when there is space again."""
    path = tmp_path / "app.jsonl"
    configure_logs(make_settings(log_file=path))
    log = request_log()
    with monkeypatch.context() as full:
        full.setattr("src.core.logs.os.write", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        log([REQUEST])

    log([REQUEST])

    assert 1 == len(lines(path))


def test_libraries_messages_lose_their_values(tmp_path: Path, make_settings: Callable[..., Settings]) -> None:
    """Messages of libraries keep the template and the exception's type; arguments may be client data."""
    path = tmp_path / "app.jsonl"
    configure_logs(make_settings(log_file=path))

    try:
        raise ValueError("s3cret")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling %s", "s3cret")
    logging.getLogger("some.library").warning("watch out: %d", 5)
    logging.getLogger("some.library").info("idle talk")

    first, second = lines(path)
    assert ("aiohttp.server", "Error handling %s", "ValueError", "error") == (
        first["logger"],
        first["template"],
        first["error"],
        first["level"],
    )
    assert ("watch out: %d", None) == (second["template"], second["error"])
    assert "s3cret" not in path.read_text()


def test_without_a_file_lines_go_to_stdout(
    capsys: pytest.CaptureFixture[str], make_settings: Callable[..., Settings]
) -> None:
    """A single process logs to its terminal."""
    configure_logs(make_settings())

    structlog.get_logger().info("hello")

    assert "hello" == json.loads(capsys.readouterr().out)["event"]


def test_a_full_file_is_rotated(tmp_path: Path) -> None:
    """By size, with complete lines, the oldest file dropped, every file private."""
    path = tmp_path / "app.jsonl"
    log = LogFile(path, max_bytes=100, backups=2)
    for number in range(40):
        log.write(b"line %04d\n" % number)
    log.close()

    names = sorted(file.name for file in tmp_path.iterdir())
    kept = "".join((tmp_path / name).read_text() for name in ("app.jsonl.2", "app.jsonl.1", "app.jsonl"))

    assert ["app.jsonl", "app.jsonl.1", "app.jsonl.2"] == names
    assert [f"line {number:04}" for number in range(10, 40)] == kept.splitlines()
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}


def test_without_backups_a_full_file_starts_over(tmp_path: Path) -> None:
    """With zero rotated files, the single file never exceeds its size."""
    path = tmp_path / "app.jsonl"
    log = LogFile(path, max_bytes=30, backups=0)
    for number in range(10):
        log.write(b"line %04d\n" % number)
    log.flush()
    log.close()

    assert [path] == list(tmp_path.iterdir())
    assert path.read_text().endswith("line 0009\n")


def test_a_restart_appends(tmp_path: Path) -> None:
    """Lines of an earlier process remain, and count towards the size."""
    path = tmp_path / "app.jsonl"
    for number in range(2):
        log = LogFile(path, max_bytes=25, backups=1)
        log.write(b"line %d, long enough\n" % number)
        log.close()

    assert "line 0" in (tmp_path / "app.jsonl.1").read_text()
    assert "line 1" in path.read_text()
