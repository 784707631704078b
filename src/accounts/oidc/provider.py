"""The provider: its discovery document and keys, which are cached, and the exchange of a code for an identity."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote_plus, urlencode

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from ...core.clock import DatabaseClock
from ...settings import Settings, is_confidential
from .identity_tokens import PublicKey, TokenRefused, UnknownKey, import_keys, verify
from .problems import InvalidSignIn, ProviderFaulty, ProviderUnavailable
from .provider_client import ProviderClient, Reply, faulty, unavailable

Value = TypeVar("Value")

DISCOVERY = "/.well-known/openid-configuration"
KEPT_SECONDS = 3600.0
"""How long the discovery document and the keys are used before they are fetched again."""
RENEWAL_SECONDS = 60.0
"""How often an unknown key may make a worker fetch the keys again."""
PAUSE_SECONDS = 5.0
"""How long a failed fetch of the discovery document or the keys is not repeated."""
EXCHANGE_SECONDS = 8.0
"""Time limit of all requests of a sign-in together."""
EMAIL = ("email", "email_verified")


def _checked(url: str) -> str:
    if not is_confidential(url):
        raise ValueError
    return url


Endpoint = Annotated[str, AfterValidator(_checked)]


class _Metadata(BaseModel):
    """The part of the discovery document that is used (OpenID Connect Discovery 1.0, section 3)."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    issuer: str
    authorization_endpoint: Endpoint
    token_endpoint: Endpoint
    jwks_uri: Endpoint
    userinfo_endpoint: Endpoint | None = None
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]
    authorization_response_iss_parameter_supported: bool = False


@dataclass(frozen=True, repr=False)
class Exchange:
    """What the callback knows: the code and issuer of the answer, and the secrets of the sign-in in progress."""

    code: str
    issuer: str | None
    verifier: str
    nonce: str
    redirect_uri: str


@dataclass(frozen=True, repr=False)
class Identity:
    """A user of the provider; the claims are from the identity token, completed from the userinfo endpoint."""

    subject: str
    claims: Mapping[str, Any]
    access_token: str


class Provider:
    """The OpenID provider that the settings name.

    All methods that make requests raise `ProviderUnavailable` and `ProviderFaulty`.
    """

    def __init__(self, settings: Settings, clock: DatabaseClock, client: ProviderClient | None = None) -> None:
        self.issuer = settings.oidc_issuer
        self._client_id = settings.oidc_client_id
        self._secret = settings.oidc_client_secret.get_secret_value() if settings.oidc_client_secret else None
        self._scopes = settings.oidc_scopes
        self._clock = clock
        self._client = client or ProviderClient()
        self._metadata = _Cached(self._fetch_metadata)
        self._keys = _Cached(self._fetch_keys)

    async def authorization_url(self, *, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """Return the URL at the provider where the user signs in; ``challenge`` is that of PKCE (RFC 7636, S256)."""
        endpoint = (await self._metadata.get()).authorization_endpoint
        parameters = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"

    async def identify(self, exchange: Exchange, needed: Collection[str]) -> Identity:
        """Return who has signed in, with the ``needed`` claims if the provider states them.

        Raises `InvalidSignIn` for an answer of another provider, and if the provider does not know the code.
        """
        async with _in_time():
            metadata = await self._metadata.get()
            # RFC 9207: the answer comes from the provider that was asked.
            if exchange.issuer is None and metadata.authorization_response_iss_parameter_supported:
                raise InvalidSignIn
            if exchange.issuer not in (None, self.issuer):
                raise InvalidSignIn
            id_token, access_token = await self._redeem(metadata, exchange)
            claims = await self._verified(id_token, exchange.nonce)
            return await self._completed(Identity(claims["sub"], claims, access_token), needed)

    async def complete(self, identity: Identity, needed: Collection[str]) -> Identity:
        """Return the identity with the claims of the userinfo endpoint, if a ``needed`` one is missing."""
        async with _in_time():
            return await self._completed(identity, needed)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _redeem(self, metadata: _Metadata, exchange: Exchange) -> tuple[str, str]:
        """Return the identity token and the access token for a code (RFC 6749, section 4.1.3)."""
        form = {
            "grant_type": "authorization_code",
            "code": exchange.code,
            "redirect_uri": exchange.redirect_uri,
            "code_verifier": exchange.verifier,
        }
        authorization = ""
        if self._secret is None:
            form["client_id"] = self._client_id
        elif "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            pair = f"{quote_plus(self._client_id)}:{quote_plus(self._secret)}"
            authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": self._client_id, "client_secret": self._secret}
        reply = await self._client.send(
            "token", "POST", metadata.token_endpoint, form=form, authorization=authorization
        )
        if reply.fields.get("error") == "invalid_grant":
            raise InvalidSignIn
        id_token, access_token = reply.fields.get("id_token"), reply.fields.get("access_token", "")
        if not reply.is_success or not isinstance(id_token, str) or not isinstance(access_token, str):
            raise faulty("token", f"status {reply.status}" if not reply.is_success else "no identity token")
        return id_token, access_token

    async def _verified(self, id_token: str, nonce: str) -> Mapping[str, Any]:
        try:
            try:
                return self._verify(id_token, await self._keys.get(), nonce)
            except UnknownKey:
                # The provider may have a new key.
                return self._verify(id_token, await self._keys.renew(), nonce)
        except TokenRefused as error:
            raise faulty("identity token", str(error)) from None

    def _verify(self, id_token: str, keys: tuple[PublicKey, ...], nonce: str) -> Mapping[str, Any]:
        now = self._clock.now()
        return verify(id_token, keys, issuer=self.issuer, client_id=self._client_id, nonce=nonce, now=now)

    async def _completed(self, identity: Identity, needed: Collection[str]) -> Identity:
        endpoint = (await self._metadata.get()).userinfo_endpoint
        if endpoint is None or not identity.access_token or all(name in identity.claims for name in needed):
            return identity
        bearer = f"Bearer {identity.access_token}"
        reply = await self._client.send("userinfo", "GET", endpoint, authorization=bearer)
        if not reply.is_success:
            raise faulty("userinfo", f"status {reply.status}")
        # OpenID Connect Core 1.0, section 5.3.4: otherwise, these may be the claims of another user.
        if reply.fields.get("sub") != identity.subject:
            raise faulty("userinfo", "wrong subject")
        claims = {**reply.fields, **identity.claims}
        if any(name not in identity.claims for name in EMAIL):
            # Whether an address is verified applies to the address from the same source.
            claims |= {name: reply.fields.get(name) for name in EMAIL}
        return replace(identity, claims=claims, access_token="")

    async def _fetch_metadata(self) -> _Metadata:
        reply = await self._fetch("discovery", self.issuer.rstrip("/") + DISCOVERY)
        try:
            metadata = _Metadata.model_validate(dict(reply.fields))
        except ValidationError:
            raise faulty("discovery", "incomplete, or an endpoint is not https") from None
        if metadata.issuer != self.issuer:
            raise faulty("discovery", "its issuer differs from SEALPOST_OIDC_ISSUER")
        return metadata

    async def _fetch_keys(self) -> tuple[PublicKey, ...]:
        reply = await self._fetch("keys", (await self._metadata.get()).jwks_uri)
        keys = import_keys(reply.fields.get("keys"))
        if not keys:
            raise faulty("keys", "no key for signatures")
        return keys

    async def _fetch(self, step: str, url: str) -> Reply:
        reply = await self._client.send(step, "GET", url)
        if not reply.is_success:
            raise faulty(step, f"status {reply.status}")
        return reply


class _Cached(Generic[Value]):
    """A value that is fetched when it is needed, once for all requests that need it."""

    def __init__(self, fetch: Callable[[], Awaitable[Value]]) -> None:
        self._fetch = fetch
        self._fetching = asyncio.Lock()
        self._value: Value | None = None
        self._fetched_at = self._renewed_at = self._failed_at = float("-inf")
        self._failure: type[ProviderUnavailable | ProviderFaulty] = ProviderUnavailable

    async def get(self) -> Value:
        """Return the value; fetch it if it is older than `KEPT_SECONDS`."""
        async with self._fetching:
            if self._value is None or time.monotonic() - self._fetched_at >= KEPT_SECONDS:
                return await self._fetched()
            return self._value

    async def renew(self) -> Value:
        """Fetch the value although it is not old, at most once in `RENEWAL_SECONDS`; return the latest one."""
        async with self._fetching:
            if self._value is None or time.monotonic() - self._renewed_at >= RENEWAL_SECONDS:
                self._renewed_at = time.monotonic()
                return await self._fetched()
            return self._value

    async def _fetched(self) -> Value:
        now = time.monotonic()
        if now - self._failed_at < PAUSE_SECONDS:
            raise self._failure()
        try:
            self._value = await self._fetch()
        except (ProviderUnavailable, ProviderFaulty) as error:
            self._failed_at, self._failure = time.monotonic(), type(error)
            raise
        self._fetched_at = now
        return self._value


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(EXCHANGE_SECONDS):
            yield
    except TimeoutError:
        raise unavailable("sign-in", "timeout") from None
