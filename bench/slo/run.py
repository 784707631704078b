"""One run: traffic and probes beside each other, between two looks at the metrics."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import ClientError, ClientResponseError, ClientSession

from .client import connected
from .histograms import CounterResetError, Histogram, read_histogram
from .objectives import Result, judge
from .probes import WATCHED, Probes
from .report import show_progress
from .schedule import Rates, repeat
from .tally import Tally
from .texts import Texts
from .traffic import Traffic
from .users import RunError, User, leave, sign_up

REQUESTS, AUTHENTICATIONS = "sealpost_request_duration_seconds", "sealpost_authentication_duration_seconds"
NO_METRICS = "the stack's address of /metrics was not given (METRICS_URL=)"
BEGAN_ANEW = "its counts began anew meanwhile: the stack was restarted"


Scenario = Callable[[], Coroutine[Any, Any, None]]


class Run:
    """One run against a stack."""

    def __init__(self, url: str, metrics_url: str | None, rates: Rates, seconds: int) -> None:
        self._url = url
        self._metrics_url = metrics_url
        self._rates = rates
        self._seconds = seconds
        self.tally = Tally()

    async def measure(self) -> list[Result]:
        """Drive the stack and return what became of each objective. Raises `RunError` where that cannot begin."""
        await self._scrape()
        # What the accounts are made and deleted with is not part of what is measured.
        async with connected(self._url, Tally()) as aside, connected(self._url, self.tally) as client:
            users: list[User] = []
            signing_up = [asyncio.create_task(sign_up(aside, users)) for _ in range(self._rates.users)]
            try:
                await asyncio.wait(signing_up)
                for failure in [error for task in signing_up if (error := task.exception())]:
                    raise failure
                traffic, probes = Traffic(client, users, Texts()), Probes(client, users)
                before = await self._scrape()
                await self._drive(traffic, probes)
                echo, authentication = await self._added_since(before)
            finally:
                # Ctrl-C may come while they are made, and those that were made have to be deleted.
                await asyncio.wait(signing_up)
                await asyncio.gather(*(leave(aside, user) for user in users))
        return judge(self.tally, probes.revocations, echo, authentication)

    async def _drive(self, traffic: Traffic, probes: Probes) -> None:
        rates = self._rates
        begun = time.monotonic()
        until = begun + self._seconds
        async with asyncio.TaskGroup() as tasks:
            for per_second, begin in (
                (rates.echo, traffic.echo),
                (rates.sign_in, traffic.sign_in),
                (rates.use_token, traffic.use_token),
                (rates.refresh, traffic.refresh),
                (rates.secret, traffic.secret),
                (rates.phrase, traffic.phrase),
                (rates.message, traffic.message),
                (rates.post, traffic.post),
                (rates.hello, traffic.hello),
                (rates.malformed, probes.malformed),
                (rates.oversized, probes.oversized),
            ):
                tasks.create_task(repeat(per_second, until, self._judging(begin)))
            for end in (probes.delete_api_token, probes.end_session):
                tasks.create_task(self._end_one_after_another(end, until))
            tasks.create_task(self._show_progress(begun))
        await probes.try_again()

    async def _end_one_after_another(self, end: Callable[[float], Coroutine[Any, Any, None]], until: float) -> None:
        once = self._judging(lambda: end(self._rates.revocation_tries))
        await once()
        while time.monotonic() < until - WATCHED:
            await once()

    def _judging(self, begin: Scenario) -> Scenario:
        """Let an answer that has not what it must have be a wrong one, and not the end of the run."""

        async def judged() -> None:
            try:
                await begin()
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                self.tally.check(f"an answer that lacks something ({type(error).__name__})", is_right=False)

        return judged

    async def _show_progress(self, begun: float) -> None:
        for elapsed in range(1, self._seconds + 1):
            await asyncio.sleep(begun + elapsed - time.monotonic())
            show_progress(self.tally, elapsed, self._seconds)

    async def _scrape(self) -> str:
        """Return what the metrics are now; empty without their address. Raises `RunError`."""
        if self._metrics_url is None:
            return ""
        try:
            async with ClientSession(raise_for_status=True) as client, client.get(self._metrics_url) as response:
                exposition = await response.text()
            read_histogram(exposition, REQUESTS)
        except ClientResponseError as error:
            raise RunError(f"no metrics at {self._metrics_url}: the answer was {error.status}") from error
        except (ClientError, TimeoutError) as error:
            raise RunError(f"no metrics at {self._metrics_url}: nobody answers") from error
        except ValueError as error:
            raise RunError(f"no metrics at {self._metrics_url}: what is there is something else") from error
        return exposition

    async def _added_since(self, before: str) -> tuple[Histogram | str, Histogram | str]:
        """Return what the service has measured of echoes and of authentication meanwhile, or why that is not known."""
        if self._metrics_url is None:
            return (NO_METRICS, NO_METRICS)
        try:
            after = await self._scrape()
            return (
                read_histogram(after, REQUESTS, method="POST", route="/echo").since(
                    read_histogram(before, REQUESTS, method="POST", route="/echo")
                ),
                read_histogram(after, AUTHENTICATIONS).since(read_histogram(before, AUTHENTICATIONS)),
            )
        except CounterResetError:
            return (BEGAN_ANEW, BEGAN_ANEW)
        except RunError as error:
            return (str(error), str(error))
