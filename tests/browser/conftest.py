"""The whole stack and Chromium; every request, console error and page error is recorded."""

import json
import os
import re
import urllib.request
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, expect
from playwright.sync_api import Error as PlaywrightError

from bench.running_stack import RunningStack

from ..stack.conftest import KEYS, SETTINGS, mongod, stack
from ..stack.mongod import Mongod
from .chromium import PATIENCE, running_chromium
from .firefox import running_firefox

__all__ = ["mongod", "stack"]

BROWSER = os.environ.get("TEST_BROWSER", "chromium")
# Firefox has no command for them.
LACKING = {"firefox": {"forced_colors", "java_script_enabled"}}
needs_request_bodies = pytest.mark.skipif(BROWSER == "firefox", reason="Firefox does not report what it sent")
# Failed requests are no errors of the page; nor are, in Firefox, the favicon that a policy blocks, the style that
# Playwright adds for screenshots, and scripts of tests in about:blank, which has no Web Crypto.
HARMLESS = re.compile(
    "Failed to load resource|Loading failed for the|.* the loading of a resource .*/favicon.ico"
    "|.*sha256-YjaKGiklmzC6wjXA513HAMmzus8VE61XCOT[+]SmwNZWA=|SubtleCrypto is not defined"
)
DESCRIBED_MS = 5000
# As long as the other waits: by default, it is a twelfth of them.
expect.set_options(timeout=PATIENCE)
TEXT, PHRASE = "  Grüße ☕ <b>zwei</b>\n\tZeilen\n", "Ein Löwe — im Zelt"


@dataclass
class Visitor:
    """A user with a browser profile, the requests that it sent and the errors that it reported."""

    context: BrowserContext
    page: Page
    sent: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    unanswered: list[Request] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def notice(self, request: Request) -> None:
        """Record a request: line, headers and body."""
        self.unanswered.append(request)
        body = (request.post_data_buffer or b"").decode(errors="replace")
        self.sent.append(f"{request.method} {request.url}\n{request.all_headers()}\n{body}")

    def end(self, request: Request) -> None:
        """Record the end of a request."""
        self.unanswered = [one for one in self.unanswered if one != request]
        if request.failure:
            self.failed.append(f"{request.method} {request.url}: {request.failure}")

    def describe(self) -> str:
        """Return what the page shows, and what became of its requests, for the report of a failed test."""
        try:
            shown = f"{self.page.url}\n{self.page.inner_text('body', timeout=DESCRIBED_MS)}"
        except PlaywrightError as error:
            shown = str(error)
        unanswered = [f"{request.method} {request.url}" for request in self.unanswered]
        return f"{shown}\nfailed: {self.failed}\nwithout a response: {unanswered}\nerrors: {self.complaints}"

    def hear(self, line: ConsoleMessage) -> None:
        """Record a console error."""
        if line.type == "error":
            self.complaints.append(line.text)

    def dismiss(self, dialog: Dialog) -> None:
        """Dismiss a dialog, and record it as an error; only the page for sharing, which has no fragment, is left."""
        if dialog.type == "beforeunload" and "#" not in self.page.url:
            dialog.accept()
            return
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def sees(self, section: str) -> None:
        """Wait until a section is visible."""
        self.page.wait_for_selector(f"#{section}:not([hidden])")

    def goes(self, link: str, section: str) -> None:
        """Load a link, even if only the fragment changes, and wait for a section."""
        self.page.goto("about:blank")
        self.page.goto(link)
        self.sees(section)

    def text(self, selector: str) -> str:
        """Return the visible text of an element."""
        return self.page.inner_text(selector)

    def paths(self) -> list[str]:
        """Return the method and path of each request to the API."""
        lines = [one.partition("\n")[0] for one in self.sent]
        return [re.sub(r"https?://[^/]+", "", line) for line in lines if "/pages/" not in line]

    def set_views(self, number: str) -> None:
        """Fill in the number of views."""
        # In Firefox, Playwright appends to a number instead of replacing it.
        self.page.fill("#opens", "")
        self.page.fill("#opens", number)

    def show_options(self) -> None:
        """Open the options of the form."""
        self.page.click("#options:not([open]) > summary")

    def share(self, base: str, text: str, *, phrase: str = "", opens: int = 1, kind: str = "secret") -> tuple[str, str]:
        """Share a text on the page; return its link and the receipt link."""
        self.page.goto(f"{base}/")
        self.page.fill("#text", text)
        self.show_options()
        self.page.check(f"input[value={kind}]")
        if kind == "secret":
            self.page.fill("#phrase", phrase)
            self.set_views(str(opens))
        self.page.click("#create")
        self.sees("result")
        return self.page.input_value("#link"), self.page.input_value("#receipt-link")

    def open(self, link: str) -> str:
        """Open a link that has no password; return the text."""
        self.page.goto(link)
        self.sees("waiting")
        self.page.click("#open")
        self.sees("shown")
        return str(self.page.text_content("#text"))

    def deletes_now(self) -> None:
        """End the hold of an opened secret."""
        self.page.click("#received")
        self.page.wait_for_selector("#received", state="hidden")


class Visitors:
    """Creates visitors, each with their own profile."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.all: list[Visitor] = []

    def new(self, **options: Any) -> Visitor:
        """Return a visitor with an empty profile; skip the test if the browser lacks one of the options."""
        if lacking := LACKING.get(BROWSER, set()) & set(options):
            pytest.skip(f"{BROWSER} cannot emulate {', '.join(lacking)}")
        context = self._browser.new_context(locale=options.pop("locale", "en-GB"), **options)
        context.set_default_timeout(PATIENCE)
        visitor = Visitor(context, context.new_page())
        visitor.page.on("request", visitor.notice)
        visitor.page.on("requestfinished", visitor.end)
        visitor.page.on("requestfailed", visitor.end)
        visitor.page.on("console", visitor.hear)
        visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        # Without a listener, Playwright dismisses dialogs silently.
        visitor.page.on("dialog", visitor.dismiss)
        self.all.append(visitor)
        return visitor


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failed test what each visitor sees."""
    report = yield
    if report.when == "call" and report.failed and "visitors" in item.funcargs:
        visitors = item.funcargs["visitors"]
        assert isinstance(visitors, Visitors)
        report.sections += [("what a visitor sees", visitor.describe()) for visitor in visitors.all]
    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests: Chromium, or the one that the environment names."""
    running = {"chromium": running_chromium, "firefox": running_firefox}
    with running[BROWSER]() as browser:
        yield browser


@pytest.fixture
def visitors(browser: Browser) -> Iterator[Visitors]:
    """Visitors; an error that a browser reports fails the test, unless it is harmless."""
    visitors = Visitors(browser)
    yield visitors
    for visitor in visitors.all:
        visitor.context.close()

        assert [] == [one for one in visitor.complaints if not HARMLESS.match(one)]


@pytest.fixture
def base(stack: RunningStack) -> str:
    """The URL of the stack, by a host name that browsers treat as secure."""
    return stack.url


@pytest.fixture(scope="session")
def environment(mongod: Mongod) -> dict[str, str]:
    """The settings of the stack, for commands of its operator."""
    return {"SEALPOST_MONGO_URL": mongod.url, "SEALPOST_KEYS": KEYS, **SETTINGS}


def created(url: str, **body: Any) -> Any:
    """Create a secret or a message through the API."""
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=60) as answer:  # noqa: S310 (our own stack)
        return json.load(answer)
