"""A service for its users alone: sharing needs an account, and an account needs an invitation."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Route, expect

from bench.running_stack import ROOT, RunningStack, running_stack

from ..stack.conftest import KEYS, SETTINGS
from ..stack.mongod import Mongod
from .chromium import PATIENCE
from .conftest import TEXT, Visitors
from .users import PASSWORD, access_token, is_shown_as, is_signed_out, request, sign_in, sign_out

pytestmark = pytest.mark.browser

FILE = "Floor plan.txt"
CHALLENGE = "a" * 43


@pytest.fixture(scope="module")
def environment(mongod: Mongod) -> dict[str, str]:
    """The settings of the service."""
    return {
        **SETTINGS,
        "SEALPOST_MONGO_URL": mongod.url,
        "SEALPOST_MONGO_DATABASE": "restricted",
        "SEALPOST_KEYS": KEYS,
        "SEALPOST_ANONYMOUS_CREATE": "false",
        "SEALPOST_REGISTRATION": "invite",
    }


@pytest.fixture(scope="module")
def restricted(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    directory = tmp_path_factory.mktemp("restricted")
    with running_stack(data_dir=directory, log_dir=directory / "logs", environment=environment) as running:
        yield running


def manage(environment: dict[str, str], *arguments: str, stdin: str = "") -> str:
    """Run a command of the operator; return its output."""
    command = [sys.executable, "-m", "src.manage", *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=ROOT, env=variables, input=stdin, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def invitation(environment: dict[str, str], restricted: RunningStack) -> str:
    """An invitation of the operator, for one account."""
    return manage(environment, "users", "invite").strip()


def join(visitors: Visitors, base: str, invitation: str, name: str) -> None:
    """Create an account with an invitation."""
    visitor = visitors.new()
    visitor.page.goto(f"{base}/join#{invitation}")
    visitor.sees("register")
    visitor.page.fill("#new-username", name)
    visitor.page.fill("#new-password", PASSWORD)
    visitor.page.click("#register-submit")
    visitor.page.wait_for_url(f"{base}/")
    is_shown_as(visitor, name)


def test_an_invitation_makes_one_account(restricted: RunningStack, visitors: Visitors, invitation: str) -> None:
    """Mail programs may add to its link. It is refused the second time, if incomplete, and by a closed service."""
    base = restricted.url
    join(visitors, base, f"{invitation}&utm_source=mail", "invited")
    late = visitors.new()
    late.page.goto(f"{base}/join#{invitation}")
    late.sees("register")
    late.page.fill("#new-username", "late")
    late.page.fill("#new-password", PASSWORD)
    late.page.click("#register-submit")
    expect(late.page.locator("#register-problem")).to_contain_text("expired or has been used", timeout=PATIENCE)
    late.goes(f"{base}/join#{invitation[:-1]}", "notice")
    assert "This invitation is incomplete" == late.text("#notice-title")
    late.goes(f"{base}/signin", "enter")
    assert "Ask the operator of this service for an invitation link." in late.text("#by-invitation")

    def close(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "registration": "closed"})

    late.page.route("**/service", close)
    late.goes(f"{base}/join#{invitation}", "notice")
    assert "Invitations are no longer accepted" == late.text("#notice-title")
    late.goes(f"{base}/signin", "enter")
    assert late.page.is_visible("#by-operator")


def test_only_users_share(restricted: RunningStack, visitors: Visitors, invitation: str) -> None:
    """Others are told before they enter a text; texts, files and messages of users reach readers without an account."""
    base = restricted.url
    join(visitors, base, invitation, "sharer")
    visitor = visitors.new()
    page = visitor.page
    page.goto(f"{base}/")
    visitor.sees("locked")
    assert page.is_hidden("#text")
    page.click("#to-sign-in")
    visitor.sees("enter")
    page.fill("#username", "sharer")
    page.fill("#password", PASSWORD)
    page.click("#submit")
    page.wait_for_url(f"{base}/")
    visitor.sees("write")
    page.set_input_files("#chosen", {"name": FILE, "mimeType": "text/plain", "buffer": bytes(200_000)})
    page.wait_for_selector("#files li")
    page.fill("#text", TEXT)
    page.click("#options summary")
    page.check("#keep-mine")
    page.click("#create")
    visitor.sees("result")
    link = page.input_value("#link")
    visitor.share(base, TEXT, kind="message")
    reader = visitors.new()
    assert TEXT == reader.open(link)
    assert FILE in reader.text("#files")
    _, kept = request(base, "GET", "me/items", access_token(base, "sharer"))
    assert [("secret", "opened")] == [(one["kind"], one["state"]) for one in kept["items"]]


def test_a_text_survives_signing_in_again(restricted: RunningStack, visitors: Visitors, invitation: str) -> None:
    """A user who is signed out while writing signs in in another tab, and sends the text then."""
    base = restricted.url
    join(visitors, base, invitation, "writer")
    visitor = visitors.new()
    sign_in(visitor, base, "writer")
    visitor.page.fill("#text", TEXT)
    other = visitor.context.new_page()
    other.goto(f"{base}/r")
    other.click("#menu > summary")
    other.click("#sign-out")
    is_signed_out(visitor)
    visitor.page.click("#create")
    expect(visitor.page.locator("#problem")).to_contain_text("your text is kept", timeout=PATIENCE)
    other.goto(f"{base}/signin")
    other.fill("#username", "writer")
    other.fill("#password", PASSWORD)
    other.click("#submit")
    is_shown_as(visitor, "writer")
    visitor.page.click("#create")
    visitor.sees("result")

    assert TEXT == visitors.new().open(visitor.page.input_value("#link"))


def test_a_token_that_is_no_longer_valid_is_replaced(
    restricted: RunningStack, visitors: Visitors, invitation: str
) -> None:
    """For a text and for a file: the page gets a new token by its cookie, and sends the request once more."""
    base = restricted.url
    join(visitors, base, invitation, "renewer")
    visitor = visitors.new()
    sign_in(visitor, base, "renewer")
    refused = {"status": 401, "content_type": "application/problem+json", "body": json.dumps({"code": "invalid_token"})}
    for path in ("generate", "files"):
        visitor.page.route(f"**/{path}", lambda route: route.fulfill(**refused), times=1)
    visitor.page.set_input_files("#chosen", {"name": FILE, "mimeType": "text/plain", "buffer": bytes(9)})
    visitor.page.wait_for_selector("#files li")
    visitor.page.click("#create")
    visitor.sees("result")

    assert 2 == visitor.paths().count("POST /generate")
    assert 2 == visitor.paths().count("POST /files")


@pytest.mark.parametrize(
    ("query", "is_valid"),
    [
        (f"terminal=1023&challenge={CHALLENGE}&state=s", False),
        (f"terminal=65536&challenge={CHALLENGE}&state=s", False),
        (f"terminal=4000.5&challenge={CHALLENGE}&state=s", False),
        (f"terminal=4000@example.org&challenge={CHALLENGE}&state=s", False),
        (f"terminal=4000&challenge={CHALLENGE[1:]}&state=s", False),
        (f"terminal=4000&challenge={CHALLENGE}&state=", False),
        (f"terminal=65535&challenge={CHALLENGE}&state=s", True),
    ],
)
def test_only_requests_of_terminals_are_answered(
    restricted: RunningStack, visitors: Visitors, query: str, *, is_valid: bool
) -> None:
    """Ports that programs of users can have, on this computer alone, and a complete challenge and state."""
    visitor = visitors.new()
    visitor.page.goto(f"{restricted.url}/signin?{query}")
    visitor.sees("enter" if is_valid else "notice")


def test_a_terminal_is_signed_in_after_asking(restricted: RunningStack, visitors: Visitors, invitation: str) -> None:
    """Also by way of a provider, which leads back to the page without the parameters of the terminal."""
    base = restricted.url
    join(visitors, base, invitation, "terminal-user")
    visitor = visitors.new()
    page = visitor.page

    def add_provider(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "sign_in": ["password", "oidc"], "oidc_name": "Example"})

    signs_in = f"""<script>fetch("../login", {{method: "POST", body: JSON.stringify(
        {{username: "terminal-user", password: "{PASSWORD}", cookie: true}})}})
        .then(() => location.replace("../signin"))</script>"""
    asked: list[object] = []

    def give_code(route: Route) -> None:
        asked.append(route.request.post_data_json)
        route.fulfill(status=201, json={"code": "c&d", "expires_in": 60})

    page.route("**/service", add_provider)
    page.route("**/oidc/start", lambda route: route.fulfill(body=signs_in, content_type="text/html"))
    page.route("**/login/codes", give_code)
    page.route("http://127.0.0.1:4000/**", lambda route: route.fulfill(body="You may close this window."))
    page.goto(f"{base}/signin?terminal=4000&challenge={CHALLENGE}&state=x.y")
    visitor.sees("enter")
    page.locator("#provider", has_text="Sign in with Example").click()
    visitor.sees("approve")
    assert "Sign in the terminal as terminal-user?" == visitor.text("#approve-title")
    assert [] == asked
    page.click("#approve-yes")
    page.wait_for_url("http://127.0.0.1:4000/?code=c%26d&state=x.y")
    assert [{"challenge": CHALLENGE}] == asked
    visitor.goes(f"{base}/signin?terminal=4000&challenge={CHALLENGE}&state=x.y", "approve")
    page.click("#approve-no")
    page.wait_for_url(f"{base}/")
    page.goto(f"{base}/signin")
    page.wait_for_url(f"{base}/account")
    sign_out(visitor)
    assert 1 == len(asked)
