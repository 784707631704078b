"""The objectives, and whether what was measured holds them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ..latency import percentile
from .histograms import Histogram
from .probes import Revocation
from .tally import Tally

SHARE = 0.99
ECHO_SECONDS = 0.5
ECHO_SECONDS_OF_WORKER = 0.1
AUTHENTICATION_SECONDS = 0.1
REVOCATION_SECONDS = 2.0
ENOUGH = 300
"""If all of 299 samples are good, at least 99 % of everything is, with a confidence of 95 %: 0.99 ** 299 < 0.05."""
REASONS_SHOWN = 3


class Verdict(StrEnum):
    """What became of an objective."""

    HELD = "held"
    MISSED = "MISSED"
    UNKNOWN = "not measured"


@dataclass(frozen=True)
class Result:
    """One line of the report."""

    objective: str
    asked: str
    measured: str
    samples: int
    verdict: Verdict


def judge(
    tally: Tally, revocations: Sequence[Revocation], echo: Histogram | str, authentication: Histogram | str
) -> list[Result]:
    """Return what became of each objective.

    ``echo`` and ``authentication`` are what the workers themselves have measured of them, or words for why that is not
    known.
    """
    return [
        none_of(
            "availability", "no answer from 500 on, no broken connection", tally.requests, tally.unavailable, "answered"
        ),
        at_the_client(tally.echo_seconds),
        in_the_worker("echo latency, in the worker", ECHO_SECONDS_OF_WORKER, echo),
        in_the_worker("authentication latency", AUTHENTICATION_SECONDS, authentication, "apart from hashing"),
        none_of(
            "correctness",
            "every answer right",
            tally.right + tally.wrong.total(),
            tally.wrong,
            "right",
        ),
        revoked(revocations),
        none_of(
            "malformed requests",
            "each refused with 400 to 499",
            tally.malformed,
            tally.not_refused,
            f"refused, of {len(tally.malformed_kinds)} kinds",
        ),
        none_of("large bodies", "each over 1 MiB refused with 413", tally.oversized, tally.oversized_passed, "refused"),
    ]


def none_of(objective: str, asked: str, samples: int, bad: Counter[str], good: str) -> Result:
    """Judge what has to be so each time: in ``samples`` tries, of which ``bad`` says by reason which failed."""
    if not samples:
        return Result(objective, asked, "nothing was tried", 0, Verdict.UNKNOWN)
    if not bad:
        return Result(objective, asked, f"100 % {good}", samples, Verdict.HELD)
    reasons = [f"{reason} ({count})" for reason, count in bad.most_common(REASONS_SHOWN)]
    rest = bad.total() - sum(count for _, count in bad.most_common(REASONS_SHOWN))
    told = "; ".join([*reasons, *([f"{rest} others"] if rest else [])])
    return Result(objective, asked, f"{bad.total()} not: {told}", samples, Verdict.MISSED)


def at_the_client(seconds: Sequence[float]) -> Result:
    """Judge the times of echoes as clients see them."""
    objective, asked = "echo latency, at the client", f"{SHARE * 100:.0f} % within {ECHO_SECONDS * 1000:.0f} ms"
    if not seconds:
        return Result(objective, asked, "nothing was tried", 0, Verdict.UNKNOWN)
    p99 = percentile(seconds, SHARE)
    measured = f"p50 {_milliseconds(percentile(seconds, 0.5))}, p99 {_milliseconds(p99)}"
    return _if_enough(Result(objective, asked, measured, len(seconds), _verdict(p99 <= ECHO_SECONDS)))


def in_the_worker(objective: str, bound: float, histogram: Histogram | str, but: str = "") -> Result:
    """Judge the times that the workers themselves have measured."""
    asked = f"{SHARE * 100:.0f} % within {bound * 1000:.0f} ms {but}".strip()
    if isinstance(histogram, str):
        return Result(objective, asked, histogram, 0, Verdict.UNKNOWN)
    if not histogram.count:
        return Result(objective, asked, "the metrics have none of it", 0, Verdict.UNKNOWN)
    share = histogram.share_within(bound)
    measured = f"{share * 100:.2f} % are, p99 about {_milliseconds(histogram.quantile(SHARE))}"
    return _if_enough(Result(objective, asked, measured, histogram.count, _verdict(share >= SHARE)))


def revoked(revocations: Sequence[Revocation]) -> Result:
    """Judge how soon tokens that were ended are refused by every worker."""
    objective, asked = "revocation", f"refused everywhere within {REVOCATION_SECONDS:.0f} s, for good"
    if not revocations:
        return Result(objective, asked, "nothing was tried", 0, Verdict.UNKNOWN)
    slowest: dict[str, float] = {}
    for revocation in revocations:
        slowest[revocation.way] = max(revocation.seconds, slowest.get(revocation.way, 0.0))
    told = ", ".join(
        f"{way}: accepted to the end" if math.isinf(seconds) else f"{way}: at most {seconds:.2f} s"
        for way, seconds in sorted(slowest.items())
    )
    return Result(objective, asked, told, len(revocations), _verdict(max(slowest.values()) <= REVOCATION_SECONDS))


def _if_enough(result: Result) -> Result:
    """Take back that an objective was held where there are too few samples to say so; missed it is with any number."""
    if result.verdict is Verdict.HELD and result.samples < ENOUGH:
        measured = f"{result.measured}; it takes {ENOUGH} samples to tell"
        return replace(result, measured=measured, verdict=Verdict.UNKNOWN)
    return result


def _verdict(held: bool) -> Verdict:
    return Verdict.HELD if held else Verdict.MISSED


def _milliseconds(seconds: float) -> str:
    return "no answer" if math.isinf(seconds) else f"{seconds * 1000:.0f} ms"
