"""Links as other programs change them: the page opens the one that was meant."""

import pytest
from playwright.sync_api import expect

from ..altered_links import ALTERED, SEPARATORS
from .chromium import PATIENCE
from .conftest import TEXT, Visitor, Visitors, created

pytestmark = pytest.mark.browser


def check(visitor: Visitor, link: str, section: str) -> None:
    """Load a link and wait for a section, or for the notice in its place."""
    visitor.page.goto("about:blank")
    visitor.page.goto(link)
    visitor.page.wait_for_selector(
        "#waiting:not([hidden]), #shown:not([hidden]), #receipt:not([hidden]), #notice:not([hidden])"
    )

    assert visitor.page.is_visible(f"#{section}"), (ascii(link), visitor.text("main"))


def test_the_page_finds_a_key_in_a_fragment_and_a_path(base: str, visitors: Visitors) -> None:
    """Every case of the table, for links to the page, to the API and to a receipt."""
    sender, reader = visitors.new(), visitors.new()
    link, receipt_link = sender.share(base, TEXT, opens=2)
    page, _, fragment = link.partition("#")
    receipt, _, receipt_key = receipt_link.partition("#")
    of_api, _, key = created(f"{base}/generate", secret="a text")["url"].rpartition("/")

    for altered in ALTERED:
        check(reader, f"{page}#{altered.change(fragment)}", "waiting")
        assert not reader.page.is_visible("#sent")
        check(reader, f"{of_api}/{altered.change(key)}", "waiting")
        check(reader, f"{receipt}#{altered.change(receipt_key)}", "receipt")
    assert not [path for path in reader.paths() if fragment[:40] in path or fragment[-40:] in path]
    assert TEXT == reader.open(f"{page}#{fragment}.")


@pytest.mark.parametrize("separator", SEPARATORS)
def test_the_reader_learns_that_the_key_was_sent(base: str, visitors: Visitors, separator: str) -> None:
    """Only if it was part of the path; the address then holds it in its fragment, and reloading sends nothing."""
    sender, reader = visitors.new(), visitors.new()
    page, _, fragment = sender.share(base, TEXT)[0].partition("#")
    was_sent = "%" in separator
    check(reader, page + separator + fragment, "waiting")

    assert was_sent == reader.page.is_visible("#sent")
    if was_sent:
        assert f"{base}/s?sent#{fragment}" == reader.page.evaluate("location.href")
    reader.page.reload()
    reader.sees("waiting")
    assert was_sent == reader.page.is_visible("#sent")
    assert int(was_sent) == len([path for path in reader.paths() if fragment in path])
    reader.page.click("#open")
    reader.sees("shown")
    expect(reader.page.locator("#text")).to_have_text(TEXT, timeout=PATIENCE, use_inner_text=False)


def test_a_message_and_a_receipt_open_from_an_encoded_fragment(base: str, visitors: Visitors) -> None:
    """The key of a receipt is sent to the server anyway, so nothing is said."""
    sender, reader = visitors.new(), visitors.new()
    link, receipt_link = sender.share(base, TEXT, kind="message")
    check(reader, link.replace("#", "%23"), "shown")

    assert reader.page.is_visible("#sent")
    check(reader, receipt_link.replace("#", "/%23"), "receipt")
    assert 0 == reader.page.locator("#sent").count()
