"""Expiry by MongoDB's own TTL indexes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from .conftest import Api

SECONDS = 60
"""Seconds that deletion may take. An embedded MongoDB deletes expired documents every 5 s."""


@pytest.mark.lifecycle
async def test_mongodb_deletes_expired_items_while_no_worker_runs(
    serve: Callable[..., Awaitable[Api]], mongo_url: str
) -> None:
    """Expired secrets, messages and posts are deleted, others are not."""
    api = await serve()
    token = await api.sign_up()
    for ttl in (2, 3600):
        for path, body in (("/generate", {"secret": "s"}), ("/", {"message": "m"}), ("/posts", {"content": "p"})):
            assert 201 == (await api.call("POST", path, {**body, "ttl": {"seconds": ttl}}, token=token))[0]
    await api.client.close()

    async with AsyncMongoClient[dict[str, Any]](mongo_url) as mongo, asyncio.timeout(SECONDS):
        database = mongo[api.settings.mongo_database]
        counts: list[int] = []
        while counts != [2, 1]:
            counts = [await database[name].count_documents({}) for name in ("items", "posts")]
            await asyncio.sleep(0.1)

    assert [2, 1] == counts
