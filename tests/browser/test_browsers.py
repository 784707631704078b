"""Browsers that lack a function, fail in the middle, or do not run the page."""

import pytest
from playwright.sync_api import expect

from .chromium import PATIENCE
from .conftest import PHRASE, TEXT, Visitor, Visitors

pytestmark = pytest.mark.browser

# Fails each decryption of a note; that of the page's own test before it is shorter.
FAIL_TO_DECRYPT = """
const decrypt = SubtleCrypto.prototype.decrypt;
globalThis.failing = true;
SubtleCrypto.prototype.decrypt = function (parameters, key, data) {
  if (globalThis.failing && data.length > 100) throw new TypeError("lacking");
  return decrypt.call(this, parameters, key, data);
};
"""


def posts(visitor: Visitor) -> list[str]:
    """Return the requests that use something up."""
    return [path for path in visitor.paths() if path.startswith("POST")]


@pytest.mark.parametrize(
    "lacking",
    ["SubtleCrypto?.prototype.decrypt", "SubtleCrypto?.prototype.deriveBits", "TextDecoder"],
)
def test_a_browser_that_cannot_decrypt_opens_nothing(base: str, visitors: Visitors, lacking: str) -> None:
    """It is told which browsers can before there is a button, and another browser can still open the secret."""
    sender, reader, other = visitors.new(), visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT)
    reader.page.add_init_script(f"delete globalThis.{lacking}")
    for url in (link, f"{base}/"):
        reader.page.goto(url)
        reader.page.wait_for_selector("#unsupported")
        assert "unsupported" == reader.page.evaluate("document.activeElement.id")
        assert "Firefox from 115" in reader.text("#unsupported")
        assert reader.page.is_hidden("#open, #create")

    assert [] == posts(reader)
    # The cause is in the console.
    assert reader.complaints
    reader.complaints.clear()
    assert TEXT == other.open(link)


def test_an_opened_secret_is_kept_until_it_is_decrypted(base: str, visitors: Visitors) -> None:
    """After a failure the page asks before it is left, and a retry shows the text without another request."""
    sender, reader = visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT * 10, phrase=PHRASE)
    # A page without the dialog handler of the visitor.
    reader.page = reader.context.new_page()
    reader.page.on("request", reader.notice)
    reader.page.on("dialog", lambda dialog: dialog.dismiss())
    reader.page.add_init_script(FAIL_TO_DECRYPT)
    reader.page.goto(link)
    reader.sees("waiting")
    reader.page.fill("#phrase", PHRASE)
    reader.page.click("#open")
    expect(reader.page.locator("#notice-title")).to_have_text("Decryption failed", timeout=PATIENCE)
    reader.page.click("#retry")
    assert link == reader.page.url
    with reader.page.expect_event("dialog") as asked:
        reader.page.evaluate("location.reload()")
    assert "beforeunload" == asked.value.type
    reader.page.evaluate("failing = false")
    reader.page.click("#retry")
    reader.sees("shown")
    opened = len(posts(reader))
    reader.deletes_now()

    assert TEXT * 10 == reader.page.text_content("#text")
    assert 1 == opened
    assert f"{base}/s" == reader.page.evaluate("location.href")


# Built-in functions that Chrome 109, Firefox 115 or Safari 16 lacks, and some that they have only just got.
NEWER = """
AbortSignal.any AbortSignal.timeout Array.fromAsync Array.prototype.at Array.prototype.findLast
Array.prototype.findLastIndex Array.prototype.toReversed Array.prototype.toSorted Array.prototype.toSpliced
Array.prototype.with ArrayBuffer.prototype.transfer globalThis.CompressionStream globalThis.Iterator
globalThis.structuredClone Intl.DurationFormat Intl.Segmenter Map.groupBy Object.groupBy Object.hasOwn Promise.try
Promise.withResolvers Response.json Set.prototype.difference Set.prototype.union String.prototype.isWellFormed
String.prototype.toWellFormed Symbol.asyncDispose Symbol.dispose Uint8Array.fromBase64
Uint8Array.prototype.toBase64 URL.canParse URL.parse globalThis.navigation globalThis.scheduler
"""
# `findLastIndex` and `at` of typed arrays belong to the prototype that they share.
WITHOUT_NEWER = (
    "".join(f"delete {name};\n" for name in NEWER.split())
    + "for (const name of ['at', 'findLast', 'findLastIndex', 'toReversed', 'toSorted', 'with'])"
    + " delete Object.getPrototypeOf(Uint8Array.prototype)[name];"
)


def test_the_page_needs_no_newer_function_than_it_says(base: str, visitors: Visitors) -> None:
    """Sharing, opening and the receipt work without the built-in functions that the named versions lack."""
    visitor = visitors.new()
    visitor.page.add_init_script(WITHOUT_NEWER)
    link, receipt_link = visitor.share(base, TEXT, phrase=PHRASE)

    lacking = "[AbortSignal.timeout, new Uint8Array().findLastIndex].filter(Boolean)"
    assert [] == visitor.page.evaluate(lacking)
    visitor.page.goto(link)
    visitor.sees("waiting")
    visitor.page.fill("#phrase", PHRASE)
    visitor.page.click("#open")
    visitor.sees("shown")
    assert TEXT == visitor.page.text_content("#text")
    visitor.page.goto(receipt_link)
    visitor.sees("receipt")
    assert "Opened" in visitor.text("#state")
    assert visitor.page.is_hidden("#unsupported")


def test_a_browser_that_lacks_a_part_of_fetch_has_a_connection(base: str, visitors: Visitors) -> None:
    """The page says which browsers work and does not blame the connection."""
    sender, reader = visitors.new(), visitors.new()
    link, receipt_link = sender.share(base, TEXT)
    reader.page.add_init_script("delete globalThis.AbortController")
    for url in (link, receipt_link):
        reader.page.goto(url)
        reader.page.wait_for_selector("#unsupported")
        assert "unsupported" == reader.page.evaluate("document.activeElement.id")
        assert reader.page.is_hidden("#notice")
    reader.complaints.clear()


@pytest.mark.parametrize("path", ["/", "/s", "/m", "/r"])
def test_where_scripts_are_blocked_the_page_says_which_browsers_work(base: str, visitors: Visitors, path: str) -> None:
    """After a while, without any script: blocked by an extension, lost on the way, or too new for the browser."""
    visitor = visitors.new()
    visitor.page.route("**/*.js", lambda route: route.abort())
    visitor.page.goto(base + path)
    visitor.page.wait_for_selector("#unsupported", state="visible")

    assert "Safari from 16" in visitor.text("#unsupported")
    assert 0 == visitor.page.locator("main > section:visible").count()
    visitor.page.unroute("**/*.js")
    broken = {"content_type": "text/javascript", "body": "this is newer than the browser"}
    visitor.page.route("**/clock.js", lambda route: route.fulfill(**broken))
    visitor.page.reload()
    visitor.page.wait_for_selector("#unsupported", state="visible")
    visitor.complaints.clear()
