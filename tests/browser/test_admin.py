"""The view for operators: users, invitations, the audit and the health of the service."""

import json
import re
import time
import urllib.error
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Route, expect

from .chromium import PATIENCE
from .conftest import Visitor, Visitors
from .signed_in import PASSWORD, create_operator, new_name, register, sent, sign_in

pytestmark = pytest.mark.browser


@pytest.fixture
def operator(base: str, visitors: Visitors, environment: dict[str, str]) -> Visitor:
    """An operator who has signed in."""
    create_operator(environment, name := new_name("operator"))
    visitor = visitors.new()
    sign_in(visitor.page, base, name)
    return visitor


def row_of(visitor: Visitor, name: str) -> Locator:
    """Return the row of a user, after loading all."""
    row = visitor.page.locator("#user-list > li", has=visitor.page.get_by_text(name, exact=True))
    more = visitor.page.locator("#user-list-more")
    while row.count() == 0 and more.is_visible():
        before = visitor.page.locator("#user-list > li").count()
        more.click()
        expect(visitor.page.locator("#user-list > li")).not_to_have_count(before, timeout=PATIENCE)
    return row


def confirm(visitor: Visitor, button: Locator) -> None:
    """Click a button, and confirm the question."""
    button.click()
    visitor.page.click("#question-yes")
    expect(visitor.page.locator("#question")).to_be_hidden(timeout=PATIENCE)


def test_other_users_are_told_that_it_is_for_operators(base: str, visitors: Visitors) -> None:
    """They get no tab, and their browser requests nothing that they may not see."""
    visitor = visitors.new()
    register(base, name := new_name())
    sign_in(visitor.page, base, name)
    visitor.goes(f"{base}/admin#audit", "notice")

    assert "For operators only" == visitor.text("#notice-title")
    assert visitor.page.locator("#admin").is_hidden()
    assert [] == [path for path in visitor.paths() if re.search("/(users|invitations|audit)", path)]


def test_an_operator_disables_and_promotes_users(base: str, operator: Visitor) -> None:
    """Each after a question; a disabled user cannot sign in; the own account has no buttons."""
    register(base, name := new_name())
    operator.goes(f"{base}/admin", "users-panel")
    row = row_of(operator, name)
    first, second = row.get_by_role("button").all()
    first.click()
    assert name in operator.text("#question-text")
    expect(operator.page.locator("#question-no")).to_be_focused()
    operator.page.click("#question-no")
    expect(first).to_be_focused()
    confirm(operator, first)
    expect(row.get_by_text("Disabled")).to_be_visible()
    expect(first).to_have_text("Enable")
    expect(first).to_be_focused()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        sent(base, "POST", "login", {"username": name, "password": PASSWORD})
    confirm(operator, first)
    expect(row.get_by_text("Disabled")).to_be_hidden()
    token = sent(base, "POST", "login", {"username": name, "password": PASSWORD})["access_token"]
    confirm(operator, second)
    expect(row.get_by_text("Operator", exact=True)).to_be_visible()
    assert sent(base, "GET", "me", token=token)["operator"]
    confirm(operator, second)
    expect(row.get_by_text("Operator", exact=True)).to_be_hidden()
    assert not sent(base, "GET", "me", token=token)["operator"]
    own = operator.page.locator("#user-list > li", has=operator.page.locator(".badge:visible", has_text="You"))
    expect(own).to_have_count(1)
    expect(own.get_by_role("button")).to_have_count(0)


def test_an_action_that_fails_says_why(base: str, operator: Visitor) -> None:
    """In the dialog, which stays open until the user closes it; then nothing has changed."""
    register(base, name := new_name())
    operator.goes(f"{base}/admin", "users-panel")
    button = row_of(operator, name).get_by_role("button").first
    operator.page.route("**/users/*", lambda route: route.abort())
    button.click()
    operator.page.click("#question-yes")
    problem = operator.page.locator("#question-problem")
    expect(problem).to_contain_text("The server did not respond", timeout=PATIENCE)
    expect(operator.page.locator("#question-yes")).to_be_focused()
    busy = {"status": 503, "content_type": "application/problem+json", "body": '{"code": "unavailable"}'}
    operator.page.route("**/users/*", lambda route: route.fulfill(**busy))
    operator.page.click("#question-yes")
    expect(problem).to_contain_text("The server is busy", timeout=PATIENCE)
    operator.page.keyboard.press("Escape")
    expect(button).to_have_text("Disable")
    expect(button).to_be_focused()


def test_an_invitation_registers_an_account(base: str, operator: Visitor, visitors: Visitors) -> None:
    """Its link is shown once with a QR code; the list has it until it is used or deleted, and then it does not work."""
    operator.goes(f"{base}/admin#invitations", "invitations-panel")
    operator.page.select_option("#role", "operator")
    operator.page.fill("#uses", "")
    operator.page.click("#invite")
    expect(operator.page.locator("#uses")).to_be_focused()
    assert "Enter 1 to 100 accounts and 1 to 30 days." == operator.text("#form-problem")
    operator.page.fill("#uses", "2")
    operator.page.click("#invite")
    expect(operator.page.locator("#invited")).to_be_focused(timeout=PATIENCE)
    link = operator.page.input_value("#link")
    operator.page.click("#show-qr")
    assert operator.page.is_visible("#qr")
    assert link.startswith(f"{base}/join#si_")
    invited = visitors.new()
    invited.goes(link, "register")
    invited.page.fill("#new-username", new_name())
    invited.page.fill("#new-password", PASSWORD)
    invited.page.click("#register-submit")
    invited.page.wait_for_url(f"{base}/")
    invited.goes(f"{base}/admin", "users-panel")

    operator.page.reload()
    operator.sees("invitations-panel")
    assert operator.page.is_hidden("#invited")
    row = operator.page.locator("#invitation-list > li").first
    assert "1 account left" in row.inner_text()
    assert "Operator" == row.locator("h3").inner_text()
    # Other tests invite as well.
    rows = operator.page.locator("#invitation-list > li", has_text="1 account left")
    before = rows.count()
    confirm(operator, row.get_by_role("button"))
    expect(rows).to_have_count(before - 1)
    late = {"username": new_name(), "password": PASSWORD, "invitation": link.partition("#")[2]}
    with pytest.raises(urllib.error.HTTPError):
        sent(base, "POST", "register", late)


def test_the_audit_is_filtered(base: str, operator: Visitor) -> None:
    """By time, kind and user; each event has its time, words, user and details; names stay text."""
    register(base, name := new_name())
    operator.goes(f"{base}/admin#audit", "audit-panel")
    operator.page.fill("#user-name", name)
    rows = operator.page.locator("#events > tr")
    # Events are stored a moment after they happen.
    deadline = time.monotonic() + PATIENCE / 1000
    while rows.count() != 2 and time.monotonic() < deadline:
        operator.page.click("#show-events")
        expect(operator.page.locator("#show-events")).to_be_enabled(timeout=PATIENCE)
    assert ["Registered", "Signed in"] == rows.locator("td:nth-child(2)").all_inner_texts()
    assert [name, name] == rows.locator("td:nth-child(3)").all_inner_texts()
    assert "with a password" == rows.locator("td:nth-child(4)").last.inner_text()
    operator.page.select_option("#kind", "signed_in")
    operator.page.click("#show-events")
    expect(rows).to_have_count(1, timeout=PATIENCE)
    operator.page.fill("#until", "2026-01-01T00:00")
    operator.page.click("#show-events")
    expect(operator.page.locator("#filter-problem")).to_contain_text("The server rejected", timeout=PATIENCE)
    operator.page.fill("#since", "2025-01-01T00:00")
    operator.page.click("#show-events")
    expect(operator.page.get_by_text("No events match.")).to_be_visible(timeout=PATIENCE)
    expect(operator.page.locator("#events-table")).to_be_hidden()


def test_more_events_are_read_on_demand(base: str, operator: Visitor) -> None:
    """By their time, also where many have the same: each event is shown once, in order."""
    events = [{"at": f"2026-11-30T10:00:{index // 90:02}Z", "kind": f"new_{index}"} for index in range(230)]

    def answer(route: Route) -> None:
        since = parse_qs(urlsplit(route.request.url).query)["since"][0]
        lines = [json.dumps(event) for event in events if event["at"] >= since or since > "2026-11-30T11"]
        route.fulfill(body="".join(f"{line}\n" for line in lines), content_type="application/x-ndjson")

    operator.page.route("**/audit?*", answer)
    operator.goes(f"{base}/admin#audit", "audit-panel")
    shown = operator.page.locator("#events > tr td:nth-child(2)")
    for count in (100, 200, 230):
        expect(shown).to_have_count(count, timeout=PATIENCE)
        assert [event["kind"] for event in events[:count]] == shown.all_inner_texts()
        if count < len(events):
            operator.page.click("#events-more")
    expect(operator.page.locator("#events-more")).to_be_hidden()


def test_without_an_audit_the_page_says_so(base: str, operator: Visitor) -> None:
    """The other tabs still work, also after the load of one has failed."""
    problem = {"status": 404, "content_type": "application/problem+json", "body": '{"code": "not_found"}'}
    operator.page.route("**/audit?*", lambda route: route.fulfill(**problem))
    operator.page.route("**/users", lambda route: route.abort())
    operator.goes(f"{base}/admin#audit", "audit-panel")
    expect(operator.page.locator("#audit-off")).to_be_visible()
    expect(operator.page.locator("#filter")).to_be_hidden()
    operator.page.click("#tabs a:first-child")
    expect(operator.page.locator("#tab-problem")).to_contain_text("The server did not respond", timeout=PATIENCE)
    operator.page.click("#tabs a:last-child")
    operator.sees("health-panel")
    expect(operator.page.locator("#tab-problem")).to_be_hidden()


def test_tabs_are_links(base: str, operator: Visitor) -> None:
    """The current one is marked, also after going back; an unknown one is that of users."""
    operator.goes(f"{base}/admin#unknown", "users-panel")
    operator.page.click("#tabs a:last-child")
    operator.sees("health-panel")
    expect(operator.page.locator("#tabs [aria-current=page]")).to_have_text("Health")
    expect(operator.page.locator("#users-panel")).to_be_hidden()
    operator.page.go_back()
    operator.sees("users-panel")
    expect(operator.page.locator("#tabs [aria-current=page]")).to_have_text("Users")


def test_health_is_what_the_service_says(base: str, operator: Visitor) -> None:
    """Ready; and on demand again: paused, behind with the dump, and not ready."""
    operator.goes(f"{base}/admin#health", "health-panel")
    checks = operator.page.locator("#checks > li")
    expect(checks).to_have_text([re.compile("Running"), re.compile("Ready"), re.compile("are accepted")])
    paused = {"status": "ready", "creating": "paused", "dump": {"since": "2026-11-30T10:00:00Z", "reason": "No space"}}
    operator.page.route("**/readyz", lambda route: route.fulfill(json=paused))
    operator.page.click("#check-again")
    expect(checks).to_contain_text(["Running", "Ready", "Full", "No space"], timeout=PATIENCE)
    problem = {"detail": "The database does not answer yet.", "code": "unavailable"}
    operator.page.route("**/readyz", lambda route: route.fulfill(status=503, json=problem))
    operator.page.click("#check-again")
    expect(checks).to_contain_text(["Running", "The database does not answer yet."], timeout=PATIENCE)
    expect(checks).to_have_count(2)
    expect(operator.page.locator("#check-again")).to_be_focused()
