"""The clocks of this host and of MongoDB's."""

from collections.abc import Callable
from datetime import datetime

from ...core.mongo import Mongo
from ...core.signed_tokens import LEEWAY
from .findings import Outcome, failed, ok, warning

_READINGS = 5
WARNING_SECONDS, FAILURE_SECONDS = 1.0, LEEWAY.total_seconds()
"""How far apart they may be. Above the second, one host's access tokens are not yet good on another."""


async def compare_clocks(mongo: Mongo, now: Callable[[], datetime]) -> Outcome:
    """Read MongoDB's clock some times. The quickest answer tells the difference best: to half of its time."""
    readings = []
    for _ in range(_READINGS):
        asked = now()
        told = await mongo.database.command("hello", codec_options=mongo.database.codec_options)
        readings.append((now() - asked, told["localTime"] - asked))
    round_trip, since = min(readings)
    uncertain = round_trip.total_seconds() / 2
    apart = since.total_seconds() - uncertain
    certain = abs(apart) - uncertain
    which = "ahead of" if apart > 0 else "behind"
    found = f"MongoDB's is {abs(apart):.3f} s {which} this host's, give or take {uncertain:.3f} s"
    if certain <= WARNING_SECONDS:
        return ok(found)
    advice = "Set the clocks of all hosts by NTP: what expires does so by the clock of the process that is asked."
    return (warning if certain <= FAILURE_SECONDS else failed)(found, advice)
