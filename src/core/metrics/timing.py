"""Timing what is interrupted."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .instruments import Histogram


class Stopwatch:
    """Measures a block of code (``with stopwatch:``), what is done while it is paused left out."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._left_out = 0.0
        self._began = 0.0

    def __enter__(self) -> "Stopwatch":
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._histogram.observe(time.perf_counter() - self._began - self._left_out)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._left_out += time.perf_counter() - began
