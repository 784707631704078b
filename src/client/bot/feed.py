"""The feed and the lists of single authors: whether they show every post, as it was written and in order."""

from itertools import pairwise

from ..errors import NotSealpost
from ..responses import JsonObject
from .accounts import Accounts
from .calls import Failed, MeasuredClient
from .posts import Posts
from .tally import Action, Check, Findings

PAGE = 100


class FeedCheck:
    """Goes through the posts as the server lists them."""

    def __init__(self, client: MeasuredClient, accounts: Accounts, findings: Findings, posts: Posts) -> None:
        self._client, self._accounts, self._findings, self._posts = client, accounts, findings, posts

    async def check_all(self, reader: int) -> None:
        """Go through everybody's posts down to the oldest one of the bot, and look for each of them."""
        expected = {post.id: post for post in self._posts.published.values()}
        if not expected:
            return
        try:
            shown = await self._walk(reader, Check.FEED, oldest=min(expected))
        except Failed:
            for _ in expected:
                self._findings.skip(Check.FEED)
            return
        found = {record.text("id"): record for record in shown}
        for post in expected.values():
            if post.id not in found:
                self._findings.judge(Check.FEED, f"{post} is missing in the feed")
            elif not post.is_shown_by(found[post.id]):
                self._findings.judge(Check.FEED, f"{post} is not shown in the feed as it was written")
            else:
                self._findings.judge(Check.FEED)

    async def check_author(self, author: int) -> None:
        """Look through the list of one author's posts: it has all of them, and no other."""
        name = self._accounts.users[author].name
        try:
            shown = await self._walk(author, Check.LISTS, author=name)
        except Failed:
            self._findings.skip(Check.LISTS)
            return
        expected = {post.id for post in self._posts.published.values() if post.planned.author == author}
        found = {record.text("id") for record in shown}
        faults = []
        if expected - found:
            faults.append(f"the list of {name} lacks {len(expected - found)} of {len(expected)} posts")
        if found - expected and author not in self._posts.uncertain:
            faults.append(f"the list of {name} has {len(found - expected)} posts too many")
        self._findings.judge(Check.LISTS, *faults)

    async def _walk(self, reader: int, check: Check, *, author: str = "", oldest: str = "") -> list[JsonObject]:
        """Return the posts of all pages, down to an id. Raises `Failed`."""
        query = {"limit": str(PAGE), **({"author": author} if author else {})}
        shown: list[JsonObject] = []
        while True:
            token = await self._accounts.token(reader)
            page = (await self._client.call(Action.LIST, "GET", "/posts", query=query, token=token)).body
            try:
                records = page.records("posts")
                ids = [record.text("id") for record in (*shown[-1:], *records)]
                cursor = page.text("next_cursor") if page.has("next_cursor") else ""
            except NotSealpost:
                raise self._client.malformed(Action.LIST) from None
            shown += records
            if any(later >= earlier for earlier, later in pairwise(ids)):
                self._findings.judge(check, "a list of posts has one twice, or is not in order")
                return shown
            if not cursor or cursor == query.get("cursor") or (ids and ids[-1] <= oldest):
                return shown
            query["cursor"] = cursor
