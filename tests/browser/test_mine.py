"""My secrets: what a user keeps with the account, its states, and deleting it."""

import re
import urllib.error

import pytest
from playwright.sync_api import expect

from .chromium import PATIENCE
from .conftest import Visitor, Visitors
from .signed_in import PASSWORD, new_name, register, sent, sign_in

pytestmark = pytest.mark.browser


def user_with_token(base: str, visitors: Visitors) -> tuple[Visitor, str]:
    """Return a visitor who has signed in, and an access token of the same user."""
    visitor = visitors.new()
    token = register(base, name := new_name())
    sign_in(visitor.page, base, name)
    return visitor, token


def keep(base: str, token: str, **body: object) -> str:
    """Create a secret that the account keeps; return its key."""
    return str(sent(base, "POST", "generate", {"secret": "a text", "keep": True, **body}, token=token)["secret_key"])


def test_deleting_from_my_secrets_really_deletes(base: str, visitors: Visitors) -> None:
    """After a confirmation, the secret cannot be opened any more, and the list says that it was deleted."""
    visitor, token = user_with_token(base, visitors)
    key = keep(base, token, max_opens=3)
    visitor.goes(f"{base}/mine", "mine")
    row = visitor.page.locator("#items > li")
    expect(row).to_have_count(1)
    assert "Available" == row.locator("h2").inner_text()
    assert "3 views left" in row.inner_text()
    assert key not in visitor.page.content()
    row.get_by_role("button").click()
    visitor.page.click("#question-no")
    assert 3 == sent(base, "GET", f"secrets/{key}")["opens_left"]
    row.get_by_role("button").click()
    visitor.page.click("#question-yes")
    expect(row.locator("h2")).to_have_text("Deleted", timeout=PATIENCE)
    expect(row).to_be_focused()
    expect(row.get_by_role("button")).to_have_count(0)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        sent(base, "POST", f"secrets/{key}")
    visitor.page.reload()
    visitor.sees("mine")
    assert "Deleted" == row.locator("h2").inner_text()


def test_each_state_is_listed(base: str, visitors: Visitors) -> None:
    """Opened, locked and available, newest first; the page says so if one was opened before it is deleted."""
    visitor, token = user_with_token(base, visitors)
    opened, locked = keep(base, token), keep(base, token, phrase="right", max_attempts=1)
    sent(base, "POST", f"secrets/{opened}", {})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        sent(base, "POST", f"secrets/{locked}", {"phrase": "wrong"})
    available = keep(base, token)
    sent(base, "POST", "", {"message": "to all", "keep": True}, token=token)
    visitor.goes(f"{base}/mine", "mine")
    expect(visitor.page.locator("#items h2")).to_have_text(["Available", "Available", "Locked", "Opened"])
    rows = visitor.page.locator("#items > li")
    expect(rows).to_contain_text(["Message", "1 view left", "1 wrong password", re.compile("Opened .+Secret")])
    sent(base, "POST", f"secrets/{available}", {})
    rows.nth(1).get_by_role("button").click()
    visitor.page.click("#question-yes")
    expect(visitor.page.locator("#question-problem")).to_contain_text("The server rejected", timeout=PATIENCE)


def test_an_empty_list_says_how_to_keep_a_secret(base: str, visitors: Visitors) -> None:
    """In the words of the checkbox in the view that shares."""
    visitor, _ = user_with_token(base, visitors)
    visitor.goes(f"{base}/mine", "mine")
    label = visitor.text("#mine p.card").partition("“")[2].partition("”")[0]
    visitor.goes(f"{base}/", "write")
    visitor.show_options()

    assert visitor.page.get_by_label(label).is_visible()


def test_more_secrets_are_loaded_on_demand(base: str, visitors: Visitors) -> None:
    """The first page, and the rest with a button, each once."""
    visitor, token = user_with_token(base, visitors)
    for _ in range(3):
        keep(base, token)
    visitor.page.route(
        re.compile(r"/me/items"),
        lambda route: route.continue_(url=f"{route.request.url}{'&' if '?' in route.request.url else '?'}limit=2"),
    )
    visitor.goes(f"{base}/mine", "mine")
    expect(visitor.page.locator("#items > li")).to_have_count(2)
    visitor.page.click("#items-more")
    expect(visitor.page.locator("#items > li")).to_have_count(3, timeout=PATIENCE)
    expect(visitor.page.locator("#items-more")).to_be_hidden()


def test_signed_out_visitors_sign_in_and_come_back(base: str, visitors: Visitors) -> None:
    """The view that signs in leads back to the address that was asked for."""
    visitor = visitors.new()
    register(base, name := new_name())
    visitor.page.goto(f"{base}/board?author={name}")
    visitor.page.wait_for_url("**/signin")
    visitor.sees("enter")
    visitor.page.fill("#username", name)
    visitor.page.fill("#password", PASSWORD)
    visitor.page.click("#submit")
    visitor.page.wait_for_url(f"**/board?author={name}")
    visitor.sees("board")
