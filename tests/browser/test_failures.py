"""Notices of the page: expired, incomplete link, no connection, busy, full; and hostile texts."""

import pytest
from playwright.sync_api import Route, expect

from .chromium import PATIENCE
from .conftest import TEXT, Visitors, created

pytestmark = pytest.mark.browser


def test_what_expires_while_it_is_looked_at_says_so(base: str, visitors: Visitors) -> None:
    """The notice appears without a click; after a reload the server no longer knows the secret."""
    reader = visitors.new()
    link = created(f"{base}/generate", secret="a text", ttl={"seconds": 20})["url"]
    reader.page.goto(link)
    reader.sees("waiting")
    reader.sees("notice")

    assert "Expired" == reader.text("#notice-title")
    reader.page.reload()
    reader.sees("notice")
    assert "Expired or not found" == reader.text("#notice-title")


@pytest.mark.parametrize("url", ["/s", "/s#1" + "A" * 91, "/s#2" + "A" * 91, "/m#x"])
def test_a_link_that_is_not_whole_is_noticed(base: str, visitors: Visitors, url: str) -> None:
    """The page detects it without a request to the API."""
    visitor = visitors.new()
    visitor.page.goto(base + url)
    visitor.sees("notice")

    assert "This link is incomplete" == visitor.text("#notice-title")
    assert [f"GET {url.partition('#')[0]}"] == [path for path in visitor.paths() if not path.endswith("icon.svg")]


def test_a_missing_connection_is_told_and_mended(base: str, visitors: Visitors) -> None:
    """Nothing is opened while offline or while the server is busy, and the retry button continues."""
    sender, reader = visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT)
    reader.page.route("**/secrets/*", lambda route: route.abort())
    reader.page.goto(link)
    reader.sees("notice")
    assert "No connection" == reader.text("#notice-title")
    reader.page.unroute("**/secrets/*")
    busy = {"status": 429, "content_type": "application/problem+json", "body": '{"code": "too_many"}'}
    reader.page.route("**/secrets/*", lambda route: route.fulfill(**busy))
    reader.page.click("#retry")
    expect(reader.page.locator("#notice-title")).to_have_text("The server is busy", timeout=PATIENCE)
    reader.page.unroute("**/secrets/*")
    reader.page.click("#retry")
    reader.sees("waiting")
    reader.page.route("**/secrets/*", lambda route: route.abort())
    reader.page.click("#open")
    reader.sees("notice")
    assert "Connection lost" == reader.text("#notice-title")
    reader.page.unroute("**/secrets/*")
    reader.page.click("#retry")
    reader.sees("shown")


def test_a_full_storage_is_told_in_the_words_of_the_server(base: str, visitors: Visitors) -> None:
    """The form keeps its content, and the detail of the response is shown under the button."""
    sender = visitors.new()
    body = '{"code": "storage_full", "detail": "The storage is full."}'
    sender.page.route(
        "**/generate", lambda route: route.fulfill(status=507, content_type="application/problem+json", body=body)
    )
    sender.page.goto(base)
    sender.page.fill("#text", TEXT)
    sender.page.click("#create")

    expect(sender.page.locator("#problem")).to_have_text(
        "The server rejected the request: The storage is full.", timeout=PATIENCE
    )
    assert TEXT == sender.page.input_value("#text")


PAYLOADS = (
    "<script>document.title='ran'</script>",
    "<img src=x onerror=\"document.title='ran'\">",
    "</pre></script><svg onload=\"document.title='ran'\">",
    "javascript:document.title='ran'",
    "{{{strings}}} ${document.title='ran'}",
)


def test_payloads_stay_text(base: str, visitors: Visitors) -> None:
    """In a secret, a URL and a translation, without a violation of the policy or a request."""
    visitor = visitors.new()
    link, _ = visitor.share(base, "\n".join(PAYLOADS))
    assert "\n".join(PAYLOADS) == visitor.open(link)
    for path in ("/s#", "/m#", "/r#", "/s?x=", "/r?x="):
        for payload in PAYLOADS[:3]:
            visitor.page.goto(base + path + payload)
            visitor.sees("notice")
            title = visitor.page.title().removesuffix(" · Sealpost")
            assert title in {"A private note for you", "A message for you", "Receipt"}

    def translate(route: Route) -> None:
        answer = route.fetch()
        body = answer.text().replace(
            '"opened_here_title":"', '"opened_here_title":"' + r"\u003cimg src=x onerror=alert(1)>"
        )
        route.fulfill(response=answer, body=body)

    visitor.page.route("**/s", translate)
    visitor.open(visitor.share(base, TEXT)[0])
    visitor.deletes_now()
    visitor.page.reload()
    visitor.sees("notice")
    assert "<img src=x onerror=alert(1)>" in visitor.text("#notice-title")
    assert 0 == visitor.page.locator("main img").count()
