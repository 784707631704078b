"""Uploads for the tests: how a client sends them, and the storage behind them."""

from src.core.crypto.keys import KeyRing, read_key_ring
from src.core.crypto.sealing import decode
from src.files.chunks import ChunkStore
from src.files.storage import MongoFileStorage
from src.files.uploads import UploadStore

from .conftest import Api, RawAnswer

MEDIA_TYPE = "application/offset+octet-stream"


async def create(api: Api, size: int, **headers: str) -> str:
    """Create an upload and return its key."""
    answer = await api.send("POST", "/files", None, **{"Upload-Length": str(size), **headers})

    assert 201 == answer.status, answer.body
    return str(answer.json()["upload"])


async def patch(api: Api, upload: str, offset: int, data: bytes, **headers: str) -> RawAnswer:
    """Send bytes at an offset."""
    headers = {"Upload-Offset": str(offset), "Content-Type": MEDIA_TYPE, **headers}
    return await api.send("PATCH", f"/files/{upload}", data, **headers)


async def offset_of(api: Api, upload: str) -> int:
    """Return the offset that the server tells."""
    answer = await api.send("HEAD", f"/files/{upload}")

    assert 200 == answer.status
    return int(answer.headers["Upload-Offset"])


async def upload(api: Api, *parts: bytes) -> bytes:
    """Upload a file, each part with a request of its own, and return its key."""
    name, offset = await create(api, sum(map(len, parts))), 0
    for part in parts:
        assert 204 == (await patch(api, name, offset, part)).status
        offset += len(part)
    return decode(name) or b""


def storage_of(api: Api, ring: KeyRing | None = None) -> MongoFileStorage:
    """Return the storage behind a server."""
    chunks = ChunkStore(api.mongo)
    return MongoFileStorage(ring or read_key_ring(api.settings), UploadStore(api.mongo, chunks), chunks)
