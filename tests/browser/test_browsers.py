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
    ["SubtleCrypto.prototype.decrypt", "SubtleCrypto.prototype.deriveBits", "globalThis.TextDecoder"],
)
def test_a_browser_that_cannot_decrypt_opens_nothing(base: str, visitors: Visitors, lacking: str) -> None:
    """It is told which browsers can before there is a button, and another browser can still open the secret."""
    sender, reader, other = visitors.new(), visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT)
    reader.page.add_init_script(f"delete {lacking}")
    for url in (link, f"{base}/"):
        reader.page.goto(url)
        reader.page.wait_for_selector("#unsupported:focus")
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
    reader.page.add_init_script(FAIL_TO_DECRYPT)
    reader.page.goto(link)
    reader.sees("waiting")
    reader.page.fill("#phrase", PHRASE)
    reader.page.click("#open")
    expect(reader.page.locator("#notice-title")).to_have_text("Could not be decrypted", timeout=PATIENCE)
    reader.page.click("#retry")
    assert link == reader.page.url
    with reader.page.expect_event("dialog") as asked:
        reader.page.evaluate("location.reload()")
    assert "beforeunload" == asked.value.type
    reader.complaints.clear()
    reader.page.evaluate("failing = false")
    reader.page.click("#retry")
    reader.sees("shown")

    assert TEXT * 10 == reader.page.text_content("#text")
    assert 1 == len(posts(reader))
    assert f"{base}/s" == reader.page.url
