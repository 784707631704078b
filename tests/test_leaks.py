"""Client data is stored only in its envelope."""

import asyncio
import base64
import io
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bson import BSON
from pymongo import MongoClient

from src.audit.records import AuditSealer
from src.core.crypto.keys import KEY_FILE, KeyRing
from src.core.crypto.sealing import decode

from .processes import run_app
from .uploads import MEDIA_TYPE


def spellings(value: str) -> list[bytes]:
    """Return the encodings in which a value might appear."""
    raw = [value.encode()]
    if decoded := decode(value):
        raw.append(decoded)
    return [spelling for one in raw for spelling in (one, one.hex().encode(), base64.b64encode(one), one[::-1])]


async def account_traffic(call: Callable[..., Awaitable[Any]], marks: dict[str, str]) -> dict[str, str]:
    """Use all features of an account, and return its tokens."""
    user = marks["user"][:32]
    await call("POST", "/register", {"username": user, "password": marks["password"]})
    await call("POST", "/register", {"username": user.upper(), "password": marks["password"]})
    await call("POST", "/register", {"username": marks["nobody"] * 9, "password": marks["wrong"], marks["field"]: 1})
    await call("POST", "/login", {"username": user, "password": marks["wrong"]})
    await call("POST", "/login", {"username": marks["nobody"], "password": marks["wrong"]})
    first = await call("POST", "/login", {"username": user, "password": marks["password"]})
    second = await call("POST", "/refresh", {"refresh_token": first["refresh_token"]})
    session = second["access_token"]
    created = await call("POST", "/tokens", {"name": marks["label"], "scopes": ["echo"]}, token=session)
    await call("GET", "/me", token=session)
    await call("GET", "/me", token=created["token"])
    await call("GET", f"/me?q={marks['query']}", token=marks["wrong"])
    await call("PUT", "/me/password", {"current": marks["wrong"], "new": marks["password"]}, token=session)
    await call("POST", "/refresh", {"refresh_token": first["refresh_token"]})
    named = {"user, as stored": user, "user, in capitals": user.upper(), "api token": created["token"]}
    for name, pair in (("first", first), ("second", second)):
        named |= {f"{name} {kind}": pair[kind] for kind in ("access_token", "refresh_token")}
    await sender_traffic(call, marks)
    return named


async def sender_traffic(call: Callable[..., Awaitable[Any]], marks: dict[str, str]) -> None:
    """Send messages to the gatherer, in and out of order; its tokens become markers."""
    identity = {"username": marks["sender"][:32], "password": marks["password"]}
    await call("POST", "/authenticate", {"message_type": "AUTHENTICATE", **identity})
    await call("POST", "/identify", {"message_type": "IDENTIFY", "username": identity["username"]})
    answer = await call("POST", "/authenticate", {"message_type": "AUTHENTICATE", **identity})
    message = {"message_type": "MESSAGE", "token": answer["token"], "batch": marks["batch"]}
    await call("POST", "/message", {**message, "messages": [marks["message"]]})
    await call("POST", "/message", {**message, "messages": [marks["message"], marks["secret"]]})
    await call("POST", "/message", {**message, "message": "logout"})
    await call("POST", "/message", {**message, "message": marks["message"], marks["field"]: 1})
    await call("POST", "/message", {**message, "message": marks["message"]})
    await call("GET", f"/gathered?username={marks['sender']}&since={marks['query']}")
    marks["sender's token"], marks["sender, as stored"] = answer["token"], identity["username"]


async def upload_traffic(session: aiohttp.ClientSession, url: str, marks: dict[str, str]) -> str:
    """Upload part of a file, with failures, and return the key of the upload."""
    content, name = marks["content"].encode(), base64.b64encode(marks["name"].encode()).decode()
    headers = {"Upload-Length": "100", "Upload-Metadata": f"filename {name}"}
    async with session.post(f"{url}/files", headers=headers) as answer:
        key = str((await answer.json())["upload"])
    for path, offset, others in (
        (f"/files/{key}?q={marks['query']}", "0", {}),
        (f"/files/{key}/", "36", {}),
        (f"/files/{key}", "36", {"Upload-Checksum": f"sha1 {name}"}),
        (f"/files/{key}", marks["field"], {}),
        (f"/files/{key}x", "0", {}),
        (f"/files/{key}/{marks['path']}", "0", {}),
    ):
        headers = {"Content-Type": MEDIA_TYPE, "Upload-Offset": offset, **others}
        async with session.patch(url + path, data=io.BytesIO(content), headers=headers) as answer:
            await answer.read()
    async with session.head(f"{url}/files/{key}") as answer:
        assert "0" != answer.headers["Upload-Offset"]
    return key


async def download_traffic(session: aiohttp.ClientSession, url: str, marks: dict[str, str]) -> None:
    """Share a file and download it, with failures; its keys become markers."""
    content = marks["content"].encode()
    async with session.post(f"{url}/files", headers={"Upload-Length": str(len(content))}) as answer:
        upload = str((await answer.json())["upload"])
    headers = {"Content-Type": MEDIA_TYPE, "Upload-Offset": "0"}
    async with session.patch(f"{url}/files/{upload}", data=io.BytesIO(content), headers=headers) as answer:
        assert 204 == answer.status
    files = [{"upload": upload, "name": marks["name"], "type": marks["type"]}]
    async with session.post(f"{url}/generate", json={"files": files}) as answer:
        key = str((await answer.json())["secret_key"])
    async with session.post(f"{url}/secrets/{key}") as answer:
        opened = await answer.json()
    path = f"/secrets/{key}/files/{opened['files'][0]['id']}"
    found = []
    for reader, target, ranges in (
        (opened["reader"], path, "bytes=0-"),
        (opened["reader"], f"{path}?q={marks['query']}", "bytes=1-2"),
        (opened["reader"], path, "bytes=1000-"),
        (opened["reader"], path, marks["field"]),
        (opened["reader"], f"{path}/{marks['path']}", ""),
        (marks["wrong"], path, ""),
    ):
        async with session.get(url + target, headers={"Sealpost-Reader": reader, "Range": ranges}) as answer:
            found.append(await answer.read())
    assert content == found[0]
    marks |= {"taken upload": upload, "link of a file": key, "reader": opened["reader"]}


async def traffic(url: str) -> dict[str, str]:
    """Send one of every kind of request, valid and invalid, and return the values that must not be found."""
    marks = {
        name: f"{name}-{secrets.token_hex(12)}"
        for name in (
            *("secret", "phrase", "wrong", "field", "path", "query", "user", "nobody", "password", "label"),
            *("sender", "message", "batch", "content", "name", "type"),
        )
    }
    async with aiohttp.ClientSession() as session:

        async def call(
            method: str, path: str, body: object = None, data: bytes | None = None, token: str | None = None
        ) -> Any:
            sent = data or json.dumps(body or {}).encode()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with session.request(method, url + path, data=io.BytesIO(sent), headers=headers) as answer:
                return await answer.json(content_type=None)

        marks |= await account_traffic(call, marks)

        plain = await call("POST", "/generate", {"secret": marks["secret"], "max_opens": 3})
        locked = await call("POST", "/generate", {"secret": marks["secret"], "phrase": marks["phrase"]})
        waiting = await call("POST", "/generate", {"secret": marks["secret"], "phrase": marks["phrase"]})
        marks["waiting link"], marks["waiting receipt"] = waiting["secret_key"], waiting["receipt_key"]
        for created, key in ((plain, "plain"), (locked, "locked")):
            marks[f"{key} link"], marks[f"{key} receipt"] = created["secret_key"], created["receipt_key"]
            await call("GET", f"/secrets/{created['secret_key']}")
            await call("POST", f"/secrets/{created['secret_key']}")
            await call("POST", f"/secrets/{created['secret_key']}", {"phrase": marks["wrong"]})
            await call("POST", f"/secrets/{created['secret_key']}", {"phrase": marks["phrase"]})
            await call("GET", f"/receipts/{created['receipt_key']}")
            await call("DELETE", f"/receipts/{created['receipt_key']}")
        marks["upload"] = await upload_traffic(session, url, marks)
        await download_traffic(session, url, marks)
        await call("POST", "/generate", {"secret": {"nested": marks["secret"]}, marks["field"]: 1})
        await call("POST", "/generate", data=b'{"secret": "' + marks["secret"].encode() + b'"')
        await call("POST", "/generate", data=marks["secret"].encode() * 60_000)
        await call("POST", f"/{marks['path']}/{marks['secret']}?q={marks['query']}", {"secret": marks["secret"]})
        await call("PUT", f"/secrets/{plain['secret_key']}?q={marks['query']}", {"secret": marks["secret"]})
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /secrets/{plain['secret_key']}é HTTP/1.1\r\n\r\n".encode())
        await reader.read()
        writer.close()
    return marks


@pytest.mark.lifecycle
async def test_no_secret_is_in_the_database_the_logs_or_the_document(
    mongo_directory: Path, mongo_url: str, tmp_path: Path, unused_tcp_port: int
) -> None:
    """After mixed traffic with failures, none of the sent values is found anywhere, not even in the opened audit."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    database = f"test-{secrets.token_hex(8)}"
    environment = {
        "SEALPOST_DATA_DIR": str(mongo_directory),
        "SEALPOST_MONGO_DATABASE": database,
        "SEALPOST_LOG_LEVEL": "debug",
        "SEALPOST_LOG_FILE": str(tmp_path / "app.jsonl"),
    }
    async with run_app("-P", str(unused_tcp_port), url=url, output=tmp_path / "output", environment=environment) as app:
        await app.ready()
        marks = await traffic(url)
        async with aiohttp.ClientSession() as session, session.get(f"{url}/openapi.json") as answer:
            document = await answer.read()
    ring = KeyRing.parse((mongo_directory / KEY_FILE).read_text())
    with MongoClient[dict[str, Any]](mongo_url) as client:
        dump = b"".join(
            BSON.encode(item)
            for name in client[database].list_collection_names()
            for item in client[database][name].find()
        )
        events = [entry for record in client[database]["audit"].find() for entry in AuditSealer(ring).open(record)]

    recorded = {"registered", "signed_in", "sign_in_failed", "signed_out", "api_token_created"}
    recorded |= {"item_opened", "item_opening_failed"}
    assert recorded <= {entry.kind for entry in events}
    haystacks = {
        "database": dump,
        "audit": b"".join(repr(entry).encode() + b"".join(filter(None, entry[2:5])) for entry in events),
        "log": (tmp_path / "app.jsonl").read_bytes(),
        "output": (tmp_path / "output").read_bytes(),
        "openapi": document,
    }
    assert b"name_index" in haystacks["database"]
    assert b"envelope" in haystacks["database"]
    assert b"/secrets/{secret_key}" in haystacks["log"]
    assert b"/files/{upload_key}" in haystacks["log"]
    assert b"/secrets/{secret_key}/files/{file_id}" in haystacks["log"]
    assert b"127.0.0.1" not in haystacks["database"] + haystacks["audit"]
    for place, haystack in haystacks.items():
        for name, mark in marks.items():
            for spelling in spellings(mark):
                assert spelling not in haystack, f"{name} is in the {place}"
