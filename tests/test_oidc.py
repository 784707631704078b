"""Sign-in through an OpenID provider: whom it admits, what it refuses, and what a hostile provider can do."""

import asyncio
import base64
import hmac
import json
import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from src.accounts.oidc import links
from src.accounts.oidc import provider as provider_module
from src.accounts.oidc.identity_tokens import TokenRefused, UnknownKey, import_keys, verify
from src.accounts.oidc.problems import InvalidSignIn, NotAdmitted, ProviderFaulty, ProviderUnavailable
from src.accounts.oidc.provider import Exchange, Identity, Provider
from src.accounts.oidc.provider_client import MOST_BYTES, ProviderClient
from src.accounts.oidc.rules import SignInRules, usernames
from src.accounts.users import NAME_PATTERN, UserStore
from src.core.clock import DatabaseClock, utc_now
from src.core.crypto.keys import new_key, read_key_ring
from src.core.crypto.sealing import encode
from src.core.database.group_commit import group_commit
from src.core.database.resealing import Resealing
from src.errors import Problem
from src.settings import Settings

from .conftest import Api
from .oidc_provider import (
    CHALLENGE,
    CLIENT_ID,
    DISCOVERY,
    KEYS,
    TOKEN,
    USERINFO,
    VERIFIER,
    Browser,
    HostileProvider,
    Respond,
    sign,
)
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]
MakeSettings = Callable[..., Settings]

NONCE, ISSUER = "a nonce", "https://id.example.org"
KEY, OTHER_KEY = (ECKey.generate_key("P-256", auto_kid=True) for _ in range(2))
KEYS_OF_ISSUER = import_keys([KEY.as_dict(private=False)])
NOW = utc_now()
GOOD: dict[str, Any] = {
    "iss": ISSUER,
    "aud": CLIENT_ID,
    "sub": "subject-1",
    "nonce": NONCE,
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 60,
}


@pytest.fixture
async def provider() -> AsyncIterator[HostileProvider]:
    """A provider on a free port."""
    provider = HostileProvider()
    await provider.server.start_server()
    yield provider
    await provider.server.close()


def verified(token: str, keys: Any = KEYS_OF_ISSUER) -> dict[str, Any]:
    """Return the claims of a token for this service, now."""
    return dict(verify(token, keys, issuer=ISSUER, client_id=CLIENT_ID, nonce=NONCE, now=NOW))


async def identify(
    provider: HostileProvider,
    settings: Settings,
    *,
    needed: tuple[str, ...] = (),
    issuer: str | None = None,
    seconds: float = 30,
    **claims: Any,
) -> Identity:
    """Return what a worker that has just started learns from the provider about a user with a good code."""
    relying = Provider(settings, DatabaseClock(), ProviderClient(seconds=seconds))
    asked = {"nonce": NONCE, "redirect_uri": "/back", "code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    code = provider.authorize(asked, **claims)
    try:
        return await relying.identify(Exchange(code, issuer, VERIFIER, NONCE, "/back"), needed)
    finally:
        await relying.close()


@pytest.mark.parametrize(
    "key",
    [
        RSAKey.generate_key(2048, auto_kid=True),
        ECKey.generate_key("P-384", auto_kid=True),
        OKPKey.generate_key("Ed25519", auto_kid=True),
    ],
    ids=["RSA", "EC", "OKP"],
)
def test_good_tokens_are_accepted(key: Any) -> None:
    """Each kind of key, with and without the id of the key, and with several audiences."""
    algorithms = {"RSA": ("RS256", "PS512"), "EC": ("ES384",), "OKP": ("EdDSA", "Ed25519")}[key.key_type]
    keys = import_keys([*UNUSABLE_KEYS, key.as_dict(private=False)])
    several = {**GOOD, "aud": ["other", CLIENT_ID], "azp": CLIENT_ID}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens = [sign(claims, key, name, **kid) for claims in (GOOD, several) for name in algorithms for kid in KIDS]

    assert {"subject-1"} == {verified(token, keys)["sub"] for token in tokens}


NOT_RSA = {"kty": "RSA", "e": "AQAB"}
UNUSABLE_KEYS: list[Any] = [
    *(None, {}, {"kty": ["RSA"]}, {"kty": "oct", "k": "AAAA"}, {"kty": "new"}, {"kty": "EC", "crv": "P-256"}),
    *({**NOT_RSA, "n": "AQAB"}, {**NOT_RSA, "n": "!" * 400}, {**NOT_RSA, "n": 5}, {**NOT_RSA, "n": "A" * 5000}),
    *({"kty": "EC", "crv": "none", "x": "AA", "y": "AA"}, {**KEY.as_dict(private=False), "use": "enc"}),
]
KIDS: list[dict[str, Any]] = [{}, {"kid": None}]


def test_unusable_keys_are_ignored() -> None:
    """A key set may contain anything; keys that cannot verify a signature, or are too weak, are left out."""
    assert [(), (), ()] == [import_keys(UNUSABLE_KEYS), import_keys(None), import_keys({"kty": "RSA"})]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://id.example.com"}, "wrong issuer"),
        ({"iss": None}, "wrong issuer"),
        ({"aud": "other"}, "wrong audience"),
        ({"aud": {"sealpost": 1}}, "wrong audience"),
        ({"aud": [CLIENT_ID, "other"]}, "wrong authorized party"),
        ({"azp": "other"}, "wrong authorized party"),
        ({"exp": GOOD["iat"] - 6}, "expired"),
        ({"exp": float("nan")}, "expired"),
        ({"exp": None}, "without a time"),
        ({"iat": True}, "without a time"),
        ({"iat": GOOD["iat"] + 7}, "from the future"),
        ({"nbf": GOOD["iat"] + 7}, "from the future"),
        ({"nonce": "another nonce"}, "wrong nonce"),
        ({"nonce": None}, "wrong nonce"),
        ({"sub": ""}, "no usable subject"),
        ({"sub": 7}, "no usable subject"),
        ({"sub": "s" * 256}, "no usable subject"),
    ],
)
def test_tokens_with_wrong_claims_are_refused(changes: dict[str, Any], reason: str) -> None:
    """Each claim that the specification requires is checked, with 5 seconds of leeway for times."""
    with pytest.raises(TokenRefused, match=f"^{reason}$"):
        verified(sign({**GOOD, **changes}, KEY))


def critical() -> str:
    """Return a signed token with an extension that this service must understand and does not (RFC 7515, 4.1.11)."""
    header = encode(json.dumps({"alg": "ES256", "kid": KEY.kid, "crit": ["new"], "new": 1}).encode())
    payload = encode(json.dumps(GOOD).encode())
    signature = jws.JWSRegistry.algorithms["ES256"].sign(f"{header}.{payload}".encode(), KEY)
    return f"{header}.{payload}.{encode(signature)}"


def test_tokens_that_the_provider_has_not_signed_are_refused() -> None:
    """Without a signature, with the public key as a shared secret, by another key, modified, or no token at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unsigned = sign(GOOD, KEY, "none")
    with pytest.raises(UnknownKey):
        verified(sign(GOOD, OTHER_KEY))
    parts = [encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": KEY.kid}, GOOD)]
    forged = ".".join([*parts, encode(hmac.digest(KEY.as_pem(private=False), ".".join(parts).encode(), "sha256"))])
    header, payload, signature = sign(GOOD, KEY).split(".")
    other = sign({**GOOD, "sub": "subject-2"}, KEY).split(".")[1]
    tokens = [forged, unsigned, f"{header}.{other}.{signature}", f"{header}.{payload}.", f"{header}.{payload}", "", "é"]
    tokens += [sign(GOOD, OTHER_KEY, kid=KEY.kid), critical(), "." * 200_000]
    for token in tokens:
        with pytest.raises(TokenRefused) as refusal:
            verified(token)

        assert not isinstance(refusal.value, UnknownKey), token[:200]


async def test_a_new_key_of_the_provider_is_fetched_at_most_once_a_minute(
    provider: HostileProvider, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token with an unknown key makes a worker fetch the keys again, unless such a token has just done so."""
    relying = Provider(make_settings(**provider.settings), DatabaseClock())
    exchange = Exchange("", None, VERIFIER, NONCE, "/back")
    asked = {"nonce": NONCE, "redirect_uri": "/back", "code_challenge": CHALLENGE, "code_challenge_method": "S256"}

    async def subject() -> str:
        return (await relying.identify(replace(exchange, code=provider.authorize(asked)), ())).subject

    await subject()
    provider.key = OTHER_KEY
    await subject()
    provider.key = KEY
    with pytest.raises(ProviderFaulty):
        await subject()
    fetched = provider.requests.count(KEYS)
    monkeypatch.setattr(provider_module, "RENEWAL_SECONDS", 0.0)

    assert (2, "subject-1") == (fetched, await subject())
    monkeypatch.setattr(provider_module, "KEPT_SECONDS", 0.0)
    await subject()
    assert provider.requests.count(DISCOVERY) > 1
    await relying.close()


async def respond_slowly(_: web.Request) -> web.StreamResponse:
    """Answer never."""
    await asyncio.Event().wait()
    raise AssertionError


async def respond_endlessly(request: web.Request) -> web.StreamResponse:
    """Answer with more than the limit."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(MOST_BYTES // 2**16 + 1):
        await response.write(b" " * 2**16)
    return response


def responding(status: int, body: Any = None, text: str = "", **headers: str) -> Respond:
    """Return an answer."""

    async def respond(_: web.Request) -> web.StreamResponse:
        if body is not None:
            return web.json_response(body, status=status, headers=headers)
        return web.Response(status=status, text=text, headers=headers)

    return respond


@pytest.mark.parametrize(
    ("respond", "error"),
    [
        (respond_slowly, ProviderUnavailable),
        (respond_endlessly, ProviderFaulty),
        (responding(500), ProviderUnavailable),
        (responding(429), ProviderUnavailable),
        (responding(302, Location="http://127.0.0.1:1/"), ProviderFaulty),
        (responding(404), ProviderFaulty),
        (responding(200, text="<html>"), ProviderFaulty),
        (responding(200, text="[" * 100_000), ProviderFaulty),
        (responding(200, ["a list"]), ProviderFaulty),
        (responding(200, {"id_token": 5, "keys": "none", "sub": "subject-2", "issuer": 7}), ProviderFaulty),
        (responding(400, {"error": "invalid_client"}), ProviderFaulty),
    ],
    ids=["slow", "endless", "500", "429", "redirect", "404", "HTML", "nested", "list", "wrong types", "400"],
)
async def test_unusable_answers_of_the_provider_become_errors_of_ours(
    provider: HostileProvider, make_settings: MakeSettings, respond: Respond, error: type[Problem]
) -> None:
    """At each step: discovery, keys, token, user information. No answer is followed, waited for or kept in full."""
    settings = make_settings(**provider.settings)
    raised = []
    for path in (DISCOVERY, KEYS, TOKEN, USERINFO):
        provider.responses = {path: respond}
        with pytest.raises((ProviderUnavailable, ProviderFaulty)) as failure:
            await identify(provider, settings, needed=("groups",), seconds=0.3 if respond is respond_slowly else 30)
        raised.append(failure.type)

    assert [error] * 4 == raised


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://id.example.org"},
        {"token_endpoint": "http://id.example.org/token"},
        {"jwks_uri": "https://user@id.example.org/keys"},
        {"authorization_endpoint": "https://id.example.org/\r\nSet-Cookie: a"},
        {"token_endpoint": None},
    ],
)
async def test_unsafe_discovery_documents_are_refused(
    provider: HostileProvider, make_settings: MakeSettings, metadata: dict[str, Any]
) -> None:
    """Of another issuer, or with an endpoint that is missing or not confidential; nothing is sent there."""
    provider.metadata = metadata
    with pytest.raises(ProviderFaulty):
        await identify(provider, make_settings(**provider.settings))

    assert [DISCOVERY] == provider.requests


async def test_a_provider_that_is_down_is_not_asked_by_each_request(make_settings: MakeSettings) -> None:
    """A failed discovery is not repeated for some seconds."""
    provider = HostileProvider()
    await provider.server.start_server()
    settings = make_settings(**provider.settings)
    provider.responses = {DISCOVERY: responding(503)}
    relying = Provider(settings, DatabaseClock())
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            await relying.authorization_url(redirect_uri="/back", state="", nonce="", challenge="")
    await provider.server.close()

    assert [DISCOVERY] == provider.requests
    with pytest.raises(ProviderUnavailable):
        await identify(provider, settings)
    await relying.close()


async def test_the_client_authenticates_as_the_provider_asks(
    provider: HostileProvider, make_settings: MakeSettings
) -> None:
    """With its secret in the header or the body, and a public client with its id only."""
    secret = {**provider.settings, "oidc_client_id": "a:b", "oidc_client_secret": "s p/é"}
    provider.claims = {"aud": "a:b"}
    await identify(provider, make_settings(**secret))
    provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await identify(provider, make_settings(**secret))
    provider.claims = {}
    await identify(provider, make_settings(**provider.settings))

    encoded = base64.b64encode(b"a%3Ab:s+p%2F%C3%A9").decode()
    assert [f"Basic {encoded}", "", ""] == provider.authorizations
    sent = [(form.get("client_id"), form.get("client_secret")) for form in provider.forms]
    assert [(None, None), ("a:b", "s p/é"), (CLIENT_ID, None)] == sent


async def test_an_answer_of_another_provider_is_refused(provider: HostileProvider, make_settings: MakeSettings) -> None:
    """By the issuer in the answer, which must be there if the provider says that it sends it (RFC 9207)."""
    settings = make_settings(**provider.settings)
    await identify(provider, settings, issuer=provider.issuer)
    with pytest.raises(InvalidSignIn):
        await identify(provider, settings, issuer="https://id.example.org")
    provider.metadata = {"authorization_response_iss_parameter_supported": True}
    with pytest.raises(InvalidSignIn):
        await identify(provider, settings)

    assert 1 == provider.requests.count(TOKEN)


async def test_missing_claims_come_from_the_userinfo_endpoint(
    provider: HostileProvider, make_settings: MakeSettings
) -> None:
    """Only if they are needed, and an address only together with whether it is verified."""
    settings = make_settings(**provider.settings)
    provider.userinfo = {"groups": ["staff"], "email": "b@example.org", "email_verified": True}
    plain = await identify(provider, settings, groups=[], needed=("groups",))
    completed = await identify(provider, settings, needed=("groups",), email="a@example.org")

    assert ([], 1) == (plain.claims["groups"], provider.requests.count(USERINFO))
    claims = completed.claims
    assert (["staff"], "b@example.org", True) == (claims["groups"], claims["email"], claims["email_verified"])


RULES = {"oidc_issuer": ISSUER, "oidc_client_id": CLIENT_ID}


@pytest.mark.parametrize(
    ("settings", "claims", "is_admitted"),
    [
        ({}, {}, True),
        (
            {"oidc_allowed_domains": "example.org, Example.com"},
            {"email": "a@EXAMPLE.com", "email_verified": True},
            True,
        ),
        ({"oidc_allowed_domains": "example.org"}, {"email": "a@example.org", "email_verified": "true"}, True),
        ({"oidc_allowed_domains": "example.org"}, {"email": "a@example.org"}, False),
        ({"oidc_allowed_domains": "example.org"}, {"email": "a@example.org", "email_verified": "false"}, False),
        ({"oidc_allowed_domains": "example.org"}, {"email": "a@sub.example.org", "email_verified": True}, False),
        ({"oidc_allowed_domains": "example.org"}, {"email": "a@example.org@b.c", "email_verified": True}, False),
        ({"oidc_allowed_domains": "example.org"}, {"email": "example.org", "email_verified": True}, False),
        ({"oidc_allowed_domains": "example.org"}, {"email": ["a@example.org"], "email_verified": True}, False),
        ({"oidc_allowed_groups": "staff,guests"}, {"groups": ["other", "guests"]}, True),
        ({"oidc_allowed_groups": "staff"}, {"groups": "staff"}, True),
        ({"oidc_allowed_groups": "staff"}, {"groups": ["Staff", 5, ["staff"]]}, False),
        ({"oidc_allowed_groups": "staff"}, {"groups": {"staff": True}}, False),
        ({"oidc_allowed_groups": "staff"}, {}, False),
        ({"oidc_allowed_groups": "a", "oidc_allowed_domains": "b.c"}, {"groups": ["a"]}, False),
    ],
)
def test_rules_decide_who_may_sign_in(
    make_settings: MakeSettings, settings: dict[str, str], claims: dict[str, Any], is_admitted: bool
) -> None:
    """Each rule that is set must be satisfied, and a claim of another type satisfies none."""
    rules = SignInRules(make_settings(**RULES, **settings))
    if is_admitted:
        rules.check(claims)
    else:
        with pytest.raises(NotAdmitted):
            rules.check(claims)


@given(
    st.dictionaries(st.sampled_from(["preferred_username", "email"]), st.text(max_size=60) | st.none() | st.integers())
)
@example({"preferred_username": "a" * 31 + "2"})
@example({"preferred_username": "a" * 30 + "10"})
def test_names_of_new_accounts_are_valid(claims: dict[str, Any]) -> None:
    """Whatever the claims contain, all names that are tried are different and can be registered."""
    names = list(usernames(claims))

    assert all(re.fullmatch(NAME_PATTERN, name) for name in names)
    assert len({*names[:10]}) == 10


def test_names_of_new_accounts_resemble_those_of_the_provider() -> None:
    """Without accents, of an e-mail address without its domain, and with digits if a name is taken."""
    claims = [{"preferred_username": "Zoë Müller"}, {"preferred_username": "李", "email": "li.na@example.org"}, {}]

    assert ["Zoe-Muller", "li.na", "user"] == [next(usernames(each)) for each in claims]
    assert ["a" * 32, "a" * 31 + "2"] == list(usernames({"email": "a" * 40}))[:2]


async def test_the_first_sign_in_creates_an_account_that_later_ones_find(
    serve: Serve, provider: HostileProvider
) -> None:
    """By the subject: with another name and address, and on another browser, it is the same account."""
    api = await serve(**provider.settings)
    first, second = Browser(api), Browser(api)
    provider.userinfo = {"preferred_username": "ben", "email": "ben@example.org"}
    _, service = await api.call("GET", "/service")
    answer = await first.sign_in(provider)
    me = await first.me()
    provider.userinfo = {"preferred_username": "ann"}
    await second.sign_in(provider)

    assert (302, "/signin") == (answer.status, urlsplit(answer.headers["Location"]).path)
    assert {"sealpost"} == set(first.cookies)
    assert (["password", "passkey", "oidc"], "127.0.0.1") == (service["sign_in"], service["oidc_name"])
    assert ("ben", ["oidc"], False) == (me["username"], me["sign_in"], me["operator"])
    assert me["user_id"] == (await second.me())["user_id"]


async def test_the_request_to_the_provider_is_bound_to_the_browser(serve: Serve, provider: HostileProvider) -> None:
    """With state, nonce and PKCE, new ones each time, in a cookie that scripts cannot read and no one can open."""
    api = await serve(**provider.settings, oidc_scopes="openid groups")
    browser = Browser(api)
    first, second = await browser.start(), await browser.start()
    answer = await browser.send("GET", "/oidc/start")
    cookie = answer.headers["Set-Cookie"]

    assert answer.headers["Location"].startswith(f"{provider.issuer}/authorize?tenant=1&response_type=code&")
    assert str(api.client.make_url("/oidc/callback")) == first["redirect_uri"]
    assert ("S256", "openid groups", CLIENT_ID) == tuple(
        first[name] for name in ("code_challenge_method", "scope", "client_id")
    )
    assert all(first[name] != second[name] and len(first[name]) == 43 for name in ("state", "nonce", "code_challenge"))
    assert {"HttpOnly", "SameSite=Lax", "Max-Age=600", "Path=/"} <= set(cookie.split("; "))
    sealed = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
    assert not any(sealed[name] in cookie for name in ("state", "nonce", "code_challenge"))
    assert [DISCOVERY] == provider.requests


async def test_neither_logs_nor_documents_contain_who_signs_in(
    serve: Serve, provider: HostileProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor what the provider and the browser send: issuer, subject, name, groups, code, state and tokens."""
    api = await serve(**provider.settings, oidc_allowed_groups="staff", oidc_client_secret="a client secret")
    browser = Browser(api)
    claims = {"sub": "a subject", "preferred_username": "zoe.example", "groups": ["staff"]}
    asked = await browser.start()
    code = provider.authorize(asked, **claims)
    admitted = await browser.back(code=code, state=asked["state"])
    excluded = await browser.sign_in(provider, **{**claims, "groups": ["a group"]})
    stored = [
        str(document)
        for name in await api.mongo.database.list_collection_names()
        for document in await api.mongo.collection(name).find({}).to_list(None)
    ]
    told = capsys.readouterr().out + "".join(stored)

    assert [302, 403] == [admitted.status, excluded.status]
    assert "/oidc/callback" in told
    private = ["a subject", "zoe.example", "a group", "a client secret", provider.issuer, code, asked["state"]]
    assert [] == [text for text in private if text in told]


async def test_an_existing_account_is_not_taken_over(serve: Serve, provider: HostileProvider) -> None:
    """A user of the provider with the name or address of an account gets another account; a reserved name is free."""
    api = await serve(**provider.settings)
    await api.register("ann")
    await api.call("POST", "/identify", {"message_type": "IDENTIFY", "username": "eve"})
    names = []
    for subject, claims in (
        ("1", {"preferred_username": "ANN"}),
        ("2", {"email": "ann@example.org", "email_verified": True}),
        ("3", {"preferred_username": "eve"}),
    ):
        browser = Browser(api)
        await browser.sign_in(provider, sub=subject, **claims)
        names.append((await browser.me())["username"])

    assert ["ANN2", "ann3", "eve"] == names


async def test_parallel_first_sign_ins_make_one_account(serve: Serve, provider: HostileProvider) -> None:
    """All sign-ins get the account, none fails, and no account is left over."""
    api = await serve(**provider.settings)
    browsers = [Browser(api) for _ in range(5)]
    starts = [await browser.start() for browser in browsers]
    codes = [provider.authorize(asked, preferred_username="ann", email="") for asked in starts]
    back = [
        browser.back(code=code, state=asked["state"])
        for browser, code, asked in zip(browsers, codes, starts, strict=True)
    ]
    answers = await asyncio.gather(*back)

    assert [302] * 5 == [answer.status for answer in answers]
    assert 1 == len({(await browser.me())["user_id"] for browser in browsers})
    assert 1 == await api.mongo.collection("users").count_documents({})


async def test_answers_that_belong_to_no_sign_in_of_the_browser_cost_nothing(
    serve: Serve, provider: HostileProvider
) -> None:
    """Without the cookie, with that of another browser, with another state, expired, used, or without a code."""
    api = await serve(**provider.settings)
    browser, other = Browser(api), Browser(api)
    asked, others = await browser.start(), await other.start()
    good = {"code": provider.authorize(asked), "state": asked["state"]}
    kept = dict(browser.cookies)
    statuses = [(await Browser(api).back(**good)).status]
    for changes, cookies in (
        ({}, other.cookies),
        ({"state": others["state"]}, kept),
        ({"state": ""}, kept),
        ({"code": ""}, kept),
        ({}, {"sealpost-oidc": kept["sealpost-oidc"][:-1]}),
    ):
        attempt = Browser(api)
        attempt.cookies = dict(cookies)
        answer = await attempt.back(**{**good, **changes})
        statuses.append(answer.status)

        assert ("invalid_sign_in", {}) == (answer.json()["code"], attempt.cookies)
    mongo_clock = api.mongo.clock
    mongo_clock.adjust(-timedelta(minutes=10))
    statuses.append((await browser.back(**good)).status)

    assert ([400] * 7, [DISCOVERY]) == (statuses, provider.requests)


async def test_errors_of_the_provider_are_told_in_our_words(serve: Serve, provider: HostileProvider) -> None:
    """As a page in the browser's language with a way back, without any text of the provider."""
    api = await serve(**provider.settings)
    browser = Browser(api, **{"Accept": "text/html", "Accept-Language": "de"})
    pages = []
    for error in ("access_denied", "temporarily_unavailable", "anything"):
        asked = await browser.start()
        pages.append(await browser.back(state=asked["state"], error=error, error_description="EVIL", error_uri="EVIL"))

    assert [403, 503, 403] == [page.status for page in pages]
    assert all(b"Anmeldeseite" in page.body and b'href="../signin"' in page.body for page in pages)
    assert not any(b"EVIL" in page.body or b"denied" in page.body for page in pages)
    assert {} == browser.cookies


async def test_operators_follow_the_groups_at_each_sign_in(serve: Serve, provider: HostileProvider) -> None:
    """Membership makes an operator, the end of it revokes that, and users whom the rules exclude stay out.

    The audit has each step.
    """
    api = await serve(**provider.settings, oidc_allowed_groups="staff", oidc_operator_groups="admins")
    provider.claims = {"preferred_username": "ann"}
    operators = []
    for groups in (["staff", "admins"], ["staff"], ["staff", "admins"]):
        browser = Browser(api)
        await browser.sign_in(provider, groups=groups)
        operators.append((await browser.me())["operator"])
    refused = await Browser(api).sign_in(provider, groups=["admins"])
    token = (await browser.refresh())["access_token"]
    kinds: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while "sign_in_failed" not in kinds:
            answer = await api.send("GET", "/audit", Authorization=f"Bearer {token}")
            events = [json.loads(line) for line in answer.body.splitlines()]
            kinds = [event["kind"] for event in events]

    assert [True, False, True] == operators
    assert (403, "not_admitted") == (refused.status, refused.json()["code"])
    assert kinds == [
        *("registered", "operator_granted", "signed_in"),
        *("operator_revoked", "signed_in"),
        *("operator_granted", "signed_in"),
        "sign_in_failed",
    ]
    assert {"oidc"} == {event.get("method") for event in events}
    assert {"ann"} == {event["username"] for event in events}


async def test_disabled_and_deleted_accounts(serve: Serve, provider: HostileProvider) -> None:
    """A disabled account stays out; after the deletion of an account, the next sign-in makes a new one."""
    api = await serve(**provider.settings)
    provider.claims = {"preferred_username": "ann"}
    browser = Browser(api)
    await browser.sign_in(provider)
    first = await browser.me()
    users = UserStore(api.mongo, read_key_ring(api.settings), group_commit(max_batch=10, max_queue=10))
    user = await users.find_by_name("ann")
    assert user
    disabled = await users.change(user, disabled=True)
    assert disabled
    refused = await browser.sign_in(provider)
    await users.change(disabled, disabled=False)
    await browser.sign_in(provider)
    deleted = await api.call("DELETE", "/me", {}, token=(await browser.refresh())["access_token"])
    links = await api.mongo.collection("oidc_links").count_documents({})
    await browser.sign_in(provider)
    second = await browser.me()
    # As if a crash had left the link.
    await api.mongo.collection("users").delete_many({})
    await browser.sign_in(provider)
    third = await browser.me()

    assert (403, "account_disabled") == (refused.status, refused.json()["code"])
    assert (204, 0) == (deleted[0], links)
    assert ["ann"] * 3 == [me["username"] for me in (first, second, third)]
    assert 3 == len({me["user_id"] for me in (first, second, third)})


async def test_an_account_is_found_after_a_rotation_of_keys(
    serve: Serve, provider: HostileProvider, own_database: str
) -> None:
    """With a new key in front, before and after its data is sealed again."""
    old, new = new_key(), new_key()
    before = await serve(**provider.settings, mongo_database=own_database, keys=old)
    provider.claims = {"preferred_username": "ann"}
    browsers = [Browser(before)]
    await browsers[0].sign_in(provider)
    rotated = await serve(**provider.settings, mongo_database=own_database, keys=f"{new},{old}")
    browsers.append(Browser(rotated))
    await browsers[1].sign_in(provider)
    ring = read_key_ring(rotated.settings)
    resealed = await Resealing(rotated.mongo, ring, [links.RESEALABLE], []).run(lambda *_: None)
    browsers.append(Browser(rotated))
    await browsers[2].sign_in(provider)

    assert [1] == [one.changed for one in resealed]
    assert 1 == len({(await browser.me())["user_id"] for browser in browsers})


async def test_invented_codes_are_limited_by_network(serve: Serve, provider: HostileProvider) -> None:
    """Each costs the provider a request, so their number is limited; successful sign-ins do not count."""
    api = await serve(**provider.settings, rate_limits="on", limit_login_address="2 per 1 hour")
    browser = Browser(api)
    statuses = [(await browser.sign_in(provider, preferred_username="ann")).status for _ in range(3)]
    for _ in range(4):
        asked = await browser.start()
        statuses.append((await browser.back(code="invented", state=asked["state"])).status)

    assert ([302] * 3 + [400] * 2 + [429] * 2, 5) == (statuses, provider.requests.count(TOKEN))


async def test_a_modified_link_is_reported_as_damaged(serve: Serve, provider: HostileProvider) -> None:
    """A link that was moved to another account in the database admits no one to it."""
    api = await serve(**provider.settings)
    provider.claims = {"preferred_username": "ann"}
    await Browser(api).sign_in(provider)
    await api.mongo.collection("oidc_links").update_one({}, {"$set": {"user_id": bytes(16)}})
    moved = await Browser(api).sign_in(provider)
    await api.mongo.collection("oidc_links").update_one({}, {"$set": {"envelope": b""}})
    damaged = await Browser(api).sign_in(provider)

    assert [(410, "damaged")] * 2 == [(answer.status, answer.json()["code"]) for answer in (moved, damaged)]


async def test_without_a_provider_there_are_no_routes(api: Api) -> None:
    """Without settings, the addresses do not exist."""
    assert [404, 404] == [(await api.call("GET", f"/oidc/{name}"))[0] for name in ("start", "callback")]
