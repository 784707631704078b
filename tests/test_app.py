"""The command line: starting, stopping, and crash recovery."""

import asyncio
import contextlib
import importlib
import os
import pkgutil
import re
import secrets
import signal
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest
import uvloop
from aiohttp import web

import src
from src import storage
from src.api.server import ACCEPTED_AT_ONCE, accept_from, listen_on_unix
from src.core.crypto.keys import new_key
from src.core.database.embedded import embedded_mongod

from . import programs
from .commands import Ended
from .processes import PATIENCE, ROOT, AppProcess, run_app

Port = Callable[[], int]


async def call(session: aiohttp.ClientSession, method: str, url: str, body: object = None) -> tuple[int, Any]:
    """Return the status and the parsed JSON of an answer."""
    async with session.request(method, url, json=body) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


AIOHTTP = ("-m", "aiohttp.web", "src.app:init_app")
"""The service under aiohttp's own command."""


async def run(*arguments: str, program: Sequence[str] = ("-m", "src.app"), **environment: str) -> Ended:
    """Run the app to its end."""
    async with programs.running(*program, *arguments, environment=environment) as process:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        return Ended(await process.wait(), out.decode(), err.decode())


def mongod_runs(data_dir: Path) -> bool:
    """Tell whether a mongod is running on the data directory."""
    found = subprocess.run(["pgrep", "-f", f"dbpath {data_dir}"], capture_output=True, check=False)
    return found.returncode == 0


@pytest.mark.lifecycle
async def test_data_survives_every_way_to_end(
    tmp_path: Path, unused_tcp_port: int, session: aiohttp.ClientSession
) -> None:
    """After Ctrl-C, SIGTERM and kill -9, the next run has every secret; a clean exit also stops mongod."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    data = tmp_path / "data"
    arguments = ("-P", str(unused_tcp_port))
    where: Any = {"url": url, "output": tmp_path / "out", "environment": {"SEALPOST_DATA_DIR": str(data)}}
    keys = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        async with run_app(*arguments, **where) as app:
            await app.ready()
            status, created = await call(session, "POST", f"{url}/generate", {"secret": number.name})
            assert 201 == status
            keys.append(created["secret_key"])

            code = await app.stop(number)

        assert (-9 if number == signal.SIGKILL else 0) == code
        assert (number == signal.SIGKILL) == mongod_runs(data)

    async with run_app(*arguments, **where) as app:
        await app.ready()
        answers = [await call(session, "POST", f"{url}/secrets/{key}") for key in keys]
    assert [(200, "SIGINT"), (200, "SIGTERM"), (200, "SIGKILL")] == [(s, a.get("secret")) for s, a in answers]
    assert not mongod_runs(data)
    assert 0o600 == stat.S_IMODE((data / "keys").stat().st_mode)


@pytest.mark.lifecycle
async def test_the_url_to_open_is_announced(mongo_directory: Path, tmp_path: Path, unused_tcp_port: int) -> None:
    """`make run` prints the URL once the service is ready; without the option there is only the log."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    environment = {"SEALPOST_DATA_DIR": str(mongo_directory)}
    reports: list[list[str]] = []
    for options in (("--announce",), ()):
        output = tmp_path / f"out{len(reports)}"
        async with run_app(
            "-P", str(unused_tcp_port), *options, url=url, output=output, environment=environment
        ) as app:
            await app.ready()
            async with asyncio.timeout(PATIENCE):
                while '"MongoDB is ready"' not in output.read_text() or (
                    options and "open http" not in output.read_text()
                ):
                    await asyncio.sleep(0.05)
        reports.append([line for line in output.read_text().splitlines() if not line.startswith("{")])

    announced = [
        f"Starting MongoDB, with its data in {mongo_directory / 'mongo'}",
        f"Sealpost is ready (Ctrl-C stops it): open {url}",
    ]
    assert [announced, []] == reports
    assert re.search(r"(?m)^run: .*\n\t.* --announce ", (ROOT / "Makefile").read_text())


@pytest.mark.lifecycle
async def test_a_killed_mongod_is_restarted(
    tmp_path: Path, unused_tcp_port: int, session: aiohttp.ClientSession
) -> None:
    """The process continues with the same data, and its log says why mongod ended."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    environment = {"SEALPOST_DATA_DIR": str(tmp_path / "data")}
    async with run_app("-P", str(unused_tcp_port), url=url, output=tmp_path / "out", environment=environment) as app:
        await app.ready()
        _, created = await call(session, "POST", f"{url}/generate", {"secret": "kept"})
        subprocess.run(["pkill", "-KILL", "-f", f"dbpath {tmp_path}/data"], check=True)
        async with asyncio.timeout(PATIENCE):
            while (answer := await call(session, "POST", f"{url}/secrets/{created['secret_key']}"))[0] == 503:
                await asyncio.sleep(0.1)
        code = await app.stop()

    assert (200, "kept") == (answer[0], answer[1].get("secret"))
    assert 0 == code
    assert not mongod_runs(tmp_path / "data")
    assert "embedded MongoDB exited: restarting it" in (tmp_path / "out").read_text()
    assert "SIGKILL" in (tmp_path / "out").read_text()


@pytest.mark.lifecycle
async def test_a_request_in_progress_is_finished(
    mongo_directory: Path,
    mongo_url: str,
    own_database: str,
    tmp_path: Path,
    unused_tcp_port: int,
    session: aiohttp.ClientSession,
) -> None:
    """A process that is told to stop finishes its requests."""
    url, output = f"http://127.0.0.1:{unused_tcp_port}", tmp_path / "out"
    environment = {
        "SEALPOST_DATA_DIR": str(mongo_directory),
        "SEALPOST_MONGO_DATABASE": own_database,
        "SEALPOST_SHUTDOWN_TIMEOUT": "12",
    }
    async with run_app("-P", str(unused_tcp_port), url=url, output=output, environment=environment) as app:
        await app.ready()
        _, created = await call(session, "POST", f"{url}/generate", {"secret": "s"})
        with pymongo.MongoClient[dict[str, Any]](mongo_url) as mongo, mongo.start_session() as transaction:
            # The opening, which writes to this document, waits for the end of the transaction.
            transaction.start_transaction()
            mongo[own_database]["items"].update_many({}, {"$set": {"held": True}}, session=transaction)
            opening = asyncio.create_task(call(session, "POST", f"{url}/secrets/{created['secret_key']}"))
            async with asyncio.timeout(PATIENCE):
                command = {"currentOp": 1, "ns": f"{own_database}.items", "active": True, "op": "update"}
                while not mongo.admin.command(command)["inprog"]:
                    await asyncio.sleep(0.01)
                app.process.send_signal(signal.SIGTERM)
                while '"stopping"' not in output.read_text():
                    await asyncio.sleep(0.01)
            assert not opening.done()
            transaction.abort_transaction()
            status, _ = await opening

        assert (200, 0) == (status, await asyncio.wait_for(app.process.wait(), PATIENCE))


async def on_socket(path: Path, method: str, target: str, body: object = None) -> tuple[int, Any]:
    """Send a request to a process on its unix socket."""
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        return await call(session, method, f"http://worker{target}", body)


async def socket_ready(path: Path, app: AppProcess) -> None:
    """Wait until a process answers on its socket."""
    async with asyncio.timeout(PATIENCE):
        while True:
            assert app.process.returncode is None, app.output.read_text()
            with contextlib.suppress(aiohttp.ClientConnectionError):
                if (await on_socket(path, "GET", "/readyz"))[0] == 200:
                    return
            await asyncio.sleep(0.05)


@pytest.mark.lifecycle
async def test_a_unix_socket_is_private_and_replaced_only_if_stale(mongo_directory: Path, tmp_path: Path) -> None:
    """Its mode excludes other users; only a dead process's socket is replaced, and it is removed at exit."""
    path = tmp_path / "worker.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    environment = {"SEALPOST_DATA_DIR": str(mongo_directory)}
    async with run_app("-U", str(path), url="", output=tmp_path / "out", environment=environment) as app:
        await socket_ready(path, app)
        assert 0o660 == stat.S_IMODE(path.stat().st_mode)
        second = await run("-U", str(path), **environment)
        assert (1, True) == (second.code, "cannot listen" in second.stderr)
        assert 200 == (await on_socket(path, "GET", "/healthz"))[0]

        assert 0 == await app.stop()
    assert not path.exists()


@pytest.mark.lifecycle
async def test_a_draining_worker_answers_on_open_connections(mongo_directory: Path, tmp_path: Path) -> None:
    """On a stop signal it removes its socket, answers requests on open connections, and closes them."""
    path = tmp_path / "worker.sock"
    environment = {"SEALPOST_DATA_DIR": str(mongo_directory)}
    async with run_app("-U", str(path), url="", output=tmp_path / "out", environment=environment) as app:
        await socket_ready(path, app)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            assert 200 == (await call(session, "GET", "http://worker/healthz"))[0]
            app.process.send_signal(signal.SIGTERM)
            while path.exists():
                await asyncio.sleep(0.01)

            async with session.post("http://worker/generate", json={"secret": "s"}) as answer:
                assert (201, "close") == (answer.status, answer.headers["Connection"])
        assert 0 == await asyncio.wait_for(app.process.wait(), PATIENCE)


@pytest.mark.lifecycle
async def test_a_process_serves_a_socket_and_a_port(
    mongo_directory: Path, tmp_path: Path, unused_tcp_port: int, session: aiohttp.ClientSession
) -> None:
    """A secret created on the port opens on the socket; address headers are trusted only on the socket."""
    path, output = tmp_path / "s.sock", tmp_path / "out"
    url = f"http://127.0.0.1:{unused_tcp_port}"
    arguments = ("-U", str(path), "-P", str(unused_tcp_port), "--log-level", "DEBUG")
    environment = {
        "SEALPOST_DATA_DIR": str(mongo_directory),
        "SEALPOST_KEYS": new_key(),
        "SEALPOST_MONGO_DATABASE": f"test-{secrets.token_hex(8)}",
        "SEALPOST_LIMIT_REGISTER": "1 per 1 hour",
    }
    async with run_app(*arguments, url=url, output=output, environment=environment) as app:
        await app.ready()
        _, created = await call(session, "POST", f"{url}/generate", {"secret": "s"})
        opened = [await on_socket(path, "POST", f"/secrets/{created['secret_key']}") for _ in range(2)]
        statuses: list[int] = []
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as nginx:
            for sender, where in ((session, url), (nginx, "http://worker")):
                for number in range(2):
                    body = {"username": f"user-{len(statuses)}", "password": "correct horse battery staple"}
                    told = {"X-Real-IP": f"192.0.2.{number}"}
                    async with sender.post(f"{where}/register", json=body, headers=told) as answer:
                        statuses.append(answer.status)

        assert 0 == await app.stop()

    assert [200, 404] == [status for status, _ in opened]
    assert [201, 429, 201, 201] == statuses
    assert not path.exists()
    lines = output.read_text()
    assert all(f'"event":"listening","address":"{address}"' in lines for address in (url, path))
    assert created["secret_key"] not in lines


@pytest.mark.lifecycle
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
async def test_aiohttps_own_command_serves_a_socket_and_a_port(
    tmp_path: Path, unused_tcp_port: int, session: aiohttp.ClientSession, number: signal.Signals
) -> None:
    """A secret opens once, on the socket; a signal also stops mongod, and no log contains a path."""
    path, output, data = tmp_path / "s.sock", tmp_path / "out", tmp_path / "data"
    url = f"http://127.0.0.1:{unused_tcp_port}"
    arguments = ("-U", str(path), "-H", "127.0.0.1", "-P", str(unused_tcp_port), "--log-level", "Debug")
    # In asyncio's debug mode, aiohttp enables its access log.
    environment = {"SEALPOST_DATA_DIR": str(data), "PYTHONASYNCIODEBUG": "1"}
    async with run_app(*arguments, url=url, output=output, environment=environment, program=AIOHTTP) as app:
        await app.ready()
        _, created = await call(session, "POST", f"{url}/generate", {"secret": "s"})
        opened = [await on_socket(path, "POST", f"/secrets/{created['secret_key']}") for _ in range(2)]
        mode = stat.S_IMODE(path.stat().st_mode)

        assert 0 == await app.stop(number)

    assert [200, 404] == [status for status, _ in opened]
    assert 0 == mode & 0o007
    assert not mongod_runs(data)
    lines = output.read_text()
    assert '"event":"request"' in lines
    assert "Traceback" not in lines
    assert created["secret_key"] not in lines


@pytest.mark.lifecycle
@pytest.mark.parametrize(
    ("arguments", "environment", "code", "told"),
    [
        (["--log-level", "loud"], {}, 2, "invalid choice: 'loud'"),
        ([], {"SEALPOST_TTL_MAX": "x"}, 2, "SEALPOST_TTL_MAX"),
        ([], {"SEALPOST_TLS": "self-signed"}, 2, "aiohttp's command has no option for a certificate"),
        ([], {"SEALPOST_MONGO_URL": "nonsense", "SEALPOST_KEYS": new_key()}, 2, "SEALPOST_MONGO_URL"),
        ([], {"SEALPOST_MONGOD": "/no/mongod"}, 1, "SEALPOST_MONGOD"),
    ],
)
async def test_aiohttps_own_command_reports_errors(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: int, told: str
) -> None:
    """Invalid arguments and settings end it at once with an error message instead of a traceback."""
    ended = await run("-P", "0", *arguments, program=AIOHTTP, SEALPOST_DATA_DIR=str(tmp_path / "data"), **environment)

    assert (code, True) == (ended.code, told in ended.stderr)
    assert "Traceback" not in ended.stderr


@pytest.mark.lifecycle
async def test_stopping_aiohttps_own_command_while_mongodb_starts_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM during startup ends the process and its mongod."""
    data = tmp_path / "data"
    environment = {"SEALPOST_DATA_DIR": str(data)}
    output = tmp_path / "out"
    async with run_app("-P", "0", url="", output=output, environment=environment, program=AIOHTTP) as app:
        while not mongod_runs(data):
            await asyncio.sleep(0.02)

        assert 0 == await app.stop()

    assert not mongod_runs(data)
    assert "Traceback" not in output.read_text()


def test_a_burst_of_connections_is_accepted_at_once(tmp_path: Path) -> None:
    """They are accepted together, although uvloop accepts one from each socket in an iteration of the loop."""

    async def count_iterations() -> int:
        runner, iterations = web.AppRunner(web.Application()), 0
        await runner.setup()
        await accept_from(listen_on_unix(tmp_path / "socket"), runner)
        with contextlib.ExitStack() as clients:
            for _ in range(ACCEPTED_AT_ONCE):
                client = clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.connect(str(tmp_path / "socket"))
            assert runner.server
            while len(runner.server.connections) < ACCEPTED_AT_ONCE:
                await asyncio.sleep(0)
                iterations += 1
        await runner.cleanup()
        return iterations

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        assert loop.run(count_iterations()) < ACCEPTED_AT_ONCE // 4


def test_a_socket_that_cannot_be_created_leaves_nothing(tmp_path: Path) -> None:
    """With an invalid path, neither a listener nor a file remains."""
    with pytest.raises(OSError, match="too long"):
        listen_on_unix(tmp_path / ("x" * 200))

    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "told"),
    [
        (["-U", "/tmp/x", "--tls-cert", "/no/cert", "--tls-key", "/no/key"], {}, 2, "TLS requires a TCP port"),
        (["-U", "/no/such/folder/x.sock", "-P", "0"], {}, 1, "cannot listen on /no/such/folder/x.sock"),
        (["--log-level", "loud"], {}, 2, "invalid choice: 'loud'"),
        ([], {"SEALPOST_LOG_LEVEL": "loud"}, 2, "SEALPOST_LOG_LEVEL: Input should be 'debug'"),
        (["-P", "many"], {}, 2, "invalid"),
        (["-P", "99999"], {}, 2, "between 0 and 65535"),
        (["--tls-cert", "/no/cert", "--tls-key", "/no/key"], {}, 2, "/no/cert cannot be read: No such file"),
        ([], {"SEALPOST_TLS": "self-signed"}, 2, "Use --tls-cert and --tls-key for a single process"),
        (["-H", "192.0.2.1", "-P", "0"], {}, 1, "cannot listen on 192.0.2.1"),
        (["-U", "/no/such/folder/x.sock"], {}, 1, "cannot listen on /no/such/folder/x.sock"),
        ([], {"SEALPOST_TTL_MAX": "x"}, 2, "SEALPOST_TTL_MAX"),
        ([], {"SEALPOST_KEYS": "s3cret"}, 2, "SEALPOST_KEYS: entry 1"),
        ([], {"SEALPOST_MONGO_URL": "mongodb://h/?replicaSet=x"}, 2, "SEALPOST_KEYS"),
        ([], {"SEALPOST_LOG_FILE": "/proc/none/x"}, 2, "/proc/none"),
        (["-P", "0"], {"SEALPOST_MONGOD": "/no/mongod"}, 1, "SEALPOST_MONGOD"),
    ],
)
async def test_invalid_arguments_and_settings_are_reported(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: int, told: str
) -> None:
    """They end the process at once with a message that says what to change, and no traceback."""
    ended = await run(*arguments, SEALPOST_DATA_DIR=str(tmp_path / "data"), **environment)

    assert (code, True) == (ended.code, told in ended.stderr)
    assert "Traceback" not in ended.stderr
    assert "s3cret" not in ended.stderr


async def test_the_options_are_as_documented() -> None:
    """`docs/operations.md` has exactly the options of both commands."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    page = text.partition("\n## One process\n")[2].partition("\n## ")[0]
    own = await run("--help")

    table = set(
        re.findall(r"--[a-z-]+", "".join(line.split("|")[1] for line in page.splitlines() if line[:3] == "| `"))
    )
    assert set(re.findall(r"(?m)^  (?:-\w \w+, )?(--[a-z-]+)", own.stdout)) == table
    assert (
        ".venv/bin/python -m aiohttp.web src.app:init_app [-H HOST] [-P PORT] [-U SOCKET] [--log-level LEVEL]" in page
    )


@pytest.mark.lifecycle
def test_an_invalid_url_is_reported(tmp_path: Path) -> None:
    """It is rejected before anything is served; run without the fork server."""
    environment = {"SEALPOST_MONGO_URL": "nonsense", "SEALPOST_KEYS": new_key(), "SEALPOST_DATA_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", "src.app", "-P", "0"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (1, True) == (ended.returncode, "SEALPOST_MONGO_URL" in ended.stderr)


@pytest.mark.lifecycle
async def test_a_busy_port_is_named(tmp_path: Path) -> None:
    """It is reported before MongoDB starts, so nothing is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await run("-P", str(port), SEALPOST_DATA_DIR=str(tmp_path / "data"))

    assert 1 == ended.code
    assert re.search(f"cannot listen on 127.0.0.1 port {port}: Address already in use", ended.stderr)
    assert "make run PORT=9090" in ended.stderr
    assert not (tmp_path / "data" / "mongo").exists()


@pytest.mark.lifecycle
async def test_stopping_while_mongodb_starts_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM during startup ends the process and its mongod."""
    data = tmp_path / "data"
    environment = {"SEALPOST_DATA_DIR": str(data)}
    async with run_app("-P", "0", url="", output=tmp_path / "out", environment=environment) as app:
        while not mongod_runs(data):
            await asyncio.sleep(0.02)

        assert 0 == await app.stop()

    assert not mongod_runs(data)


@pytest.mark.lifecycle
async def test_a_second_process_shares_the_embedded_mongodb(
    tmp_path: Path, unused_tcp_port_factory: Port, session: aiohttp.ClientSession
) -> None:
    """A secret created through one process opens through the other, which continues when the first ends."""
    environment = {"SEALPOST_DATA_DIR": str(tmp_path / "data")}
    ports = [unused_tcp_port_factory(), unused_tcp_port_factory()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    async with run_app("-P", str(ports[1]), url=urls[1], output=tmp_path / "1", environment=environment) as second:
        async with run_app("-P", str(ports[0]), url=urls[0], output=tmp_path / "0", environment=environment) as first:
            await first.ready()
            await second.ready()
            _, created = await call(session, "POST", f"{urls[0]}/generate", {"secret": "shared"})
            await first.stop()

        assert 200 == (await call(session, "POST", f"{urls[1]}/secrets/{created['secret_key']}"))[0]


@pytest.mark.lifecycle
async def test_ipv6_is_served(mongo_directory: Path, tmp_path: Path, unused_tcp_port: int) -> None:
    """The process listens on an IPv6 address and logs it as a URL."""
    output = tmp_path / "out"
    environment = {"SEALPOST_DATA_DIR": str(mongo_directory)}
    url = f"http://[::1]:{unused_tcp_port}"
    async with run_app("-H", "::1", "-P", str(unused_tcp_port), url=url, output=output, environment=environment) as app:
        await app.ready()

    assert url in output.read_text()


@pytest.mark.lifecycle
def test_a_running_embedded_mongodb_is_joined(mongo_directory: Path) -> None:
    """The tests' own MongoDB is joined, not started again."""
    with embedded_mongod(mongo_directory) as first, embedded_mongod(mongo_directory) as second:
        assert first == second


def test_every_package_is_installed() -> None:
    """Every package under `src/` is part of the installed `sealpost`."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("__init__.py")}

    assert {".".join(("sealpost", *folder.parts)) for folder in folders} == set(listed)


@pytest.mark.parametrize("name", ["INDEXES", "RESEALABLE", "EXPIRING"])
def test_all_collections_are_registered(name: str) -> None:
    """The list for the service and the operator's commands has the collections of every feature."""
    found = [one.name for one in pkgutil.walk_packages(src.__path__, "src.") if not one.name.endswith("__main__")]
    lists = [getattr(importlib.import_module(module), name, ()) for module in found]
    listed = [one for some in lists for one in (some if isinstance(some, Iterable) else [some])]
    gathered = getattr(storage, name)

    assert listed
    assert [] == [one for one in listed if one not in gathered]
