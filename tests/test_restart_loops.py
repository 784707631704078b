"""Workers that exit soon after every start."""

from src.core.supervisor import ProcessState, RestartLoops


def state(name: str, started_at: int) -> ProcessState:
    return ProcessState(name, 0, started_at, 1)


def test_a_loop_is_several_short_starts_in_a_row() -> None:
    """A start counts once, however often it is seen; a worker that stays up has none; each worker counts separately."""
    loops = RestartLoops(allowed=2)
    noted = [
        loops.note({1: state(first, started), 2: state(second, started)})
        for first, second, started in (
            ("BACKOFF", "BACKOFF", 1),
            ("BACKOFF", "BACKOFF", 1),
            ("STARTING", "STARTING", 2),
            ("BACKOFF", "BACKOFF", 2),
            ("STARTING", "RUNNING", 3),
            ("BACKOFF", "BACKOFF", 4),
            ("FATAL", "STOPPED", 4),
            ("RUNNING", "RUNNING", 5),
        )
    ]

    assert [[], [], [], [], [], [1], [1], []] == noted
