"""Signing in and out on the page, in one tab and in several, and registering."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from ..processes import ROOT
from .chromium import PATIENCE
from .conftest import TEXT, Visitors
from .users import (
    NEW_PASSWORD,
    PASSWORD,
    access_token,
    is_shown_as,
    is_signed_out,
    register,
    request,
    sign_in,
    sign_out,
)

pytestmark = pytest.mark.browser

STORED = "JSON.stringify({...localStorage, ...sessionStorage})"


def test_a_reload_keeps_the_user_signed_in(base: str, visitors: Visitors) -> None:
    """No token is where a script or storage has it for longer than the page; the cookie is out of reach of scripts."""
    visitor = visitors.new()
    name = register(base)
    sign_in(visitor, base, name)
    for _ in range(2):
        visitor.page.reload()
        is_shown_as(visitor, name)
        visitor.page.wait_for_function("document.querySelector('#menu-admin').hidden")
    cookies = {one["name"]: one for one in visitor.context.cookies()}

    assert (True, "Strict") == (cookies["sealpost"]["httpOnly"], cookies["sealpost"]["sameSite"])
    assert "" == visitor.page.evaluate("document.cookie")
    assert cookies["sealpost"]["value"] not in visitor.page.evaluate(STORED)
    assert [name] == list(json.loads(visitor.page.evaluate(STORED)).values())
    assert {cookies["sealpost"]["value"]}.isdisjoint(
        re.findall(r'"refresh_token"\s*:\s*"([^"]+)', "".join(visitor.sent))
    )


def test_the_page_signs_the_terminal_in(base: str, visitors: Visitors, tmp_path: Path) -> None:
    """The client prints an address; the page asks there, and leads back to the client, which is then signed in."""
    name = register(base)
    visitor = visitors.new()
    environment = {
        "PATH": "/usr/bin:/bin",
        "BROWSER": "true",
        "SEALPOST_URL": base,
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "src.client"]
    with subprocess.Popen(
        [*command, "login", "--browser"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as terminal:
        assert terminal.stderr
        printed = next(line for line in terminal.stderr if "/signin?terminal=" in line)
        visitor.page.goto(re.findall(r"http\S+", printed)[0])
        visitor.sees("enter")
        visitor.page.fill("#username", name)
        visitor.page.fill("#password", PASSWORD)
        visitor.page.click("#submit")
        visitor.sees("approve")
        visitor.page.click("#approve-yes")
        expect(visitor.page.locator("body")).to_contain_text("close this window")
        assert 0 == terminal.wait(60)
    whoami = subprocess.run([*command, "whoami"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)

    assert name in whoami.stdout


def test_a_wrong_password_is_explained(base: str, visitors: Visitors) -> None:
    """Under the button; the focus is in the form, and the right password then works."""
    visitor = visitors.new()
    name = register(base)
    visitor.page.goto(f"{base}/signin")
    visitor.sees("enter")
    visitor.page.click("#submit")
    assert "Enter your username and your password." == visitor.text("#problem")
    visitor.page.fill("#username", name)
    visitor.page.fill("#password", NEW_PASSWORD)
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#problem")).to_have_text("Incorrect username or password.", timeout=PATIENCE)
    assert "username" == visitor.page.evaluate("document.activeElement.id")
    visitor.page.fill("#password", PASSWORD)
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url(f"{base}/")


def test_signing_in_leads_back(base: str, visitors: Visitors) -> None:
    """To the view that the user came from, or that needed a user; never to another site."""
    visitor = visitors.new()
    name = register(base)
    visitor.page.goto(f"{base}/r")
    visitor.page.click("#sign-in")
    visitor.sees("enter")
    for page in (f"{base}/r", f"{base}/account"):
        if page.endswith("account"):
            visitor.page.goto(page)
            visitor.page.wait_for_url(f"{base}/signin")
            visitor.sees("enter")
        visitor.page.fill("#username", name)
        visitor.page.fill("#password", PASSWORD)
        visitor.page.click("#submit")
        visitor.page.wait_for_url(page)
        is_shown_as(visitor, name)
        sign_out(visitor)
        if page.endswith("account"):
            visitor.page.wait_for_url(f"{base}/signin")
    visitor.sees("enter")
    visitor.page.evaluate("sessionStorage.setItem('sealpost-return/', 'https://example.org/')")
    sign_in(visitor, base, name)


def test_tabs_refresh_one_after_the_other(base: str, visitors: Visitors) -> None:
    """Many tabs that load at once all stay signed in, and so does a tab whose response was lost by a reload."""
    visitor = visitors.new()
    name = register(base)
    sign_in(visitor, base, name)
    tabs = [visitor.context.new_page() for _ in range(5)]
    for tab in tabs:
        tab.evaluate("url => { location.href = url; }", f"{base}/account")
    for tab in tabs:
        tab.wait_for_selector("#account:not([hidden])")

    def lose(route: Route) -> None:
        # The server has rotated the cookie; the browser never learns the new one.
        cookies = {one["name"]: one["value"] for one in visitor.context.cookies()}
        route.fetch()
        visitor.context.clear_cookies()
        visitor.context.add_cookies(
            [{"name": "sealpost", "value": cookies["sealpost"], "url": base, "httpOnly": True, "sameSite": "Strict"}]
        )
        route.abort()

    tabs[0].route("**/refresh", lose, times=1)
    tabs[0].reload()
    tabs[0].wait_for_selector("#notice:not([hidden])")
    tabs[0].reload()
    tabs[0].wait_for_selector("#account:not([hidden])")


def test_signing_out_applies_to_all_tabs(base: str, visitors: Visitors) -> None:
    """Each tab forgets the user and what it shows of the account; a text that is being written stays."""
    visitor = visitors.new()
    name = register(base)
    sign_in(visitor, base, name)
    writing, reading = visitor.page, visitor.context.new_page()
    writing.fill("#text", TEXT)
    reading.goto(f"{base}/account")
    reading.wait_for_selector("#account:not([hidden])")
    other = visitor.context.new_page()
    other.goto(f"{base}/r")
    other.click("#menu > summary")
    other.click("#sign-out")
    reading.wait_for_url(f"{base}/signin")
    is_signed_out(visitor)

    assert TEXT == writing.input_value("#text")
    assert [] == visitor.context.cookies()
    assert name not in reading.content()


def test_a_session_that_was_ended_elsewhere_ends_here(base: str, visitors: Visitors) -> None:
    """The next request notices; the view asks for signing in again."""
    visitor = visitors.new()
    name = register(base)
    sign_in(visitor, base, name)
    visitor.page.goto(f"{base}/account")
    visitor.sees("account")
    token = access_token(base, name)
    _, answer = request(base, "GET", "sessions", token)
    for session in answer["sessions"]:
        if not session["current"]:
            request(base, "DELETE", f"sessions/{session['id']}", token)
    visitor.page.reload()
    visitor.page.wait_for_url(f"{base}/signin")
    visitor.sees("enter")


def test_browsers_without_a_user_send_nothing(base: str, visitors: Visitors) -> None:
    """Neither the view for sharing nor that of receipts asks for a session, and readers load nothing of it."""
    sender, reader = visitors.new(), visitors.new()
    sender.page.goto(f"{base}/r")
    sender.sees("receipts")
    link, _ = sender.share(base, TEXT)
    reader.open(link)
    names = {line.partition("\n")[0].rpartition("/")[2] for line in sender.sent + reader.sent}

    assert {"signed_in.js"} == {"signed_in.js", "session.js", "menu.js", "refresh", "me", "service"} & names
    assert "signed_in.js" not in "".join(reader.sent)


def fill_registration(page: Page, name: str, password: str) -> None:
    page.fill("#new-username", name)
    page.fill("#new-password", password)
    page.click("#register-submit")


def test_a_stranger_registers(base: str, visitors: Visitors) -> None:
    """Where it is open; what is wrong is said at its field, and the new user is signed in."""
    visitor = visitors.new()
    taken = register(base)
    visitor.page.goto(f"{base}/signin")
    visitor.page.click("#to-register button")
    fill_registration(visitor.page, "ü", PASSWORD)
    assert "Use 3 to 32 letters" in visitor.text("#new-username-problem")
    fill_registration(visitor.page, taken, "short")
    assert "Use at least 8 characters." == visitor.text("#new-password-problem")
    assert "true" == visitor.page.get_attribute("#new-password", "aria-invalid")
    fill_registration(visitor.page, taken, PASSWORD)
    expect(visitor.page.locator("#new-username-problem")).to_contain_text("This username is taken.", timeout=PATIENCE)
    fill_registration(visitor.page, f"{taken[:-1]}-new", PASSWORD)
    visitor.page.wait_for_url(f"{base}/")
    is_shown_as(visitor, f"{taken[:-1]}-new")


def test_without_a_connection_the_user_is_told(base: str, visitors: Visitors) -> None:
    """The view offers to try again, and signing out says that it has failed."""
    visitor = visitors.new()
    name = register(base)
    visitor.page.route("**/service", lambda route: route.abort())
    visitor.page.goto(f"{base}/signin")
    visitor.sees("notice")
    assert "The server is not responding" == visitor.text("#notice-title")
    visitor.page.unroute("**/service")
    visitor.page.click("#retry")
    visitor.sees("enter")
    sign_in(visitor, base, name)
    visitor.page.route("**/logout", lambda route: route.abort())
    visitor.page.click("#menu > summary")
    visitor.page.click("#sign-out")
    expect(visitor.page.locator("#sign-out-problem")).to_be_visible(timeout=PATIENCE)
    visitor.page.keyboard.press("Escape")
    assert visitor.page.is_hidden("#sign-out")
    is_shown_as(visitor, name)
    visitor.page.unroute("**/logout")
    sign_out(visitor)
