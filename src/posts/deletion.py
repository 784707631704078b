"""Deleting posts with all reactions to them: a job that any process finishes if the one that began it could not.

The first step marks the post, which nobody sees from then on; the last one removes it, so as long as a step is missing
the mark is there to be found. Each step may be done twice.
"""

from ..core.background import repeat
from .reactions import ReactionStore
from .store import PostStore

INTERVAL = 60.0


class PostDeletion:
    """Finishes the deletion of posts that have been marked."""

    def __init__(self, posts: PostStore, reactions: ReactionStore) -> None:
        self._posts = posts
        self._reactions = reactions

    async def finish(self, post_id: bytes) -> None:
        """Remove a marked post with all reactions to it. Raises `Unavailable`; it will then be finished later."""
        await self._reactions.remove_of(post_id)
        await self._posts.remove(post_id)

    async def erase_author(self, user_id: bytes) -> None:
        """Delete what a user has written and take back what they have made of other posts; may be done again."""
        await self._posts.mark_all_deleted(user_id)
        await self._reactions.withdraw_all(user_id)
        await self.resume()

    async def resume(self) -> None:
        """Finish every deletion that has begun."""
        for post_id in await self._posts.marked():
            await self.finish(post_id)

    async def watch(self) -> None:
        """Finish what was interrupted, now and every minute, until cancelled."""
        await repeat(self.resume, every=INTERVAL)
