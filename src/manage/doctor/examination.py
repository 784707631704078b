"""Carrying out checks: each has a time limit, and none stops the others."""

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
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Outcome:
    """What a check found, and what to do about it. Neither may hold a secret, nor what another program sent."""

    mark: Mark
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, by the name that docs/operations.md has for it."""

    check: str
    outcome: Outcome


def ok(found: str) -> Outcome:
    """Return the outcome of a check that found nothing wrong."""
    return Outcome(Mark.OK, found)


def warning(found: str, advice: str) -> Outcome:
    """Return the outcome of a check that found what will go wrong, or is only wrong in some set-ups."""
    return Outcome(Mark.WARNING, found, advice)


def failed(found: str, advice: str) -> Outcome:
    """Return the outcome of a check that found something wrong."""
    return Outcome(Mark.FAILED, found, advice)


def not_checked(found: str, advice: str = "") -> Outcome:
    """Return the outcome of a check that could not be carried out, or is not needed here."""
    return Outcome(Mark.NOT_CHECKED, found, advice)


def worst(outcomes: list[Outcome]) -> Outcome:
    """Return several outcomes as one: with the worst mark, and told are those that have it."""
    order = (Mark.FAILED, Mark.WARNING, Mark.OK, Mark.NOT_CHECKED)
    mark = min((outcome.mark for outcome in outcomes), key=order.index)
    told = [outcome for outcome in outcomes if outcome.mark is mark]
    advice = dict.fromkeys(outcome.advice for outcome in told if outcome.advice)
    return Outcome(mark, "; ".join(outcome.found for outcome in told), " ".join(advice))


T = TypeVar("T")

LIMIT = 5.0
"""Seconds that a check may take."""


async def examine(check: str, work: Awaitable[Outcome], seconds: float = LIMIT) -> Finding:
    """Carry out a check. What it raises, or its taking too long, is its outcome then."""
    try:
        async with asyncio.timeout(seconds):
            return Finding(check, await work)
    except TimeoutError:
        outcome = failed(
            f"no answer within {seconds:g} s", "What is asked hangs, or its disk does: look at it, or start it anew."
        )
    except OSError as error:
        outcome = failed(f"{error.filename or 'what is needed'} cannot be used: {in_words(error)}", "Mend that first.")
    except Exception as error:  # noqa: BLE001 (the others are to be carried out as well)
        outcome = failed(f"unexpected error: {type(error).__name__} in {place(error)}", "Report this: it is a fault.")
    return Finding(check, outcome)


async def in_thread(work: Callable[[], T]) -> T:
    """Return the result of what may block for ever, such as a read from a dead disk; the process can end meanwhile."""
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
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(settle, hand_over)

    # A thread of an executor would be waited for at the end.
    threading.Thread(target=run, daemon=True).start()
    return await future


def in_words(error: OSError) -> str:
    """Return the operating system's words for an error, without what others have added to them."""
    error = getattr(error, "os_error", error)  # aiohttp's have it inside
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails ({error.reason or type(error).__name__})"
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__
