"""Checks of MongoDB itself: clock, indexes, patches and storage."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import IndexModel

from ...core.database.mongo import Indexes, Mongo
from ...core.database.prerequisites import MOST_APART, read_clocks
from ...core.database.storage_budget import MIB, PAUSE_ROOM, StorageFigures, read_storage_figures
from ...settings import Settings
from .examination import Outcome, failed, ok, warning, worst

WARNED_APART = timedelta(seconds=1)


async def compare_clocks(mongo: Mongo, now: Callable[[], datetime]) -> Outcome:
    """Compare the clocks. Raises `PyMongoError`."""
    reading = await read_clocks(mongo, now)
    which = "behind" if reading.offset > timedelta(0) else "ahead of"
    found = (
        f"MongoDB's clock is {abs(reading.offset.total_seconds()):.3f} s {which} this host's,"
        f" ± {reading.uncertainty.total_seconds():.3f} s"
    )
    if reading.apart <= WARNED_APART:
        return ok(found)
    if reading.apart <= MOST_APART:
        return warning(found, "Synchronize the clocks of all hosts by NTP: above 5 s, processes are not ready.")
    return failed(found, "Synchronize the clocks of all hosts by NTP: no process on this host is ready.")


_NO_OPTIONS = {"key", "name", "v", "ns", "background"}
_RESTART = "Restart a process of the service: it creates missing indexes."

Found = Mapping[str, Mapping[str, Any]]
"""The indexes of one collection, by name, as returned by the driver."""


async def compare_indexes(mongo: Mongo, indexes: Indexes) -> Outcome:
    """Check for indexes that are missing, or have another key or other options."""
    found = {name: await mongo.collection(name).index_information() for name in indexes}
    if not any(found.values()):
        return failed(
            f"the database {mongo.database.name} has none of the service's collections",
            "Start the service, which creates them. If it ran before, SEALPOST_MONGO_DATABASE may be wrong.",
        )
    compared = [_compare(name, model, found[name]) for name, models in indexes.items() for model in models]
    if wrong := [outcome for outcome in compared if outcome]:
        return worst(wrong)
    return ok(f"all {len(compared)} in {len(found)} collections exist with the right options")


def _compare(collection: str, model: IndexModel, found: Found) -> Outcome | None:
    wanted = model.document
    name, key = wanted["name"], list(wanted["key"].items())
    # MongoDB does not create a second index with the same key.
    there = name if name in found else next((other for other in found if found[other]["key"] == key), None)
    if there is None:
        return failed(f"{collection}.{name} is missing", _RESTART)
    options, other = _options(wanted), _options(found[there])
    differing = sorted(option for option in options.keys() | other.keys() if options.get(option) != other.get(option))
    if there == name and key == found[there]["key"] and not differing:
        return None
    if there != name:
        what = f"exists under the name {there}"
    else:
        what = f"differs in {', '.join(differing)}" if differing else "has a different key"
    return failed(
        f"{collection}.{name} {what}", f'Drop it: db.{collection}.dropIndex("{there}") in mongosh. {_RESTART}'
    )


def _options(index: Mapping[str, Any]) -> dict[str, Any]:
    return {option: value for option, value in index.items() if option not in _NO_OPTIONS}


CVE = "CVE-2025-14847"
FIRST_FIXED = {(4, 4): 30, (5, 0): 32, (6, 0): 27, (7, 0): 28, (8, 0): 17, (8, 2): 3}
"""The first patch release of each series that has the fix. Source: https://jira.mongodb.org/browse/SERVER-115508."""


def is_fixed(version: Sequence[int]) -> bool:
    """Return whether a version, the ``versionArray`` of buildInfo, has the fix. Unsupported series never got it."""
    series = (version[0], version[1])
    if series in FIRST_FIXED:
        return version[2] >= FIRST_FIXED[series]
    return series > max(FIRST_FIXED)


async def examine_patches(mongo: Mongo) -> Outcome:
    """Check, by its version, whether MongoDB discloses memory to unauthenticated clients.

    An affected version is safe if its handshake does not offer zlib compression.
    """
    build = await mongo.database.command("buildInfo")
    version = build["version"]
    if is_fixed(build["versionArray"]):
        return ok(f"{version} has the fix for {CVE}")
    handshake = await mongo.database.command("hello", compression=["zlib"])
    if "zlib" not in handshake.get("compression", []):
        return ok(f"{version} lacks the fix for {CVE}, but the affected zlib network compression is off")
    fixes = ", ".join(f"{major}.{minor}.{patch}" for (major, minor), patch in FIRST_FIXED.items())
    return failed(
        f"{version} discloses memory to unauthenticated clients ({CVE})",
        f"Upgrade to the first fixed release of its series or later ({fixes}); until then, start every mongod"
        " and mongos with --networkMessageCompressors disabled.",
    )


NEARLY_FULL = 0.8
SCANT_RESERVES = 2

_PAUSED = "Creation is paused (507)."


async def examine_storage(mongo: Mongo, settings: Settings) -> Outcome:
    """Compare the size of the database and the space on its disk with the limits. Raises `PyMongoError`."""
    return judge_storage(await read_storage_figures(mongo), settings)


def judge_storage(figures: StorageFigures, settings: Settings) -> Outcome:
    """Compare storage figures with the limits."""
    outcomes = [_judge_use(figures.used, settings.storage_max)]
    for disk in figures.disks:
        room, reserve = disk.room(settings.storage_reserve), disk.reserve(settings.storage_reserve)
        found = (
            f"{room // MIB} MiB can be stored before the disk of MongoDB reaches its reserve of {reserve // MIB} MiB"
        )
        advice = "Enlarge the disk of MongoDB, or delete other files on it. SEALPOST_STORAGE_RESERVE sets the reserve."
        if room < PAUSE_ROOM:
            outcomes.append(failed(found, f"{_PAUSED} {advice}"))
        else:
            outcomes.append(warning(found, advice) if disk.free < SCANT_RESERVES * reserve else ok(found))
    return worst(outcomes)


def _judge_use(used: int, maximum: int) -> Outcome:
    if not maximum:
        return ok(f"{used // MIB} MiB used, no maximum set")
    found = f"{used // MIB} MiB of {maximum // MIB} MiB (SEALPOST_STORAGE_MAX) used"
    advice = "Raise SEALPOST_STORAGE_MAX, or delete data with `manage purge` and `manage posts delete`."
    if maximum - used < PAUSE_ROOM:
        return failed(found, f"{_PAUSED} {advice}")
    return warning(found, advice) if used > NEARLY_FULL * maximum else ok(found)
