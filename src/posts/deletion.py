"""Deleting posts with all their reactions, as a job that any process can resume.

The first step marks a post, which hides it from everyone. The last step removes it, so the mark remains as long as a
step is missing. Every step is idempotent.
"""

from collections.abc import Sequence

from ..core.background import repeat
from .reactions import ReactionStore
from .store import PostStore

INTERVAL = 60.0


class PostDeletion:
    """Deletes posts; if a step fails with `Unavailable`, the deletion of marked posts is resumed later."""

    def __init__(self, posts: PostStore, reactions: ReactionStore) -> None:
        self._posts = posts
        self._reactions = reactions

    async def delete(self, post_ids: Sequence[bytes]) -> list[bytes]:
        """Delete posts of any author, and return the ids of those that existed."""
        deleted = [post_id for post_id in post_ids if await self._posts.mark_deleted(post_id, None)]
        await self.resume()
        return deleted

    async def delete_of(self, author_id: bytes) -> int:
        """Delete all posts of an author, and return how many there were."""
        count = await self._posts.mark_all_deleted(author_id)
        await self.resume()
        return count

    async def erase_user(self, user_id: bytes) -> None:
        """Delete all posts of a user and withdraw all reactions of the user; idempotent."""
        await self._posts.mark_all_deleted(user_id)
        await self._reactions.withdraw_all(user_id)
        await self.resume()

    async def finish(self, post_id: bytes) -> None:
        """Remove a marked post with all its reactions."""
        await self._reactions.remove_of(post_id)
        await self._posts.remove(post_id)

    async def resume(self) -> None:
        """Finish all deletions that have begun."""
        for post_id in await self._posts.marked():
            await self.finish(post_id)

    async def watch(self) -> None:
        """Finish interrupted deletions, now and every minute, until cancelled."""
        await repeat(self.resume, every=INTERVAL)
