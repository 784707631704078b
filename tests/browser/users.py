"""Users of the page: made through the API, signed in on the page."""

import json
import secrets
import urllib.error
import urllib.request
from typing import Any

from .conftest import Visitor

PASSWORD = "correct horse"
NEW_PASSWORD = "battery staple"


def request(base: str, method: str, path: str, token: str | None = None, body: object = None) -> tuple[int, Any]:
    """Send a request to the API; return its status and JSON."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(f"{base}/{path}", data, headers, method=method)  # noqa: S310 (our own stack)
    try:
        with urllib.request.urlopen(sent, timeout=60) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())


def register(base: str) -> str:
    """Create an account with `PASSWORD`; return its username."""
    name = f"user-{secrets.token_hex(6)}"
    status, _ = request(base, "POST", "register", body={"username": name, "password": PASSWORD})

    assert 201 == status
    return name


def access_token(base: str, name: str, password: str = PASSWORD) -> str:
    """Sign in as a program."""
    _, tokens = request(base, "POST", "login", body={"username": name, "password": password})
    return str(tokens["access_token"])


def sign_in(visitor: Visitor, base: str, name: str, password: str = PASSWORD) -> None:
    """Sign in on the page, which then shows the view for sharing."""
    visitor.page.goto(f"{base}/signin")
    visitor.sees("enter")
    visitor.page.fill("#username", name)
    visitor.page.fill("#password", password)
    visitor.page.click("#submit")
    visitor.page.wait_for_url(f"{base}/")
    is_shown_as(visitor, name)


def is_shown_as(visitor: Visitor, name: str) -> None:
    """Wait until the menu shows a user."""
    visitor.page.locator("#menu-name", has_text=name).wait_for()


def is_signed_out(visitor: Visitor) -> None:
    """Wait until the navigation offers to sign in."""
    visitor.page.wait_for_selector("#sign-in:not([hidden])")


def sign_out(visitor: Visitor) -> None:
    """Sign out by the menu."""
    visitor.page.click("#menu > summary")
    visitor.page.click("#sign-out")
    is_signed_out(visitor)
