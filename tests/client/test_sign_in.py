"""Signing in with the browser, with an API token and by invitation, and the status of it."""

import asyncio
import json
import queue
import signal
import sys
import webbrowser
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from src.client.addresses import parse_invitation
from src.client.commands import accounts
from src.client.errors import WrongUsage
from src.client.loopback import Loopback

from .. import programs
from ..conftest import PASSWORD, Api, seconds_accepted
from ..processes import PATIENCE
from .conftest import Typed, go_to

Serve = Callable[..., Awaitable[Api]]
INVITATION = "si_" + "A" * 43


class Browser:
    """A browser without windows: it has the addresses that it should open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._opened: queue.Queue[str] = queue.Queue()
        monkeypatch.setenv("BROWSER", "a browser")
        monkeypatch.setattr(webbrowser, "open", self._opened.put)

    async def page(self) -> tuple[str, dict[str, str]]:
        """Return the address of the page and its parameters."""
        url = await asyncio.to_thread(self._opened.get, timeout=PATIENCE)
        return url, {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    """The browser of this machine."""
    return Browser(monkeypatch)


async def visit(port: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Send a request to the terminal."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def status_of(api: Api, token: str) -> int:
    """Return the status of a request with a token."""
    return (await api.call("GET", "/me", token=token))[0]


async def test_the_browser_signs_the_terminal_in(api: Api, url: str, typed: Typed, browser: Browser) -> None:
    """The first code with the right state; requests of other pages and with other states change nothing."""
    token = await api.sign_up("ann")
    running = asyncio.ensure_future(typed("login", "--browser"))
    page, asked = await browser.page()
    port, state = asked["terminal"], asked["state"]
    _, issued = await api.call("POST", "/login/codes", {"challenge": asked["challenge"]}, token=token)
    right = f"/?code={issued['code']}&state={state}"
    refused = [
        await visit(port, "/?code=x&state=another"),
        await visit(port, f"/?state={state}"),
        await visit(port, "/favicon.ico"),
        await visit(port, right, "POST"),
        await visit(port, right, Host="rebound.example.org"),
    ]
    accepted = await visit(port, right)
    ended = await running
    # At once, before another test listens at the same port.
    with pytest.raises(aiohttp.ClientConnectionError):
        await visit(port, right)

    assert [400, 400, 404, 404, 404] == [status for status, _ in refused]
    assert (200, True) == (accepted[0], "close this window" in accepted[1])
    assert (0, "") == (ended.code, ended.stdout)
    assert page.startswith(f"{url}/signin?")
    assert page in ended.stderr
    assert f"sealpost: signed in to {url} as ann" in ended.stderr
    assert "ann" == json.loads((await typed("whoami", "--json")).stdout)["username"]


async def test_a_second_code_is_refused() -> None:
    """Only the first one counts. What is no request of a browser is ignored."""
    async with Loopback() as loopback:
        page = loopback.page("https://example.org/prefix")
        asked = parse_qs(urlsplit(page).query)
        port, state = asked["terminal"][0], asked["state"][0]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"\xff\r\n\r\n")
        assert b"" == await reader.read()
        writer.close()
        statuses = [(await visit(port, f"/?code={code}&state={state}"))[0] for code in ("one", "two")]

        assert ([200, 404], "one") == (statuses, await loopback.code())
    assert page.startswith("https://example.org/prefix/signin?terminal=")


async def test_without_an_answer_the_terminal_gives_up(
    url: str, typed: Typed, browser: Browser, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    """After a time limit; nothing is stored."""
    monkeypatch.setattr(accounts, "BROWSER_SECONDS", 0.01)
    ended = await typed("login", "--browser")

    assert (1, True) == (ended.code, "did not answer in time" in ended.stderr)
    assert not config.exists()


async def test_an_api_token_is_stored(ann: str, api: Api, url: str, typed: Typed) -> None:
    """After a check, instead of a session; commands use it, and `logout` deletes it here only."""
    created = (await typed("tokens", "create", "a program", "--scope", "posts")).stdout.encode()
    wrong = await typed("login", "--token-stdin", stdin=b"no token")
    session = await typed("auth", "status", "--json")
    kept = await typed("login", "--token-stdin", stdin=created)
    posted, shown = await typed("post", "a post"), await typed("auth", "status")
    refused = await typed("tokens", "list")
    left = await typed("logout")
    after = await typed("auth", "status", "--json")

    assert (4, 0, "session") == (wrong.code, session.code, json.loads(session.stdout)["method"])
    assert ("ann", True) == (json.loads(session.stdout)["username"], bool(json.loads(session.stdout)["expires_at"]))
    assert (0, f"sealpost: the API token is used for {url}\n") == (kept.code, kept.stderr)
    assert (0, 0, True) == (posted.code, shown.code, "an API token" in shown.stdout)
    assert (1, 0) == (refused.code, left.code)
    assert (4, None) == (after.code, json.loads(after.stdout)["method"])
    assert 200 == (await api.call("GET", "/posts", token=created.decode().strip()))[0]


async def test_the_status_tells_what_the_server_rejects(ann: str, api: Api, typed: Typed) -> None:
    """The token in the variable takes precedence; a deleted API token is a problem; an access token is refused."""
    access_token = (await api.login("ann"))["access_token"]
    _, created = await api.call("POST", "/tokens", {"name": "a", "scopes": ["echo"]}, token=access_token)
    assert 0 == (await typed("login", "--token-stdin", stdin=created["token"].encode())).code
    await api.call("DELETE", f"/tokens/{created['id']}", token=access_token)
    # A worker may accept it for a moment.
    await seconds_accepted(lambda: status_of(api, created["token"]))

    gone = await typed("auth", "status")
    given = await typed("auth", "status", SEALPOST_TOKEN=access_token)
    access = await typed("login", "--token-stdin", stdin=access_token.encode())
    both = await typed("login", "ann", "--browser")

    assert (4, True) == (gone.code, "rejected the stored API token" in gone.stdout)
    assert (0, True, True) == (given.code, "SEALPOST_TOKEN" in given.stdout, "ann" in given.stdout)
    assert (2, 2) == (access.code, both.code)


async def test_registration_needs_an_invitation(serve: Serve, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server says so: its token or its link, which names the server."""
    api = await serve(registration="invite")
    url = go_to(api, monkeypatch)
    without = await typed("register", "bob", SEALPOST_PASSWORD=PASSWORD)
    elsewhere = await typed("register", "bob", "--invitation", f"https://example.org/join#{INVITATION}")
    wrong = await typed("register", "bob", "--invitation", INVITATION, SEALPOST_PASSWORD=PASSWORD)
    monkeypatch.delenv("SEALPOST_URL")
    link = f"{url}/join#{INVITATION}"
    by_link = await typed("register", "bob", "--invitation", link, SEALPOST_PASSWORD=PASSWORD)

    assert (2, True) == (without.code, "requires an invitation: use --invitation" in without.stderr)
    assert (2, "sealpost: the invitation is for https://example.org\n") == (elsewhere.code, elsewhere.stderr)
    assert (1, 1) == (wrong.code, by_link.code)
    with pytest.raises(WrongUsage):
        parse_invitation("si_short")


@pytest.mark.parametrize(
    ("features", "arguments", "words"),
    [
        ("accounts", ("post", "a post"), "has no posts"),
        ("none", ("login", "ann"), "has no accounts"),
        ("none", ("login", "--browser"), "has no accounts"),
        ("none", ("register", "ann"), "does not allow registration"),
        ("none", ("message", "send", "a message", "--server-side"), "has no messages"),
    ],
)
async def test_a_missing_feature_is_named(
    serve: Serve, typed: Typed, monkeypatch: pytest.MonkeyPatch, features: str, arguments: Any, words: str
) -> None:
    """Instead of a path that does not exist."""
    api = await serve(features=features)
    go_to(api, monkeypatch)
    if features == "accounts":
        await api.register("ann")
        assert 0 == (await typed("login", "ann", SEALPOST_PASSWORD=PASSWORD)).code

    ended = await typed(*arguments, SEALPOST_PASSWORD=PASSWORD)

    assert ended.code in {1, 2}
    assert words in ended.stderr


def test_only_browsers_with_windows_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux, where there is a display or the user names a browser."""
    monkeypatch.setattr(sys, "platform", "linux")
    found = [accounts.has_browser(environment) for environment in ({}, {"DISPLAY": ":0"}, {"BROWSER": "firefox"})]
    monkeypatch.setattr(sys, "platform", "darwin")

    assert [False, True, True, True] == [*found, accounts.has_browser({})]


@pytest.mark.lifecycle
async def test_interrupted_it_leaves_nothing(url: str, config: Path) -> None:
    """After Ctrl-C, the port is closed and nothing is stored."""
    environment = {"SEALPOST_URL": url, "BROWSER": "true", "XDG_CONFIG_HOME": str(config.parent)}
    async with programs.running("-m", "src.client", "login", "--browser", environment=environment) as process:
        assert process.stderr
        line = (await asyncio.wait_for(process.stderr.readuntil(b"\n"), PATIENCE)).decode()
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), PATIENCE)

    assert 130 == process.returncode
    with pytest.raises(aiohttp.ClientConnectionError):
        await visit(parse_qs(urlsplit(line.split()[-1]).query)["terminal"][0], "/")
    assert not config.exists()
