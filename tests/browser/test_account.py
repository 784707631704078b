"""The view of the account: password, sessions, API tokens and deletion."""

import secrets

import pytest
from playwright.sync_api import expect

from .chromium import PATIENCE
from .conftest import Visitor, Visitors
from .users import NEW_PASSWORD, PASSWORD, access_token, is_shown_as, is_signed_out, register, request, sign_in

pytestmark = pytest.mark.browser


@pytest.fixture
def user(base: str, visitors: Visitors) -> tuple[Visitor, str]:
    """A visitor who is signed in and sees the account, and its username."""
    visitor, name = visitors.new(permissions=["clipboard-read", "clipboard-write"]), register(base)
    sign_in(visitor, base, name)
    visitor.goes(f"{base}/account", "account")
    return visitor, name


def test_the_password_can_be_changed(base: str, user: tuple[Visitor, str]) -> None:
    """With the current one; other sessions end, and this one stays."""
    visitor, name = user
    page = visitor.page
    access_token(base, name)
    page.reload()
    expect(page.locator("#sessions li")).to_have_count(2, timeout=PATIENCE)
    page.fill("#new-password", NEW_PASSWORD)
    page.click("#change-password")
    expect(page.locator("#current-problem")).to_have_text("Enter your current password.", timeout=PATIENCE)
    page.fill("#current", NEW_PASSWORD)
    page.click("#change-password")
    expect(page.locator("#current-problem")).to_have_text("Incorrect password.", timeout=PATIENCE)
    assert "current" == page.evaluate("document.activeElement.id")
    page.fill("#current", PASSWORD)
    page.fill("#new-password", "short")
    page.click("#change-password")
    expect(page.locator("#new-password-problem")).to_have_text("Use at least 8 characters.", timeout=PATIENCE)
    page.fill("#new-password", NEW_PASSWORD)
    page.click("#change-password")
    expect(page.locator("#password-done")).to_contain_text("The password has been saved.", timeout=PATIENCE)
    expect(page.locator("#sessions li")).to_have_count(1, timeout=PATIENCE)
    assert ["", ""] == [page.input_value(field) for field in ("#current", "#new-password")]
    assert page.is_hidden("#remove-password")
    page.reload()
    visitor.sees("account")

    assert access_token(base, name, NEW_PASSWORD)
    assert 401 == request(base, "POST", "login", body={"username": name, "password": PASSWORD})[0]


def test_a_session_can_be_ended(base: str, user: tuple[Visitor, str]) -> None:
    """That of another program; this browser has no button."""
    visitor, name = user
    token = access_token(base, name)
    visitor.page.reload()
    sessions = visitor.page.locator("#sessions li")
    expect(sessions).to_have_count(2, timeout=PATIENCE)
    assert 1 == sessions.locator("button").count()
    assert "This browser" in sessions.nth(1).inner_text()
    sessions.locator("button").click()
    expect(sessions).to_have_count(1, timeout=PATIENCE)

    assert 200 != request(base, "POST", "refresh", body={"refresh_token": token})[0]
    assert 1 == len(request(base, "GET", "sessions", access_token(base, name))[1]["sessions"]) - 1


def test_an_api_token_is_shown_once(base: str, user: tuple[Visitor, str]) -> None:
    """It has the chosen scopes and expiry, works, and can be deleted."""
    visitor, name = user
    page = visitor.page
    page.click("details:has(#token-form) > summary")
    page.click("#create-token")
    expect(page.locator("#token-problem")).to_have_text("Enter a name.", timeout=PATIENCE)
    page.fill("#token-name", "nightly <b>report</b>")
    page.uncheck("#scope-secrets")
    page.click("#create-token")
    expect(page.locator("#token-problem")).to_have_text("Choose at least one scope.", timeout=PATIENCE)
    page.check("input[value=posts]")
    page.check("#scope-secrets")
    page.select_option("#token-expiry", "30")
    page.click("#create-token")
    page.wait_for_selector("#token-made:not([hidden])")
    token = page.input_value("#token")
    page.click("#copy-token")
    expect(page.locator("#copy-token")).to_have_text("Copied", timeout=PATIENCE)
    assert token == page.evaluate("navigator.clipboard.readText()")
    (stored,) = request(base, "GET", "tokens", access_token(base, name))[1]["tokens"]
    assert ("nightly <b>report</b>", ["posts", "secrets"]) == (stored["name"], stored["scopes"])
    assert stored["expires_at"] is not None
    assert 200 == request(base, "GET", "posts", token)[0]
    page.click("#hide-token")
    assert "" == page.input_value("#token")
    page.reload()
    visitor.sees("account")
    item = page.locator("#tokens li")
    assert "nightly <b>report</b>" == item.locator("bdi").inner_text()
    assert token not in page.content()
    item.locator("button").click()
    expect(page.locator("#ask-title")).to_have_text("Delete the token “nightly <b>report</b>”?", timeout=PATIENCE)
    page.click("#ask-no")
    expect(item).to_have_count(1)
    item.locator("button").click()
    page.click("#ask-yes")
    expect(item).to_have_count(0, timeout=PATIENCE)

    assert 401 == request(base, "GET", "posts", token)[0]


def test_the_account_can_be_deleted(base: str, visitors: Visitors, user: tuple[Visitor, str]) -> None:
    """After asking, and with the password; the browser is then signed out."""
    visitor, name = user
    page = visitor.page
    page.click("#delete-account")
    page.keyboard.press("Escape")
    page.wait_for_selector("#ask", state="hidden")
    assert "delete-account" == page.evaluate("document.activeElement.id")
    page.click("#delete-account")
    page.fill("#ask-password", NEW_PASSWORD)
    page.click("#ask-yes")
    expect(page.locator("#ask-problem")).to_have_text("Incorrect password.", timeout=PATIENCE)
    page.fill("#ask-password", PASSWORD)
    page.click("#ask-yes")
    page.wait_for_url(f"{base}/")
    is_signed_out(visitor)

    assert 401 == request(base, "POST", "login", body={"username": name, "password": PASSWORD})[0]


def test_another_user_in_another_tab_sees_only_their_own(base: str, user: tuple[Visitor, str]) -> None:
    """A tab of the account reloads as soon as another user signs in."""
    visitor, name = user
    other = register(base)
    tab = visitor.context.new_page()
    tab.goto(f"{base}/r")
    tab.click("#menu > summary")
    tab.click("#sign-out")
    visitor.page.wait_for_url(f"{base}/signin")
    visitor.sees("enter")
    visitor.page.fill("#username", other)
    visitor.page.fill("#password", PASSWORD)
    visitor.page.click("#submit")
    visitor.page.wait_for_url(f"{base}/account")
    is_shown_as(visitor, other)

    assert name not in visitor.page.content()
    tab.locator("#menu-name", has_text=other).wait_for()


def test_failed_requests_are_explained(user: tuple[Visitor, str]) -> None:
    """Of each part of the account; the view stays, and the same action then works."""
    visitor, _ = user
    page = visitor.page
    page.route("**/tokens", lambda route: route.abort())
    page.route("**/me/password", lambda route: route.fulfill(status=429, body='{"code": "too_many"}'))
    page.click("details:has(#token-form) > summary")
    page.fill("#token-name", "report")
    page.click("#create-token")
    expect(page.locator("#token-problem")).to_have_text("The server did not respond. Try again.", timeout=PATIENCE)
    page.fill("#current", PASSWORD)
    page.fill("#new-password", NEW_PASSWORD)
    page.click("#change-password")
    expect(page.locator("#new-password-problem")).to_contain_text("Too many attempts.", timeout=PATIENCE)
    page.unroute("**/tokens")
    page.click("#create-token")
    page.wait_for_selector("#token-made:not([hidden])")


@pytest.mark.parametrize("window", [{"width": 1280, "height": 800}, {"width": 390, "height": 844}])
def test_the_menu_of_a_short_name_stays_in_its_line(base: str, visitors: Visitors, window: dict[str, int]) -> None:
    """The navigation has one line, as it has with a long name."""
    tops = []
    for name in (f"u{secrets.token_hex(1)}", register(base)):
        request(base, "POST", "register", body={"username": name, "password": PASSWORD})
        visitor = visitors.new(viewport=window)
        sign_in(visitor, base, name)
        tops.append(
            visitor.page.evaluate(
                "[...document.querySelectorAll('header nav > :not([hidden])')].map(one => one.offsetTop)"
            )
        )

    assert tops[1] == tops[0]
