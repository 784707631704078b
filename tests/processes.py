"""Sealpost as a separate process, for tests that stop, kill or restart it."""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from . import programs

ROOT = programs.ROOT
PATIENCE = 60.0
"""Seconds for what takes one: a machine that has other things to do is no failure."""
PATIENT = {"mongo_timeout": 30, "hashing_wait": 30, "request_timeout": 60}
"""Settings for tests that are not about time: on a machine that has other things to do, nothing is given up."""
PATIENT_ENVIRONMENT = {f"SEALPOST_{name.upper()}": str(seconds) for name, seconds in PATIENT.items()}


@dataclass
class AppProcess:
    """A running `python -m src.app`."""

    process: programs.Process
    url: str
    output: Path
    trust: ssl.SSLContext | bool = True

    async def ready(self) -> None:
        """Wait until it is ready."""
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while True:
                assert self.process.returncode is None, self.output.read_text()
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/readyz", ssl=self.trust) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@contextlib.asynccontextmanager
async def run_app(
    *arguments: str,
    url: str,
    output: Path,
    environment: dict[str, str] | None = None,
    trust: ssl.SSLContext | bool = True,
    program: Sequence[str] = ("-m", "src.app"),
) -> AsyncIterator[AppProcess]:
    """Run the app; whatever happens it is gone afterwards, and its embedded MongoDB with it.

    ``trust`` is for the certificate of one that serves TLS.
    """
    environment = {**PATIENT_ENVIRONMENT, **(environment or {})}
    with output.open("ab") as file:
        running = programs.running(*program, *arguments, environment=environment, stdout=file, stderr=file)
        async with running as process:
            app = AppProcess(process, url, output, trust)
            try:
                yield app
            finally:
                if process.returncode is None:
                    with contextlib.suppress(TimeoutError):
                        await app.stop()
