"""Checks of the feed and of each author's list: every post is there, unchanged and in order."""

from itertools import pairwise

from ..errors import NotSealpost
from ..responses import JsonObject
from .accounts import Accounts
from .calls import Failed, MeasuredClient
from .posts import Posts
from .tally import Action, Check, Findings

PAGE = 100


class FeedCheck:
    """Pages through the posts as the server lists them."""

    def __init__(self, client: MeasuredClient, accounts: Accounts, findings: Findings, posts: Posts) -> None:
        self._client, self._accounts, self._findings, self._posts = client, accounts, findings, posts

    async def check_all(self, reader: int) -> None:
        """Read the feed down to the bot's oldest post, and look for each of its posts."""
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
                self._findings.judge(Check.FEED, f"{post} is missing from the feed")
            elif not post.is_shown_by(found[post.id]):
                self._findings.judge(Check.FEED, f"{post} differs in the feed from the text that was sent")
            else:
                self._findings.judge(Check.FEED)

    async def check_author(self, author: int) -> None:
        """Check that an author's list has all of their posts, and no others."""
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
            faults.append(f"{len(expected - found)} of {len(expected)} posts are missing from the list of {name}")
        if found - expected and author not in self._posts.uncertain:
            faults.append(f"the list of {name} has {len(found - expected)} unexpected posts")
        self._findings.judge(Check.LISTS, *faults)

    async def _walk(self, reader: int, check: Check, *, author: str = "", oldest: str = "") -> list[JsonObject]:
        """Return the posts on all pages, down to an id. Raises `Failed`."""
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
                self._findings.judge(check, "a list of posts has duplicates or is out of order")
                return shown
            if not cursor or cursor == query.get("cursor") or (ids and ids[-1] <= oldest):
                return shown
            query["cursor"] = cursor
