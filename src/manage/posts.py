"""``posts``: count and delete posts."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from ..accounts.users import UserStore
from ..core.database.group_commit import group_commit
from ..posts.deletion import PostDeletion
from ..posts.feed import parse_post_id
from ..posts.reactions import ReactionStore
from ..posts.store import PostStore
from .output import CommandError, say, show_line
from .runner import CommandContext, run_command

T = TypeVar("T")
Author = Annotated[str | None, typer.Option("--author", metavar="NAME", help="Only posts of this user.")]

app = typer.Typer(help="Count and delete posts.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def count(*, author: Author = None) -> None:
    """Print the number of posts, without expired ones."""

    async def command(posts: PostStore, _: PostDeletion, author_id: bytes | None) -> int:
        return await posts.count(author_id)

    show_line(str(_on_posts(author, command)))


@app.command()
def delete(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Post ids.")] = None,
    *,
    author: Author = None,
) -> None:
    """Delete posts and their reactions, by id or all of one user.

    The exit code is 1 if a post does not exist.
    """
    if bool(ids) == bool(author):
        raise typer.BadParameter("give either post ids or --author NAME")
    parsed = {text: parse_post_id(text) for text in ids or ()}
    if malformed := [text for text, post_id in parsed.items() if post_id is None]:
        raise typer.BadParameter(f"not a post id: {', '.join(malformed)}")
    wanted = [post_id for post_id in parsed.values() if post_id is not None]

    async def command(_: PostStore, deletion: PostDeletion, author_id: bytes | None) -> tuple[int, list[bytes]]:
        if author_id is not None:
            return await deletion.delete_of(author_id), []
        deleted = await deletion.delete(wanted)
        return len(deleted), [post_id for post_id in wanted if post_id not in deleted]

    deleted, missing = _on_posts(author, command)
    say(f"deleted {deleted} {'post' if deleted == 1 else 'posts'}")
    if missing:
        raise CommandError(f"there is no post {', '.join(post_id.hex() for post_id in missing)}")


def _on_posts(author: str | None, command: Callable[[PostStore, PostDeletion, bytes | None], Awaitable[T]]) -> T:
    async def connected(context: CommandContext) -> T:
        settings, ring, mongo = context.settings, context.ring, context.mongo
        batching = group_commit(max_batch=settings.batch_max, max_queue=settings.batch_queue)
        author_id = None
        if author is not None:
            user = await UserStore(mongo, ring, batching).find_by_name(author)
            if user is None:
                raise CommandError(f"there is no user {author}")
            author_id = user.user_id
        posts = PostStore(mongo, ring, batching)
        return await command(posts, PostDeletion(posts, ReactionStore(mongo, batching)), author_id)

    return run_command(connected, feature="posts")
