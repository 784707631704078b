"""The refresh cookie of browsers: where it is set, what it can do, and how its token is replaced."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http.cookies import Morsel, SimpleCookie
from typing import Any

import pytest

from src.accounts.cookies import NAME
from src.accounts.sessions import GRACE
from src.core.clock import utc_now

from .conftest import PASSWORD, Api, RawAnswer, seconds_accepted

Serve = Callable[..., Awaitable[Api]]
CREDENTIALS = {"username": "ann", "password": PASSWORD}
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def morsel_of(answer: RawAnswer) -> "Morsel[str]":
    """Return the only cookie that an answer sets."""
    [header] = answer.headers.getall("Set-Cookie")
    [morsel] = SimpleCookie(header).values()
    return morsel


class Browser:
    """The page in a browser: it has at most one cookie, and its requests are same-origin."""

    def __init__(self, api: Api, cookie: str = "") -> None:
        self.api = api
        self.cookie = cookie

    async def send(self, path: str, body: object = None, *, method: str = "POST", token: str = "") -> RawAnswer:
        """Send a request and keep the cookie that the answer sets or deletes."""
        headers = {**SAME_ORIGIN, **({"Cookie": f"{NAME}={self.cookie}"} if self.cookie else {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        answer = await self.api.send(method, path, data, **headers)
        if "Set-Cookie" in answer.headers:
            self.cookie = morsel_of(answer).value
        return answer

    async def sign_in(self) -> str:
        """Sign in with the cookie and return the access token."""
        answer = await self.send("/login", {**CREDENTIALS, "cookie": True})

        assert 200 == answer.status
        return str(answer.json()["access_token"])

    async def refresh(self) -> RawAnswer:
        """Refresh by the cookie."""
        return await self.send("/refresh", {"cookie": True})


@pytest.fixture
async def browser(api: Api) -> Browser:
    """A browser, and an account to sign in to."""
    await api.register()
    return Browser(api)


@pytest.mark.parametrize(
    ("public_url", "name", "path", "secure"),
    [
        ("http://127.0.0.1", "sealpost", "/", ""),
        ("http://127.0.0.1/under/it", "sealpost", "/under/it/", ""),
        ("https://127.0.0.1/under/it", "__Host-sealpost", "/", True),
    ],
)
async def test_the_cookie_carries_the_refresh_token_out_of_reach_of_scripts(
    serve: Serve, public_url: str, name: str, path: str, secure: object
) -> None:
    """Its attributes fit the public URL, it can be used under that name, and no body contains the token."""
    api = await serve(public_url=public_url, session_ttl=3600)
    await api.register()

    answer = await Browser(api).send("/login", {**CREDENTIALS, "cookie": True})

    morsel = morsel_of(answer)
    assert (name, path, secure, True) == (morsel.key, morsel["path"], morsel["secure"], morsel["httponly"])
    assert ("Strict", "3600", "") == (morsel["samesite"], morsel["max-age"], morsel["domain"])
    assert {"access_token", "token_type", "expires_in"} == set(answer.json())
    cookie = {"Cookie": f"{name}={morsel.value}", **SAME_ORIGIN}
    refreshed = await api.send("POST", "/refresh", b'{"cookie": true}', **cookie)
    assert (200, name) == (refreshed.status, morsel_of(refreshed).key)
    assert {"access_token", "token_type", "expires_in"} == set(refreshed.json())


async def test_refreshing_continues_the_session(browser: Browser) -> None:
    """Each refresh replaces the cookie and gives an access token of the same session."""
    await browser.sign_in()
    cookies = {browser.cookie}

    for _ in range(3):
        answer = await browser.refresh()
        assert 200 == answer.status
        cookies.add(browser.cookie)

    assert 4 == len(cookies)
    listed = await browser.send("/sessions", method="GET", token=answer.json()["access_token"])
    assert [True] == [session["current"] for session in listed.json()["sessions"]]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Origin": "http://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
    ],
)
async def test_only_the_page_itself_can_set_or_use_the_cookie(browser: Browser, headers: dict[str, str]) -> None:
    """Other requests are refused, change nothing, and check no password."""
    await browser.sign_in()
    sent = {**headers, "Content-Type": "application/json"}
    cookie = {"Cookie": f"{NAME}={browser.cookie}"}

    answers = [
        await browser.api.send("POST", "/login", json.dumps({**CREDENTIALS, "cookie": True}).encode(), **sent),
        await browser.api.send("POST", "/refresh", b'{"cookie": true}', **sent, **cookie),
        await browser.api.send("POST", "/logout", None, **sent, **cookie),
    ]

    assert [(403, "cross_site")] * 3 == [(answer.status, answer.json()["code"]) for answer in answers]
    assert 200 == (await browser.refresh()).status


async def test_an_origin_of_ours_suffices_without_fetch_metadata(browser: Browser) -> None:
    """Browsers that do not send Sec-Fetch-Site can sign in with the cookie."""
    client = browser.api.client
    headers = {"Origin": f"http://{client.host}:{client.port}"}

    answer = await browser.api.send("POST", "/login", json.dumps({**CREDENTIALS, "cookie": True}).encode(), **headers)

    assert 200 == answer.status


async def test_the_cookie_alone_authorizes_nothing_else(browser: Browser) -> None:
    """Requests on the account require the access token."""
    await browser.sign_in()

    for method, path in (("GET", "/me"), ("DELETE", "/me"), ("GET", "/sessions"), ("POST", "/tokens")):
        assert 401 == (await browser.send(path, method=method)).status


async def test_parallel_refreshes_get_the_same_cookie(serve: Serve) -> None:
    """Two tabs refresh at once, on 2 servers; 20 races."""
    one = await serve()
    other = await serve(mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    await one.register()
    for _ in range(20):
        first = Browser(one)
        await first.sign_in()
        second = Browser(other, first.cookie)

        answers = await asyncio.gather(first.refresh(), second.refresh())

        assert [200, 200] == [answer.status for answer in answers]
        assert first.cookie == second.cookie
    assert 200 == (await first.refresh()).status


async def test_a_lost_response_can_be_repeated_across_a_new_key(serve: Serve) -> None:
    """A server that has a newer key recognizes the token that was derived with the old one."""
    one = await serve()
    assert one.settings.keys
    await one.register()
    browser = Browser(one)
    await browser.sign_in()
    old = browser.cookie
    await browser.refresh()

    other = await serve(
        mongo_database=one.settings.mongo_database, keys=f"newer:{'A' * 43}=,{one.settings.keys.get_secret_value()}"
    )
    again = Browser(other, old)

    assert 200 == (await again.refresh()).status
    assert browser.cookie == again.cookie


@pytest.mark.parametrize("which", ["the predecessor after the grace", "an older one"])
async def test_a_used_cookie_ends_the_session(browser: Browser, which: str) -> None:
    """Two holders have it: neither gets new tokens any more, and the access token ends too."""
    token = await browser.sign_in()
    used = browser.cookie
    await browser.refresh()
    if which == "an older one":
        await browser.refresh()
    else:
        # A moment more than the grace, so that the clocks' milliseconds do not matter.
        long_ago = utc_now() - GRACE - timedelta(seconds=1)
        await browser.api.mongo.collection("sessions").update_one({}, {"$set": {"refreshed_at": long_ago}})

    answer = await Browser(browser.api, used).refresh()

    assert (401, "invalid_refresh_token") == (answer.status, answer.json()["code"])
    assert 401 == (await browser.refresh()).status

    async def use() -> int:
        return (await browser.api.call("GET", "/me", token=token))[0]

    assert await seconds_accepted(use) < 2


async def test_there_is_no_grace_without_the_cookie(browser: Browser) -> None:
    """A refresh token in a body works once, also if a cookie carried it."""
    await browser.sign_in()
    used = browser.cookie
    await browser.refresh()

    status, _ = await browser.api.call("POST", "/refresh", {"refresh_token": used})

    assert 401 == status
    assert 401 == (await browser.refresh()).status


@pytest.mark.parametrize("with_token", [True, False])
async def test_signing_out_ends_the_session_and_deletes_the_cookie(browser: Browser, with_token: bool) -> None:
    """With or without an access token; another session continues."""
    other = Browser(browser.api)
    await other.sign_in()
    token = await browser.sign_in()
    cookie = browser.cookie

    answer = await browser.send("/logout", token=token if with_token else "")

    assert (204, "", "0") == (answer.status, browser.cookie, morsel_of(answer)["max-age"])
    assert 401 == (await Browser(browser.api, cookie).refresh()).status
    assert 401 == (await browser.api.call("GET", "/me", token=token))[0]
    assert 200 == (await other.refresh()).status


@pytest.mark.parametrize("cookie", ["", "sr_", "sr_" + "A" * 86, "x"])
async def test_signing_out_without_a_session_deletes_the_cookie(browser: Browser, cookie: str) -> None:
    """A cookie that is no token of a session is deleted all the same, and cannot be refreshed."""
    browser.cookie = cookie
    refreshed = await browser.refresh()

    answer = await browser.send("/logout")

    assert 401 == refreshed.status
    assert (204 if cookie else 401) == answer.status
    assert "" == browser.cookie


@pytest.mark.parametrize("body", [{}, {"cookie": False}, {"cookie": True, "refresh_token": "sr_"}, {"cookie": "yes"}])
async def test_a_refresh_has_a_token_or_the_cookie(browser: Browser, body: dict[str, Any]) -> None:
    """Neither and both are malformed."""
    await browser.sign_in()

    answer = await browser.send("/refresh", body)

    assert (400, "malformed") == (answer.status, answer.json()["code"])
    assert 200 == (await browser.refresh()).status


async def test_a_new_password_ends_the_cookies_of_other_sessions(browser: Browser) -> None:
    """The browser that changed it stays signed in."""
    other = Browser(browser.api)
    await other.sign_in()
    token = await browser.sign_in()

    change = {"current": PASSWORD, "new": "three other words"}
    assert 204 == (await browser.send("/me/password", change, method="PUT", token=token)).status

    assert 401 == (await other.refresh()).status
    assert 200 == (await browser.refresh()).status
