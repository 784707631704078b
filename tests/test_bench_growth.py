"""How the bench summarizes the growth of costs, and computes the capacity of machines."""

from pathlib import Path

from bench.growth.capacity import capacity
from bench.growth.comparison import Comparison, summarize
from bench.growth.memory import Memory, Residents
from bench.growth.stored import Space
from bench.rounds import Figure
from bench.scenarios import Case
from bench.wrk import Measurement


def figure(number: int, scenario: str, per_second: float, p99_ms: float) -> Figure:
    """Return a measurement of a round."""
    made = Measurement(scenario, 128, per_second, 1, p99_ms, 0, 0, 0, 400, 100, 50)
    return Figure(number, Case(scenario, 128), made)


FIGURES = {
    "10": [figure(0, "generate", 1000, 10), figure(1, "generate", 500, 20), figure(0, "open", 100, 5)],
    "20": [figure(1, "generate", 450, 30), figure(0, "generate", 800, 20), figure(0, "open", 50, 5)],
}


def test_a_condition_is_compared_with_the_first_one_of_the_same_round() -> None:
    """A machine that becomes slower between the rounds does not change the ratios, nor does the order of a round."""
    rows = {(row.scenario, row.variant): row for row in summarize(FIGURES, ("generate", "open"))}

    assert (1.0, 1.0) == (rows["generate", "10"].speed, rows["generate", "10"].p99_ratio)
    assert (0.85, 1.75) == (rows["generate", "20"].speed, rows["generate", "20"].p99_ratio)
    assert 625 == rows["generate", "20"].per_second
    assert 0.5 == rows["open", "20"].speed


def test_a_comparison_passes_through_a_file(tmp_path: Path) -> None:
    """The part that runs on another host writes its result for the one that started it."""
    made = Comparison("stored items", summarize(FIGURES, ("generate",)), is_right=False)
    made.write(tmp_path / "result")

    assert made == Comparison.read(tmp_path / "result")
    assert "| `POST /generate` | 20 | 400 | 100 | 50 | 625 | 25.0 | 0.85 | 1.75 |" in made.tables()[0]


def test_memory_is_the_smallest_and_the_largest_worker() -> None:
    """In megabytes, after each share of the requests."""
    (table,) = Memory([Residents(1000, [90_000_000, 91_500_000])], is_right=True).tables()

    assert "| 1,000 | 90.0 | 91.5 |" == table.splitlines()[-1]


def test_the_space_of_an_item_includes_the_indexes() -> None:
    """Documents and indexes on the disk, divided by the items."""
    assert ("1,000", "357", "0.3", "0.1", "400") == Space(1000, 357, 300_000, 100_000).cells()


def test_capacity_is_computed_from_the_largest_measurements() -> None:
    """Half of the processors are in use; the primary limits three hosts, and its share is that of three members."""

    def rows(variant: str, mongod_us: float) -> list[dict[str, object]]:
        common = {"variant": variant, "worker_us": 300.0, "nginx_us": 100.0, "mongod_us": mongod_us}
        return [{"scenario": name, **common} for name in ("generate", "open")]

    stored = {
        "space": [
            {"items": 10, "data_bytes": 10, "index_bytes": 10},
            {"items": 1000, "data_bytes": 300_000, "index_bytes": 100_000},
        ],
        "speed": [*rows("10", 1.0), *rows("1,000", 100.0)],
    }
    table = capacity(stored, {"speed": rows("3", 800.0), "primary_share": 0.5}, 2)

    assert [
        # 1 of 2 cores, and 1,000 µs for both requests; with three members, 2,400 µs, of which the primary takes 800.
        "| secrets created and opened per second | 1,000 | 1,200 |",
        "| the same per day | 86,000,000 | 110,000,000 |",
        "| limit of MongoDB's primary alone, per second |  | 1,200 |",
        "| secrets of 100 bytes stored at once, on a disk of 100 GB | 250,000,000 | 250,000,000 |",
        "| secrets of 10,000 bytes stored at once, on a disk of 100 GB | 9,700,000 | 9,700,000 |",
        "| secrets of 100 bytes created per second, if each is stored for 7 days | 410 | 410 |",
    ] == table.splitlines()[2:]
