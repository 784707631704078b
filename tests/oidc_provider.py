"""An OpenID provider for tests, which answers as each test wants, and the browser that goes there and back."""

import base64
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jws
from joserfc.jwk import ECKey

from src.core.clock import utc_now

from .conftest import Api, RawAnswer

CLIENT_ID = "sealpost"
DISCOVERY, KEYS, TOKEN, USERINFO = "/.well-known/openid-configuration", "/keys", "/token", "/userinfo"

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


def sign(claims: dict[str, Any], key: Any, algorithm: str = "ES256", **header: Any) -> str:
    """Return a token."""
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    protected = {
        name: value for name, value in {"alg": algorithm, "kid": key.kid, **header}.items() if value is not None
    }
    return str(jws.serialize_compact(protected, json.dumps(claims).encode(), key, registry=registry))


class HostileProvider:
    """A provider; a test replaces its answers in ``responses`` and its claims in ``claims``."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", auto_kid=True)
        self.metadata: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.subject = ""
        self.userinfo: dict[str, Any] = {}
        self.responses: dict[str, Respond] = {}
        self.requests: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.authorizations: list[str] = []
        self.codes: dict[str, dict[str, str]] = {}
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._respond)
        self.server = TestServer(app)

    @property
    def issuer(self) -> str:
        """Its issuer URL."""
        return str(self.server.make_url("")).rstrip("/")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a service that signs in here, without limits of its own."""
        return {"oidc_issuer": self.issuer, "oidc_client_id": CLIENT_ID}

    def authorize(self, parameters: dict[str, str], **claims: Any) -> str:
        """Return a code for a user who has signed in with these claims."""
        code = secrets.token_hex()
        self.codes[code] = {**parameters, "claims": json.dumps(claims)}
        return code

    def standard_claims(self, nonce: str) -> dict[str, Any]:
        """Return the claims of a good token."""
        now = int(utc_now().timestamp())
        return {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": "subject-1",
            "nonce": nonce,
            "iat": now,
            "exp": now + 60,
            **self.claims,
        }

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        if respond := self.responses.get(request.path):
            return await respond(request)
        if request.path == DISCOVERY:
            document = {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize?tenant=1",
                "token_endpoint": self.issuer + TOKEN,
                "jwks_uri": self.issuer + KEYS,
                "userinfo_endpoint": self.issuer + USERINFO,
                **self.metadata,
            }
            return web.json_response({name: value for name, value in document.items() if value is not None})
        if request.path == KEYS:
            return web.json_response({"keys": [self.key.as_dict(private=False)]})
        if request.path == USERINFO:
            return web.json_response({"sub": self.subject, **self.userinfo})
        return await self._redeem(request)

    async def _redeem(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        self.authorizations.append(request.headers.get("Authorization", ""))
        given = self.codes.pop(form["code"], None)
        digest = base64.urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if (
            given is None
            or (given["code_challenge_method"], given["code_challenge"]) != ("S256", digest)
            or given["redirect_uri"] != form["redirect_uri"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {**self.standard_claims(given["nonce"]), **json.loads(given["claims"])}
        self.subject = claims["sub"]
        token = sign(claims, self.key)
        return web.json_response({"id_token": token, "access_token": "access", "token_type": "Bearer"})


class Browser:
    """A browser with its own cookies."""

    def __init__(self, api: Api, **headers: str) -> None:
        self._api = api
        self._headers = headers
        self.cookies: dict[str, str] = {}

    async def send(self, method: str, path: str, data: bytes | None = None, **headers: str) -> RawAnswer:
        """Return the answer to a request with the browser's cookies, and keep the cookies that it sets."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self._api.client.request(
            method,
            path,
            data=data,
            headers={**self._headers, **({"Cookie": cookie} if cookie else {}), **headers},
            allow_redirects=False,
        ) as response:
            for line in response.headers.getall("Set-Cookie", []):
                name, value = re.match(r'([^=]+)="?([^;"]*)', line).groups()  # type: ignore[union-attr]
                self.cookies[name] = value
                if "Max-Age=0" in line:
                    del self.cookies[name]
            return RawAnswer(response.status, response.headers, await response.read())

    async def start(self) -> dict[str, str]:
        """Begin a sign-in, and return the parameters of the request to the provider."""
        answer = await self.send("GET", "/oidc/start")

        assert 302 == answer.status, answer.body
        return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))

    async def back(self, **parameters: str) -> RawAnswer:
        """Return from the provider with these parameters."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return await self.send("GET", f"/oidc/callback?{query}")

    async def sign_in(self, provider: HostileProvider, **claims: Any) -> RawAnswer:
        """Sign in at the provider with these claims, and return the answer of the callback."""
        parameters = await self.start()
        code = provider.authorize(parameters, **claims)
        return await self.back(code=code, state=parameters["state"])

    async def refresh(self) -> dict[str, Any]:
        """Return the tokens of the session that the refresh cookie holds."""
        refreshed = await self.send("POST", "/refresh", b'{"cookie": true}', **{"Sec-Fetch-Site": "same-origin"})

        assert 200 == refreshed.status, refreshed.body
        return dict(refreshed.json())

    async def me(self) -> dict[str, Any]:
        """Return the account of the session."""
        status, me = await self._api.call("GET", "/me", token=(await self.refresh())["access_token"])
        assert 200 == status
        return dict(me)


VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
