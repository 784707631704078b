"""The operator's commands as processes of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from src.settings import Settings

from . import programs
from .processes import PATIENCE


@dataclass(frozen=True)
class Ended:
    """The exit code and output of a command."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Operator:
    """An operator with the settings of a server at a terminal of its host; ``script`` replaces the module."""

    environment: dict[str, str]
    script: str = ""

    @classmethod
    def of(cls, settings: Settings, url: str, **overrides: str) -> "Operator":
        """Return the operator of a server that has these settings."""
        assert settings.keys is not None
        environment = {
            "SEALPOST_MONGO_URL": url,
            "SEALPOST_KEYS": settings.keys.get_secret_value(),
            "SEALPOST_MONGO_DATABASE": settings.mongo_database,
            "SEALPOST_MONGO_DRIVER": settings.mongo_driver,
            "SEALPOST_BCRYPT_COST": str(settings.bcrypt_cost),
        }
        return cls({**environment, **overrides})

    @asynccontextmanager
    async def running(self, *arguments: str, **streams: Any) -> AsyncIterator[programs.Process]:
        """Start a command, and end it with the block."""
        program = ["-c", self.script] if self.script else ["-m", "src.manage"]
        async with programs.running(*program, *arguments, environment=self.environment, **streams) as process:
            yield process

    async def run(self, *arguments: str, stdin: bytes = b"", patience: float = PATIENCE, **streams: Any) -> Ended:
        """Run a command to its end, and check that it shows no traceback and no secret of its settings."""
        async with self.running(*arguments, **{"stdin": asyncio.subprocess.PIPE, **streams}) as process:
            out, err = await asyncio.wait_for(process.communicate(stdin), patience)
        assert process.returncode is not None
        ended = Ended(process.returncode, (out or b"").decode(), (err or b"").decode())

        assert "Traceback" not in ended.stderr
        for entry in self.environment.get("SEALPOST_KEYS", "").split(","):
            secret = entry.partition(":")[2]
            assert not secret or secret not in ended.stdout + ended.stderr
        return ended
