"""How `make slo` comes from what it has measured to a verdict."""

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as PrometheusHistogram

from bench.latency import percentile
from bench.slo.__main__ import main
from bench.slo.client import TimedResponse
from bench.slo.histograms import CounterResetError, HistogramSnapshot, read_histogram
from bench.slo.malformed import malformed_requests
from bench.slo.objectives import (
    ENOUGH,
    ObjectiveResult,
    Verdict,
    at_the_client,
    in_the_worker,
    judge,
    none_of,
    revoked,
)
from bench.slo.probes import Revocation
from bench.slo.report import table
from bench.slo.schedule import UNDER_LIMITS
from bench.slo.tally import Tally
from bench.slo.texts import LARGEST_ECHO, LAST, SURROGATES, Texts, cut
from src.settings import Settings

BOUNDS = (0.01, 0.1, 1.0)


class Service:
    """What a service counts and tells."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route")
        self._histogram = PrometheusHistogram("seconds", "-", labels, buckets=BOUNDS, registry=self._registry)

    def observe(self, *seconds: float, route: str = "/echo", method: str = "POST") -> None:
        for value in seconds:
            self._histogram.labels(method, route).observe(value)

    def told(self, **labels: str) -> HistogramSnapshot:
        return read_histogram(generate_latest(self._registry).decode(), "seconds", **labels)


def test_a_histogram_is_read_over_all_series_with_the_labels() -> None:
    """And no other; one that is not there is empty."""
    service = Service()
    service.observe(0.005, 0.05)
    service.observe(0.05, route="/hello")
    service.observe(5, method="PUT")

    assert {0.01: 1, 0.1: 2, 1.0: 2, math.inf: 2} == service.told(route="/echo", method="POST").buckets
    assert {0.01: 1, 0.1: 2, 1.0: 2, math.inf: 3} == service.told(route="/echo").buckets
    assert 4 == service.told().count
    assert 0 == service.told(route="/none").count


def test_what_was_there_before_does_not_count() -> None:
    """Two readings make what was added; a count that fell is a service that began anew."""
    service = Service()
    nothing = service.told()
    service.observe(0.05, 0.05, 5)
    before = service.told()
    service.observe(0.005, 0.5)
    after = service.told()

    assert {0.01: 1, 0.1: 1, 1.0: 2, math.inf: 2} == after.since(before).buckets
    assert after.buckets == after.since(nothing).buckets
    with pytest.raises(CounterResetError):
        before.since(after)


def test_shares_and_quantiles_are_those_of_prometheus() -> None:
    """Within a bucket evenly spread; past the last bound, that bound."""
    service = Service()
    service.observe(*[0.05] * 90, *[0.5] * 8, *[5] * 2)
    told = service.told()

    assert 0.9 == told.share_within(0.1)
    assert 0.01 + 0.09 * 45 / 90 == pytest.approx(told.quantile(0.45))
    assert 0.1 + 0.9 * 4 / 8 == pytest.approx(told.quantile(0.94))
    assert 1.0 == told.quantile(0.99)
    assert 0.1 == told.quantile(0.9)
    with pytest.raises(ValueError, match="no observations"):
        HistogramSnapshot({}).quantile(0.5)
    with pytest.raises(KeyError):
        told.share_within(0.2)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_least_sample_that_does(samples: list[float], share: float) -> None:
    """As many as asked do not exceed it, and of a lower sample that is not so."""
    found = percentile(samples, share)

    assert found in samples
    assert sum(sample <= found for sample in samples) >= share * len(samples)
    assert all(sum(sample <= lower for sample in samples) < share * len(samples) for lower in samples if lower < found)


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        ([0.01] * ENOUGH, Verdict.HELD),
        ([0.01] * (ENOUGH - 1), Verdict.UNKNOWN),
        ([0.01] * 990 + [1.0] * 10, Verdict.HELD),
        ([0.01] * 989 + [1.0] * 11, Verdict.MISSED),
        ([0.01] * 98 + [math.inf] * 2, Verdict.MISSED),
        ([1.0], Verdict.MISSED),
        ([], Verdict.UNKNOWN),
    ],
)
def test_of_a_hundred_echoes_one_may_be_slow(seconds: list[float], verdict: Verdict) -> None:
    """Few samples can show that an objective is missed, and not that it is held; no answer is a slow one."""
    result = at_the_client(seconds)

    assert (verdict, len(seconds)) == (result.verdict, result.samples)


@pytest.mark.parametrize(
    ("histogram", "verdict"),
    [
        (HistogramSnapshot({0.1: 990, math.inf: 1000}), Verdict.HELD),
        (HistogramSnapshot({0.1: 989, math.inf: 1000}), Verdict.MISSED),
        (HistogramSnapshot({0.1: 10, math.inf: 10}), Verdict.UNKNOWN),
        (HistogramSnapshot({0.1: 9, math.inf: 10}), Verdict.MISSED),
        (HistogramSnapshot({}), Verdict.UNKNOWN),
        ("no metrics", Verdict.UNKNOWN),
    ],
)
def test_a_worker_is_judged_by_its_own_measurements(histogram: HistogramSnapshot | str, verdict: Verdict) -> None:
    """By the share in the buckets, which is exact; where there are no metrics, that is what is told."""
    result = in_the_worker("some latency", 0.1, histogram)

    assert verdict == result.verdict
    if isinstance(histogram, str):
        assert "no metrics" == result.measured


def test_what_has_to_be_so_each_time_is_missed_by_one() -> None:
    """And the report says which it was."""
    bad = Counter({"POST /echo: 502": 3, "a": 2, "b": 1, "c": 1, "d": 1})

    assert Verdict.HELD == none_of("x", "y", 10, Counter(), "right").verdict
    assert Verdict.UNKNOWN == none_of("x", "y", 0, Counter(), "right").verdict
    assert Verdict.MISSED == none_of("x", "y", 10, Counter(a=1), "right").verdict
    assert "8 not: POST /echo: 502 (3); a (2); b (1); 2 others" == none_of("x", "y", 10, bad, "").measured


def revocation(*tries: tuple[float, int]) -> Revocation:
    """Return one of a token that was ended at 100 s."""
    made = Revocation("token", "ended", 100.0)
    for sent_at, status in tries:
        made.note(TimedResponse(status, sent_at=sent_at))
    return made


@pytest.mark.parametrize(
    ("made", "seconds"),
    [
        (revocation((100.1, 401), (100.2, 401)), 0.1),
        (revocation((100.1, 200), (100.2, 401), (100.3, 401)), 0.2),
        (revocation((100.3, 200), (100.1, 401), (100.2, 401), (100.4, 401)), 0.4),
        (revocation((100.1, 401), (160.0, 200), (160.1, 401)), 60.1),
        (revocation((100.1, 401), (160.0, 200)), math.inf),
        (revocation((100.1, 0), (100.2, 502)), math.inf),
        (revocation((100.1, 401), (100.2, 0), (100.3, 403), (100.4, 401)), 0.4),
    ],
)
def test_a_token_is_refused_from_where_it_is_never_accepted_again(made: Revocation, seconds: float) -> None:
    """In order of sending, whatever the order of answers; who gets no answer learns nothing."""
    assert seconds == pytest.approx(made.seconds)


def test_the_slowest_revocation_counts() -> None:
    """One that takes longer than it may misses the objective for all."""
    soon, late = revocation((101.0, 401)), revocation((102.1, 401))
    never = revocation((101.0, 200))

    assert Verdict.UNKNOWN == revoked([]).verdict
    assert Verdict.HELD == revoked([soon]).verdict
    assert (Verdict.MISSED, "ended: at most 2.10 s") == (revoked([late, soon]).verdict, revoked([late, soon]).measured)
    assert (Verdict.MISSED, "ended: accepted to the end") == (revoked([never]).verdict, revoked([never]).measured)


def test_a_report_has_every_objective() -> None:
    """By the names of docs/slo.md, each with its samples and its verdict."""
    tally = Tally(requests=5, right=4, wrong=Counter({"echo: another text": 1}))
    results = judge(tally, [], "no metrics", "no metrics")
    shown = table(results)

    assert [
        ("availability", Verdict.HELD),
        ("echo latency, at the client", Verdict.UNKNOWN),
        ("echo latency, in the worker", Verdict.UNKNOWN),
        ("authentication latency", Verdict.UNKNOWN),
        ("correctness", Verdict.MISSED),
        ("revocation", Verdict.UNKNOWN),
        ("malformed requests", Verdict.UNKNOWN),
        ("large bodies", Verdict.UNKNOWN),
    ] == [(result.objective, result.verdict) for result in results]
    assert all(result.objective in shown for result in results)
    assert "1 not: echo: another text (1)" in shown


def test_a_long_cell_takes_more_lines() -> None:
    """Words are not cut, and the verdict stands in the first line."""
    first, *others = table([ObjectiveResult("long", "asked", "word " * 30, 1234, Verdict.HELD)]).splitlines()[1:]

    assert first.endswith("1,234  held")
    assert 30 == " ".join([first, *others]).split().count("word")


PROBLEM = {"type": "about:blank", "title": "t", "status": 400, "detail": "d", "code": "malformed", "request_id": "0"}
JSON_PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("answer", "is_refusal"),
    [
        (TimedResponse(400, JSON_PROBLEM, PROBLEM), True),
        (TimedResponse(400, JSON_PROBLEM + "; charset=utf-8", PROBLEM), True),
        (TimedResponse(429, JSON_PROBLEM, {**PROBLEM, "status": 429}), False),
        (TimedResponse(500, JSON_PROBLEM, {**PROBLEM, "status": 500}), False),
        (TimedResponse(404, JSON_PROBLEM, PROBLEM), False),
        (TimedResponse(400, "text/html", PROBLEM), False),
        (TimedResponse(400, JSON_PROBLEM, None), False),
        (TimedResponse(400, JSON_PROBLEM, {**PROBLEM, "code": None}), False),
        (TimedResponse(200, "application/json", {}), False),
        (TimedResponse(0), False),
    ],
)
def test_a_refusal_is_a_problem_of_the_clients_making(answer: TimedResponse, is_refusal: bool) -> None:
    """In the API's shape, of 400 to 499, and for what was sent: a rate limit says nothing about that."""
    assert is_refusal == answer.is_refusal


def test_texts_have_all_of_unicode() -> None:
    """The large ones together, and the short ones one after the other; a large one fits a body with its token."""
    everything = set(map(chr, range(LAST + 1))) - set(map(chr, SURROGATES))
    texts = Texts()
    large = [texts.large() for _ in range(5)]
    size = len(json.dumps({"str": large[0]}, ensure_ascii=False).encode())
    short = "".join(texts.short() for _ in range(12_000))

    assert everything == set("".join(large))
    assert everything == set(short)
    assert LARGEST_ECHO - 1024 < size < LARGEST_ECHO - 480


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_pieces_make_the_whole(text: str) -> None:
    """And each is as large as was allowed, no larger."""
    pieces = cut(text, 20)
    sizes = [len(json.dumps(piece, ensure_ascii=False).encode()) for piece in pieces]

    assert text == "".join(pieces)
    assert max(sizes) <= 20
    assert all(size > 20 - 6 for size in sizes[:-1])


def test_malformed_requests_are_all_different() -> None:
    """Each kind has a name of its own."""
    kinds = [request.kind for request in malformed_requests()]

    assert len(set(kinds)) == len(kinds) > 200


def test_a_stack_that_runs_is_driven_under_its_limits() -> None:
    """Under the default rates of one address, and with fewer accounts than one address may register."""
    settings = Settings(_env_file=None)
    rates = [float(rate.removesuffix("r/s")) for rate in (settings.rate_all, settings.rate_open, settings.rate_create)]
    creations = UNDER_LIMITS.secret + UNDER_LIMITS.phrase + UNDER_LIMITS.message

    assert UNDER_LIMITS.requests < rates[0]
    assert UNDER_LIMITS.openings < rates[1]
    assert creations < rates[2]
    assert settings.limit_register.startswith("10 per")
    assert 3 * UNDER_LIMITS.users <= 10


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seconds", "0"],
        ["--seconds", "x"],
        ["--url", "localhost"],
        ["--url", "http://localhost/path"],
        ["--url", "ftp://localhost"],
        ["--metrics-url", "http://localhost:9145/metrics"],
        ["--json", "no-such-directory/slo.json"],
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)

    assert 2 == exit_.value.code
    assert "error: " in capsys.readouterr().err


def test_where_nobody_answers_nothing_is_measured(capsys: pytest.CaptureFixture[str], unused_tcp_port: int) -> None:
    """The exit code is not that of an objective that was missed."""
    code = main(["--url", f"http://127.0.0.1:{unused_tcp_port}", "--seconds", "1"])

    assert 2 == code
    assert "slo: could not register: no response\n" == capsys.readouterr().err
