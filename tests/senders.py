"""Programs that send messages to a server, and the operator who reads them."""

import io
import json
from dataclasses import dataclass
from typing import Any

from src.accounts.users import UserStore
from src.api.schema import ProblemDetails
from src.core.crypto.keys import KeyRing
from src.core.database.group_commit import group_commit
from src.errors import describe_status

from .conftest import PASSWORD, Api

HERE, THERE = "192.0.2.1", "198.51.100.7"


@dataclass(frozen=True)
class Sender:
    """A program at an address that sends requests as if through nginx."""

    api: Api
    address: str = HERE
    username: str = "web-1"
    password: str = PASSWORD

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        """Send a request and return status and response; every response has the members of the protocol."""
        headers = {"X-Real-IP": self.address}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.api.client.post(path, data=io.BytesIO(data), headers=headers) as response:
            answer = await response.json(content_type=None)

        assert (response.status, describe_status(response.status)) == (
            answer["status_code"],
            answer["status_description"],
        )
        if response.status < 400:
            assert answer["status_message"]
        else:
            assert answer["status_message"] == ProblemDetails.model_validate(answer).detail
            assert ("token" in answer) == (path == "/authenticate")
            assert "application/problem+json" == response.headers["Content-Type"]
        return response.status, answer

    async def identify(self) -> tuple[int, Any]:
        """Identify."""
        return await self.post("/identify", {"message_type": "IDENTIFY", "username": self.username})

    async def authenticate(self) -> tuple[int, Any]:
        """Authenticate."""
        body = {"message_type": "AUTHENTICATE", "username": self.username, "password": self.password}
        return await self.post("/authenticate", body)

    async def message(self, token: str, **fields: object) -> tuple[int, Any]:
        """Send a message."""
        return await self.post("/message", {"message_type": "MESSAGE", "token": token, **fields})

    async def send(self, token: str, *messages: str, batch: str | None = None) -> tuple[int, int]:
        """Send messages that must be stored, and return the first and last number."""
        status, answer = await self.message(token, messages=messages, **({"batch": batch} if batch else {}))

        assert 201 == status, answer
        return answer["first_sequence"], answer["last_sequence"]

    async def token(self) -> str:
        """Identify and authenticate."""
        await self.identify()
        status, answer = await self.authenticate()

        assert status in {201, 202}, answer
        return str(answer["token"])


def code(outcome: tuple[int, Any]) -> tuple[int, str]:
    """Return the status and error code of a rejected request."""
    return outcome[0], outcome[1]["code"]


async def operator_token(api: Api, username: str = "the-operator") -> str:
    """Create an operator and return their access token."""
    token = await api.sign_up(username)
    await make_operator(api, username)
    return token


async def make_operator(api: Api, username: str) -> None:
    """Give a user the role of an operator."""
    assert api.settings.keys is not None
    ring = KeyRing.parse(api.settings.keys.get_secret_value())
    users = UserStore(api.mongo, ring, group_commit(max_batch=10, max_queue=10))
    user = await users.find_by_name(username)
    assert user
    await users.change(user, operator=True)


async def gathered(api: Api, token: str, **parameters: str) -> list[dict[str, Any]]:
    """Return the gathered messages as an operator gets them."""
    headers = {"Authorization": f"Bearer {token}"}
    async with api.client.get("/gathered", params=parameters, headers=headers) as response:
        assert (200, "application/x-ndjson") == (response.status, response.headers["Content-Type"])
        return [json.loads(line) for line in (await response.text()).split("\n") if line]


async def sent(api: Api, token: str) -> list[tuple[str, int, str]]:
    """Return sender, number and text of each gathered message."""
    return [(line["username"], line["sequence"], line["message"]) for line in await gathered(api, token)]
