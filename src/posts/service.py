"""The rules of posts."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta

import structlog

from ..accounts.auth import Authenticator, Caller, InvalidToken
from ..core.clock import DatabaseClock
from ..core.crypto.keys import KeyRing
from ..core.lifetimes import checked_lifetime
from ..errors import Damaged, FieldError, Malformed
from .analytics import Analytics, Day
from .cursors import read_cursor, write_cursor
from .deletion import PostDeletion
from .post_id import new_post_id
from .problems import NotAuthor, PostNotFound
from .reactions import Reaction, Reactions, ReactionStore
from .store import Post, PostContent, PostStore

LONGEST_LIFE = timedelta(days=3650)
LONGEST_SPAN = timedelta(days=366)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Shown:
    """A post as one user sees it."""

    post: Post
    author: str
    mine: Reaction | None


class PostService:
    """Creates, shows and deletes posts, and takes what users make of them."""

    def __init__(
        self,
        *,
        ring: KeyRing,
        clock: DatabaseClock,
        posts: PostStore,
        reactions: ReactionStore,
        deletion: PostDeletion,
        analytics: Analytics,
        authenticator: Authenticator,
    ) -> None:
        self._ring = ring
        self._clock = clock
        self._posts = posts
        self._reactions = reactions
        self._deletion = deletion
        self._analytics = analytics
        self._authenticator = authenticator

    async def create(self, caller: Caller, *, title: str | None, content: str, ttl: timedelta | None) -> Shown:
        """Publish a post. Raises `Malformed` for a time to live out of bounds, `InvalidToken` and `Damaged`."""
        lifetime = None if ttl is None else checked_lifetime(ttl, LONGEST_LIFE)
        author = (await self._authenticator.names([caller.user_id])).get(caller.user_id)
        if author is None:
            await self._authenticator.confirm(caller)
            raise Damaged("Your account cannot be read. Contact the operator of this service.")
        now = self._clock.now()
        post = Post(
            post_id=new_post_id(now),
            content=PostContent(author_id=caller.user_id, title=title, content=content),
            created_at=now,
            expires_at=now + lifetime if lifetime else None,
            likes=0,
            dislikes=0,
        )
        await self._posts.add(post)
        await self._confirm(caller)
        return Shown(post, author, None)

    async def find(self, caller: Caller, post_id: bytes) -> Shown:
        """Return a post. Raises `PostNotFound` and `Damaged`."""
        post = await self._posts.find(post_id)
        shown = await self._shown(caller, [post] if post else [])
        if not shown:
            raise PostNotFound
        return shown[0]

    async def feed(
        self, caller: Caller, *, limit: int, cursor: str | None, author: str | None
    ) -> tuple[list[Shown], str | None]:
        """Return a page of posts, newest first, and the cursor of the next page, if there is one.

        No post is there twice or missing, whatever is added and deleted between two pages. Raises `Malformed` for a
        cursor that this service has not given for this author.
        """
        author_id = None
        if author is not None:
            author_id = await self._authenticator.user_id_of(author)
            if author_id is None:
                return [], None
        before = None
        if cursor is not None:
            before = read_cursor(self._ring, cursor, author_id)
            if before is None:
                reason = "is not a cursor of this list; start without a cursor"
                raise Malformed(errors=(FieldError("cursor", reason),))
        posts, last = await self._posts.page(author_id=author_id, before=before, limit=limit)
        return await self._shown(caller, posts), write_cursor(self._ring, last, author_id) if last else None

    async def delete(self, caller: Caller, post_id: bytes) -> None:
        """Delete one of the caller's posts with all reactions to it. Raises `PostNotFound`, `NotAuthor`."""
        if not await self._posts.mark_deleted(post_id, caller.user_id):
            with suppress(Damaged):
                if await self._posts.find(post_id) is None:
                    raise PostNotFound
            raise NotAuthor
        await self._deletion.finish(post_id)

    async def react(self, caller: Caller, post_id: bytes, reaction: Reaction | None) -> Reactions:
        """Let this be what the caller makes of a post. Raises `PostNotFound`, `Damaged`, `InvalidToken`."""
        reactions = await self._reactions.react(post_id, caller.user_id, reaction)
        if reactions is None:
            raise PostNotFound
        await self._confirm(caller)
        return reactions

    async def analytics(self, first: date, last: date) -> list[Day]:
        """Return what each day has brought. Raises `Malformed` for days in the wrong order, or too many."""
        if not timedelta(0) <= last - first < LONGEST_SPAN:
            reason = f"must not be before from, and at most {LONGEST_SPAN.days - 1} days after it"
            raise Malformed(errors=(FieldError("to", reason),))
        return await self._analytics.days(first, last)

    async def _confirm(self, caller: Caller) -> None:
        try:
            await self._authenticator.confirm(caller)
        except InvalidToken:
            await self._deletion.erase_author(caller.user_id)
            raise

    async def _shown(self, caller: Caller, posts: Sequence[Post]) -> list[Shown]:
        if not posts:
            return []
        names, mine = await asyncio.gather(
            self._authenticator.names([post.content.author_id for post in posts]),
            self._reactions.of_user(caller.user_id, [post.post_id for post in posts]),
        )
        # A post without an author's name is one of an account that is being deleted.
        return [
            Shown(post, names[post.content.author_id], mine.get(post.post_id))
            for post in posts
            if post.content.author_id in names
        ]
