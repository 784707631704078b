"""What an operator may do to posts."""

from collections.abc import Sequence

from .deletion import PostDeletion
from .store import PostStore


class PostAdministration:
    """Counts and deletes posts, whoever wrote them."""

    def __init__(self, posts: PostStore, deletion: PostDeletion) -> None:
        self._posts = posts
        self._deletion = deletion

    async def count(self, author_id: bytes | None = None) -> int:
        """Return how many posts there are, or of one author, without those that have expired."""
        return await self._posts.count(author_id)

    async def delete(self, post_ids: Sequence[bytes]) -> list[bytes]:
        """Delete posts with all reactions to them, and return the ids of those that were there."""
        deleted = [post_id for post_id in post_ids if await self._posts.mark_deleted(post_id, None)]
        await self._deletion.resume()
        return deleted

    async def delete_of(self, author_id: bytes) -> int:
        """Delete every post of an author with all reactions to them, and return how many there were."""
        count = await self._posts.mark_all_deleted(author_id)
        await self._deletion.resume()
        return count
