"""The terminal client as it is typed: in this process, against a real server."""

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from src.client.__main__ import main

from ..commands import Ended
from ..conftest import Api
from ..processes import PATIENCE

Typed = Callable[..., Awaitable[Ended]]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which the client keeps its files; not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "sealpost"


@pytest.fixture
def typed(config: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Typed:
    """Type a command, in a pipe: what it leaves has no traceback."""

    async def run(*arguments: str, stdin: bytes = b"", **environment: str) -> Ended:
        # The server runs in this process too, and its log goes to stdout.
        with monkeypatch.context() as patch, capture_logs():
            capsysbinary.readouterr()
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            for name, value in environment.items():
                patch.setenv(name, value)
            code = await asyncio.wait_for(asyncio.to_thread(main, arguments), PATIENCE)
        out, err = (stream.decode() for stream in capsysbinary.readouterr())

        assert "Traceback" not in err
        assert "unexpected error" not in err
        return Ended(code, out, err)

    return run


@pytest.fixture
def url(api: Api, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server with the default settings, to which commands go."""
    address = str(api.client.make_url("")).rstrip("/")
    monkeypatch.setenv("SEALPOST_URL", address)
    return address
