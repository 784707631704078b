"""Client data is only in responses."""

import asyncio
import json
import os
import signal
from io import BytesIO

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack

from .conftest import grep_logs
from .mongod import Mongod
from .test_edge import raw
from .test_restart import all_running
from .traffic import create, open_secret, post

pytestmark = pytest.mark.stack

SECRET = "Leak-Secret-5c1f0b"
PHRASE = "Leak-Phrase-77e2ad"
# Requests that nginx passes on and a worker may reject.
BROKEN = {
    "control character": b"POST /secrets/%s HTTP/1.1\r\nHost: a\r\nX-A: %s\x01\r\n",
    "no host": b"POST /secrets/%s HTTP/1.0\r\nX-A: %s\r\n",
    "odd host": b'POST /secrets/%s HTTP/1.1\r\nHost: "<%s\r\n',
    "odd path": b'POST /secrets/%s"<%s HTTP/1.1\r\nHost: a\r\n',
    "unknown method": b"%s /secrets/%s HTTP/1.1\r\nHost: a\r\n",
    "wrong method": b"PUT /secrets/%s?%s HTTP/1.1\r\nHost: a\r\n",
    "not gzip": b"POST /secrets/%s HTTP/1.1\r\nHost: a\r\nX-A: %s\r\nContent-Encoding: gzip\r\nContent-Length: 18\r\n",
    "odd chunk": b"POST /secrets/%s HTTP/1.1\r\nHost: a\r\nX-A: %s\r\nTransfer-Encoding: chunked\r\n",
    "odd charset": b"POST /secrets/%s HTTP/1.1\r\nHost: a\r\nContent-Type: a/b; charset=%s\r\nContent-Length: 1\r\n",
    "odd type": b"POST /secrets/%s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: 1\r\n",
    "odd cookie": b'POST /secrets/%s HTTP/1.1\r\nHost: a\r\nCookie: %s="\xff; =\r\nContent-Length: 1\r\n',
    "odd escape": b"POST /secrets/%s%%ff%%0a%s HTTP/1.1\r\nHost: a\r\n",
}


async def test_no_log_and_no_document_contains_client_data(
    stack: RunningStack, client: ClientSession, mongod: Mongod
) -> None:
    """After opened, rejected, failed and aborted requests: no secret, password or key in any log or document."""
    workers = await all_running(stack)
    keys, receipts = [], []
    for fields in ({}, {"phrase": PHRASE}, {"max_opens": 3}, {"phrase": PHRASE, "max_attempts": 1}) * 3:
        created = await post(client, "/generate", {"secret": SECRET, **fields})
        assert created.status == 201
        keys.append(created.body["secret_key"])
        receipts.append(created.body["receipt_key"])
    seen = set()
    for key in keys:
        async with client.get(f"/secrets/{key}") as response:
            seen.add(response.status)
        for body in ({"phrase": PHRASE + "wrong"}, {"phrase": PHRASE, SECRET: 1}, {"phrase": [PHRASE]}, None):
            seen.add((await post(client, f"/secrets/{key}", body)).status)
        async with client.post(f"/secrets/{key}?{PHRASE}", data=BytesIO(SECRET.encode() * 80_000)) as response:
            seen.add(response.status)
        async with client.post(f"/secrets/{key}/{SECRET}", data=PHRASE) as response:
            seen.add(response.status)
    for receipt in receipts:
        async with client.get(f"/receipts/{receipt}") as response:
            seen.add(response.status)
    async with client.delete(f"/receipts/{receipts[2]}") as response:
        seen.add(response.status)
    mongod.signal(signal.SIGSTOP)
    storm = [post(client, "/generate", {"secret": SECRET, "phrase": PHRASE}) for _ in range(20)]
    storm += [open_secret(client, key) for key in keys]
    waiting = asyncio.gather(*storm)
    await asyncio.sleep(2)
    os.kill(workers[0], signal.SIGKILL)
    seen |= {outcome.status for outcome in await waiting}
    mongod.signal(signal.SIGCONT)
    await all_running(stack)
    stored = mongod.dump()

    assert {200, 400, 403, 404, 413, 502, 503} <= seen
    assert 500 not in seen
    assert await grep_logs(stack, SECRET, PHRASE, *keys, *receipts) == []
    assert [needle for needle in (SECRET, PHRASE, *keys, *receipts) if needle in stored] == []


@pytest.mark.parametrize("case", BROKEN)
async def test_an_invalid_request_is_a_4xx_and_leaves_no_trace(
    stack: RunningStack, client: ClientSession, case: str
) -> None:
    """A worker answers it in the API's format without quoting it, and no log quotes it either."""
    await all_running(stack)
    key = await create(client, SECRET, phrase=PHRASE)
    bodies = {"not gzip": PHRASE.encode(), "odd chunk": b"1;%s\r\n{\r\n0\r\n\r\n" % PHRASE.encode()}
    end = b"Connection: close\r\n\r\n" + bodies.get(case, b"{" if b"Content-Length" in BROKEN[case] else b"")
    head, _, body = (await raw(stack, BROKEN[case] % (key.encode(), PHRASE.encode()) + end)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 4"), (head, body)
    assert b"application/problem+json" in head
    assert json.loads(body)["request_id"].encode() in head
    assert PHRASE.encode() not in body
    assert key.encode() not in body
    assert await grep_logs(stack, key, PHRASE) == []


async def test_the_search_finds_existing_data(stack: RunningStack, client: ClientSession, mongod: Mongod) -> None:
    """It finds a document's state and a route."""
    await create(client, SECRET)

    assert "waiting" in mongod.dump()
    assert await grep_logs(stack, "/generate") != []
