"""Passkeys: adding, signing in, and everything that does neither."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from src.accounts.reauthentication import RECENT
from src.core.clock import utc_now

from .authenticators import Authenticator, encode
from .conftest import PASSWORD, Api

Serve = Callable[..., Awaitable[Api]]


def authenticator_of(api: Api, count: int = 0) -> Authenticator:
    """Return an authenticator without a passkey yet, in a browser that shows the page of the server."""
    return Authenticator(f"http://{api.client.host}:{api.client.port}", count)


async def creation(api: Api, token: str, authenticator: Authenticator) -> dict[str, Any]:
    """Let an authenticator create a passkey, and return the request that adds it."""
    status, answer = await api.call("POST", "/passkeys/options", {"password": PASSWORD}, token=token)

    assert 200 == status
    return {
        "challenge": answer["challenge"],
        "name": "My laptop",
        "credential": authenticator.create(answer["options"]),
    }


async def add(api: Api, token: str, authenticator: Authenticator) -> Any:
    """Add a passkey to an account and return the answer."""
    status, passkey = await api.call("POST", "/passkeys", await creation(api, token, authenticator), token=token)

    assert 201 == status
    return passkey


async def assertion(api: Api, authenticator: Authenticator) -> dict[str, Any]:
    """Let an authenticator answer a challenge, and return the request that signs in."""
    status, answer = await api.call("POST", "/login/passkey/options")

    assert 200 == status
    return {"challenge": answer["challenge"], "credential": authenticator.get(answer["options"])}


async def sign_in(api: Api, authenticator: Authenticator) -> tuple[int, Any]:
    """Sign in by a passkey."""
    return await api.call("POST", "/login/passkey", await assertion(api, authenticator))


async def make_old(api: Api) -> None:
    """Make all sessions too old to confirm changes of the account."""
    began = utc_now() - RECENT - timedelta(seconds=1)
    await api.mongo.collection("sessions").update_many({}, {"$set": {"created_at": began}})


async def test_a_passkey_signs_in(api: Api) -> None:
    """The session is one of the account, and the list has the last use."""
    token = await api.sign_up()
    authenticator = authenticator_of(api)

    passkey = await add(api, token, authenticator)
    status, tokens = await sign_in(api, authenticator)

    assert 200 == status
    _, me = await api.call("GET", "/me", token=tokens["access_token"])
    assert ("ann", ["password", "passkey"]) == (me["username"], me["sign_in"])
    _, listed = await api.call("GET", "/passkeys", token=tokens["access_token"])
    [only] = listed["passkeys"]
    assert passkey["created_at"] <= only["last_used_at"] == only["last_used_at"]
    assert {**passkey, "last_used_at": only["last_used_at"]} == only
    assert 200 == (await api.call("POST", "/refresh", {"refresh_token": tokens["refresh_token"]}))[0]


async def test_signing_in_with_the_cookie(api: Api) -> None:
    """The cookie carries the refresh token, only for the page itself."""
    authenticator = authenticator_of(api)
    await add(api, await api.sign_up(), authenticator)
    body = {**await assertion(api, authenticator), "cookie": True}

    status, problem = await api.call("POST", "/login/passkey", body)
    assert (403, "cross_site") == (status, problem["code"])
    async with api.client.post("/login/passkey", json=body, headers={"Origin": authenticator.origin}) as answer:
        assert 200 == answer.status
        assert "refresh_token" not in await answer.json()
        assert "sealpost" in answer.cookies


async def test_the_options_are_for_discoverable_passkeys_with_user_verification(serve: Serve) -> None:
    """They name the host of the public URL, and exclude the passkeys that the account has."""
    api = await serve(public_url="https://sealpost.example:8443/under/it", brand_name="Our secrets")
    token = (await api.call("POST", "/register", {"username": "ann", "password": PASSWORD}, token=""))[1]
    token = (await api.login())["access_token"]
    authenticator = Authenticator("https://sealpost.example:8443")
    await add(api, token, authenticator)

    _, creating = await api.call("POST", "/passkeys/options", {}, token=token)
    _, requesting = await api.call("POST", "/login/passkey/options")

    options = creating["options"]
    assert {"id": "sealpost.example", "name": "Our secrets"} == options["rp"]
    assert ("required", "required") == tuple(
        options["authenticatorSelection"][name] for name in ("residentKey", "userVerification")
    )
    assert [encode(authenticator.credential_id)] == [one["id"] for one in options["excludeCredentials"]]
    assert [-7, -8, -257] == [one["alg"] for one in options["pubKeyCredParams"]]
    assert ("sealpost.example", "required", []) == tuple(
        requesting["options"][name] for name in ("rpId", "userVerification", "allowCredentials")
    )
    assert 200 == (await sign_in(api, authenticator))[0]
