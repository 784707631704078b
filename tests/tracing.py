"""What the tracer for coverage is not set for: where it is, all Python takes twice as long, measured or not."""

import sys
import threading
from types import FrameType
from typing import Any

import coverage


def trace_nothing() -> None:
    """Measure no more in this process; what was measured is kept."""
    running = coverage.Coverage.current()
    if running is not None:
        running.stop()


def write_out() -> None:
    """Write out what was measured until now: a fork of this process would write all of it out once more."""
    running = coverage.Coverage.current()
    if running is not None:
        running.get_data()


def leave_motor_out() -> None:
    """Leave the threads untraced in which Motor, from now on, has PyMongo wait for MongoDB.

    What runs there of Sealpost counts commands and connections. The tests of that run it on PyMongo's own client too,
    which has no such threads.
    """
    trace: Any = threading.gettrace()
    if trace is None:
        return

    def begin(frame: FrameType, event: str, argument: object) -> Any:
        """Go on as the tracer for coverage does, or end it for this thread."""
        # Whoever else has threads names them.
        if threading.current_thread().name.startswith("ThreadPoolExecutor"):
            sys.settrace(None)
            return None
        return trace(frame, event, argument)

    threading.settrace(begin)
