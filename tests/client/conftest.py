"""The terminal client as it is typed: in this process, against a real server."""

import asyncio
import io
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest
from structlog.testing import capture_logs

from src.client import prompts
from src.client.__main__ import main

from ..commands import Ended
from ..conftest import PASSWORD, Api
from ..processes import PATIENCE
from .terminal import Terminal

Typed = Callable[..., Awaitable[Ended]]
Dialogue = Callable[..., AbstractAsyncContextManager[Terminal]]


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which the client keeps its files; not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(prompts, "TERMINAL", str(tmp_path / "no terminal"))
    return tmp_path / "config" / "sealpost"


@pytest.fixture(autouse=True)
def _no_such_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let names below `.invalid` be unknown at once, whatever name servers this machine asks, or cannot reach."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **more: Any) -> Any:
        if isinstance(host, str) and host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens: it is bound, so that no other test can take it meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type a command in a pipe; what it leaves has no traceback."""

    async def run(
        *arguments: str, stdin: bytes = b"", stdout: io.TextIOWrapper | None = None, **environment: str
    ) -> Ended:
        out, err = stdout or io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
        with monkeypatch.context() as patch, _streams(patch, io.TextIOWrapper(io.BytesIO(stdin)), out, err):
            for name, value in environment.items():
                patch.setenv(name, value)
            code = await asyncio.wait_for(asyncio.to_thread(main, arguments), PATIENCE)
        texts = [_text_of(stream) for stream in (out, err)]

        assert "Traceback" not in texts[1]
        assert "unexpected error" not in texts[1]
        return Ended(code, *texts)

    return run


@pytest.fixture
def dialogue(monkeypatch: pytest.MonkeyPatch) -> Dialogue:
    """Type a command at a terminal; at the end of the block it has ended with the code, or is waited for."""

    @asynccontextmanager
    async def begin(
        *arguments: str, code: int = 0, columns: int = 120, stdout: TextIO | None = None, **environment: str
    ) -> AsyncIterator[Terminal]:
        async with Terminal(columns) as terminal:
            stdin, out, err = (os.fdopen(os.dup(terminal.inner), mode) for mode in ("r", "w", "w"))
            with monkeypatch.context() as patch, stdin, out, err, _streams(patch, stdin, stdout or out, err):
                patch.setattr(prompts, "TERMINAL", terminal.path)
                patch.setenv("TERM", "xterm-256color")
                # Rich asks the streams that the process began with.
                patch.setenv("COLUMNS", str(columns))
                for name, value in environment.items():
                    patch.setenv(name, value)
                running = asyncio.create_task(asyncio.to_thread(main, arguments))
                try:
                    yield terminal
                finally:
                    ended = await asyncio.wait_for(running, PATIENCE)
                    err.flush()
                    terminal.read_on()

                assert code == ended, terminal.screen
                assert "Traceback" not in terminal.screen

    return begin


@pytest.fixture
def url(api: Api, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server with the default settings, to which commands go."""
    return go_to(api, monkeypatch)


@pytest.fixture
async def ann(api: Api, url: str, typed: Typed) -> str:
    """The name of a user of that server who is signed in."""
    await api.register("ann")

    assert 0 == (await typed("login", "ann", SEALPOST_PASSWORD=PASSWORD)).code
    return "ann"


def go_to(api: Api, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let commands go to a server, and return its address."""
    address = str(api.client.make_url("")).rstrip("/")
    monkeypatch.setenv("SEALPOST_URL", address)
    return address


def spoil_access_tokens(config: Path) -> None:
    """Let the server refuse every access token that is kept, before its time."""
    _change_sessions(config, access_token="x")


def make_stale(config: Path) -> None:
    """Let every access token that is kept be too old."""
    _change_sessions(config, access_until=time.time() - 1)


def _change_sessions(config: Path, **changes: object) -> None:
    file = config / "credentials.json"
    content = json.loads(file.read_text())
    for session in content["sessions"].values():
        session.update(changes)
    file.write_text(json.dumps(content))


@contextmanager
def _streams(patch: pytest.MonkeyPatch, stdin: TextIO, stdout: TextIO, stderr: TextIO) -> Iterator[None]:
    for name, stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
        patch.setattr(sys, name, stream)
    # The server runs in this process too, and its log goes to stdout.
    with capture_logs():
        yield


def _text_of(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode() if isinstance(stream.buffer, io.BytesIO) else ""
