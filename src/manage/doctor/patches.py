"""Whether MongoDB has the fix for CVE-2025-14847, or cannot be attacked through it."""

from collections.abc import Sequence

from ...core.database.mongo import Mongo
from .findings import Outcome, failed, ok

CVE = "CVE-2025-14847"
FIRST_FIXED = {(4, 4): 30, (5, 0): 32, (6, 0): 27, (7, 0): 28, (8, 0): 17, (8, 2): 3}
"""The first patch release of each series that has the fix. Source: https://jira.mongodb.org/browse/SERVER-115508."""


def is_fixed(version: Sequence[int]) -> bool:
    """Tell whether a version, as buildInfo gives it, has the fix. Series that were given up never got it."""
    series = (version[0], version[1])
    if series in FIRST_FIXED:
        return version[2] >= FIRST_FIXED[series]
    return series > max(FIRST_FIXED)


async def examine_patches(mongo: Mongo) -> Outcome:
    """Tell whether clients that have not authenticated can read MongoDB's memory, as far as its version says so.

    Whether it decompresses messages with zlib, it says in its handshake, to any user.
    """
    told = await mongo.database.command("buildInfo")
    version = told["version"]
    if is_fixed(told["versionArray"]):
        return ok(f"{version} has the fix for {CVE}")
    handshake = await mongo.database.command("hello", compression=["zlib"])
    if "zlib" not in handshake.get("compression", []):
        return ok(f"{version} lacks the fix for {CVE}, but zlib network compression, which it concerns, is off")
    fixes = ", ".join(f"{major}.{minor}.{patch}" for (major, minor), patch in FIRST_FIXED.items())
    return failed(
        f"{version} discloses memory to clients that have not authenticated ({CVE})",
        f"Upgrade to the first fixed release of its series or later ({fixes}); until then, start every mongod"
        " and mongos with --networkMessageCompressors disabled.",
    )
