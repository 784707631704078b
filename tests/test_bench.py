"""How the bench plans its runs and summarizes them."""

from xml.etree import ElementTree as ET

import pytest

from bench.chart import chart
from bench.page import replace_tables
from bench.report import Spread, gains, summarize, tables, usual_rows
from bench.rounds import Figure, Rounds
from bench.scenarios import BY_NAME, FLOOR_EVERY, Case, plan, text_of
from bench.wrk import Measurement


def figure(number: int, case: Case, worker_us: float, per_second: float = 1000.0) -> Figure:
    """Return a measurement of a round; mongod took no time."""
    return Figure(number, case, Measurement(case.scenario, case.connections, per_second, 1, 2, 0, 0, 0, worker_us, 20))


HEALTHZ, GENERATE = Case("healthz", 128), Case("generate", 128)
BARE_GET, BARE_POST = Case("bare-get", 128), Case("bare-post", 128)
FIGURES = [
    figure(0, BARE_GET, 40),
    figure(0, HEALTHZ, 80),
    figure(0, BARE_POST, 70),
    figure(0, GENERATE, 210, 2000),
    figure(0, Case("generate-single", 128), 800, 500),
    # The machine has become slower.
    figure(1, BARE_GET, 80),
    figure(1, HEALTHZ, 180),
    figure(1, BARE_POST, 140),
    figure(1, GENERATE, 420, 1000),
    figure(1, Case("generate-single", 128), 1600, 250),
]


def test_the_floor_is_measured_before_every_few_scenarios() -> None:
    """Each scenario follows the floor of its method at the same connections, at most a few runs before."""
    cases = list(plan(list(BY_NAME.values())[2:], [1, 128], [100, 10_000]))

    assert Case("bare-post", 128, 10_000) == cases[cases.index(Case("generate", 128, 10_000)) - 1]
    for index, case in enumerate(cases):
        floor = Case(BY_NAME[case.scenario].floor.name, case.connections, case.text)
        if not BY_NAME[case.scenario].connections and case != floor:
            assert floor in cases[max(0, index - 2 * FLOOR_EVERY) : index]


def test_only_main_scenarios_have_all_connections_and_texts() -> None:
    """The others are measured once a round, at 128 connections, or at the first if 128 are not asked for."""
    names = [BY_NAME[name] for name in ("hello", "healthz", "generate")]

    assert [Case("hello", 128)] == [one for one in plan(names, [1, 128], [100, 5000]) if one.scenario == "hello"]
    assert [Case("hello", 32)] == [one for one in plan(names, [32, 64], [100]) if one.scenario == "hello"]
    assert {1, 128} == {one.connections for one in plan(names, [1, 128], [100]) if one.scenario == "healthz"}
    assert {100, 5000} == {one.text for one in plan(names, [1, 128], [100, 5000]) if one.scenario == "generate"}


@pytest.mark.parametrize("size", [1, 100, 500_000])
def test_texts_have_their_size(size: int) -> None:
    """A text has the bytes that were asked for."""
    assert size == len(text_of(size).encode())


@pytest.mark.parametrize(("per_second", "unexpected", "broken"), [(1000, 1, 0), (1000, 0, 1), (0, 0, 0)])
def test_a_wrong_response_fails_the_run(per_second: float, unexpected: int, broken: int) -> None:
    """So does a broken connection, and a measurement in which no request was served."""
    rounds = Rounds(1)
    rounds.note(0, HEALTHZ, figure(0, HEALTHZ, 80).measurement)

    assert rounds.are_right
    rounds.note(1, HEALTHZ, Measurement("healthz", 128, per_second, 1, 2, unexpected, broken, 0))
    assert not rounds.are_right


def test_each_ratio_is_taken_within_its_round() -> None:
    """A machine that becomes slower between the rounds does not change the ratio to the floor."""
    rows = {row.case: row for row in summarize(FIGURES)}

    assert Spread(2.125, 2, 2.25) == rows[HEALTHZ].ratios["worker_us"]
    assert Spread(3, 3, 3) == rows[GENERATE].ratios["worker_us"]
    assert Spread(315, 210, 420) == rows[GENERATE].values["worker_us"]
    assert {} == rows[BARE_GET].ratios


def test_a_scenario_without_a_floor_has_no_ratio() -> None:
    """Logins are not compared with bare aiohttp, nor are connections at which it was not measured."""
    rows = summarize([*FIGURES, figure(0, Case("login", 8), 250_000), figure(0, Case("generate", 32), 400)])

    assert [{}, {}] == [row.ratios for row in rows[-2:]]


def test_gains_compare_two_ways_to_serve_a_request() -> None:
    """Group commit is compared with one command per request, by requests a second."""
    name = "generate: requests a second over those one MongoDB command per request, 128 connections"

    assert {name: 4.0} == gains(FIGURES)


def test_tables_show_the_spread_where_there_is_one() -> None:
    """Worker time is the median with the least and the most of the rounds, unless all rounds have the same."""
    (table,) = tables(summarize(FIGURES), {}).split("\n\n")

    assert "| `POST /generate` | 315 (210\N{EN DASH}420) | 20 |  | 1,500 | 2.0 | 3.00 | 1.00 | 1.50 | 1.00 |" in table
    assert "| 2.12 (2.00\N{EN DASH}2.25) |" in table
    assert {11} == {line.count("|") for line in table.splitlines()}


def test_several_connections_and_texts_get_tables_of_their_own() -> None:
    """The first table has each scenario once; the others compare connections, and texts."""
    more = [figure(0, Case("generate", 1), 500), figure(0, Case("generate", 128, 10_000), 600)]
    rows = summarize([*FIGURES, *more])
    first, connections, texts = tables(rows, {}).split("\n\n")

    assert {row.case for row in usual_rows(rows)} == {one.case for one in FIGURES}
    assert 1 == first.count("`POST /generate` |")
    assert ["`POST /generate`, 128", "`POST /generate`, 1"] == [
        line.split(" | ")[0].lstrip("| ") for line in connections.splitlines()[2:]
    ]
    assert ["`POST /generate`, 100", "`POST /generate`, 10,000"] == [
        line.split(" | ")[0].lstrip("| ") for line in texts.splitlines()[2:]
    ]


def test_shares_of_hashes_get_a_table() -> None:
    """The last table compares requests that hash with the hash alone, if they were measured."""
    shares = {
        "logins_per_second": 7.5,
        "bcrypt_alone_per_second": 8.0,
        "share_of_bcrypt": 0.938,
        "healthz_p99_ms_during_logins": 21.4,
    }

    assert "| `POST /login` | 7.5 | 8 | 0.938 | 21.4 |" == tables(summarize(FIGURES), shares).splitlines()[-1]


def test_a_page_gets_the_tables_of_a_result() -> None:
    """Tables with the same head are replaced; other text and other tables stay."""
    page = "# Page\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nText\n\n| a |\n| --- |\n| 3 |\n"
    found = replace_tables(page, "| a | b |\n| --- | --- |\n| 5 | 6 |\n| 7 | 8 |\n\n| c |\n| --- |\n| 9 |\n")

    assert page.replace("| 1 | 2 |", "| 5 | 6 |\n| 7 | 8 |") == found


def test_the_chart_is_an_image_with_a_bar_for_each_ratio() -> None:
    """The SVG is well-formed, and has the scenarios that are compared with the floor, with their figures."""
    root = ET.fromstring(chart(usual_rows(summarize(FIGURES)), "Costs <now>"))  # noqa: S314 (of our own)
    svg = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{svg}text")]

    assert 3 == len([bar for bar in root.iter(f"{svg}rect") if bar.get("class") == "bar"])
    assert "Costs <now>" == texts[0]
    assert "GET /healthz" in texts
    assert "3.00\N{MULTIPLICATION SIGN} (315 µs)" in texts
