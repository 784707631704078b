"""A run from the first account to the last check, with a cleanup however it ends."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

from ..transport import Transport
from .accounts import Accounts
from .calls import GaveUp, MeasuredClient
from .feed import FeedCheck
from .plan import Plan, PlannedReaction, PlannedSecret
from .posts import Posts
from .report import Bars, Ending
from .secrets import Secrets
from .tally import Findings, Tally
from .workers import Job, run_jobs

STOPPING = "stopping: running requests may finish"
DELETING = f"{STOPPING}, then the accounts are deleted. Press Ctrl-C again to exit at once and leave them"


class Bot:
    """One run of a plan on one server; its results are ``tally``, ``findings`` and ``ending``.

    ``keep`` leaves accounts and posts on the server. ``notify`` gets messages for the user.
    """

    def __init__(
        self, transport: Transport, plan: Plan, *, at_once: int, keep: bool, bars: Bars, notify: Callable[[str], None]
    ) -> None:
        self.tally, self.findings = Tally(), Findings()
        self.ending = Ending(prefix=f"bot-{secrets.token_hex(3)}-")
        self._plan, self._at_once, self._keep, self._bars, self._notify = plan, at_once, keep, bars, notify
        self._client = MeasuredClient(transport, self.tally, at_once=at_once, notify=notify)
        self._accounts = Accounts(self._client, plan.users, self.ending.prefix)
        self._posts = Posts(self._client, self._accounts, self.findings, keep=keep)
        self._secrets = Secrets(self._client, self._accounts, self.findings)
        self._feed = FeedCheck(self._client, self._accounts, self.findings, self._posts)

    async def run(self) -> None:
        """Carry out the plan, check the results, and clean up, also after Ctrl-C, which arrives as a cancellation."""
        begun = time.monotonic()
        try:
            await self._act()
            await self._check()
        except GaveUp as reason:
            self.ending.gave_up = str(reason)
        except asyncio.CancelledError:
            self._note_interruption()
        except Exception:
            await self._clean_up()
            raise
        await self._clean_up()
        self.ending.seconds = time.monotonic() - begun

    async def _act(self) -> None:
        plan = self._plan
        await self._phase("accounts", [partial(self._accounts.sign_up, number) for number in range(len(plan.users))])
        posts = [partial(self._posts.publish, number, post) for number, post in enumerate(plan.posts)]
        await self._phase("posts", posts)
        await self._phase("reactions and secrets", [self._act_of(act) for act in plan.acts])

    async def _check(self) -> None:
        posts = [partial(self._posts.check_post, number) for number in range(len(self._plan.posts))]
        authors = [partial(self._feed.check_author, author) for author in self._posts.authors()]
        feed = [partial(self._feed.check_all, author) for author in self._posts.authors()[:1]]
        await self._phase("checks", [*feed, *posts, *authors])

    async def _clean_up(self) -> None:
        self._client.begin_anew()
        jobs: list[Job] = [partial(self._secrets.burn, key) for key in sorted(self._secrets.waiting)]
        if not self._keep:
            jobs += [partial(self._accounts.delete, number) for number in self._accounts.left()]
        try:
            await self._phase("cleanup", jobs, said_when_stopped=STOPPING)
        except GaveUp as reason:
            self.ending.gave_up = self.ending.gave_up or str(reason)
        except asyncio.CancelledError:
            self._note_interruption()
        self.ending.accounts_left = len(self._accounts.left())

    def _act_of(self, act: PlannedReaction | PlannedSecret) -> Job:
        if isinstance(act, PlannedSecret):
            return partial(self._secrets.share_and_open, act)
        return partial(self._posts.react, act)

    def _note_interruption(self) -> None:
        """Continue with the cleanup. Raises `CancelledError` if it was interrupted again."""
        task = asyncio.current_task()
        if task is None or task.uncancel():
            raise asyncio.CancelledError
        self.ending.interrupted = True

    async def _phase(self, name: str, jobs: Sequence[Job], *, said_when_stopped: str = "") -> None:
        if not jobs:
            return
        said_when_stopped = said_when_stopped or (STOPPING if self._keep else DELETING)
        advance = self._bars(name, len(jobs))

        async def counted(job: Job) -> None:
            try:
                await job()
            finally:
                advance()

        counting = [partial(counted, job) for job in jobs]
        await run_jobs(counting, at_once=self._at_once, stopping=partial(self._notify, said_when_stopped))
