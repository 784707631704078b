"""Posts and reactions."""

from typing import Annotated

import typer

from ..addresses import parse_id
from ..blocking_api import connect
from ..durations import parse_ttl, write_minute
from ..errors import WrongUsage
from ..options import Shared, shared_of
from ..output import Output, say
from ..policy import Auth
from ..prompts import read_text
from ..responses import JsonObject

LARGEST_PAGE = 100
SHOWN = 20
NO_POST = {"post_not_found": "no such post; it may have been deleted. See: sealpost feed"}
OPINIONS = {"like": "you like it", "dislike": "you dislike it"}

PostId = Annotated[str, typer.Argument(metavar="POST_ID", help="Shown by `feed`.", show_default=False)]


def publish(
    context: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The text. Default: stdin, or a prompt on a terminal.", show_default=False),
    ] = None,
    *,
    title: Annotated[str | None, typer.Option("--title", metavar="TITLE", help="Title of the post.")] = None,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="TIME", help="Lifetime, such as 2h or 30d. Default: no expiry.")
    ] = None,
) -> None:
    """Publish a post to all users of the server, and write its id to stdout."""
    shared = shared_of(context)
    given = {"title": title, "ttl": None if ttl is None else parse_ttl(ttl)}
    options = {name: value for name, value in given.items() if value is not None}
    with connect(shared) as server:
        # Check the sign-in before the user types a long text.
        server.run(server.api.token())
        body = {"content": read_text(text, "Post"), **options}
        unsure = "before you publish it again, look for it: sealpost feed"
        post = server.once("POST", "/posts", body, unsure=unsure)
    if shared.json:
        shared.output.records([post])
    else:
        shared.output.line(post.text("id"))


def feed(
    context: typer.Context,
    *,
    author: Annotated[str | None, typer.Option("--author", metavar="USERNAME", help="Only posts of this user.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help=f"Number of posts; {SHOWN} by default.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show all posts.")] = False,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="Continue where an earlier `feed` stopped.")
    ] = None,
) -> None:
    """Show posts, newest first."""
    if everything and limit is not None:
        raise WrongUsage("give either --limit or --all")
    shared, left = shared_of(context), None if everything else limit or SHOWN
    query = {name: value for name, value in {"author": author, "cursor": cursor}.items() if value is not None}
    with connect(shared) as server:
        while True:
            query["limit"] = str(LARGEST_PAGE if left is None else min(left, LARGEST_PAGE))
            page = server.get("/posts", auth=Auth.REQUIRED, query=query)
            posts = page.records("posts")
            for post in posts:
                _show(shared.output, post)
            left = None if left is None else left - len(posts)
            if not page.has("next_cursor"):
                return
            query["cursor"] = page.text("next_cursor")
            if left is not None and left <= 0:
                say(f"there are more posts: use --all, a higher --limit, or --cursor {query['cursor']}")
                return


def like(context: typer.Context, post_id: PostId) -> None:
    """Like a post; this replaces a dislike."""
    _react(shared_of(context), parse_id(post_id), "like")


def dislike(context: typer.Context, post_id: PostId) -> None:
    """Dislike a post; this replaces a like."""
    _react(shared_of(context), parse_id(post_id), "dislike")


def unreact(context: typer.Context, post_id: PostId) -> None:
    """Remove your like or dislike from a post."""
    _react(shared_of(context), parse_id(post_id), None)


def delete_post(context: typer.Context, post_id: PostId) -> None:
    """Delete one of your posts."""
    shared, found = shared_of(context), parse_id(post_id)
    with connect(shared) as server:
        server.delete(f"/posts/{found}", auth=Auth.REQUIRED, words=NO_POST)
    shared.output.done({"deleted": found}, "post deleted")


def _react(shared: Shared, post_id: str, kind: str | None) -> None:
    with connect(shared) as server:
        if kind is None:
            reactions = server.delete(f"/posts/{post_id}/reaction", auth=Auth.REQUIRED, words=NO_POST)
        else:
            reactions = server.put(f"/posts/{post_id}/{kind}", auth=Auth.REQUIRED, words=NO_POST)
    if shared.json:
        shared.output.records([reactions])
    else:
        shared.output.line(_counts(reactions))


def _show(output: Output, post: JsonObject) -> None:
    if output.as_json:
        output.records([post])
        return
    when = write_minute(post.moment("created_at"))
    output.heading(f"{post.text('author')}  {when}  {_counts(post)}  {post.text('id')}")
    if post.has("title"):
        output.heading(f"  {post.text('title')}")
    for line in post.text("content").splitlines():
        output.line(f"  {line}")
    output.line("")


def _counts(record: JsonObject) -> str:
    likes, dislikes = record.number("likes"), record.number("dislikes")
    words = [f"{likes} {'like' if likes == 1 else 'likes'}", f"{dislikes} {'dislike' if dislikes == 1 else 'dislikes'}"]
    mine = OPINIONS.get(record.text("mine")) if record.has("mine") else None
    return ", ".join([*words, *([mine] if mine else [])])
