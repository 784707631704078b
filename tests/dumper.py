"""A process that only dumps gathered messages, for tests that kill it: see `test_dump`."""

import asyncio
import signal
import sys
from pathlib import Path

from src.accounts.directory import UserDirectory
from src.accounts.users import UserStore
from src.core.crypto.keys import read_key_ring
from src.core.database.group_commit import group_commit
from src.core.database.mongo import Mongo
from src.core.logs import configure_logs
from src.core.metrics import Metrics
from src.gatherer.bundle import BundleSealer
from src.gatherer.bundle_reader import BundleReader
from src.gatherer.dump.writer import DumpWriter
from src.gatherer.export import Export
from src.gatherer.feature import INDEXES
from src.gatherer.sender_counters import SenderCounters
from src.settings import read_settings


async def main(path: Path) -> None:
    """Dump until SIGTERM, and log to stdout."""
    settings = read_settings()
    configure_logs(settings)
    assert settings.mongo_url
    ring = read_key_ring(settings)
    mongo = Mongo(settings, settings.mongo_url.get_secret_value())
    users = UserStore(mongo, ring, group_commit(max_batch=100, max_queue=1000))
    reader = BundleReader(mongo)
    dump = DumpWriter(
        path,
        max_bytes=settings.gathered_max_bytes,
        backups=settings.gathered_backups,
        reader=reader,
        export=Export(reader, BundleSealer(ring), UserDirectory(users).names),
        counters=SenderCounters(mongo),
        is_ready=lambda: mongo.is_set_up,
        metrics=Metrics.off(),
    )
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await mongo.set_up(INDEXES)
    dump.start()
    await stopping.wait()
    await dump.close()
    await mongo.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
