"""The measurements of `make bench`: runs of wrk against its servers, printed as they are made."""

from dataclasses import dataclass

from . import bare
from .scenarios import BY_NAME, CONNECTIONS, Case
from .supplies import Supplies
from .wrk import Load, Measurement, run_wrk

HEAD = (
    f"{'':<20}{'conns':>6}{'text':>8}{'per s':>10}{'p50 ms':>9}{'p99 ms':>9}"
    f"{'worker us':>11}{'nginx us':>10}{'mongod us':>11}{'errors':>8}{'refused':>9}"
)


@dataclass(frozen=True)
class Server:
    """A server to measure, and the processes that started all others of it."""

    url: str
    pids: tuple[int, ...]
    supplies: Supplies
    is_floor: bool = False


@dataclass(frozen=True)
class Figure:
    """A measurement of one round."""

    round: int
    case: Case
    measurement: Measurement


class Rounds:
    """All figures of a run of the bench."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.figures: list[Figure] = []

    def warm_up(self, server: Server) -> None:
        """Send requests for a second, so that the first measurement does not include what processes do only once."""
        load = Load("GET", bare.PATH if server.is_floor else "/healthz", 200)
        run_wrk(server.url, "warm-up", CONNECTIONS, load, 1)

    def measure(self, number: int, case: Case, server: Server) -> None:
        """Measure a case once."""
        load = BY_NAME[case.scenario].load(server.supplies, case.text, self.seconds)
        self.note(
            number, case, run_wrk(server.url, case.scenario, case.connections, load, self.seconds, pids=server.pids)
        )

    def note(self, number: int, case: Case, made: Measurement) -> Measurement:
        """Record and print a measurement."""
        self.figures.append(Figure(number, case, made))
        print(
            f"{case.scenario:<20}{case.connections:>6}{case.text:>8}{made.per_second:>10,.0f}{made.p50_ms:>9.1f}"
            f"{made.p99_ms:>9.1f}{made.worker_us:>11,.0f}{made.nginx_us:>10,.0f}{made.mongod_us:>11,.0f}"
            f"{made.errors:>8}{made.refused:>9}",
            flush=True,
        )
        return made

    @property
    def are_right(self) -> bool:
        """Whether every response was right, and every run had one."""
        return not any(one.measurement.errors or not one.measurement.per_second for one in self.figures)
