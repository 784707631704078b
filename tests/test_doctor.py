"""The doctor reports a healthy service as ok, and detects each fault with a clear message and in time."""

import asyncio
import json
import os
import pty
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr
from structlog.testing import capture_logs

from bench.running_stack import free_port
from src.core.crypto.keys import KeyRing, new_key
from src.core.running_settings import RunningSettings, publish
from src.core.workers import locate_run_directory
from src.manage.__main__ import main
from src.manage.doctor import command, database, disk
from src.manage.doctor.configuration import Configuration
from src.manage.doctor.disk import examine_directory, examine_disk
from src.manage.doctor.examination import Outcome, Status, examine
from src.manage.doctor.workers import examine_workers
from src.settings import Settings, read_settings

from .commands import Ended, Operator
from .conftest import Api
from .examination import collect, marks, serving
from .processes import PATIENCE

MakeSettings = Callable[..., Settings]
RunHere = Callable[..., Awaitable[Ended]]
Serve = Callable[..., Awaitable[Api]]


PATIENT_DOCTOR = f"""
import sys
from src.manage.__main__ import main
from src.manage.doctor import database
database.SLOW_SECONDS = {PATIENCE}
sys.exit(main())
"""
"""On a machine that has other things to do, MongoDB is not too slow."""


def parsed(stdout: str) -> dict[str, Outcome]:
    """Return the outcomes of the JSON output."""
    records = [json.loads(line) for line in stdout.splitlines()]
    return {one["check"]: Outcome(Status(one["mark"]), one["found"], one["advice"]) for one in records}


def read_all(terminal: int) -> str:
    """Return the output of a terminal until all its writers have closed it."""
    shown = b""
    with suppress(OSError), open(terminal, "rb", buffering=0) as stream:
        while part := stream.read(4096):
            shown += part
    return shown.decode()


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Awaitable[Ended]]:
    """Run the command in this process, which is faster than in its own."""

    async def run(environment: dict[str, str], *arguments: str) -> Ended:
        with monkeypatch.context() as patch:
            patch.setattr(command, "configure_logs", lambda *_: None)
            patch.setattr(database, "SLOW_SECONDS", PATIENCE)
            for name, value in environment.items():
                patch.setenv(name, value)
            # A server in this process logs to the same stdout.
            capsys.readouterr()
            with capture_logs():
                code = await asyncio.to_thread(main, ["doctor", *arguments])
        shown = capsys.readouterr()
        return Ended(code, shown.out, shown.err)

    return run


async def start_without_record(serve: Serve) -> Api:
    """Start a server whose settings are not compared with those of the commands, which lack some of them."""
    api = await serve()
    await api.mongo.collection("processes").delete_many({})
    return api


async def test_a_healthy_service_is_ok(serve: Serve, mongo_url: str, tmp_path: Path, run_here: RunHere) -> None:
    """Every check for a single process is ok, as text and as JSON, and no secret is shown."""
    api = await start_without_record(serve)
    password = mongo_url.partition("sealpost:")[2].partition("@")[0]
    address = str(api.client.make_url("/"))
    directories = {"SEALPOST_DATA_DIR": str(tmp_path), "LOG_DIR": str(tmp_path)}
    operator = Operator.of(api.settings, mongo_url, **directories, SEALPOST_PUBLIC_URL=address)

    text = await replace(operator, script=PATIENT_DOCTOR).run("doctor")
    lines = await run_here(operator.environment, "--json", "--strict", "--url", address)

    outcomes = parsed(lines.stdout)
    assert (0, 0) == (text.code, lines.code)
    workers = {f"worker {number}" for number in range(1, 5)}
    assert {
        "secret files",
        *workers,
        "certificate files",
        "metrics",
        "HTTPS",
        "certificate",
        "service settings",
    } == marks(outcomes, Status.NOT_CHECKED)
    assert outcomes.keys() - marks(outcomes, Status.NOT_CHECKED) == marks(outcomes, Status.OK)
    shown = text.stdout.splitlines()
    assert [(outcome.status, check) for check, outcome in outcomes.items()] == [
        (line[:13].strip(), line[13:31].strip()) for line in shown
    ]
    assert shown[0].startswith("ok           settings          valid; set: SEALPOST_BCRYPT_COST, ")
    assert "\x1b" not in text.stdout
    assert "warning: 0; failed: 0" in text.stderr
    for ended in (text, lines):
        assert password not in ended.stdout + ended.stderr


async def test_invalid_settings_are_named_and_the_rest_is_checked(tmp_path: Path, run_here: RunHere) -> None:
    """Checks that do not need them still run; invalid arguments are a usage error."""
    wrong = {"SEALPOST_TTL_MAX": "s3cret", "SEALPOST_KEYZ": "s3cret", "RUN_DIR": str(tmp_path)}

    lines = await run_here(wrong, "--json", "--url", f"http://ann:s3cret@127.0.0.1:{free_port()}")
    misspelt = [await run_here({}, "--url", url) for url in ("s3cret", "http://[s3cret", "https://h/?s3cret")]

    outcomes = parsed(lines.stdout)
    assert [1, 2, 2, 2] == [lines.code, *(ended.code for ended in misspelt)]
    assert {"settings", "front", *(f"worker {number}" for number in range(1, 5))} == marks(outcomes, Status.FAILED)
    assert "SEALPOST_KEYZ: no such setting; SEALPOST_TTL_MAX: " in outcomes["settings"].found
    assert "connection refused" in outcomes["front"].found
    assert "does not exist" in outcomes["worker 4"].found
    assert "the settings are invalid" == outcomes["MongoDB"].found
    for ended in (lines, *misspelt):
        assert "s3cret" not in ended.stdout + ended.stderr


@pytest.mark.lifecycle
async def test_a_disk_that_hangs_does_not_hang_the_doctor(tmp_path: Path) -> None:
    """A file that never opens costs the time limit, and the process ends despite the blocked thread."""
    os.mkfifo(tmp_path / "keys", 0o600)

    async with asyncio.timeout(PATIENCE):
        ended = await Operator({"SEALPOST_KEYS_FILE": str(tmp_path / "keys")}).run("doctor", "--json")

    outcomes = parsed(ended.stdout)
    assert (1, "no answer within 5 s") == (ended.code, outcomes["settings"].found)
    assert Status.OK is outcomes["secret files"].status


async def test_warnings_count_only_if_strict(
    serve: Serve, mongo_directory: Path, tmp_path: Path, run_here: RunHere
) -> None:
    """They affect the exit code only with `--strict`; a terminal gets colours. An embedded MongoDB is found."""
    api = await start_without_record(serve)
    assert api.settings.keys is not None
    (tmp_path / "keys").write_text(api.settings.keys.get_secret_value())
    (tmp_path / "keys").chmod(0o640)
    changed = {"SEALPOST_KEYS": "", "SEALPOST_KEYS_FILE": str(tmp_path / "keys")}
    operator = Operator.of(api.settings, "", **changed, SEALPOST_DATA_DIR=str(mongo_directory))
    lenient = await run_here(operator.environment, "--json")
    strict = await run_here(operator.environment, "--strict")
    terminal, stdout = pty.openpty()
    reading = asyncio.create_task(asyncio.to_thread(read_all, terminal))
    try:
        shown = await replace(operator, script=PATIENT_DOCTOR).run("doctor", stdout=stdout)
    finally:
        os.close(stdout)
    colours = await reading

    assert {"secret files"} == marks(parsed(lenient.stdout), Status.WARNING)
    assert parsed(lenient.stdout)["MongoDB"].found.endswith(", embedded")
    assert (0, 1, 0) == (lenient.code, strict.code, shown.code)
    assert "\x1b[33mwarning" in colours
    assert f"chmod 600 {tmp_path}/keys, unless" in colours


async def configured() -> dict[str, Outcome]:
    """Check the settings and keys of the environment."""
    return await collect(Configuration({}).examine())


async def test_the_key_ring_is_read_and_never_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no ring yet, a valid one, a damaged one, and one that is missing although its data exists."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALPOST_DATA_DIR", "data")
    found = [await configured()]
    assert not Path("data").exists()
    Path("data").mkdir()
    entries = [new_key(), new_key()]
    Path("data/keys").write_text("\n".join(entries))
    found.append(await configured())
    Path("data/keys").write_text("s3cret")
    found.append(await configured())
    Path("data/keys").unlink()
    Path("data/mongo").mkdir()
    found.append(await configured())

    rings = [outcomes["key ring"] for outcomes in found]
    newest, older = (entry.partition(":")[0] for entry in entries)
    assert [Status.NOT_CHECKED, Status.OK, Status.FAILED, Status.FAILED] == [ring.status for ring in rings]
    assert f"2 keys; {newest} is the newest; older: {older}" == rings[1].found
    assert "entry 1 of the key ring is not of the form" in rings[2].found
    assert "Restore it from your backup" in rings[3].advice
    assert not Path("data/keys").exists()
    assert {"valid; set: SEALPOST_DATA_DIR, SEALPOST_GATHERED_FILE"} == {
        outcomes["settings"].found for outcomes in found
    }


async def test_a_service_with_other_settings_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every difference is named, secrets without values, and the checks use the service's settings."""
    monkeypatch.chdir(tmp_path)
    ring = new_key()
    for name, value in {"KEYS": ring, "MONGO_URL": "mongodb://h/?replicaSet=s3cret", "TTL_MAX": "600"}.items():
        monkeypatch.setenv(f"SEALPOST_{name}", value)
    run_dir = locate_run_directory(Path(".data"))
    run_dir.mkdir(parents=True)
    same = RunningSettings.of(read_settings(), KeyRing.parse(ring), tmp_path / "logs")
    url = SecretStr("mongodb://s3cret@elsewhere/")
    other = RunningSettings.of(read_settings(ttl_max=60, rate_all="9r/s", mongo_url=url), KeyRing.parse(ring))
    rotated = RunningSettings.of(read_settings(keys=SecretStr(old := new_key())), KeyRing.parse(old))

    async def examined(**processes: RunningSettings) -> tuple[Outcome, Configuration]:
        with ExitStack() as running:
            for name, process in processes.items():
                running.enter_context(publish(run_dir, name, process))
            configuration = Configuration({})
            outcomes = await collect(configuration.examine())
        return outcomes["service settings"], configuration

    none, _ = await examined()
    agreeing, agreed = await examined(stack=same, worker=same)
    # As after a restart with a changed .env: nginx keeps the rates of the launcher.
    newer, _ = await examined(stack=same, worker=replace(other, fingerprints=same.fingerprints))
    renamed = replace(same, values={**same.values, "public_url": "https://old.example.org"})
    stale, _ = await examined(stack=renamed, worker=same)
    differing, found = await examined(app=other)
    older, _ = await examined(app=rotated)
    half, _ = await examined(a=same, b=other)
    monkeypatch.delenv("SEALPOST_KEYS")
    monkeypatch.delenv("SEALPOST_MONGO_URL")
    # Other tests use the log of this process, too.
    monkeypatch.setattr(command, "configure_logs", lambda *_: None)
    hidden, unknowing = await examined(app=same)
    outcomes = {finding.check: finding.outcome async for finding in command.examine_all(None, {})}
    (run_dir / "killed.settings").write_text(json.dumps(asdict(other)))
    killed, _ = await examined()

    assert [Status.NOT_CHECKED, Status.OK] == [none.status, agreeing.status]
    assert str(tmp_path / "logs") == (agreed.service and agreed.service.log_dir)
    assert [Status.WARNING] * 5 == [outcome.status for outcome in (newer, differing, older, half, hidden)]
    assert "SEALPOST_TTL_MAX is 60 in the service, but 600 here" in newer.found
    assert "SEALPOST_RATE_ALL" not in newer.found
    assert "SEALPOST_PUBLIC_URL is https://old.example.org in nginx, but unset here" in stale.found
    assert "SEALPOST_RATE_ALL is 9r/s in the service, but 50r/s here" in differing.found
    assert "SEALPOST_MONGO_URL differs between the service and here" in differing.found
    assert (60, "9r/s") == (found.settings and (found.settings.ttl_max, found.settings.rate_all))
    assert f"the key ids of the service are {old.partition(':')[0]}, but {ring.partition(':')[0]} here" in older.found
    assert "the workers have different values of SEALPOST_RATE_ALL, SEALPOST_TTL_MAX" in half.found
    assert "SEALPOST_MONGO_URL is set in the service, but unset here" in hidden.found
    assert {"mongo_url", "keys"} == unknowing.unknown
    assert Status.NOT_CHECKED is killed.status is outcomes["service settings"].status
    assert "s3cret" not in "".join(outcome.found for outcome in (none, agreeing, newer, differing, half, hidden))
    assert [run_dir / "killed.settings"] == list(run_dir.iterdir())


async def test_checks_that_need_an_unknown_secret_are_skipped(tmp_path: Path, run_here: RunHere) -> None:
    """MongoDB and the key ring of a service whose secrets this shell does not have."""
    run_dir = locate_run_directory(tmp_path)
    run_dir.mkdir()
    settings = read_settings(keys=SecretStr(key := new_key()), mongo_url=SecretStr("mongodb://h/"), data_dir=tmp_path)
    with publish(run_dir, "app", RunningSettings.of(settings, KeyRing.parse(key))):
        shown = parsed((await run_here({"SEALPOST_DATA_DIR": str(tmp_path)}, "--json")).stdout)

    assert [Status.NOT_CHECKED] * 3 == [shown[name].status for name in ("MongoDB", "keys in use", "key ring")]
    assert "the service uses SEALPOST_MONGO_URL, which is not set here" == shown["MongoDB"].found
    assert Status.WARNING is shown["service settings"].status


@pytest.mark.parametrize(
    ("mode", "mark"),
    [(0o600, Status.OK), (0o400, Status.OK), (0o640, Status.WARNING), (0o660, Status.FAILED), (0o604, Status.FAILED)],
)
async def test_files_with_secrets_must_be_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, mark: Status
) -> None:
    """Key files, files named in settings, and `.env` if it contains a secret; the worst is reported."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"ring": new_key(), ".env": "SEALPOST_MONGO_URL=mongodb://h/?replicaSet=r"}.items():
        Path(name).write_text(text)
        Path(name).chmod(0o600)
    monkeypatch.setenv("SEALPOST_KEYS_FILE", "ring")
    Path(".env").chmod(mode)

    outcome = (await configured())["secret files"]

    assert mark is outcome.status
    assert f".env has mode {mode:04o}" in outcome.found
    assert ("ring has mode 0600" in outcome.found) == (mark is Status.OK)
    assert ("chmod 600 .env" in outcome.advice) == (mark is not Status.OK)


async def test_a_full_or_unwritable_directory_is_reported(
    tmp_path: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full in bytes or in files; the check leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    empty = [
        await collect(examine_disk(make_settings(data_dir=tmp_path / "none", mongo_url=url), {}))
        for url in (None, SecretStr("mongodb://h/"))
    ]
    elsewhere = await collect(examine_disk(make_settings(data_dir=tmp_path, log_file=Path("app.jsonl")), {}))
    unsettled = await collect(examine_disk(None, {"LOG_DIR": "/proc/self/none"}))
    found = {"well": examine_directory(tmp_path)}
    for name in ("SCANT_BYTES", "TOO_FEW_BYTES", "SCANT_FILES", "TOO_FEW_FILES"):
        with monkeypatch.context() as patch:
            patch.setattr(disk, name, 2**80)
            found[name] = examine_directory(tmp_path)

    assert [Status.OK, *[Status.WARNING, Status.FAILED] * 2] == [outcome.status for outcome in found.values()]
    assert ["GiB free", "inodes"] == [words for words in ("GiB free", "inodes") if words in found["well"].found]
    assert "inodes" in found["SCANT_FILES"].found
    assert (
        {"data directory", "log directory"}
        == marks(empty[0], Status.NOT_CHECKED)
        == marks(empty[1], Status.NOT_CHECKED)
    )
    assert "not needed" in empty[1]["data directory"].found
    assert {"data directory", "log directory"} == marks(elsewhere, Status.OK)
    assert {"log directory"} == marks(unsettled, Status.FAILED)
    assert "/proc/self/none is not writable: no such file" in unsettled["log directory"].found
    assert [] == list(tmp_path.iterdir())


def bound(path: Path, mode: int = 0o660) -> socket.socket:
    """Return a socket at a path."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(mode)
    return listener


async def test_each_worker_is_checked_at_its_socket(tmp_path: Path, make_settings: MakeSettings) -> None:
    """Ready, waiting for MongoDB, dead, hanging, missing or world-accessible; a missing stack is no failure."""
    run_dir = locate_run_directory(tmp_path)
    run_dir.mkdir()
    paths = [run_dir / f"worker-{number}.sock" for number in range(1, 5)]
    settings = make_settings(data_dir=tmp_path)
    none = await collect(examine_workers(settings, {}))
    (run_dir / "supervisord.pid").touch()
    missing = await collect(examine_workers(settings, {}))
    listeners = [bound(path) for path in paths]
    listeners[2].close()
    listeners[3].listen()
    async with (
        serving(lambda _: web.Response(), listeners[0]),
        serving(lambda _: web.Response(status=503), listeners[1]),
    ):
        async with asyncio.timeout(PATIENCE):
            found = await collect(examine_workers(None, {"RUN_DIR": str(run_dir)}))
        listeners[3].close()
        paths[0].chmod(0o666)
        opened = await collect(examine_workers(settings, {}))

    assert {Status.NOT_CHECKED} == {outcome.status for outcome in none.values()}
    assert {Status.FAILED} == {outcome.status for outcome in missing.values()}
    assert f"{paths[3]} does not exist: the worker is not running" in missing["worker 4"].found
    assert {"worker 1"} == marks(found, Status.OK)
    assert "answers 503" in found["worker 2"].found
    assert f"no answer at {paths[2]}: connection refused" == found["worker 3"].found
    assert "no answer within 5 s" == found["worker 4"].found
    assert f"{paths[0]} has mode 0666" in opened["worker 1"].found
    assert Status.FAILED is opened["worker 1"].status


def test_sockets_whose_path_would_be_too_long_are_looked_for_elsewhere(tmp_path: Path) -> None:
    """In the directory that a stack uses instead, a separate one for each data directory."""
    found = {locate_run_directory(tmp_path / (letter * 100)) for letter in "ab"}

    assert len(found) == 2
    assert not any(path.is_relative_to(tmp_path) or path.exists() for path in found)


async def test_a_bug_in_a_check_is_a_finding() -> None:
    """It shows the line of code without the error's message, which may contain a secret."""

    async def check(error: Exception) -> Outcome:
        raise error

    unexpected = (await examine("one", check(ValueError("s3cret")))).outcome
    refused = (await examine("one", check(PermissionError(13, "s3cret", "/a/file")))).outcome

    assert [Status.FAILED, Status.FAILED] == [unexpected.status, refused.status]
    assert f"unexpected error: ValueError in {__file__}:" in unexpected.found
    assert "/a/file cannot be used: permission denied" == refused.found
