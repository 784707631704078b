"""Posts at the terminal."""

import json

from ..conftest import Api
from .conftest import Typed


async def test_a_post_is_published_liked_and_deleted(ann: str, typed: Typed) -> None:
    """Its id is alone on stdout, and all others take it."""
    published = await typed("post", "--title", "Lost", "--ttl", "30d", stdin=b"Whose umbrella\nis this?\n")
    post_id = published.stdout.strip()
    reactions = [(await typed(command, post_id)).stdout for command in ("like", "dislike", "unreact")]
    listed = json.loads((await typed("feed", "--json")).stdout)
    shown = (await typed("feed")).stdout
    deleted, again = await typed("delete-post", post_id), await typed("like", post_id)

    assert (0, 32, "") == (published.code, len(post_id), published.stderr)
    assert [
        "1 like, 0 dislikes, you like it\n",
        "0 likes, 1 dislike, you dislike it\n",
        "0 likes, 0 dislikes\n",
    ] == reactions
    assert (post_id, "Lost", "Whose umbrella\nis this?\n") == (listed["id"], listed["title"], listed["content"])
    assert ["  Lost", "  Whose umbrella", "  is this?"] == shown.splitlines()[1:4]
    assert ["ann", post_id] == [shown.split()[place] for place in (0, 7)]
    assert (0, "sealpost: post deleted\n") == (deleted.code, deleted.stderr)
    assert (1, "sealpost: no such post; it may have been deleted. See: sealpost feed\n") == (again.code, again.stderr)


async def test_a_reaction_as_json_is_the_servers_answer(ann: str, typed: Typed) -> None:
    """For programs."""
    post_id = json.loads((await typed("post", "a text", "--json")).stdout)["id"]

    assert {"likes": 1, "dislikes": 0, "mine": "like"} == json.loads((await typed("like", post_id, "--json")).stdout)
    assert {"deleted": post_id} == json.loads((await typed("delete-post", post_id, "--json")).stdout)


async def test_the_feed_goes_through_pages(ann: str, api: Api, typed: Typed) -> None:
    """As many posts as asked for, over pages of a hundred; and on from where it has stopped."""
    token = await api.sign_up("bob")
    for number in range(103):
        assert 201 == (await api.call("POST", "/posts", {"content": str(number)}, token=token))[0]
    await typed("post", "from Ann")

    async def contents(*options: str) -> tuple[list[str], str]:
        ended = await typed("feed", "--json", *options)

        assert 0 == ended.code
        return [json.loads(line)["content"] for line in ended.stdout.splitlines()], ended.stderr

    newest = ["from Ann", *(str(number) for number in reversed(range(103)))]
    some, said = await contents("--limit", "102")
    rest, no_more = await contents("--cursor", said.split()[-1])
    assert (newest[:102], newest[102:], "") == (some, rest, no_more)
    assert (newest, "") == await contents("--all")
    assert (newest[1:], "") == await contents("--all", "--author", "BOB")
    assert newest[:20] == (await contents())[0]
    assert ([], "") == await contents("--author", "nobody")


async def test_what_contradicts_itself_is_refused(ann: str, typed: Typed) -> None:
    """Before anything is sent."""
    commands = (["feed", "--all", "--limit", "3"], ["like", "x"], ["post", "x", "--ttl", "x"], ["feed", "--limit", "0"])

    assert [2] * 4 == [(await typed(*command)).code for command in commands]


async def test_a_cursor_that_is_no_good_is_told(ann: str, typed: Typed) -> None:
    """In the server's words."""
    ended = await typed("feed", "--cursor", "x&y=z")

    assert (1, True) == (ended.code, "cursor" in ended.stderr)


async def test_nobody_writes_a_post_in_vain(url: str, typed: Typed) -> None:
    """Who is not signed in learns it before the text is read."""
    assert 4 == (await typed("post")).code
