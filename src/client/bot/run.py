"""A run from the first account to the last check, and what is cleaned up however it ends."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

from ..transport import Transport
from .calls import Caller, GaveUp
from .crew import Job, carry_out
from .feed import Feed
from .findings import Findings
from .people import People
from .plan import Plan, PlannedReaction, PlannedSecret
from .progress import Bars
from .report import Ending
from .sharing import Sharing
from .tally import Tally
from .wall import Wall

STOPPING = "stopping: what is under way may end"
DELETING = f"{STOPPING}; then the accounts are deleted. Ctrl-C once more ends at once, and leaves them"


class Bot:
    """One run of a plan on one server; what came of it is in ``tally``, ``findings`` and ``ending``.

    ``keep`` leaves accounts and posts where they are. ``notify`` is told what a person should know meanwhile.
    """

    def __init__(
        self, transport: Transport, plan: Plan, *, at_once: int, keep: bool, bars: Bars, notify: Callable[[str], None]
    ) -> None:
        self.tally, self.findings = Tally(), Findings()
        self.ending = Ending(prefix=f"bot-{secrets.token_hex(3)}-")
        self._plan, self._at_once, self._keep, self._bars, self._notify = plan, at_once, keep, bars, notify
        self._caller = Caller(transport, self.tally, at_once=at_once, notify=notify)
        self._people = People(self._caller, plan.users, self.ending.prefix)
        self._wall = Wall(self._caller, self._people, self.findings, keep=keep)
        self._sharing = Sharing(self._caller, self._people, self.findings)
        self._feed = Feed(self._caller, self._people, self.findings, self._wall)

    async def run(self) -> None:
        """Carry out the plan, check what came of it, and clean up. Ctrl-C, a cancellation, stops it in good order."""
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
        await self._phase("accounts", [partial(self._people.sign_up, number) for number in range(len(plan.users))])
        posts = [partial(self._wall.publish, number, post) for number, post in enumerate(plan.posts)]
        await self._phase("posts", posts)
        await self._phase("reactions and secrets", [self._act_of(act) for act in plan.acts])

    async def _check(self) -> None:
        posts = [partial(self._wall.check_post, number) for number in range(len(self._plan.posts))]
        authors = [partial(self._feed.check_author, author) for author in self._wall.authors()]
        feed = [partial(self._feed.check_all, author) for author in self._wall.authors()[:1]]
        await self._phase("checks", [*feed, *posts, *authors])

    async def _clean_up(self) -> None:
        self._caller.begin_anew()
        jobs: list[Job] = [partial(self._sharing.burn, key) for key in sorted(self._sharing.waiting)]
        if not self._keep:
            jobs += [partial(self._people.delete, number) for number in self._people.left()]
        try:
            await self._phase("clean-up", jobs, said_when_stopped=STOPPING)
        except GaveUp as reason:
            self.ending.gave_up = self.ending.gave_up or str(reason)
        except asyncio.CancelledError:
            self._note_interruption()
        self.ending.accounts_left = len(self._people.left())

    def _act_of(self, act: PlannedReaction | PlannedSecret) -> Job:
        if isinstance(act, PlannedSecret):
            return partial(self._sharing.share_and_open, act)
        return partial(self._wall.react, act)

    def _note_interruption(self) -> None:
        """Go on to the end in good order. Raises `CancelledError` where that was interrupted, too."""
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
        await carry_out(counting, at_once=self._at_once, stopping=partial(self._notify, said_when_stopped))
