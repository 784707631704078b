"""What signs schemathesis in: it loads this module itself (see `test_openapi`)."""

import json
import secrets
import urllib.error
import urllib.request
from typing import Any

import schemathesis

from src.accounts.passwords import LONGEST_PASSWORD

_credentials: dict[str, str] = {}
"""Of the present user; nobody is called so before the first one."""


@schemathesis.auth()
class SignedIn:
    """One user, signed in anew when schemathesis has ended the session, and replaced when it has ended the account.

    Schemathesis asks for another token after a 401 and sends the request again; cases that are about wrong or missing
    credentials get none.
    """

    def get(self, _: schemathesis.Case[Any], context: schemathesis.AuthContext) -> str:
        """Return an access token."""
        url = context.operation.schema.get_base_url().rstrip("/")
        tokens = _post(f"{url}/login", _credentials) if _credentials else None
        if tokens is None:
            _credentials.update(username=f"user-{secrets.token_hex(8)}", password=secrets.token_hex(8))
            assert _post(f"{url}/register", _credentials)
            tokens = _post(f"{url}/login", _credentials)
        return str(tokens["access_token"])

    def set(self, case: schemathesis.Case[Any], token: str, _: schemathesis.AuthContext) -> None:
        """Send the token with a request."""
        case.headers["Authorization"] = f"Bearer {token}"


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Put the right password in the place of every other generated one that could be one: nobody would guess it."""
    if context.operation is None or context.operation.path not in {"/me", "/me/password"} or not isinstance(body, dict):
        return body
    return {
        name: _credentials.get("password", value) if name != "new" and _is_even(value) else value
        for name, value in body.items()
    }


@schemathesis.hook
def after_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], response: schemathesis.Response) -> None:
    """Keep up with a changed password."""
    if case.operation.path == "/me/password" and response.status_code == 204 and isinstance(case.body, dict):
        _credentials["password"] = str(case.body["new"])


def _is_even(value: object) -> bool:
    return isinstance(value, str) and len(value) % 2 == 0 and len(value) <= LONGEST_PASSWORD


def _post(url: str, body: dict[str, str]) -> Any:
    """Return what is answered; None for a 401."""
    request = urllib.request.Request(url, json.dumps(body).encode())  # noqa: S310 (the test's own server)
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return None
        raise
