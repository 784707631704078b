"""Authentication for schemathesis, which loads this module itself (see `test_openapi`)."""

import asyncio
import itertools
import json
import secrets
import urllib.error
import urllib.request
from typing import Any

import schemathesis

from src.accounts.passwords import LONGEST_PASSWORD
from src.accounts.users import UserStore
from src.core.crypto.keys import read_key_ring
from src.core.database.embedded import embedded_mongod
from src.core.database.group_commit import group_commit
from src.core.database.mongo import Mongo
from src.settings import read_settings

from . import schemathesis_media  # noqa: F401 (registers itself)

_credentials: dict[str, str] = {}
"""The name of the current user; unused before the first one."""
_gather_token: dict[str, str] = {}
"""An API token of the current user."""
_every_other = itertools.cycle((True, False))


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
            make_operator(_credentials["username"])
            tokens = _post(f"{url}/login", _credentials)
            made = _post(f"{url}/tokens", {"name": "gather", "scopes": ["gather"]}, tokens["access_token"])
            _gather_token["token"] = made["token"]
        return str(tokens["access_token"])

    def set(self, case: schemathesis.Case[Any], token: str, _: schemathesis.AuthContext) -> None:
        """Send the token with a request."""
        case.headers["Authorization"] = f"Bearer {token}"


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Replace some generated passwords and tokens by valid ones, which schemathesis could never guess."""
    if context.operation is None or not isinstance(body, dict):
        return body
    if context.operation.path == "/message" and _is_even(body.get("token", str(body))):
        # An empty message, the simplest, signs out: with few examples, schemathesis may send no other.
        text = {"message": "a message"} if body.get("message") == "" and next(_every_other) else {}
        return {**body, **_gather_token, **text}
    if context.operation.path not in {"/me", "/me/password"}:
        return body
    return {
        name: _credentials.get("password", value) if name != "new" and _is_even(value) else value
        for name, value in body.items()
    }


@schemathesis.hook
def after_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], response: schemathesis.Response) -> None:
    """Track a changed password."""
    if case.operation.path == "/me/password" and response.status_code == 204 and isinstance(case.body, dict):
        _credentials["password"] = str(case.body["new"])


def _is_even(value: object) -> bool:
    return isinstance(value, str) and len(value) % 2 == 0 and len(value) <= LONGEST_PASSWORD


def make_operator(username: str) -> None:
    """Give a user the role of an operator."""
    settings = read_settings()
    ring = read_key_ring(settings)

    async def change(mongo_url: str) -> None:
        mongo = Mongo(settings, mongo_url)
        users = UserStore(mongo, ring, group_commit(max_batch=10, max_queue=10))
        user = await users.find_by_name(username)
        assert user
        assert await users.change(user, operator=True)
        await mongo.close()

    with embedded_mongod(settings.data_dir, settings.mongod) as mongo_url:
        asyncio.run(change(mongo_url))


def _post(url: str, body: dict[str, Any], token: str = "") -> Any:
    """Return the response; None for a 401."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (the test's own server)
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return None
        raise
