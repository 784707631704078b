"""Accessibility of every state: no axe-core violation, no horizontal scrolling, no layout shift."""

import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route

from . import users
from .conftest import PHRASE, TEXT, Visitor, Visitors, created
from .shared_files import PICKERS, share_encrypted
from .signed_in import PASSWORD, create_operator, new_name, register, sent, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("scheme", ["light", "dark"])]

NARROW = {"width": 320, "height": 640}
LONG = "x" * 500
# The cumulative layout shift, without shifts caused by input.
SHIFT = """() => new Promise(done => {
  let shift = 0;
  const moved = new Set();
  new PerformanceObserver(list => {
    for (const one of list.getEntries().filter(one => !one.hadRecentInput)) {
      shift += one.value;
      for (const {node} of one.sources) moved.add(node?.id || node?.nodeName || "a removed node");
    }
  }).observe({type: "layout-shift", buffered: true});
  setTimeout(() => done([shift, [...moved].join(", ")]), 300);
})"""
MOST_SHIFT = 0.01
LATE_SECONDS = 0.7


@dataclass
class Examination:
    """Collects the faults of the states that a visitor goes through."""

    visitor: Visitor
    width: int = NARROW["width"]
    found: list[str] = field(default_factory=list)

    @property
    def page(self) -> Page:
        """The visitor's page."""
        return self.visitor.page

    def check(self, state: str) -> None:
        """Check the current state for layout shift, axe-core violations and width."""
        shift, moved = self.page.evaluate(SHIFT)
        self.found.extend([f"{state} has moved by {shift}: {moved}"] if shift > MOST_SHIFT else [])
        violations = Axe().run(self.page).response["violations"]
        self.found.extend(f"{state}: {one['id']}: {node['html']}" for one in violations for node in one["nodes"])
        self.check_width(state)

    def check_width(self, state: str) -> None:
        """Check that the state does not scroll horizontally."""
        width = self.page.evaluate("document.documentElement.scrollWidth")
        self.found.extend([f"{state} is {width} wide"] if width > self.width else [])

    def check_link(self, state: str, link: str, section: str) -> None:
        """Load a link and check its state."""
        self.visitor.goes(link, section)
        self.check(state)


def examination(visitors: Visitors, scheme: str) -> Examination:
    """Return an examination by a new visitor with a narrow window."""
    return Examination(visitors.new(color_scheme=scheme, viewport=NARROW, reduced_motion="reduce"))


def answer_late(route: Route) -> None:
    """Delay the response, so that a layout shift no longer counts as caused by input."""
    time.sleep(LATE_SECONDS)
    route.continue_()


def expire_soon(page: Page, pattern: str) -> None:
    """Let what a page loads expire in 1 second, and answer later requests as if the server had deleted it."""

    def answer_expiring(route: Route) -> None:
        answer = route.fetch()
        soon = datetime.now(UTC) + timedelta(seconds=1)
        route.fulfill(response=answer, json={**answer.json(), "expires_at": soon.isoformat()})

    gone = {"status": 404, "content_type": "application/problem+json", "body": '{"code": "key_not_found"}'}
    page.route(pattern, lambda route: route.fulfill(**gone))
    # The route that was added last comes first, while its times last.
    page.route(pattern, answer_expiring, times=1)


def await_expiry(link: str) -> None:
    """Wait until the server no longer knows a link."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(link, timeout=60).close()  # noqa: S310 (our own stack)
        except urllib.error.HTTPError as gone:
            gone.close()
            return
        time.sleep(0.2)
    raise TimeoutError


def test_nobody_is_shut_out_of_sharing_and_opening(base: str, visitors: Visitors, scheme: str) -> None:
    """The form, the link, opening with a right, wrong and missing password, the text, and the receipt."""
    of = examination(visitors, scheme)
    of.page.route(re.compile("/(generate|secrets|receipts)"), answer_late)
    of.check_link("create", f"{base}/", "write")
    of.page.click("#create")
    assert "true" == of.page.get_attribute("#text", "aria-invalid")
    of.check("create, refused")
    of.visitor.show_options()
    of.check("create, with options")
    link, receipt_link = of.visitor.share(base, LONG, phrase=PHRASE)
    of.page.check("#keep-receipt")
    of.check("result")
    of.page.click("#show-qr")
    of.check("result, with the QR code")
    of.check_link("my receipts", f"{base}/r", "receipts")
    of.page.click("#kept-list button")
    of.check("no receipts")
    of.check_link("waiting", link, "waiting")
    of.page.click("#about > summary")
    of.check("waiting, with the explanation")
    of.page.click("#open")
    of.check("waiting, without the password")
    of.page.fill("#phrase", "wrong")
    of.page.click("#open")
    of.page.get_by_text("attempts left").wait_for()
    of.check("waiting, after a wrong phrase")
    of.page.fill("#phrase", PHRASE)
    of.page.click("#open")
    of.visitor.sees("shown")
    of.check("shown")
    of.page.click("#hide")
    of.check("hidden")
    of.page.reload()
    of.visitor.sees("waiting")
    of.check("held, with a password")
    of.page.fill("#phrase", PHRASE)
    of.page.click("#open")
    of.visitor.sees("shown")
    of.visitor.deletes_now()
    of.check("shown, deleted")
    of.page.reload()
    of.visitor.sees("notice")
    of.check("opened here")
    of.check_link("opened", link, "notice")
    of.check_link("receipt, opened", receipt_link, "receipt")

    assert [] == of.found


def test_nobody_is_shut_out_of_files(base: str, visitors: Visitors, scheme: str) -> None:
    """Files before and after opening, running, interrupted, altered, downloaded and gone, and their receipt."""
    of = examination(visitors, scheme)
    of.page.remove_listener("dialog", of.visitor.dismiss)
    of.page.on("dialog", lambda dialog: dialog.accept())
    of.page.add_init_script(PICKERS)
    shared = share_encrypted(base, [(f"{LONG}.txt", bytes(300)), ("b/c.txt", bytes(200_000))], LONG)
    of.check_link("waiting, with files", shared.link, "waiting")
    of.page.click("#open")
    of.visitor.sees("shown")
    of.check("shown, with files")
    of.page.route("**/files/*", lambda _: None)
    of.page.click("#download-1")
    of.page.get_by_text("Cancel").wait_for()
    of.check("downloading")
    of.page.click("#download-1")
    of.page.route("**/files/*", lambda route: route.abort())
    of.page.click("#download-1")
    of.page.locator("#files").get_by_text("The download was interrupted.").wait_for()
    of.check("interrupted")
    of.page.route("**/files/*", lambda route: route.fulfill(body=bytes(1_000_000)))
    of.page.click("#download-2")
    of.page.locator("#files").get_by_text("Altered or damaged").wait_for()
    of.check("altered")
    of.page.unroute("**/files/*")
    of.page.click("#download-all")
    of.page.locator("#files").get_by_text("Downloaded").nth(1).wait_for()
    of.check("downloaded")
    of.visitor.deletes_now()
    of.check("downloaded, deleted")
    of.check_link("receipt, with files", shared.receipt_link, "receipt")

    assert [] == of.found


def test_nobody_is_shut_out_of_accounts(base: str, visitors: Visitors, scheme: str) -> None:
    """Signing in, registering, the menu, the account with its dialogs, and the question of a terminal."""
    of = examination(visitors, scheme)
    name = users.register(base)
    of.page.route(re.compile("/(service|refresh|me|sessions|passkeys|tokens)$"), answer_late)
    of.check_link("sign in", f"{base}/signin", "enter")
    of.page.fill("#username", name)
    of.page.fill("#password", "wrong")
    of.page.click("#submit")
    of.page.get_by_text("Incorrect username or password.").wait_for()
    of.check("sign in, refused")
    of.page.click("#to-register button")
    of.page.click("#register-submit")
    of.check("register, refused")
    users.sign_in(of.visitor, base, name)
    of.check("create, signed in")
    of.page.click("#menu > summary")
    of.check("menu")
    of.check_link("account", f"{base}/account", "account")
    of.page.click("#change-password")
    of.page.get_by_text("Enter your current password.").wait_for()
    of.page.click("details:has(#token-form) > summary")
    of.page.fill("#token-name", "x" * 64)
    of.page.click("#create-token")
    of.page.wait_for_selector("#token-made:not([hidden])")
    of.check("account, with a token")
    of.page.click("#delete-account")
    of.page.click("#ask-yes")
    of.page.locator("#ask-problem:not(:empty)").wait_for()
    of.check("account, delete")
    of.check_link("terminal", f"{base}/signin?terminal=4000&challenge={'a' * 43}&state=a", "approve")

    assert [] == of.found


def test_nobody_is_shut_out_of_messages(base: str, visitors: Visitors, scheme: str) -> None:
    """Messages of the page and of the API: shown, expired while open, and gone."""
    of = examination(visitors, scheme)
    link, receipt_link = of.visitor.share(base, LONG, kind="message")
    of.check_link("message", link, "shown")
    of.check_link("receipt, waiting", receipt_link, "receipt")
    of.page.click("#burn")
    of.check("receipt, burn")
    of.page.click("#burn-now")
    of.page.get_by_text("It can no longer be viewed.").wait_for()
    of.check("receipt, burned")
    of.check_link("message, gone", link, "notice")
    expiring, _ = of.visitor.share(base, TEXT, kind="message")
    expire_soon(of.page, "**/message/*")
    of.visitor.goes(expiring, "notice")
    assert "Expired" == of.visitor.text("#notice-title")
    of.check("message, expired while open")
    of.page.unroute("**/message/*")
    for message in (LONG, "Lunch is at noon.\n" * 100):
        of.page.goto(created(f"{base}/", message=message)["url"])
        assert message == of.page.text_content("pre")
        of.check("message of the API")
    short = created(f"{base}/", message=TEXT, ttl={"seconds": 1})["url"]
    await_expiry(short)
    of.page.goto(short)
    assert "Message not found" == of.visitor.text("h1")
    of.check("message of the API, gone")
    of.page.goto(f"{base}/unknown")
    of.check("error of a worker")
    of.page.goto(f"{base}/metrics")
    of.check("error of nginx")

    assert [] == of.found


def test_nobody_is_shut_out_of_the_views_for_users(
    base: str, visitors: Visitors, scheme: str, environment: dict[str, str]
) -> None:
    """The user's secrets, posts with long texts and names, and what operators see, with questions and failures."""
    of = examination(visitors, scheme)
    create_operator(environment, operator := new_name("operator"))
    token = register(base, author := new_name("a_long_name_of_a_user"))
    sent(base, "POST", "posts", {"title": "y" * 200, "content": LONG}, token=token)
    sign_in(of.page, base, operator)
    of.check_link("no secrets", f"{base}/mine", "mine")
    token = sent(base, "POST", "login", {"username": operator, "password": PASSWORD})["access_token"]
    sent(base, "POST", "generate", {"secret": TEXT, "keep": True}, token=token)
    of.check_link("my secrets", f"{base}/mine", "mine")
    of.page.click("#items button")
    of.check("my secrets, question")
    of.page.click("#question-yes")
    of.page.get_by_text("Deleted").wait_for()
    of.check("my secrets, deleted")
    of.check_link("board", f"{base}/board?author={author}", "board")
    of.page.route("**/like", lambda route: route.abort())
    of.page.click(".like")
    of.page.wait_for_selector("#question[open]")
    of.check("board, failed")
    of.check_link("board with a form", f"{base}/board", "board")
    of.page.click("#publish")
    of.check("board, refused")
    for tab in ("users", "invitations", "audit", "health"):
        of.check_link(tab, f"{base}/admin#{tab}", f"{tab}-panel")
    of.visitor.goes(f"{base}/admin#invitations", "invitations-panel")
    of.page.click("#invite")
    of.visitor.sees("invited")
    of.check("invitation")
    sign_in(of.page, base, author)
    of.check_link("operators only", f"{base}/admin", "notice")
    of.page.route("**/me/items", lambda route: route.abort())
    of.check_link("no connection", f"{base}/mine", "notice")

    assert [] == of.found


def test_nobody_is_shut_out_where_nothing_opens(base: str, visitors: Visitors, scheme: str) -> None:
    """Expired, burned, locked, incomplete, offline, and busy."""
    of = examination(visitors, scheme)
    short = created(f"{base}/generate", secret=TEXT, ttl={"seconds": 1})["url"]
    await_expiry(short)
    of.check_link("expired", short, "notice")
    link = created(f"{base}/generate", secret=TEXT, phrase=PHRASE, max_attempts=2)["url"]
    of.visitor.goes(link, "waiting")
    of.page.fill("#phrase", "wrong")
    of.page.click("#open")
    of.page.get_by_text("1 attempt left").wait_for()
    of.check("last attempt")
    of.page.click("#open")
    of.visitor.sees("notice")
    assert "Locked and deleted" == of.visitor.text("#notice-title")
    of.check("locked just now")
    of.check_link("locked", link, "notice")
    link, receipt_link = of.visitor.share(base, TEXT)
    of.visitor.goes(receipt_link, "receipt")
    of.page.click("#burn")
    of.page.click("#burn-now")
    of.page.get_by_text("It can no longer be viewed.").wait_for()
    of.check_link("burned", link, "notice")
    of.check_link("incomplete", link[:-10], "notice")
    of.check_link("receipt, incomplete", receipt_link[:-10], "notice")
    of.check_link("no such receipt", f"{base}/r#{'A' * 60}", "notice")
    waiting = created(f"{base}/generate", secret=TEXT)["url"]
    of.visitor.goes(waiting, "waiting")
    of.page.route("**/secrets/*", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    of.page.click("#open")
    of.visitor.sees("notice")
    assert "Connection lost" == of.visitor.text("#notice-title")
    of.check("lost")
    encrypted, _ = of.visitor.share(base, TEXT)
    of.page.route("**/secrets/*", lambda route: route.abort())
    of.check_link("offline", encrypted, "notice")
    assert "No connection" == of.visitor.text("#notice-title")
    busy = {"status": 429, "content_type": "application/problem+json", "body": '{"code": "too_many"}'}
    of.page.route("**/secrets/*", lambda route: route.fulfill(**busy))
    of.check_link("busy", encrypted, "notice")
    assert "The server is busy" == of.visitor.text("#notice-title")
    of.page.unroute("**/secrets/*")
    expire_soon(of.page, "**/secrets/*")
    of.visitor.goes(encrypted, "notice")
    assert "Expired" == of.visitor.text("#notice-title")
    of.check("expired while open")

    assert [] == of.found


def test_nobody_is_shut_out_without_encryption_or_javascript(base: str, visitors: Visitors, scheme: str) -> None:
    """Plain HTTP: the form, its refusal, the link, no decryption. Without JavaScript: no horizontal scrolling."""
    of = examination(visitors, scheme)
    plain = base.replace("127.0.0.1", "plain.test")
    of.check_link("create over plain HTTP", f"{plain}/", "write")
    assert of.page.is_visible("#plain")
    of.page.fill("#text", LONG)
    of.page.click("#create")
    assert "Nothing was sent" in of.visitor.text("#server-side-problem")
    of.check("create over plain HTTP, refused")
    of.page.check("#server-side")
    of.page.click("#create")
    of.visitor.sees("result")
    of.check("result of the server alone")
    of.check_link("waiting over plain HTTP", of.page.input_value("#link"), "waiting")
    of.check_link("no decryption over plain HTTP", f"{plain}/s#1{'A' * 91}", "notice")
    bare = Examination(visitors.new(color_scheme=scheme, viewport=NARROW, java_script_enabled=False), found=of.found)
    message = created(f"{base}/", message=LONG)["url"]
    for link in (*(f"{base}/{view}" for view in ("", "s", "m", "r")), message, message[:-1]):
        bare.page.goto(link)
        bare.check_width(f"{link} without JavaScript")

    assert [] == of.found


def test_nobody_is_shut_out_at_twice_the_size(base: str, visitors: Visitors, scheme: str) -> None:
    """A window of 1280 pixels zoomed to 200 % does not scroll horizontally."""
    window = {"width": 640, "height": 400}
    of = Examination(visitors.new(color_scheme=scheme, viewport=window, device_scale_factor=2), window["width"])
    of.check_link("create", f"{base}/", "write")
    link, _ = of.visitor.share(base, LONG)
    of.check("result")
    of.check_link("waiting", link, "waiting")
    of.page.click("#open")
    of.visitor.sees("shown")
    of.check("shown")

    assert [] == of.found
