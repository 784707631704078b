"""Pages of other sites, and of other ports of this host, can do nothing with the cookie of a user."""

from typing import Any

import pytest
from playwright.sync_api import Response

from .conftest import BROWSER, Visitor, Visitors
from .users import is_shown_as, register, sign_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER == "firefox", reason="Firefox does not report the cookies that it sent"),
]
OTHER_SITE = "http://foreign.test/"
# The cookie is sent, because cookies do not distinguish ports; the server looks at the origin.
OTHER_PORT = "http://127.0.0.1:12345/"
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


@pytest.fixture
def attacked(base: str, visitors: Visitors) -> tuple[Visitor, str]:
    """A signed-in user who then visits pages of an attacker, and the user's name."""
    visitor, name = visitors.new(), register(base)
    sign_in(visitor, base, name)
    for foreign in (OTHER_SITE, OTHER_PORT):
        visitor.page.route(foreign, lambda route: route.fulfill(body="<h1>Prizes!</h1>", content_type="text/html"))
    return visitor, name


def refresh_cookie(visitor: Visitor) -> Any:
    return {one["name"]: one["value"] for one in visitor.context.cookies()}["sealpost"]


@pytest.mark.parametrize("foreign", [OTHER_SITE, OTHER_PORT])
def test_a_foreign_page_can_do_nothing(base: str, attacked: tuple[Visitor, str], foreign: str) -> None:
    """By fetch, form, image, frame, script or WebSocket: no token is read, and the session neither changes nor ends."""
    visitor, name = attacked
    page, cookie = visitor.page, refresh_cookie(visitor)
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(foreign)
    visitor.sent.clear()
    told = page.evaluate(FETCHES, [base, PATHS])
    assert {"refused"} == set(page.evaluate(SOCKETS, [base, PATHS]))
    page.evaluate(EMBEDDED, [base, PATHS])
    frames = [frame for frame in page.frames if frame.parent_frame and frame.locator("body[data-view]").count()]
    for path in PATHS:
        page.goto(foreign)
        with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
            page.evaluate(FORM, [base, path])
        assert 400 <= answered.value.status < 500
    sent = "".join(one for one in visitor.sent if one.partition(" ")[2].startswith(base))
    visitor.complaints.clear()

    assert "access_token" not in told
    assert [] == frames
    assert (cookie in sent) == (foreign == OTHER_PORT)
    assert [] == [answer.url for answer in answers if "set-cookie" in answer.headers]
    assert cookie == refresh_cookie(visitor)
    page.goto(f"{base}/account")
    visitor.sees("account")
    is_shown_as(visitor, name)


def test_a_link_of_a_foreign_page_changes_nothing(base: str, attacked: tuple[Visitor, str]) -> None:
    """It leads to the page, which asks before it does anything; addresses of the API do not accept the cookie."""
    visitor, name = attacked
    for path in ("me", "sessions", "refresh", "logout"):
        visitor.page.goto(OTHER_SITE)
        with visitor.page.expect_navigation(url=f"{base}/{path}") as answered:
            visitor.page.evaluate("url => { location.href = url; }", f"{base}/{path}")
        assert answered.value is not None
        assert 400 <= answered.value.status < 500
    visitor.page.goto(OTHER_SITE)
    visitor.page.evaluate("url => { location.href = url; }", f"{base}/signin?terminal=4000&challenge={'a' * 43}&state=a")
    visitor.sees("approve")
    assert name in visitor.text("#approve-title")
    assert [] == [line for line in visitor.paths() if "login/code" in line]
