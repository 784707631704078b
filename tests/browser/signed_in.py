"""Users who are signed in without the view for that, and operators."""

import json
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Page

from bench.running_stack import ROOT

PASSWORD = "correct horse battery staple"
# The same as the view that signs in, without its key presses.
_SIGN_IN = """async ([username, password]) => {
    const body = JSON.stringify({username, password, cookie: true});
    const {ok, status} = await fetch("login", {method: "POST", body});
    if (!ok) throw new Error(status);
    localStorage.setItem("sealpost-signed-in/", username);
}"""


def new_name(prefix: str = "user") -> str:
    """Return a name that no other user has: tests share a database."""
    return f"{prefix}_{secrets.token_hex(4)}"


def sent(base: str, method: str, path: str, body: object = None, *, token: str = "") -> Any:
    """Send a request to the API; return the JSON of the response."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}/{path}", data, headers, method=method)  # noqa: S310 (our own stack)
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.loads(answer.read() or "null")


def register(base: str, username: str) -> str:
    """Create an account; return its access token."""
    credentials = {"username": username, "password": PASSWORD}
    sent(base, "POST", "register", credentials)
    return str(sent(base, "POST", "login", credentials)["access_token"])


def create_operator(environment: Mapping[str, str], username: str) -> None:
    """Create an account of an operator as the operator of a host does, with the settings of its stack."""
    subprocess.run(
        [sys.executable, "-m", "src.manage", "users", "create", username, "--operator"],
        cwd=ROOT,
        env={**os.environ, **environment},
        input=PASSWORD,
        text=True,
        capture_output=True,
        check=True,
    )


def sign_in(page: Page, base: str, username: str) -> None:
    """Sign in with a browser, and leave its page."""
    page.goto(f"{base}/about")
    page.evaluate(_SIGN_IN, [username, PASSWORD])
