"""Access tokens: only complete, current tokens signed with a key of the ring are accepted."""

import hmac
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from src.accounts.access_tokens import AUDIENCE, LIFE, REQUIRED, AccessClaims, AccessTokens
from src.core.clock import DatabaseClock, utc_now
from src.core.crypto import signed_tokens
from src.core.crypto.keys import KeyRing, Purpose, new_key
from src.core.crypto.sealing import encode
from src.core.crypto.signed_tokens import ISSUER, LEEWAY, SignedTokens

from .conftest import Api

RING = KeyRing.parse(new_key())
RSA = generate_private_key(65537, 2048)
CLAIMS = AccessClaims(b"u" * 16, b"s" * 16)


def sign(
    *, algorithm: str = "HS256", key: Any = None, key_id: str = RING.newest, ring: KeyRing = RING, **changes: Any
) -> str:
    """Return a token in the service's format, with changes; a claim that is None is left out."""
    now = int(utc_now().timestamp())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "75" * 16,
        "sid": "73" * 16,
        "jti": "1",
        "iat": now,
        "exp": now + 60,
    }
    payload = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    if key is None:
        key = ring.subkey(Purpose.ACCESS_TOKEN, ring.newest)
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": key_id} if key_id else {})


def test_a_token_identifies_its_session() -> None:
    """A token is read back, also after a new key has been added in front."""
    now = utc_now()
    token = AccessTokens(RING).write(CLAIMS, issued_at=now, expires_at=now + LIFE)

    assert CLAIMS == AccessTokens(RING).read(token)
    assert CLAIMS == AccessTokens(RING).read(sign())
    old = new_key()
    token = AccessTokens(KeyRing.parse(old)).write(CLAIMS, issued_at=now, expires_at=now + LIFE)
    assert CLAIMS == AccessTokens(KeyRing.parse(f"{new_key()},{old}")).read(token)
    assert None is AccessTokens(KeyRing.parse(new_key())).read(token)


def test_a_token_has_all_required_claims() -> None:
    """A token has every required claim, a life of 10 minutes, and a unique id."""
    now = utc_now()
    tokens = [AccessTokens(RING).write(CLAIMS, issued_at=now, expires_at=now + LIFE) for _ in range(2)]

    payloads = [jwt.decode(token, options={"verify_signature": False}) for token in tokens]

    assert set(REQUIRED) == set(payloads[0])
    assert 600 == payloads[0]["exp"] - payloads[0]["iat"]
    assert payloads[0]["jti"] != payloads[1]["jti"]
    assert {"alg": "HS256", "typ": "JWT", "kid": RING.newest} == jwt.get_unverified_header(tokens[0])


def absent(claim: str) -> dict[str, Any]:
    """Return a change that removes a claim."""
    return {claim: None}


def sealed_as(algorithm: str) -> str:
    """Return a token with a given algorithm in its header, and the HMAC-SHA256 of the service's key."""
    header = json.dumps({"alg": algorithm, "typ": "JWT", "kid": RING.newest}).encode()
    body = f"{encode(header)}.{sign().split('.')[1]}"
    key = RING.subkey(Purpose.ACCESS_TOKEN, RING.newest)
    assert key is not None
    return f"{body}.{encode(hmac.digest(key, body.encode(), 'sha256'))}"


def forged() -> dict[str, str]:
    """Return tokens that must be rejected, by their fault."""
    now = int(utc_now().timestamp())
    late = 60
    good = sign()
    header, payload, signature = good.split(".")
    none = encode(b'{"alg":"none","typ":"JWT","kid":"' + RING.newest.encode() + b'"}')
    other = json.dumps({**jwt.decode(good, options={"verify_signature": False}), "sub": "00" * 16}).encode()
    tokens = {
        "alg none": f"{none}.{payload}.",
        "alg none, signed": f"{none}.{payload}.{signature}",
        "RS256": sign(algorithm="RS256", key=RSA),
        "RS256 over our key": sealed_as("RS256"),
        "HS512 over our key": sealed_as("HS512"),
        "an alg in another case": sealed_as("hs256"),
        "a key of the sender's": sign(key=b"p" * 32),
        "wrong iss": sign(iss="sealpos"),
        "wrong aud": sign(aud="somebody"),
        "aud among others": sign(aud=[AUDIENCE, "somebody"]),
        "unknown kid": sign(key_id="elsewhere"),
        "no kid": sign(key_id=""),
        "another purpose's key": sign(key=RING.subkey(Purpose.BLIND_INDEX, RING.newest)),
        "expired": sign(iat=now - 100, exp=now - late),
        "not yet valid": sign(iat=now + late, exp=now + 2 * late),
        "not before": sign(nbf=now + late),
        "sub no id": sign(sub="ann"),
        "sid no id": sign(sid="00"),
        "truncated": good[:-1],
        "two parts": f"{header}.{payload}",
        "other payload": f"{header}.{encode(other)}.{signature}",
        "empty": "",
    }
    return tokens | {f"without {name}": sign(**absent(name)) for name in REQUIRED}


@pytest.mark.parametrize("fault", forged())
def test_forged_tokens_are_rejected(fault: str) -> None:
    """A single fault in algorithm, key, claims or times is enough."""
    assert None is AccessTokens(RING).read(forged()[fault])


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.from_regex(r"\A[\w-]{1,40}\.[\w-]{1,40}\.[\w-]{0,40}\Z"))
def test_arbitrary_text_is_no_token(text: str) -> None:
    """Reading any text returns None and raises nothing."""
    assert None is AccessTokens(RING).read(text)


@given(st.data())
def test_every_changed_character_is_detected(data: st.DataObject) -> None:
    """A token is invalid with any character changed, except for the unused last bits of its base64.

    That the right token has been read before makes no difference.
    """
    token, tokens = sign(), AccessTokens(RING)
    if data.draw(st.booleans()):
        assert CLAIMS == tokens.read(token)
    place = data.draw(st.integers(0, len(token) - 2))
    character = data.draw(st.sampled_from("ABab01-_."))
    changed = token[:place] + character + token[place + 1 :]

    assert (CLAIMS if changed == token else None) == tokens.read(changed)


async def test_the_service_answers_401_to_forged_tokens(serve: Any) -> None:
    """The same faults over HTTP, signed with the service's own keys; the unchanged token is accepted."""
    key = new_key()
    api: Api = await serve(keys=key)
    ring = KeyRing.parse(key)
    token = await api.sign_up()
    payload = jwt.decode(token, options={"verify_signature": False})
    good = {"ring": ring, "key_id": ring.newest, **payload}

    assert 200 == (await api.call("GET", "/me", token=sign(**good)))[0]
    now = int(utc_now().timestamp())
    faults: list[dict[str, Any]] = [{"exp": now - 60}, {"iat": now + 60}, {"iss": "x"}, {"aud": "x"}, {"key_id": "x"}]
    faults += [{"algorithm": "RS256", "key": RSA}, {"algorithm": "none", "key": ""}]
    faults += [absent(name) for name in REQUIRED]
    for fault in faults:
        status, problem = await api.call("GET", "/me", token=sign(**{**good, **fault}))
        assert (401, "invalid_token") == (status, problem["code"]), fault


def test_a_token_expires_after_ten_minutes_and_the_leeway(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks of two hosts may differ by up to 5 seconds."""
    now = utc_now().replace(microsecond=0)
    monkeypatch.setattr(DatabaseClock, "now", lambda _: now)
    tokens = AccessTokens(RING)
    inside, outside = LIFE + LEEWAY - timedelta(seconds=1), LIFE + LEEWAY

    assert CLAIMS == tokens.read(tokens.write(CLAIMS, issued_at=now - inside, expires_at=now - inside + LIFE))
    assert None is tokens.read(tokens.write(CLAIMS, issued_at=now - outside, expires_at=now - outside + LIFE))


def test_a_token_that_has_been_read_before_expires_too() -> None:
    """Its signature is not verified again, but its times are."""
    now, clock = utc_now(), DatabaseClock()
    tokens = AccessTokens(RING, clock)
    token = tokens.write(CLAIMS, issued_at=now, expires_at=now + LIFE)
    readings = []
    for ahead in (timedelta(0), -LIFE - 2 * LEEWAY, timedelta(0), LIFE):
        clock.adjust(ahead)
        readings.append(tokens.read(token))

    assert [CLAIMS, None, CLAIMS, None] == readings


def test_only_so_many_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """More are read all the same, and forged ones take no space."""
    monkeypatch.setattr(signed_tokens, "MOST_VERIFIED", 2)
    tokens = SignedTokens(RING, Purpose.ACCESS_TOKEN, audience=AUDIENCE, ids={"sub": 16})
    for number in range(5):
        assert tokens.read(sign(jti=str(number)))
        assert None is tokens.read(sign(jti=str(number), aud="x"))
        assert len(tokens._verified) <= 2


def test_a_token_expires_by_the_clock_of_mongodb() -> None:
    """A host whose clock is 8 days off neither rejects a valid token nor accepts an expired one."""
    now = utc_now()
    for ahead in (timedelta(days=-8), timedelta(days=8)):
        clock = DatabaseClock()
        clock.adjust(ahead)
        tokens, there = AccessTokens(RING, clock), now - ahead

        assert CLAIMS == tokens.read(tokens.write(CLAIMS, issued_at=there, expires_at=there + LIFE))
        assert None is tokens.read(tokens.write(CLAIMS, issued_at=there - 2 * LIFE, expires_at=there - LIFE))
        assert None is tokens.read(tokens.write(CLAIMS, issued_at=now, expires_at=now + LIFE))
