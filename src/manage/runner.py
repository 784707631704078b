"""Run a command on the service's database."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ..core.background import run_cancellable
from ..core.crypto.keys import KeyRing, read_key_ring
from ..core.database.embedded import embedded_mongod
from ..core.database.mongo import Mongo, check_url, translate_mongo_errors
from ..core.database.prerequisites import ClockCheck, KeyChecks, raise_for
from ..core.database.resealing import Resealing
from ..core.logs import configure_logs
from ..settings import FeatureName, Settings, read_settings
from ..storage import EXPIRING, RESEALABLE
from .output import CommandError

T = TypeVar("T")


@dataclass(frozen=True)
class CommandContext:
    """The settings, key ring and database that a command works with."""

    settings: Settings
    ring: KeyRing
    mongo: Mongo


def run_command(
    command: Callable[[CommandContext], Awaitable[T]],
    *,
    feature: FeatureName | None = None,
    with_any_keys: bool = False,
) -> T:
    """Run a command, which may belong to a feature, on the configured database, and return its result.

    An embedded database is shared if it is running, and started and stopped otherwise. Raises `SettingsError`,
    `MongodError`, `Unavailable`, and the exceptions of the command. Raises `Unfit` if the clock is wrong, or, unless
    ``with_any_keys`` is set, if the ring lacks a key in use, and `CommandError` if the feature is off.
    """
    settings = read_settings()
    if feature and not settings.has(feature):
        raise CommandError(f"the feature {feature} is off: SEALPOST_FEATURES does not list it")
    ring = read_key_ring(settings)
    # Commands report their errors themselves, but not why MongoDB rejected a command: that is logged.
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
    command: Callable[[CommandContext], Awaitable[T]],
    settings: Settings,
    ring: KeyRing,
    url: str,
    *,
    with_any_keys: bool,
) -> T:
    loop = asyncio.get_running_loop()
    # This makes every signal wake the loop. Otherwise a signal that arrives as the loop starts to wait is handled late.
    loop.add_signal_handler(signal.SIGTERM, _interrupt)
    with translate_mongo_errors():
        mongo = Mongo(settings, url)

    async def work() -> T:
        with translate_mongo_errors():
            await mongo.database.command("ping")
        await ClockCheck(mongo).require()
        if not with_any_keys:
            missing_in_data = Resealing(mongo, ring, RESEALABLE, EXPIRING).missing_keys
            raise_for(await KeyChecks(mongo, ring, missing_in_data).missing())
        return await command(CommandContext(settings, ring, mongo))

    try:
        return await run_cancellable(work())
    finally:
        await mongo.close()
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: Any) -> None:
    # Like Ctrl-C: the event loop first cancels the running tasks.
    signal.raise_signal(signal.SIGINT)
