"""Connect a command to the service's database."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ..core.crypto.keys import KeyRing, read_key_ring
from ..core.database.embedded import embedded_mongod
from ..core.database.mongo import Mongo, check_url, translate_mongo_errors
from ..core.database.prerequisites import ClockCheck, KeyChecks, raise_for
from ..core.database.resealing import Resealing
from ..core.logs import configure_logs
from ..settings import Settings, read_settings
from ..storage import EXPIRING, RESEALABLE

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """The settings, key ring and database of the service."""

    settings: Settings
    ring: KeyRing
    mongo: Mongo


def run(command: Callable[[Service], Awaitable[T]], *, with_any_keys: bool = False) -> T:
    """Run a command on the configured database. An embedded one is shared if it runs, otherwise started and stopped.

    Raises `SettingsError`, `MongodError`, `Unavailable`, `Unfit` where the clock is wrong or the ring lacks a key in
    use, which a command that runs ``with_any_keys`` allows, and whatever the command raises.
    """
    settings = read_settings()
    ring = read_key_ring(settings)
    # Commands report their own errors, but not the reasons for which MongoDB rejects a command.
    configure_logs(settings.model_copy(update={"log_level": "error"}), sys.stderr)
    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(partial(signal.signal, number, signal.getsignal(number)))
        signal.signal(signal.SIGTERM, _interrupt)
        if settings.mongo_url:
            url = settings.mongo_url.get_secret_value()
            check_url(url)
        else:
            url = stack.enter_context(embedded_mongod(settings.data_dir, settings.mongod))
            # A second Ctrl-C must not leave a mongod behind.
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(partial(signal.signal, number, signal.SIG_IGN))
        return asyncio.run(_run(command, settings, ring, url, with_any_keys=with_any_keys))


async def _run(
    command: Callable[[Service], Awaitable[T]], settings: Settings, ring: KeyRing, url: str, *, with_any_keys: bool
) -> T:
    loop = asyncio.get_running_loop()
    # It wakes the loop, for every signal. Without it, one that comes as the loop begins to wait is seen after the wait.
    loop.add_signal_handler(signal.SIGTERM, _interrupt)
    with translate_mongo_errors():
        mongo = Mongo(settings, url)
    try:
        with translate_mongo_errors():
            await mongo.database.command("ping")
        await ClockCheck(mongo).require()
        if not with_any_keys:
            missing_in_data = Resealing(mongo, ring, RESEALABLE, EXPIRING).missing_keys
            raise_for(await KeyChecks(mongo, ring, missing_in_data).missing())
        return await command(Service(settings, ring, mongo))
    finally:
        await mongo.close()
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: Any) -> None:
    # As Ctrl-C: the event loop then ends what runs in it first.
    signal.raise_signal(signal.SIGINT)
