"""Creates the secrets that the bench opens, with the service's own code and without HTTP."""

import asyncio
from pathlib import Path

from src.api.origin import Origin
from src.core.audit import NOT_RECORDED
from src.core.crypto.hashing import HashingPool
from src.core.crypto.keys import KeyRing
from src.core.database.group_commit import group_commit
from src.core.database.mongo import Mongo
from src.core.metrics import Metrics
from src.files.feature import FilesFeature
from src.sealed.feature import SealedFeature
from src.sealed.items import SECRET
from src.settings import Settings

IN_FLIGHT = 256
TEXT = "0123456789abcdef" * 2


def write_keys(mongo_url: str, data_dir: Path, count: int, phrase: str | None = None, text: str = TEXT) -> Path:
    """Create secrets in the database of a running stack, under its key ring, and return the file with their keys."""
    path = data_dir / "to-open"
    keys = asyncio.run(fill(mongo_url, read_ring(data_dir), count, phrase=phrase, text=text))
    path.write_text("\n".join(keys) + "\n", encoding="ascii")
    return path


def read_ring(data_dir: Path) -> KeyRing:
    """Return the key ring of the stack with this data directory."""
    return KeyRing.parse((data_dir / "keys").read_text(encoding="ascii"))


async def fill(
    mongo_url: str, ring: KeyRing, count: int, *, phrase: str | None = None, text: str = TEXT, max_opens: int = 1
) -> list[str]:
    """Create secrets in the running stack's database and return their keys."""
    settings = Settings(_env_file=None)
    mongo = Mongo(settings, mongo_url)
    origin, metrics = Origin(settings), Metrics.off()
    hashing = HashingPool(threads=settings.hashing_threads, queue=count, longest_wait=60)
    feature = SealedFeature(
        settings=settings,
        ring=ring,
        mongo=mongo,
        hashing=hashing,
        batching=group_commit(max_batch=1000, max_queue=count),
        storage=FilesFeature(settings=settings, ring=ring, mongo=mongo, origin=origin, metrics=metrics).storage,
        origin=origin,
        audit=NOT_RECORDED,
        metrics=metrics,
    )
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def create() -> str:
        async with slots:
            created = await feature.creator.create(
                SECRET, text, phrase=phrase, ttl=None, max_opens=max_opens, max_attempts=5
            )
            return created.link_key

    keys = await asyncio.gather(*(create() for _ in range(count)))
    await feature.close()
    hashing.close()
    await mongo.close()
    return keys
