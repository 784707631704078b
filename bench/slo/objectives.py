"""The objectives, and the verdict on each from the measurements."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ..latency import percentile
from .histograms import HistogramSnapshot
from .probes import Revocation
from .tally import Tally

SHARE = 0.99
ECHO_SECONDS = 0.5
ECHO_SECONDS_OF_WORKER = 0.1
AUTHENTICATION_SECONDS = 0.1
REVOCATION_SECONDS = 2.0
ENOUGH = 300
"""If all of 299 samples are good, at least 99 % of all requests are, with a confidence of 95 %: 0.99 ** 299 < 0.05."""
REASONS_SHOWN = 3


class Verdict(StrEnum):
    """The verdict on an objective."""

    HELD = "held"
    MISSED = "MISSED"
    UNKNOWN = "not measured"


@dataclass(frozen=True)
class ObjectiveResult:
    """The result for an objective: one row of the report."""

    objective: str
    asked: str
    measured: str
    samples: int
    verdict: Verdict


def judge(
    tally: Tally,
    revocations: Sequence[Revocation],
    echo: HistogramSnapshot | str,
    authentication: HistogramSnapshot | str,
) -> list[ObjectiveResult]:
    """Return the result for each objective.

    ``echo`` and ``authentication`` are the workers' own measurements, or the reason why there are none.
    """
    return [
        none_of(
            "availability",
            "no status of 500 or above, no broken connection",
            tally.requests,
            tally.unavailable,
            "answered",
        ),
        at_the_client(tally.echo_seconds),
        in_the_worker("echo latency, in the worker", ECHO_SECONDS_OF_WORKER, echo),
        in_the_worker("authentication latency", AUTHENTICATION_SECONDS, authentication, "without hashing"),
        none_of(
            "correctness",
            "every response correct",
            tally.right + tally.wrong.total(),
            tally.wrong,
            "correct",
        ),
        revoked(revocations),
        none_of(
            "malformed requests",
            "each rejected with 400 to 499",
            tally.malformed,
            tally.not_refused,
            f"rejected, of {len(tally.malformed_kinds)} kinds",
        ),
        none_of(
            "large bodies", "each over 1 MiB rejected with 413", tally.oversized, tally.oversized_passed, "rejected"
        ),
    ]


def none_of(objective: str, asked: str, samples: int, bad: Counter[str], good: str) -> ObjectiveResult:
    """Judge an objective that allows no failure; ``bad`` counts the failures among ``samples`` attempts by reason."""
    if not samples:
        return ObjectiveResult(objective, asked, "no samples", 0, Verdict.UNKNOWN)
    if not bad:
        return ObjectiveResult(objective, asked, f"100 % {good}", samples, Verdict.HELD)
    reasons = [f"{reason} ({count})" for reason, count in bad.most_common(REASONS_SHOWN)]
    rest = bad.total() - sum(count for _, count in bad.most_common(REASONS_SHOWN))
    listed = "; ".join([*reasons, *([f"{rest} others"] if rest else [])])
    return ObjectiveResult(objective, asked, f"{bad.total()} not: {listed}", samples, Verdict.MISSED)


def at_the_client(seconds: Sequence[float]) -> ObjectiveResult:
    """Judge the echo latencies measured by the client."""
    objective, asked = "echo latency, at the client", f"{SHARE * 100:.0f} % within {ECHO_SECONDS * 1000:.0f} ms"
    if not seconds:
        return ObjectiveResult(objective, asked, "no samples", 0, Verdict.UNKNOWN)
    p99 = percentile(seconds, SHARE)
    measured = f"p50 {_milliseconds(percentile(seconds, 0.5))}, p99 {_milliseconds(p99)}"
    return _if_enough(ObjectiveResult(objective, asked, measured, len(seconds), _verdict(p99 <= ECHO_SECONDS)))


def in_the_worker(
    objective: str, bound: float, histogram: HistogramSnapshot | str, restriction: str = ""
) -> ObjectiveResult:
    """Judge the latencies measured by the workers."""
    asked = f"{SHARE * 100:.0f} % within {bound * 1000:.0f} ms {restriction}".strip()
    if isinstance(histogram, str):
        return ObjectiveResult(objective, asked, histogram, 0, Verdict.UNKNOWN)
    if not histogram.count:
        return ObjectiveResult(objective, asked, "no samples in the metrics", 0, Verdict.UNKNOWN)
    share = histogram.share_within(bound)
    measured = f"{share * 100:.2f} %, p99 about {_milliseconds(histogram.quantile(SHARE))}"
    return _if_enough(ObjectiveResult(objective, asked, measured, histogram.count, _verdict(share >= SHARE)))


def revoked(revocations: Sequence[Revocation]) -> ObjectiveResult:
    """Judge how soon every worker rejects revoked tokens."""
    objective, asked = "revocation", f"rejected by all workers within {REVOCATION_SECONDS:.0f} s, permanently"
    if not revocations:
        return ObjectiveResult(objective, asked, "no samples", 0, Verdict.UNKNOWN)
    slowest: dict[str, float] = {}
    for revocation in revocations:
        slowest[revocation.method] = max(revocation.seconds, slowest.get(revocation.method, 0.0))
    measured = ", ".join(
        f"{method}: accepted to the end" if math.isinf(seconds) else f"{method}: at most {seconds:.2f} s"
        for method, seconds in sorted(slowest.items())
    )
    return ObjectiveResult(
        objective, asked, measured, len(revocations), _verdict(max(slowest.values()) <= REVOCATION_SECONDS)
    )


def _if_enough(result: ObjectiveResult) -> ObjectiveResult:
    """Replace the verdict held by unknown if there are too few samples; a missed objective needs no minimum."""
    if result.verdict is Verdict.HELD and result.samples < ENOUGH:
        measured = f"{result.measured}; a verdict needs {ENOUGH} samples"
        return replace(result, measured=measured, verdict=Verdict.UNKNOWN)
    return result


def _verdict(held: bool) -> Verdict:
    return Verdict.HELD if held else Verdict.MISSED


def _milliseconds(seconds: float) -> str:
    return "no response" if math.isinf(seconds) else f"{seconds * 1000:.0f} ms"
