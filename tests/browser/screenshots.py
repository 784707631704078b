"""Take a screenshot of each state of the page: ``python -m tests.browser.screenshots DIRECTORY``.

Each state is taken light and dark, on phone and desktop. Starts its own stack, and Chromium.
"""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, FilePayload, Page, Route

from bench.running_stack import running_stack

from .chromium import running_chromium
from .shared_files import share_encrypted
from .signed_in import create_operator
from .user_states import user_states

SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1100, "height": 800}}
SCHEMES = ("light", "dark")
SHORT = 10
"""Lifetime in seconds of the secret that expires while it is open."""
ATTACHED: list[FilePayload] = [
    {"name": "Floor plan of the office.pdf", "mimeType": "application/pdf", "buffer": bytes(3_400_000)},
    {"name": "Schlüsselübergabe-und-Zugänge-zum-Rechenzentrum.txt", "mimeType": "text/plain", "buffer": bytes(870)},
]
# Not the same name: case does not distinguish users, and each has a password of their own.
OPERATOR, USERNAME = "Ben", "anna"
TEXT, PHRASE = "The door code is 4711.\nThe cat is called Schrödinger.", "old friend"
FILES = (("Floor plan.pdf", bytes(2_345_678)), ("photos/Cat.jpg", bytes(912_345)), ("README.txt", TEXT.encode()))


class Sitter:
    """Drives the page from state to state; ``operator`` is the name of an operator's account."""

    def __init__(self, page: Page, base: str, operator: str) -> None:
        self.page, self._base, self._operator = page, base, operator

    def shows(self, link: str, section: str) -> None:
        """Load a link, even if only the fragment changes, and wait for a section."""
        self.page.goto("about:blank")
        self.page.goto(link)
        self.page.wait_for_selector(f"#{section}:not([hidden])")

    def share(self, kind: str, phrase: str = "") -> tuple[str, str]:
        """Share a text; return its link and the receipt link."""
        self.page.goto(f"{self._base}/")
        self.page.fill("#text", TEXT)
        self.page.click("#options > summary")
        self.page.check(f"input[value={kind}]")
        if phrase:
            self.page.fill("#phrase", phrase)
        self.page.click("#create")
        self.page.wait_for_selector("#result:not([hidden])")
        return self.page.input_value("#link"), self.page.input_value("#receipt-link")

    def states(self) -> Iterator[str]:
        """Bring the page into each state, and yield its name."""
        self.page.goto(f"{self._base}/")
        yield "create"
        self.page.click("#options > summary")
        yield "options"
        yield from self._attaching()
        link, receipt_link = self.share("secret", PHRASE)
        yield "result"
        self.page.check("#keep-receipt")
        self.page.click("#show-qr")
        yield "result-code"
        self.shows(receipt_link, "receipt")
        yield "receipt-waiting"
        self.page.click("#burn")
        yield "receipt-burn"
        yield from self._opening(link)
        self.shows(receipt_link, "receipt")
        yield "receipt-opened"
        yield from self._opening_files()
        yield from self._failing(link)
        yield from self._ending()
        link, receipt_link = self.share("message")
        self.page.check("#keep-receipt")
        self.shows(link, "shown")
        yield "message"
        self.shows(receipt_link, "receipt")
        self.page.click("#burn")
        self.page.click("#burn-now")
        self.page.wait_for_selector("#burning", state="hidden")
        yield "receipt-burned"
        self.shows(link, "notice")
        yield "message-gone"
        self.share("secret")
        self.page.check("#keep-receipt")
        yield from self._kept()
        yield from self._of_the_api()
        yield from self._signing_in()
        yield from self._of_the_account()
        yield from self._over_plain_http()
        yield from user_states(self.page, self._base, self._operator)

    def states_without_scripts(self) -> Iterator[str]:
        """Like `states`, with JavaScript disabled."""
        self.page.goto(f"{self._base}/")
        yield "no-javascript"

    def _attaching(self) -> Iterator[str]:
        self.page.goto(f"{self._base}/")
        self.page.set_input_files("#chosen", ATTACHED)
        self.page.wait_for_selector("#files li:last-child")
        yield "files"
        self.page.route("**/files/*", lose_after_the_first)
        self._click("#create")
        self.page.wait_for_selector("#files .paused")
        yield "files-paused"
        self.page.unroute("**/files/*")
        self.page.reload()
        self.page.wait_for_selector("#files li:last-child")
        yield "files-unfinished"
        self._click("#create")
        self.page.wait_for_selector("#attach-problem:not(:empty)")
        yield "files-missing"
        self._click("#files button:last-child")

    def _click(self, selector: str) -> None:
        """Click without the activation by a user, after which the page asks before it is left."""
        self.page.eval_on_selector(selector, "element => element.click()")

    def _opening(self, link: str) -> Iterator[str]:
        self.shows(link, "waiting")
        yield "waiting"
        self.page.click("#about > summary")
        yield "about"
        self.page.click("#about > summary")
        self.page.fill("#phrase", "old foe")
        self.page.click("#open")
        self.page.wait_for_selector("#problem:not(:empty)")
        yield "wrong-password"
        self.page.fill("#phrase", PHRASE)
        self.page.click("#open")
        self.page.wait_for_selector("#shown:not([hidden])")
        yield "shown"
        self.page.click("#received")
        self.page.wait_for_selector("#received", state="hidden")
        self.shows(link, "notice")
        yield "opened"

    def _opening_files(self) -> Iterator[str]:
        self.shows(share_encrypted(self._base, FILES, TEXT).link, "waiting")
        yield "waiting-files"
        self.page.click("#open")
        self.page.wait_for_selector("#shown:not([hidden])")
        yield "shown-files"

    def _failing(self, link: str) -> Iterator[str]:
        self.shows(link[:-10], "notice")
        yield "incomplete"
        self.page.route("**/secrets/*", lambda route: route.abort())
        self.shows(link, "notice")
        yield "offline"
        self.page.unroute("**/secrets/*")

    def _ending(self) -> Iterator[str]:
        link = self._created("generate", secret=TEXT, ttl={"seconds": SHORT})
        self.shows(link, "waiting")
        self.page.wait_for_selector("#notice:not([hidden])")
        yield "expired"
        link = self._created("generate", secret=TEXT, phrase=PHRASE, max_attempts=1)
        self.shows(link, "waiting")
        self.page.fill("#phrase", "old foe")
        self.page.click("#open")
        self.page.wait_for_selector("#notice:not([hidden])")
        yield "locked"

    def _kept(self) -> Iterator[str]:
        self.shows(f"{self._base}/r", "receipts")
        self.page.wait_for_selector("#kept-list li:last-child path[d]", state="attached")
        yield "receipts"
        for button in self.page.locator("#kept-list button").all()[::-1]:
            button.click()
        yield "receipts-none"

    def _of_the_api(self) -> Iterator[str]:
        link = self._created("", message=TEXT)
        self.page.goto(link)
        yield "api-message"
        self.page.goto(f"{link[:-43]}{'A' * 43}")
        yield "api-message-gone"

    def _signing_in(self) -> Iterator[str]:
        # It may exist from an earlier walk.
        self.page.request.post(f"{self._base}/register", data={"username": USERNAME, "password": PHRASE})
        self.shows(f"{self._base}/signin", "enter")
        yield "signin"
        self.page.fill("#username", USERNAME)
        self.page.fill("#password", "old foe")
        self.page.click("#submit")
        self.page.wait_for_selector("#problem:not(:empty)")
        yield "signin-refused"
        self.page.click("#to-register button")
        self.page.fill("#new-username", USERNAME)
        self.page.fill("#new-password", PHRASE)
        self.page.click("#register-submit")
        self.page.wait_for_selector("#new-username-problem:not(:empty)")
        yield "register"
        self.page.click("#to-sign-in button")
        self.page.fill("#password", PHRASE)
        self.page.click("#submit")
        self.page.wait_for_url(f"{self._base}/")
        self.page.wait_for_selector("#menu:not([hidden])")
        yield "create-signed-in"
        self.page.click("#menu > summary")
        yield "menu"

    def _of_the_account(self) -> Iterator[str]:
        passkey = {"id": "a" * 32, "name": "Laptop", "created_at": "2026-11-02T08:30:00Z", "last_used_at": None}
        self.page.route("**/passkeys", lambda route: route.fulfill(json={"passkeys": [passkey]}))
        self.shows(f"{self._base}/account", "account")
        yield "account"
        self.page.click("details:has(#token-form) > summary")
        self.page.fill("#token-name", "nightly report")
        self.page.click("#create-token")
        self.page.wait_for_selector("#token-made:not([hidden])")
        yield "account-token"
        self.page.click("#delete-account")
        yield "account-delete"
        self.page.click("#ask-no")
        self.page.locator("#tokens button").first.click()
        self.page.click("#ask-yes")
        self.page.wait_for_selector("#ask", state="hidden")
        self.page.unroute("**/passkeys")
        self.shows(f"{self._base}/signin?terminal=4000&challenge={'a' * 43}&state=a", "approve")
        yield "terminal"
        self.page.click("#approve-no")
        self.page.wait_for_url(f"{self._base}/")
        self.page.click("#menu > summary")
        self.page.click("#sign-out")
        self.page.wait_for_selector("#sign-in:not([hidden])")
        self.shows(f"{self._base}/signin?terminal=1&challenge={'a' * 43}&state=a", "notice")
        yield "terminal-invalid"

    def _over_plain_http(self) -> Iterator[str]:
        plain = self._base.replace("127.0.0.1", "plain.test")
        self.page.goto(f"{plain}/")
        self.page.wait_for_selector("#plain:not([hidden])")
        yield "no-web-crypto-create"
        self.shows(f"{plain}/s#1{'A' * 91}", "notice")
        yield "no-web-crypto"

    def _created(self, path: str, **body: object) -> str:
        """Create a secret or a message through the API; return its link."""
        answer = self.page.request.post(f"{self._base}/{path}", data=body).json()
        return str(answer["url"])


def lose_after_the_first(route: Route) -> None:
    """Lose the connection of an upload after its first part."""
    if route.request.headers.get("upload-offset") == "0":
        route.continue_()
    else:
        route.abort()


def new_page(browser: Browser, size: str, scheme: str, *, scripted: bool) -> Page:
    """Return a page in a new profile."""
    context = browser.new_context(
        viewport={"width": SIZES[size]["width"], "height": SIZES[size]["height"]},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-GB",
        timezone_id="UTC",
        java_script_enabled=scripted,
    )
    context.set_default_timeout(60_000)
    return context.new_page()


def take(browser: Browser, base: str, directory: Path) -> None:
    """Write a screenshot for each state, size and colour scheme."""
    for size, scheme in product(SIZES, SCHEMES):
        for scripted in (True, False):
            page = new_page(browser, size, scheme, scripted=scripted)
            sitter = Sitter(page, base, OPERATOR)
            for state in sitter.states() if scripted else sitter.states_without_scripts():
                path = directory / f"{state}-{size}-{scheme}.png"
                page.screenshot(path=path, full_page=True, animations="disabled")
            page.context.close()


def main() -> int:
    """Take all screenshots."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    environment = {"SEALPOST_RATE_LIMITS": "off"}
    with (
        TemporaryDirectory() as data,
        running_stack(data_dir=Path(data), log_dir=Path(data) / "logs", environment=environment) as stack,
        running_chromium() as browser,
    ):
        create_operator({"SEALPOST_DATA_DIR": data}, OPERATOR)
        take(browser, stack.url, directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
