"""A note that was opened survives a reload, a lost response and a slip, and stays with the tab that opened it."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from playwright.sync_api import Page, Route, expect

from .chromium import PATIENCE
from .conftest import PHRASE, TEXT, Visitor, Visitors, created
from .file_readers import opens

pytestmark = pytest.mark.browser

KEPT = "Object.keys(sessionStorage)"


def link_key(link: str) -> str:
    """Return the key that the page sends to the server."""
    return urlsafe_b64encode(urlsafe_b64decode(link.rpartition("#")[2][1:] + "=")[:32]).decode().rstrip("=")


def reload(visitor: Visitor, section: str) -> None:
    visitor.page.reload()
    visitor.sees(section)


def is_gone_for(visitor: Visitor, link: str) -> None:
    visitor.goes(link, "notice")
    assert "Already opened" == visitor.text("#notice-title")


def test_a_reload_shows_an_opened_note_again(base: str, visitors: Visitors) -> None:
    """As often as the reader likes, and to nobody else; the receipt counts the attempts of others."""
    sender, reader, other = visitors.new(), visitors.new(), visitors.new()
    link, receipt = sender.share(base, TEXT)
    assert TEXT == reader.open(link)
    assert "you can reload this page" in reader.text("#shown-left")
    for _ in range(3):
        reload(reader, "shown")
        assert TEXT == reader.page.text_content("#text")
    is_gone_for(other, link)
    assert 404 == other.page.request.post(f"{base}/secrets/{link_key(link)}", data="{}").status
    sender.goes(receipt, "receipt")

    expect(sender.page.locator("#late")).to_contain_text("1, last on", timeout=PATIENCE)
    assert "Opened" == sender.text("#state h2")
    assert sender.page.is_hidden("#received-row")


def test_delete_now_ends_it(base: str, visitors: Visitors) -> None:
    """The text stays on the screen; a reload says that it was opened here, and the sender sees that it arrived."""
    sender, reader = visitors.new(), visitors.new()
    link, receipt = sender.share(base, TEXT)
    reader.open(link)
    reader.deletes_now()
    expect(reader.page.locator("#shown-left")).to_contain_text("has been deleted from the server", timeout=PATIENCE)
    assert TEXT == reader.page.text_content("#text")
    assert [] == reader.page.evaluate(KEPT)
    assert "#" not in reader.page.url
    reload(reader, "notice")
    assert "You have already opened this note" == reader.text("#notice-title")
    sender.goes(receipt, "receipt")

    expect(sender.page.locator("#received-row")).to_be_visible(timeout=PATIENCE)


@pytest.mark.parametrize("failure", ["lost", "502"])
def test_a_lost_response_loses_no_note(base: str, visitors: Visitors, failure: str) -> None:
    """The page asks again by itself, with the same key; with a password as well."""
    for phrase in ("", PHRASE):
        sender, reader = visitors.new(), visitors.new()
        link, receipt = sender.share(base, TEXT, phrase=phrase)
        keys = lose_responses(reader.page, failure, times=2)
        opens(reader, link, phrase)
        sender.goes(receipt, "receipt")

        assert TEXT == reader.page.text_content("#text")
        assert (3, 1) == (len(keys), len(set(keys)))
        assert sender.page.is_hidden("#failed-row")


def lose_responses(page: Page, failure: str, *, times: int) -> list[str]:
    """Let the server carry out the first openings, and lose its responses; return the keys of all requests."""
    keys: list[str] = []

    def pass_on(route: Route) -> None:
        if route.request.method != "POST" or route.request.url.endswith("/received"):
            return route.continue_()
        keys.append(json.loads(route.request.post_data or "{}")["reader"])
        answer = route.fetch()
        if len(keys) > times:
            return route.fulfill(response=answer)
        if failure == "lost":
            return route.abort()
        return route.fulfill(status=502, body="")

    page.route("**/secrets/**", pass_on)
    return keys


def test_the_password_is_asked_for_again(base: str, visitors: Visitors) -> None:
    """After a reload; a wrong one costs no attempt."""
    sender, reader = visitors.new(), visitors.new()
    link, receipt = sender.share(base, TEXT, phrase=PHRASE)
    reader.page.goto(link)
    reader.sees("waiting")
    reader.page.fill("#phrase", PHRASE)
    reader.page.click("#open")
    reader.sees("shown")
    reload(reader, "waiting")
    assert "You have already opened this note." in reader.text("#waiting-views")
    reader.page.fill("#phrase", "something else")
    reader.page.click("#open")
    expect(reader.page.locator("#problem")).to_contain_text("Wrong password", timeout=PATIENCE)
    reader.page.fill("#phrase", PHRASE)
    reader.page.click("#open")
    reader.sees("shown")
    sender.goes(receipt, "receipt")

    assert TEXT == reader.page.text_content("#text")
    assert sender.page.is_hidden("#failed-row")


def test_a_refused_opening_is_forgotten(base: str, visitors: Visitors) -> None:
    """After a wrong password, a reload shows the note as it is: still available, and not opened."""
    sender, reader = visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT, phrase=PHRASE)
    reader.page.goto(link)
    reader.sees("waiting")
    reader.page.fill("#phrase", "something else")
    reader.page.click("#open")
    expect(reader.page.locator("#problem")).to_contain_text("Wrong password", timeout=PATIENCE)
    reload(reader, "waiting")

    assert [] == reader.page.evaluate(KEPT)
    assert "It can be viewed once" in reader.text("#waiting-views")


def test_a_reload_uses_no_further_view(base: str, visitors: Visitors) -> None:
    """Of a note that may be viewed several times."""
    sender, reader, other = visitors.new(), visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT, opens=2)
    reader.open(link)
    assert "It can be viewed once more." in reader.text("#shown-left")
    reload(reader, "shown")
    assert "It can be viewed once more." in reader.text("#shown-left")

    assert TEXT == other.open(link)


def test_a_secret_of_the_api_is_held_as_well(base: str, visitors: Visitors) -> None:
    """Its link has no fragment."""
    reader = visitors.new()
    reader.open(created(f"{base}/generate", secret="a text")["url"])
    reload(reader, "shown")

    assert "a text" == reader.page.text_content("#text")
