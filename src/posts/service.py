"""The rules of posts: publishing, reading, deleting, reacting."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from ..accounts.auth import Authenticator, Caller
from ..accounts.directory import UserDirectory
from ..accounts.problems import InvalidToken, NotOperator
from ..core.clock import DatabaseClock
from ..core.crypto.keys import KeyRing
from ..core.lifetimes import checked_lifetime
from ..errors import Damaged, FieldError, Malformed
from .deletion import PostDeletion
from .feed import new_post_id, read_cursor, write_cursor
from .problems import NotAuthor, PostNotFound
from .reactions import Reaction, Reactions, ReactionStore
from .store import Post, PostContent, PostStore

LONGEST_LIFE = timedelta(days=3650)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PostView:
    """A post as one user sees it: with the name of its author and the user's own reaction."""

    post: Post
    author: str
    mine: Reaction | None


class PostService:
    """Publishes, shows and deletes posts, and records reactions."""

    def __init__(
        self,
        *,
        ring: KeyRing,
        clock: DatabaseClock,
        posts: PostStore,
        reactions: ReactionStore,
        deletion: PostDeletion,
        authenticator: Authenticator,
        directory: UserDirectory,
    ) -> None:
        self._ring = ring
        self._clock = clock
        self._posts = posts
        self._reactions = reactions
        self._deletion = deletion
        self._authenticator = authenticator
        self._directory = directory

    async def create(self, caller: Caller, *, title: str | None, content: str, ttl: timedelta | None) -> PostView:
        """Publish a post.

        Raises `Malformed` for a time to live out of bounds, `InvalidToken`, and `Damaged` for an unreadable account.
        """
        lifetime = None if ttl is None else checked_lifetime(ttl, LONGEST_LIFE)
        author = (await self._directory.names([caller.user_id])).get(caller.user_id)
        if author is None:
            await self._authenticator.confirm(caller.user_id)
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
        return PostView(post, author, None)

    async def find(self, caller: Caller, post_id: bytes) -> PostView:
        """Return a post. Raises `PostNotFound` and `Damaged`."""
        post = await self._posts.find(post_id)
        shown = await self._shown(caller, [post] if post else [])
        if not shown:
            raise PostNotFound
        return shown[0]

    async def feed(
        self, caller: Caller, *, limit: int, cursor: str | None, author: str | None
    ) -> tuple[list[PostView], str | None]:
        """Return a page of posts, newest first, and the cursor of the next page, if there is one.

        Posts that are added or deleted between two pages neither repeat nor hide others. Raises `Malformed` for a
        cursor that was not issued for this author.
        """
        author_id = None
        if author is not None:
            author_id = await self._directory.id_of(author)
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
        """Delete one of the caller's posts with all its reactions; an operator's session may delete any post.

        Raises `PostNotFound`, `NotAuthor`.
        """
        if not await self._posts.mark_deleted(post_id, caller.user_id):
            with suppress(Damaged):
                if await self._posts.find(post_id) is None:
                    raise PostNotFound
            if not await self._is_operator(caller):
                raise NotAuthor
            await self._posts.mark_deleted(post_id, None)
        await self._deletion.finish(post_id)

    async def react(self, caller: Caller, post_id: bytes, reaction: Reaction | None) -> Reactions:
        """Set the caller's reaction to a post, or withdraw it. Raises `PostNotFound`, `Damaged`, `InvalidToken`."""
        reactions = await self._reactions.react(post_id, caller.user_id, reaction)
        if reactions is None:
            raise PostNotFound
        await self._confirm(caller)
        return reactions

    async def _is_operator(self, caller: Caller) -> bool:
        # An API token never acts for an operator.
        if caller.session_id is None:
            return False
        try:
            await self._authenticator.check_operator(caller)
        except (NotOperator, Damaged):
            return False
        return True

    async def _confirm(self, caller: Caller) -> None:
        try:
            await self._authenticator.confirm(caller.user_id)
        except InvalidToken:
            await self._deletion.erase_user(caller.user_id)
            raise

    async def _shown(self, caller: Caller, posts: Sequence[Post]) -> list[PostView]:
        if not posts:
            return []
        names, mine = await asyncio.gather(
            self._directory.names([post.content.author_id for post in posts]),
            self._reactions.of_user(caller.user_id, [post.post_id for post in posts]),
        )
        # A post whose author has no name belongs to an account that is being deleted.
        return [
            PostView(post, names[post.content.author_id], mine.get(post.post_id))
            for post in posts
            if post.content.author_id in names
        ]
