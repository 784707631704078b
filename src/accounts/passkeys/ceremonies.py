"""The two ceremonies of WebAuthn: what a browser is asked for, and the verification of its answers.

Everything in an answer is hostile: its sizes are bounded before the library reads it, and any failure of the library
is a refusal.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import parse_cbor
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.structs import (
    AttestationFormat,
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from ...core.crypto.sealing import decode
from .cbor import check_items
from .store import Passkey, PasskeyContent

LONGEST_CREDENTIAL_ID = 1023
"""Bytes (Web Authentication, level 2, section 5.8.3)."""
LONGEST_PART = 16 * 1024
"""Characters of each part of an answer."""
LONGEST_PUBLIC_KEY = 600
"""Bytes: enough for RSA with 4096 bits. Larger numbers would make each verification slow."""
TIMEOUT_MILLISECONDS = 300_000
"""How long a browser waits for the user: the life of a challenge."""
_ALGORITHMS = [
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
# None is asked for; an authenticator may still sign with the new key itself. The others have certificates to parse.
_FORMATS = {AttestationFormat.NONE, AttestationFormat.PACKED}
_HEADER_BYTES, _FLAGS_AT, _HAS_KEY, _AAGUID_BYTES, _LENGTH_BYTES = 37, 32, 0x40, 16, 2


class Refused(Exception):
    """The answer of a browser is invalid."""


@dataclass(frozen=True)
class RelyingParty:
    """How browsers see the service: the host name that passkeys belong to, the origin of the page, and a name."""

    host: str
    origin: str
    name: str


def creation_options(
    party: RelyingParty, *, user_id: bytes, username: str, challenge: bytes, present: Sequence[Passkey]
) -> dict[str, Any]:
    """Return the options to create a passkey, as JSON for ``PublicKeyCredential.parseCreationOptionsFromJSON``."""
    options = generate_registration_options(
        rp_id=party.host,
        rp_name=party.name,
        user_id=user_id,
        user_name=username,
        challenge=challenge,
        timeout=TIMEOUT_MILLISECONDS,
        # A passkey replaces name and password, so it must be stored with the name, behind a PIN or a fingerprint.
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            require_resident_key=True,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[
            PublicKeyCredentialDescriptor(
                id=passkey.content.credential_id,
                transports=[AuthenticatorTransport(transport) for transport in passkey.content.transports],
            )
            for passkey in present
        ],
        supported_pub_key_algs=_ALGORITHMS,
    )
    return dict(json.loads(options_to_json(options)))


def request_options(party: RelyingParty, challenge: bytes) -> dict[str, Any]:
    """Return the options to sign in, as JSON for ``PublicKeyCredential.parseRequestOptionsFromJSON``."""
    options = generate_authentication_options(
        rp_id=party.host,
        challenge=challenge,
        timeout=TIMEOUT_MILLISECONDS,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return dict(json.loads(options_to_json(options)))


def verify_creation(
    party: RelyingParty, credential: Mapping[str, Any], *, user_id: bytes, challenge: bytes, name: str
) -> tuple[PasskeyContent, int]:
    """Return the passkey in an answer, and its counter. Raises `Refused`."""
    with _any_failure_refused():
        parts = _parts(credential, "clientDataJSON", "attestationObject")
        attestation = _bytes(parts["attestationObject"])
        check_items(attestation)
        content = parse_cbor(attestation)
        _check_authenticator_data(content["authData"])
        _require(content["fmt"] in _FORMATS and "x5c" not in content["attStmt"])
        verified = verify_registration_response(
            credential={**_envelope(credential), "response": parts},
            expected_challenge=challenge,
            expected_rp_id=party.host,
            expected_origin=party.origin,
            require_user_verification=True,
            supported_pub_key_algs=_ALGORITHMS,
        )
        _require(len(verified.credential_id) <= LONGEST_CREDENTIAL_ID)
        _require(len(verified.credential_public_key) <= LONGEST_PUBLIC_KEY)
        transports = credential["response"].get("transports", ())
        known = {transport.value for transport in AuthenticatorTransport}
        return (
            PasskeyContent(
                user_id=user_id,
                credential_id=verified.credential_id,
                public_key=verified.credential_public_key,
                name=name,
                transports=tuple(sorted(known.intersection(transports))),
            ),
            verified.sign_count,
        )


def credential_id_of(credential: Mapping[str, Any]) -> bytes | None:
    """Return the id of a credential in an answer; None if it has none."""
    text = credential.get("id")
    return decode(text) if isinstance(text, str) and len(text) <= LONGEST_PART else None


def verify_assertion(
    party: RelyingParty, credential: Mapping[str, Any], *, passkey: PasskeyContent, challenge: bytes
) -> int:
    """Verify the answer of a passkey to a challenge, and return the counter, which is not compared yet.

    Raises `Refused`.
    """
    with _any_failure_refused():
        parts = _parts(credential, "clientDataJSON", "authenticatorData", "signature", "userHandle")
        _check_authenticator_data(_bytes(parts["authenticatorData"]))
        _require(_bytes(parts["userHandle"]) == passkey.user_id)
        verified = verify_authentication_response(
            credential={**_envelope(credential), "response": parts},
            expected_challenge=challenge,
            expected_rp_id=party.host,
            expected_origin=party.origin,
            credential_public_key=passkey.public_key,
            # The store compares the counters, in the same command that changes them.
            credential_current_sign_count=0,
            require_user_verification=True,
        )
        _require(verified.credential_id == passkey.credential_id)
        return verified.new_sign_count


@contextmanager
def _any_failure_refused() -> Iterator[None]:
    # The library passes on whatever its decoders raise.
    try:
        yield
    except Exception:  # noqa: BLE001
        raise Refused from None


def _require(condition: bool) -> None:
    if not condition:
        raise Refused


def _envelope(credential: Mapping[str, Any]) -> dict[str, Any]:
    return {name: credential.get(name) for name in ("id", "rawId", "type")}


def _parts(credential: Mapping[str, Any], *names: str) -> dict[str, str]:
    """Return texts of a credential's response. Raises `Refused` if one is missing or too long."""
    response = credential["response"]
    parts = {name: response[name] for name in names}
    _require(all(isinstance(part, str) and len(part) <= LONGEST_PART for part in parts.values()))
    return parts


def _bytes(text: str) -> bytes:
    value = decode(text)
    if value is None:
        raise Refused
    return value


def _check_authenticator_data(data: bytes) -> None:
    """Check the CBOR in authenticator data, the key of a new credential and extensions. Raises `NotPlain`."""
    start = _HEADER_BYTES
    if data[_FLAGS_AT] & _HAS_KEY:
        start += _AAGUID_BYTES
        start += _LENGTH_BYTES + int.from_bytes(data[start : start + _LENGTH_BYTES], "big")
    check_items(data[start:])
