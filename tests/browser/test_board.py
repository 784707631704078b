"""The board: users write, like and delete posts; what they write stays text."""

import pytest
from playwright.sync_api import expect

from .chromium import PATIENCE
from .conftest import Visitor, Visitors
from .signed_in import create_operator, new_name, register, sent, sign_in

pytestmark = pytest.mark.browser

HOSTILE = (
    "<img src=x onerror='document.title = 1'><script>document.title = 2</script>{{text}} {time}\n  &amp; \u202e end"
)


def user_of(base: str, visitors: Visitors, name: str) -> Visitor:
    """Return a visitor who has registered and signed in."""
    visitor = visitors.new()
    register(base, name)
    sign_in(visitor.page, base, name)
    return visitor


def test_users_publish_react_and_delete(base: str, visitors: Visitors) -> None:
    """A post appears on top; a like replaces a dislike and can be undone; only its author can delete it."""
    ann, bob = (user_of(base, visitors, new_name(name)) for name in ("ann", "bob"))
    title = new_name("Umbrella")
    ann.goes(f"{base}/board", "board")
    ann.page.fill("#title", title)
    ann.page.fill("#content", "Whose is it?\nIt is blue.")
    ann.page.select_option("#ttl", "86400")
    ann.page.click("#publish")
    own = ann.page.locator("#posts > li").first
    expect(own.locator("h2")).to_have_text(title, timeout=PATIENCE)
    expect(own.locator(".hint")).to_contain_text("left)")
    assert "" == ann.page.input_value("#content")

    bob.goes(f"{base}/board", "board")
    post = bob.page.locator("#posts > li", has_text=title)
    like, dislike = post.locator(".like"), post.locator(".dislike")
    for button, pressed, likes, dislikes in (
        (dislike, "true", "0", "1"),
        (like, "true", "1", "0"),
        (like, "false", "0", "0"),
    ):
        button.click()
        expect(like.locator("span")).to_have_text(likes, timeout=PATIENCE)
        expect(dislike.locator("span")).to_have_text(dislikes)
        expect(button).to_have_attribute("aria-pressed", pressed)
        expect(button).to_be_focused()
    expect(post.locator(".delete")).to_be_hidden()

    own.locator(".delete").click()
    ann.page.click("#question-no")
    expect(own.locator(".delete")).to_be_focused()
    own.locator(".delete").click()
    ann.page.click("#question-yes")
    expect(ann.page.locator("#posts > li", has_text=title)).to_have_count(0, timeout=PATIENCE)
    like.click()
    expect(bob.page.locator("#question-text")).to_contain_text("The server rejected the request", timeout=PATIENCE)
    bob.page.keyboard.press("Escape")
    bob.page.reload()
    bob.sees("board")
    expect(post).to_have_count(0)


def test_what_users_write_stays_text(base: str, visitors: Visitors) -> None:
    """HTML, scripts and placeholders in a post and in the address are shown as they are, and nothing is loaded."""
    visitor = user_of(base, visitors, name := new_name())
    visitor.goes(f"{base}/board", "board")
    visitor.page.fill("#title", HOSTILE.replace("\n", " "))
    visitor.page.fill("#content", HOSTILE)
    visitor.page.click("#publish")
    post = visitor.page.locator("#posts > li", has_text=name).first
    expect(post.locator("h2")).to_contain_text("<img src=x", timeout=PATIENCE)
    visitor.page.reload()
    visitor.sees("board")

    assert HOSTILE == post.locator(".content").text_content()
    assert 0 == visitor.page.locator("main img, main script").count()
    visitor.goes(f"{base}/board?author=%3Cimg%20src%3Dx%3E%24%26", "board")
    assert "Posts by <img src=x>$&" == visitor.text("#board-title")
    assert "Posts by <img src=x>$& · Sealpost" == visitor.page.title()
    assert visitor.page.get_by_text("No posts yet.").is_visible()
    assert [] == [path for path in visitor.paths() if path.endswith("/x")]


def test_more_posts_are_loaded_on_demand(base: str, visitors: Visitors) -> None:
    """The page of an author has that user's posts alone, each once, newest first, and no form."""
    visitor = visitors.new()
    token = register(base, name := new_name())
    for number in range(21):
        sent(base, "POST", "posts", {"content": f"post {number}"}, token=token)
    sign_in(visitor.page, base, name)
    visitor.goes(f"{base}/board", "board")
    visitor.page.locator("#posts a", has_text=name).first.click()
    visitor.page.wait_for_url("**/board?author=*")
    visitor.sees("board")
    posts = visitor.page.locator("#posts .content")
    expect(posts).to_have_count(20)
    expect(visitor.page.locator("#form")).to_be_hidden()
    visitor.page.click("#posts-more")
    expect(posts).to_have_text([f"post {number}" for number in reversed(range(21))], timeout=PATIENCE)
    expect(visitor.page.locator("#posts > li").last).to_be_focused()
    expect(visitor.page.locator("#posts-more")).to_be_hidden()
    visitor.page.click("#all-posts a")
    visitor.page.wait_for_url("**/board")


def test_a_post_that_cannot_be_published_is_kept(base: str, visitors: Visitors) -> None:
    """Without a text or a connection, the page says so under the field, and keeps the text."""
    visitor = user_of(base, visitors, new_name())
    visitor.goes(f"{base}/board", "board")
    visitor.page.click("#publish")
    assert "Enter a text." == visitor.text("#content-problem")
    visitor.page.fill("#content", "a text")
    visitor.page.route("**/posts", lambda route: route.abort())
    visitor.page.click("#publish")
    expect(visitor.page.locator("#content-problem")).to_contain_text("The server did not respond", timeout=PATIENCE)
    expect(visitor.page.locator("#content")).to_be_focused()
    assert "a text" == visitor.page.input_value("#content")


def test_a_board_without_a_connection_can_be_tried_again(base: str, visitors: Visitors) -> None:
    """The page says that the server did not respond, and its button loads the posts."""
    visitor = user_of(base, visitors, new_name())
    visitor.page.route("**/posts?*", lambda route: route.abort())
    visitor.goes(f"{base}/board", "notice")
    assert "The server did not respond" in visitor.text("#notice-text")
    visitor.page.unroute("**/posts?*")
    visitor.page.click("#retry")
    visitor.sees("board")


def test_an_operator_deletes_the_posts_of_others(base: str, visitors: Visitors, environment: dict[str, str]) -> None:
    """Operators get the button on every post."""
    author = new_name()
    sent(base, "POST", "posts", {"content": "an advertisement"}, token=register(base, author))
    create_operator(environment, operator := new_name("operator"))
    visitor = visitors.new()
    sign_in(visitor.page, base, operator)
    visitor.goes(f"{base}/board?author={author}", "board")
    visitor.page.click("#posts .delete")
    visitor.page.click("#question-yes")
    expect(visitor.page.get_by_text("No posts yet.")).to_be_visible(timeout=PATIENCE)
    expect(visitor.page.locator("#board")).to_be_focused()
