"""Sign-in codes: a signed-in user hands a session to a program."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from src.accounts import codes
from src.accounts.reauthentication import RECENT
from src.core.clock import utc_now

from .conftest import PASSWORD, Api

Serve = Callable[..., Awaitable[Api]]
VERIFIER = "a-random-text-of-43-or-more-characters-for-RFC-7636"
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


async def issue(api: Api, token: str) -> str:
    """Return a code."""
    status, answer = await api.call("POST", "/login/codes", {"challenge": CHALLENGE}, token=token)

    assert (201, 60) == (status, answer["expires_in"])
    return str(answer["code"])


async def exchange(api: Api, code: str, verifier: str = VERIFIER) -> tuple[int, Any]:
    """Exchange a code."""
    return await api.call("POST", "/login/code", {"code": code, "verifier": verifier})


async def test_a_code_starts_a_session_of_its_own(api: Api) -> None:
    """The program is signed in, and both sessions can be ended by themselves."""
    token = await api.sign_up()
    status, pair = await exchange(api, await issue(api, token))
    _, me = await api.call("GET", "/me", token=pair["access_token"])
    _, listed = await api.call("GET", "/sessions", token=token)

    assert (200, "ann", 2) == (status, me["username"], len(listed["sessions"]))
    assert 204 == (await api.call("POST", "/logout", token=pair["access_token"]))[0]
    assert 200 == (await api.call("GET", "/me", token=token))[0]


async def test_a_code_is_used_once(api: Api) -> None:
    """Of many requests at once, one gets a session."""
    code = await issue(api, await api.sign_up())
    answers = await asyncio.gather(*(exchange(api, code) for _ in range(8)))

    assert [200, *[401] * 7] == sorted(status for status, _ in answers)
    assert {"invalid_code"} == {answer["code"] for status, answer in answers if status == 401}


async def test_a_code_needs_its_verifier(api: Api) -> None:
    """Another verifier, or a page of another site, does not use it up; a code of another kind is no code."""
    token = await api.sign_up()
    code = await issue(api, token)

    assert (401, "invalid_code") == _told(await exchange(api, code, "another-" + VERIFIER))
    assert (401, "invalid_code") == _told(await exchange(api, token))
    cookie = {"code": code, "verifier": VERIFIER, "cookie": True}
    assert (403, "cross_site") == _told(await api.call("POST", "/login/code", cookie))
    assert 200 == (await exchange(api, code))[0]
    assert 400 == (await exchange(api, code, "short"))[0]


async def test_a_code_ends_with_its_session(api: Api) -> None:
    """After the session has ended, and after the account was disabled or deleted."""
    token = await api.sign_up()
    code = await issue(api, token)
    await api.call("POST", "/logout", token=token)
    assert (401, "invalid_code") == _told(await exchange(api, code))

    again = (await api.login())["access_token"]
    code = await issue(api, again)
    assert 204 == (await api.call("DELETE", "/me", {"password": PASSWORD}, token=again))[0]
    assert (401, "invalid_code") == _told(await exchange(api, code))


async def test_a_code_expires(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """By MongoDB's clock."""
    monkeypatch.setattr(codes, "LIFE", timedelta(seconds=-10))
    _, answer = await api.call("POST", "/login/codes", {"challenge": CHALLENGE}, token=await api.sign_up())

    assert (401, "invalid_code") == _told(await exchange(api, answer["code"]))


async def test_codes_have_budgets(serve: Serve) -> None:
    """An account issues 20 in 15 minutes, and wrong codes count as failed logins of the address."""
    api = await serve(rate_limits="on", limit_login_address="3 per 15 minutes")
    token = await api.sign_up()
    issued = [(await api.call("POST", "/login/codes", {"challenge": CHALLENGE}, token=token))[0] for _ in range(21)]
    refused = [(await exchange(api, "no code"))[0] for _ in range(4)]

    assert [*[201] * 20, 429] == issued
    assert [401, 401, 401, 429] == refused


async def test_a_code_is_no_recent_sign_in(api: Api) -> None:
    """With an access token of an old session, codes do not lead to a session that may add a passkey, nor do two."""
    token = await api.sign_up()
    _, fresh = await exchange(api, await issue(api, token))
    assert 200 == (await api.call("POST", "/passkeys/options", {}, token=fresh["access_token"]))[0]
    began = utc_now() - RECENT - timedelta(seconds=1)
    await api.mongo.collection("sessions").update_many({}, {"$set": {"created_at": began}})

    for _ in range(2):
        _, pair = await exchange(api, await issue(api, token))
        token = pair["access_token"]
        answer = await api.call("POST", "/passkeys/options", {}, token=token)
        assert (403, "sign_in_again") == _told(answer)


async def test_an_api_token_gets_no_code(api: Api) -> None:
    """A session has more rights than any API token."""
    token = await api.sign_up()
    _, created = await api.call("POST", "/tokens", {"name": "a program", "scopes": ["echo"]}, token=token)

    assert (403, "insufficient_scope") == _told(
        await api.call("POST", "/login/codes", {"challenge": CHALLENGE}, token=created["token"])
    )


def _told(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["code"]
