"""Secrets with files for the tests: creating them, and downloading from held openings."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from src.core.crypto.keys import read_key_ring
from src.core.crypto.sealing import decode, encode
from src.core.database.group_commit import group_commit
from src.core.metrics import NOTHING
from src.sealed.ended_files import EndedFiles
from src.sealed.held_files import HeldFiles
from src.sealed.holds import HoldStore
from src.sealed.store import ItemStore
from src.sealed.unsealing import Unsealer

from . import uploads
from .conftest import Api
from .uploads import storage_of

CHUNK = 1000
CONTENTS = (b"first content " * 200, b"second content")


async def new_upload(api: Api, content: bytes, *, is_complete: bool = True) -> str:
    """Upload a content in chunks of `CHUNK` bytes, and return the key; an incomplete upload lacks the last chunk."""
    parts = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
    if is_complete:
        return encode(await uploads.upload(api, *parts))
    key = await uploads.create(api, len(content))
    for position, part in enumerate(parts[:-1]):
        await uploads.patch(api, key, position * CHUNK, part)
    return key


async def create(api: Api, contents: Sequence[bytes] = CONTENTS, *, secret: str = "the text", **fields: Any) -> Any:
    """Create a secret with files, named ``file-0.txt`` and so on, and return the answer."""
    files = [
        {"upload": await new_upload(api, content), "name": f"file-{position}.txt", "type": "text/plain"}
        for position, content in enumerate(contents)
    ]
    return await api.create(secret, files=files, **fields)


@asynccontextmanager
async def held_files(api: Api) -> AsyncIterator[HeldFiles]:
    """Provide the files of held openings, as the download route uses them."""
    batching = group_commit(max_batch=10, max_queue=100)
    items = ItemStore(api.mongo, batching)
    holds = HoldStore(
        api.mongo,
        batching,
        duration=timedelta(seconds=api.settings.hold),
        file_duration=timedelta(seconds=api.settings.file_hold),
        ended_files=EndedFiles(api.mongo, storage_of(api)),
    )
    unsealer = Unsealer(read_key_ring(api.settings), NOTHING)
    duration = timedelta(seconds=api.settings.file_hold)
    yield HeldFiles(unsealer=unsealer, items=items, holds=holds, clock=api.mongo.clock, duration=duration)
    await items.close()
    await holds.close()


async def download(api: Api, secret_key: str, reader: str, file_id: str) -> bytes:
    """Return the content of a file of an opened secret. Raises `KeyNotFound` and `Damaged`."""
    async with held_files(api) as files:
        held = await files.find(secret_key, decode(reader) or b"", bytes.fromhex(file_id))
    content = storage_of(api).read(held.upload_key, held.file, 0, held.file.size)
    return b"".join([part async for part in content])


async def download_all(api: Api, secret_key: str, reader: str, opened: Any) -> list[bytes]:
    """Return the contents of all files of an opened secret. Raises `KeyNotFound` and `Damaged`."""
    return [await download(api, secret_key, reader, file["id"]) for file in opened["files"]]


async def content_left(api: Api) -> dict[str, int]:
    """Return the number of documents with content, by collection, without empty ones."""
    queries = {"items": {"envelope": {"$exists": True}}, "held": {}, "uploads": {}, "chunks": {}}
    counts = {name: await api.mongo.collection(name).count_documents(query) for name, query in queries.items()}
    return {name: count for name, count in counts.items() if count}
