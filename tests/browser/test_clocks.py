"""Expiry by the server's clock, whatever the clock of the reader says."""

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
    """With a clock of 6 minutes ahead, a secret of 5 minutes can be opened, and a message of 5 minutes stays."""
    sender, reader = visitors.new(), reader_with_clock(visitors, minutes=6)
    sender.page.goto(base)
    sender.page.select_option("#ttl", "300")
    sender.page.check("input[value=message]")
    sender.page.fill("#text", TEXT)
    sender.page.click("#create")
    sender.sees("result")

    assert "a text" == reader.open(created(f"{base}/generate", secret="a text", ttl={"minutes": 5})["url"])
    reader.page.goto(sender.page.input_value("#link"))
    reader.sees("shown")
    # Later than a timer that the page would have set at once.
    reader.page.evaluate("new Promise(done => setTimeout(done))")
    assert TEXT == reader.page.text_content("#text")


def test_a_slow_clock_keeps_nothing(base: str, visitors: Visitors) -> None:
    """With a clock of 1 hour behind, the notice appears when the server has expired the secret."""
    reader = reader_with_clock(visitors, hours=-1)
    reader.page.goto(created(f"{base}/generate", secret="a text", ttl={"seconds": 5})["url"])
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
