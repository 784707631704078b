"""Expiry by the server's clock, whatever the clock of the reader says."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Route, expect

from .chromium import PATIENCE
from .conftest import TEXT, Visitor, Visitors, created

pytestmark = pytest.mark.browser


def reader_with_clock(visitors: Visitors, **ahead: int) -> Visitor:
    """Return a visitor whose clock differs from the server's by a time span."""
    visitor = visitors.new()
    visitor.page.clock.set_system_time(datetime.now(UTC) + timedelta(**ahead))
    return visitor


def test_a_fast_clock_hides_nothing(base: str, visitors: Visitors) -> None:
    """6 minutes ahead, a secret of 5 minutes can be opened, and a message stays, even when the clock jumps."""
    sender, reader = visitors.new(), reader_with_clock(visitors, minutes=6)
    sender.page.goto(base)
    sender.page.select_option("#ttl", "300")
    sender.show_options()
    sender.page.check("input[value=message]")
    sender.page.fill("#text", TEXT)
    sender.page.click("#create")
    sender.sees("result")

    assert "a text" == reader.open(created(f"{base}/generate", secret="a text", ttl={"minutes": 5})["url"])
    reader.page.goto(sender.page.input_value("#link"))
    reader.sees("shown")
    # Set while the message is on the page, the clock makes the page ask.
    with reader.page.expect_response("**/message/*", timeout=PATIENCE):
        reader.page.clock.set_system_time(datetime.now(UTC) + timedelta(hours=2))
    reader.page.evaluate("new Promise(done => setTimeout(done))")
    assert reader.page.is_hidden("#notice")
    assert TEXT == reader.page.text_content("#text")


def test_a_slow_clock_keeps_nothing(base: str, visitors: Visitors) -> None:
    """With a clock of 1 hour behind, the notice appears when the server has expired the secret."""
    reader = reader_with_clock(visitors, hours=-1)
    reader.page.goto(created(f"{base}/generate", secret="a text", ttl={"seconds": 15})["url"])
    reader.sees("waiting")
    reader.sees("notice")

    assert "Expired" == reader.text("#notice-title")


@pytest.mark.parametrize(("kind", "section"), [("secret", "waiting"), ("message", "shown")])
def test_the_server_is_asked_before_anything_is_called_expired(
    base: str, visitors: Visitors, kind: str, section: str
) -> None:
    """What the server still has stays on the page; without an answer, the page says so and does not say "expired"."""
    sender, reader = visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT, kind=kind)

    def answer_expiring(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "expires_at": datetime.now(UTC).isoformat()})

    pattern = "**/secrets/*" if kind == "secret" else "**/message/*"
    reader.page.route(pattern, answer_expiring)
    reader.goes(link, section)
    for _ in range(2):
        with reader.page.expect_response(pattern, timeout=PATIENCE) as asked:
            pass
        assert 200 == asked.value.status
        assert reader.page.is_visible(f"#{section}")
    reader.page.unroute(pattern)
    reader.page.route(pattern, lambda route: route.abort())
    expect(reader.page.locator("#notice-title")).to_have_text("No connection", timeout=PATIENCE)
    assert TEXT.strip() not in reader.page.content()


ZONE = "GMT+5:45"


def test_every_time_has_its_zone(base: str, visitors: Visitors) -> None:
    """On the result, before and after opening, on the notice and on the receipt."""
    visitor = visitors.new(timezone_id="Asia/Kathmandu")
    link, receipt_link = visitor.share(base, TEXT)
    assert ZONE in visitor.text("#result-until")
    visitor.goes(link, "waiting")
    assert ZONE in visitor.text("#waiting-until")
    assert "(7 days left)" in visitor.text("#waiting-until")
    visitor.page.click("#open")
    visitor.sees("shown")
    assert ZONE in visitor.text("#shown-left")
    visitor.deletes_now()
    visitor.goes(link, "notice")
    assert ZONE in visitor.text("#notice-text")
    visitor.goes(receipt_link, "receipt")
    assert [ZONE] * 3 == [ZONE for row in ("created", "expires", "opened") if ZONE in visitor.text(f"#{row}")]
    message, _ = visitor.share(base, TEXT, kind="message")
    visitor.goes(message, "shown")
    assert ZONE in visitor.text("#shown-left")


@pytest.mark.parametrize(("locale", "minutes"), [("en-GB", "4 minutes left"), ("de-DE", "noch 4 Minuten")])
def test_near_the_end_the_remaining_time_is_shown(base: str, visitors: Visitors, locale: str, minutes: str) -> None:
    """In minutes on page and receipt, then in seconds, which count down."""
    reader = reader_with_clock(visitors, hours=2) if locale == "en-GB" else visitors.new(locale=locale)
    answer = created(f"{base}/generate", secret="a text", ttl={"minutes": 4, "seconds": 59})
    reader.goes(answer["url"], "waiting")
    assert minutes in reader.text("#waiting-until")
    reader.goes(f"{base}/r#{answer['receipt_key']}", "receipt")
    assert minutes in reader.text("#expires")
    link = created(f"{base}/generate", secret="a text", ttl={"seconds": 50})["url"]
    reader.goes(link, "waiting")
    for _ in range(2):
        shown = reader.text("#waiting-until")
        assert re.search(r"\d+ (seconds left|Sekunden\))", shown)
        expect(reader.page.locator("#waiting-until")).not_to_have_text(shown, timeout=PATIENCE)
