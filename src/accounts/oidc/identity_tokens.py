"""Verifying the provider's identity tokens (OpenID Connect Core 1.0, section 3.1.3.7)."""

import hmac
import warnings
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, extract_compact

from ...core.crypto.signed_tokens import LEEWAY

ALGORITHMS: Mapping[str, str] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519", "Ed448"), "OKP"),
}
"""The accepted signature algorithms, and the type of key of each: never "none", and never a shared secret."""
MODULUS_CHARACTERS = range(342, 1367)
"""Characters of an RSA modulus in base64: 2,048 to 8,192 bits."""
MOST_KEYS = 100
LONGEST_SUBJECT = 255
"""OpenID Connect Core 1.0, section 2."""

PublicKey = RSAKey | ECKey | OKPKey


class TokenRefused(Exception):
    """The token is not acceptable; the message says why, without a text of the token."""


class UnknownKey(TokenRefused):
    """No key of the provider has the id that the token names."""


_REGISTRY = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)


def import_keys(documents: object) -> tuple[PublicKey, ...]:
    """Return the keys of a JSON Web Key Set that can verify signatures; others are ignored (RFC 7517, section 5)."""
    return tuple(_imported(documents[:MOST_KEYS])) if isinstance(documents, list) else ()


def _imported(documents: Iterable[object]) -> Iterator[PublicKey]:
    for document in documents:
        if not isinstance(document, dict) or document.get("use", "sig") != "sig":
            continue
        if document.get("kty") == "RSA" and len(str(document.get("n"))) not in MODULUS_CHARACTERS:
            continue
        if document.get("kty") not in ALGORITHMS.values():
            continue
        try:
            key = JWKRegistry.import_key(document)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, PublicKey):
            yield key


def verify(
    token: str, keys: Iterable[PublicKey], *, issuer: str, client_id: str, nonce: str, now: datetime
) -> Mapping[str, Any]:
    """Return the claims of an identity token. Raises `TokenRefused`, and `UnknownKey` if other keys may fit."""
    claims = _signed(token, keys)
    if claims.get("iss") != issuer:
        raise TokenRefused("wrong issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences:
        raise TokenRefused("wrong audience")
    if claims.get("azp", client_id if len(audiences) == 1 else None) != client_id:
        raise TokenRefused("wrong authorized party")
    moment, leeway = now.timestamp(), LEEWAY.total_seconds()
    if not _number(claims, "exp") + leeway > moment:
        raise TokenRefused("expired")
    if not _number(claims, "iat") - leeway <= moment or not _number(claims, "nbf", 0) - leeway <= moment:
        raise TokenRefused("from the future")
    if not hmac.compare_digest(str(claims.get("nonce")).encode(errors="replace"), nonce.encode()):
        raise TokenRefused("wrong nonce")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise TokenRefused("no usable subject")
    return claims


def _signed(token: str, keys: Iterable[PublicKey]) -> Mapping[str, Any]:
    """Return the claims of a token that one of the keys has signed."""
    try:
        header = extract_compact(token.encode()).headers()
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        raise TokenRefused("malformed") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefused("algorithm not accepted")
    fitting = [
        key
        for key in keys
        if key.key_type == ALGORITHMS[algorithm] and key_id in (None, key.kid) and key.alg in (None, algorithm)
    ]
    if not fitting:
        raise UnknownKey("unknown key")
    for key in fitting:
        try:
            with warnings.catch_warnings():
                # Of the name EdDSA, which RFC 9864 has replaced and providers still use.
                warnings.simplefilter("ignore", SecurityWarning)
                return jwt.decode(token, key, registry=_REGISTRY).claims
        except BadSignatureError:
            continue
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise TokenRefused("malformed") from None
    # Without a key id, a new key may have been used.
    raise UnknownKey("wrong signature") if key_id is None else TokenRefused("wrong signature")


def _number(claims: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused("without a time")
    return value
