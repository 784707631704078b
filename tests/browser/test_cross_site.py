"""Pages of other sites, and of other ports of this host, can do nothing with the cookie of a user."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Response

from .conftest import BROWSER, Visitor, Visitors
from .users import is_shown_as, register, sign_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER == "firefox", reason="Firefox does not report the cookies that it sent"),
]
PATHS = ("refresh", "logout", "login/passkey/options", "me", "sessions", "account", "")

FETCHES = """async ([base, paths]) => {
    const told = [];
    for (const path of paths) {
        for (const method of ["GET", "POST"]) {
            for (const mode of ["no-cors", "cors"]) {
                const body = method === "POST" ? JSON.stringify({cookie: true}) : undefined;
                try {
                    const response = await fetch(`${base}/${path}`, {method, mode, body, credentials: "include"});
                    told.push(await response.text());
                } catch {}
            }
        }
    }
    return told.join("");
}"""
EMBEDDED = """([base, paths]) => Promise.all(paths.flatMap(path => ["img", "iframe", "script", "object"].map(name =>
    new Promise(done => {
        const element = document.createElement(name);
        element.onload = element.onerror = done;
        element[name === "object" ? "data" : "src"] = `${base}/${path}`;
        document.body.append(element);
        setTimeout(done, 3000);
    }))))"""
SOCKETS = """([base, paths]) => Promise.all(paths.map(path => new Promise(done => {
    const socket = new WebSocket(`${base.replace("http", "ws")}/${path}`);
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
})))"""
FORM = """([base, path]) => {
    const form = document.createElement("form");
    const field = document.createElement("input");
    Object.assign(form, {action: `${base}/${path}`, method: "post", enctype: "text/plain"});
    // The body is JSON: {"cookie":true,"more":"="}
    Object.assign(field, {name: '{"cookie":true,"more":"', value: '"}'});
    form.append(field);
    document.body.append(form);
    form.submit();
}"""


class Foreign(BaseHTTPRequestHandler):
    """A page of an attacker. Its server is real, because browsers restrict requests from elsewhere to this host."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Prizes</title><body><h1>You have won</h1>")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def foreign_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def attacked(base: str, visitors: Visitors) -> tuple[Visitor, str]:
    """A signed-in user, who then visits pages of an attacker, and the user's name."""
    visitor, name = visitors.new(), register(base)
    sign_in(visitor, base, name)
    # A page first shows the name that it remembers, and then gets the next refresh cookie. This name comes after the
    # cookie, from the API.
    visitor.page.goto(f"{base}/account")
    visitor.page.locator("#user", has_text=name).wait_for()
    return visitor, name


def refresh_cookie(visitor: Visitor) -> Any:
    return {one["name"]: one["value"] for one in visitor.context.cookies()}["sealpost"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_foreign_page_can_do_nothing(base: str, attacked: tuple[Visitor, str], foreign_port: int, host: str) -> None:
    """By fetch, form, image, frame, script or WebSocket: no token is read, and the session neither changes nor ends.

    `localhost` is another site than `127.0.0.1`. Another port is the same site, so the cookie is sent, and the server
    looks at the origin.
    """
    visitor, name = attacked
    page, cookie, foreign = visitor.page, refresh_cookie(visitor), f"http://{host}:{foreign_port}/"
    answers: list[Response] = []

    def notice(answer: Response) -> None:
        answers.append(answer)

    page.on("response", notice)
    page.goto(foreign)
    visitor.sent.clear()
    told = page.evaluate(FETCHES, [base, PATHS])
    assert {"refused"} == set(page.evaluate(SOCKETS, [base, PATHS]))
    page.evaluate(EMBEDDED, [base, PATHS])
    assert [] == [frame.url for frame in page.frames if frame.parent_frame and frame.locator("[data-view]").count()]
    for path in PATHS:
        page.goto(foreign)
        with page.expect_navigation(url=f"{base}/{path}") as answered:
            page.evaluate(FORM, [base, path])
        assert 403 == answered.value.status
    sent = [one for one in visitor.sent if one.partition(" ")[2].startswith(base)]
    statuses = [answer.status for answer in answers if answer.request.method == "POST" and answer.url.startswith(base)]
    visitor.complaints.clear()

    assert "access_token" not in told
    # Without those that the browser hides from the page.
    assert [403] * 2 * len(PATHS) == statuses
    assert (host == "127.0.0.1") == any(cookie in one for one in sent)
    assert [] == [answer.url for answer in answers if "set-cookie" in answer.headers]
    assert cookie == refresh_cookie(visitor)
    page.goto(f"{base}/account")
    visitor.sees("account")
    is_shown_as(visitor, name)


def test_a_link_of_a_foreign_page_changes_nothing(base: str, attacked: tuple[Visitor, str], foreign_port: int) -> None:
    """It leads to the page, which asks before it does anything; addresses of the API do not accept the cookie."""
    visitor, name = attacked
    foreign = f"http://localhost:{foreign_port}/"
    for path in ("me", "sessions", "refresh", "logout"):
        visitor.page.goto(foreign)
        with visitor.page.expect_navigation(url=f"{base}/{path}") as answered:
            visitor.page.evaluate("url => { location.href = url; }", f"{base}/{path}")
        assert 400 <= answered.value.status < 500
    visitor.page.goto(foreign)
    visitor.page.evaluate(
        "url => { location.href = url; }", f"{base}/signin?terminal=4000&challenge={'a' * 43}&state=a"
    )
    visitor.sees("approve")
    assert name in visitor.text("#approve-title")
    assert [] == [line for line in visitor.paths() if "login/code" in line]
