"""One run: traffic and probes in parallel, between two scrapes of the metrics."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import ClientError, ClientResponseError, ClientSession

from .client import connected
from .histograms import CounterResetError, HistogramSnapshot, read_histogram
from .objectives import ObjectiveResult, judge
from .probes import WATCHED, Probes
from .report import show_progress
from .schedule import Rates, repeat
from .tally import Tally
from .texts import Texts
from .traffic import Traffic
from .users import RunError, VirtualUser, leave, sign_up

REQUESTS, AUTHENTICATIONS = "sealpost_request_duration_seconds", "sealpost_authentication_duration_seconds"
NO_METRICS = "no METRICS_URL= given"
COUNTERS_RESET = "the counters were reset: the stack was restarted"


Scenario = Callable[[], Coroutine[Any, Any, None]]


class Run:
    """One run against a stack."""

    def __init__(self, url: str, metrics_url: str | None, rates: Rates, seconds: int) -> None:
        self._url = url
        self._metrics_url = metrics_url
        self._rates = rates
        self._seconds = seconds
        self.tally = Tally()

    async def measure(self) -> list[ObjectiveResult]:
        """Run the traffic and return the result for each objective. Raises `RunError` if the run cannot start."""
        await self._scrape()
        # Requests that create and delete the accounts are not measured.
        async with connected(self._url, Tally()) as aside, connected(self._url, self.tally) as client:
            users: list[VirtualUser] = []
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
                # After Ctrl-C during registration, the created accounts must still be deleted.
                await asyncio.wait(signing_up)
                await asyncio.gather(*(leave(aside, user) for user in users))
        return judge(self.tally, probes.revocations, echo, authentication)

    async def _drive(self, traffic: Traffic, probes: Probes) -> None:
        rates = self._rates
        begun = time.monotonic()
        until = begun + self._seconds
        async with asyncio.TaskGroup() as tasks:
            for per_second, scenario in (
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
                tasks.create_task(repeat(per_second, until, self._judged(scenario)))
            for revoke in (probes.delete_api_token, probes.end_session):
                tasks.create_task(self._revoke_repeatedly(revoke, until))
            tasks.create_task(self._show_progress(begun))
        await probes.try_again()

    async def _revoke_repeatedly(self, revoke: Callable[[float], Coroutine[Any, Any, None]], until: float) -> None:
        once = self._judged(lambda: revoke(self._rates.revocation_tries))
        await once()
        while time.monotonic() < until - WATCHED:
            await once()

    def _judged(self, scenario: Scenario) -> Scenario:
        """Return the scenario such that a response with missing members counts as wrong and does not end the run."""

        async def run_scenario() -> None:
            try:
                await scenario()
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                self.tally.check(f"incomplete response ({type(error).__name__})", is_right=False)

        return run_scenario

    async def _show_progress(self, begun: float) -> None:
        for elapsed in range(1, self._seconds + 1):
            await asyncio.sleep(begun + elapsed - time.monotonic())
            show_progress(self.tally, elapsed, self._seconds)

    async def _scrape(self) -> str:
        """Return the current metrics; empty without a metrics URL. Raises `RunError`."""
        if self._metrics_url is None:
            return ""
        try:
            async with ClientSession(raise_for_status=True) as client, client.get(self._metrics_url) as response:
                exposition = await response.text()
            read_histogram(exposition, REQUESTS)
        except ClientResponseError as error:
            raise RunError(f"no metrics at {self._metrics_url}: status {error.status}") from error
        except (ClientError, TimeoutError) as error:
            raise RunError(f"no metrics at {self._metrics_url}: no response") from error
        except ValueError as error:
            raise RunError(f"no metrics at {self._metrics_url}: not in the Prometheus text format") from error
        return exposition

    async def _added_since(self, before: str) -> tuple[HistogramSnapshot | str, HistogramSnapshot | str]:
        """Return the workers' histograms of echo and authentication since a scrape, or the reason for their absence."""
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
            return (COUNTERS_RESET, COUNTERS_RESET)
        except RunError as error:
            return (str(error), str(error))
