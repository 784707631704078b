"""The storage budget: how full it is."""

from ...core.database.mongo import Mongo
from ...core.database.storage_budget import PAUSE_ROOM
from ...core.database.storage_figures import MIB, StorageFigures, read_storage_figures
from ...settings import Settings
from .findings import Outcome, failed, ok, warning, worst

NEARLY_FULL = 0.8
SCANT_RESERVES = 2

_PAUSED = "Creating is answered 507."


async def examine_storage(mongo: Mongo, settings: Settings) -> Outcome:
    """Tell how close the database and its disk are to their limits. Raises `PyMongoError`."""
    return judge_storage(await read_storage_figures(mongo), settings)


def judge_storage(figures: StorageFigures, settings: Settings) -> Outcome:
    """Tell how close these figures are to the limits."""
    outcomes = [_judge_use(figures.used, settings.storage_max)]
    for disk in figures.disks:
        room, reserve = disk.room(settings.storage_reserve), disk.reserve(settings.storage_reserve)
        found = f"{room // MIB} MiB can be stored before MongoDB's disk is down to its reserve of {reserve // MIB} MiB"
        advice = "Enlarge MongoDB's disk, or remove other files from it. SEALPOST_STORAGE_RESERVE is the reserve."
        if room < PAUSE_ROOM:
            outcomes.append(failed(found, f"{_PAUSED} {advice}"))
        else:
            outcomes.append(warning(found, advice) if disk.free < SCANT_RESERVES * reserve else ok(found))
    return worst(outcomes)


def _judge_use(used: int, maximum: int) -> Outcome:
    if not maximum:
        return ok(f"{used // MIB} MiB are stored, without a maximum")
    found = f"{used // MIB} MiB of {maximum // MIB} MiB (SEALPOST_STORAGE_MAX) are stored"
    advice = "Raise SEALPOST_STORAGE_MAX, or delete data: see `manage purge` and `manage posts delete`."
    if maximum - used < PAUSE_ROOM:
        return failed(found, f"{_PAUSED} {advice}")
    return warning(found, advice) if used > NEARLY_FULL * maximum else ok(found)
