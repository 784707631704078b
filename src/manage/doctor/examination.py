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

from ..output import place


class Mark(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Outcome:
    """The finding of a check and advice. Neither may hold a secret or text from another program."""

    mark: Mark
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, under its name in docs/operations.md."""

    check: str
    outcome: Outcome


def ok(found: str) -> Outcome:
    """Return the outcome of a check that passed."""
    return Outcome(Mark.OK, found)


def warning(found: str, advice: str) -> Outcome:
    """Return the outcome of a check that found a future problem, or one that matters in some set-ups only."""
    return Outcome(Mark.WARNING, found, advice)


def failed(found: str, advice: str) -> Outcome:
    """Return the outcome of a check that failed."""
    return Outcome(Mark.FAILED, found, advice)


def not_checked(found: str, advice: str = "") -> Outcome:
    """Return the outcome of a check that cannot run, or is not needed here."""
    return Outcome(Mark.NOT_CHECKED, found, advice)


def worst(outcomes: list[Outcome]) -> Outcome:
    """Merge outcomes: keep those with the worst mark."""
    order = (Mark.FAILED, Mark.WARNING, Mark.OK, Mark.NOT_CHECKED)
    mark = min((outcome.mark for outcome in outcomes), key=order.index)
    told = [outcome for outcome in outcomes if outcome.mark is mark]
    advice = dict.fromkeys(outcome.advice for outcome in told if outcome.advice)
    return Outcome(mark, "; ".join(outcome.found for outcome in told), " ".join(advice))


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
        outcome = failed(f"{error.filename or 'a file or socket'} cannot be used: {in_words(error)}", "Fix that first.")
    except Exception as error:  # noqa: BLE001 (the others are to be carried out as well)
        outcome = failed(
            f"unexpected error: {type(error).__name__} in {place(error)}", "This is a bug: please report it."
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
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is awaited)
            hand_over = partial(future.set_exception, error)
        with suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(settle, hand_over)

    # At exit, Python would wait for the thread of an executor.
    threading.Thread(target=run, daemon=True).start()
    return await future


def in_words(error: OSError) -> str:
    """Return the message of the operating system for an error, without additions by libraries."""
    error = getattr(error, "os_error", error)  # aiohttp's have it inside
    if isinstance(error, socket.gaierror):
        return "its host name cannot be resolved"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails ({error.reason or type(error).__name__})"
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__
