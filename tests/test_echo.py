"""The greeting and the echo."""

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from src.api.schema import parse_body
from src.echo import EchoAnswer, EchoRequest

from .conftest import Api


@pytest.mark.parametrize("path", ["/", "/hello"])
async def test_hello_needs_no_credentials(api: Api, path: str) -> None:
    """It answers in the words of the older service."""
    assert (200, {"Hello": "Welcome to the Echo Room."}) == await api.call("GET", path)


@pytest.mark.parametrize("text", ["", "hello", "\0 \u2028 \ufeff ☕ 👩‍👩‍👧 \U0010ffff", "x" * 999_000, '"\\\n'])
async def test_a_text_comes_back_exactly(api: Api, text: str) -> None:
    """With a token in the body or in the header, and unknown fields."""
    token = await api.sign_up()

    assert (200, {"str": text}) == await api.call("POST", "/echo", {"auth": token, "str": text, "other": [1]})
    assert (200, {"str": text}) == await api.call("POST", "/echo", {"str": text}, token=token)


async def test_an_echo_requires_valid_credentials(api: Api) -> None:
    """Missing and invalid ones, and a token without the scope, are rejected; a token in the body wins."""
    session = await api.sign_up()
    good, other = [
        (await api.call("POST", "/tokens", {"name": "x", "scopes": [scope]}, token=session))[1]["token"]
        for scope in ("echo", "posts")
    ]

    async def echo(token: str = "", **fields: Any) -> int:
        return (await api.call("POST", "/echo", {"str": "s", **fields}, token=token))[0]

    assert [401, 401, 401, 401] == [await echo(), await echo("bad"), await echo(auth="bad"), await echo(auth="")]
    assert [200, 200, 403] == [await echo(good), await echo(auth=good), await echo(other)]
    assert [401, 200] == [await echo(good, auth="bad"), await echo("bad", auth=good)]
    assert 200 == await echo(good, auth=None)


@pytest.mark.parametrize(("size", "status"), [(1_000_000, 200), (1_000_001, 413), (1_048_576, 413), (1_048_577, 413)])
@pytest.mark.parametrize("is_chunked", [True, False])
async def test_an_echo_is_limited_to_a_million_bytes(api: Api, size: int, status: int, is_chunked: bool) -> None:
    """The whole body counts, as in the older service, and the error names the limit; other routes allow 1 MiB."""
    token = await api.sign_up()
    head, tail = b'{"str":"', b'"}'
    body = head + b"x" * (size - len(head) - len(tail)) + tail
    headers = {"Authorization": f"Bearer {token}"}

    async with api.client.post("/echo", data=BytesIO(body), headers=headers, chunked=is_chunked or None) as response:
        answer = await response.json(content_type=None)
    other = await api.send("POST", "/generate", body.replace(b'"str"', b'"secret"')[: 1024 * 1024])

    assert status == response.status
    assert status == 200 or "1,000,000 bytes" in answer["detail"]
    assert other.status != 413


@pytest.mark.parametrize("body", [None, {}, {"str": None}, {"str": 1}, {"str": ["s"]}, {"auth": 1, "str": "s"}, []])
async def test_a_malformed_echo_is_refused(api: Api, body: object) -> None:
    """With any credentials."""
    token = await api.sign_up()

    assert 400 == (await api.call("POST", "/echo", body, token=token))[0]


@settings(max_examples=300)
@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_every_text_survives_json(text: str) -> None:
    """Any text that JSON can carry comes back unchanged."""
    body = parse_body(EchoRequest, TypeAdapter(dict[str, str]).dump_json({"str": text}))

    assert text == TypeAdapter(dict[str, str]).validate_json(EchoAnswer(text=body.text).model_dump_json())["str"]
