"""Run checks, each with a time limit and independent of the others."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

from ..output import error_location


class Status(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Outcome:
    """The finding of a check, and advice. Neither may contain a secret or text from another program."""

    status: Status
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, under its name in docs/operations.md."""

    check: str
    outcome: Outcome


def ok(found: str) -> Outcome:
    """Return the outcome of a check that passed."""
    return Outcome(Status.OK, found)


def warning(found: str, advice: str) -> Outcome:
    """Return the outcome of a check that found a future problem, or one that only matters in some deployments."""
    return Outcome(Status.WARNING, found, advice)


def failed(found: str, advice: str) -> Outcome:
    """Return the outcome of a check that failed."""
    return Outcome(Status.FAILED, found, advice)


def not_checked(found: str, advice: str = "") -> Outcome:
    """Return the outcome of a check that cannot run, or is not needed here."""
    return Outcome(Status.NOT_CHECKED, found, advice)


def worst(outcomes: list[Outcome]) -> Outcome:
    """Merge outcomes: keep those with the worst status."""
    order = (Status.FAILED, Status.WARNING, Status.OK, Status.NOT_CHECKED)
    status = min((outcome.status for outcome in outcomes), key=order.index)
    merged = [outcome for outcome in outcomes if outcome.status is status]
    advice = dict.fromkeys(outcome.advice for outcome in merged if outcome.advice)
    return Outcome(status, "; ".join(outcome.found for outcome in merged), " ".join(advice))


T = TypeVar("T")

LIMIT = 5.0
"""Seconds that a check may take."""


async def examine(check: str, work: Awaitable[Outcome], seconds: float = LIMIT) -> Finding:
    """Run a check. An exception or a timeout becomes its outcome."""
    try:
        async with asyncio.timeout(seconds):
            return Finding(check, await work)
    except TimeoutError:
        outcome = failed(f"no answer within {seconds:g} s", "The process or its disk hangs: examine it, or restart it.")
    except OSError as error:
        outcome = failed(
            f"{error.filename or 'a file or socket'} cannot be used: {describe_os_error(error)}", "Fix that first."
        )
    except Exception as error:  # noqa: BLE001 (the other checks must run, too)
        outcome = failed(
            f"unexpected error: {type(error).__name__} in {error_location(error)}", "This is a bug: please report it."
        )
    return Finding(check, outcome)


async def in_thread(work: Callable[[], T]) -> T:
    """Return the result of work that may block forever, such as a read from a dead disk, without delaying exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(hand_over: Callable[[], None]) -> None:
        if not future.done():
            hand_over()

    def run() -> None:
        try:
            hand_over = partial(future.set_result, work())
        except BaseException as error:  # noqa: BLE001 (the caller that awaits the result gets it)
            hand_over = partial(future.set_exception, error)
        with suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(settle, hand_over)

    # Not an executor: at exit, Python would wait for its threads.
    threading.Thread(target=run, daemon=True).start()
    return await future


def describe_os_error(error: OSError) -> str:
    """Return the operating system's message for an error, without text that libraries added."""
    error = getattr(error, "os_error", error)  # aiohttp wraps it
    if isinstance(error, socket.gaierror):
        return "its host name cannot be resolved"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails ({error.reason or type(error).__name__})"
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__
