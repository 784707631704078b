"""Latency of one client that sends a request at a steady pace, and percentiles of latencies."""

import http.client
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True)
class Latencies:
    """Milliseconds from request to answer, and how many answers were no 200."""

    milliseconds: list[float]
    errors: int

    @property
    def p50_ms(self) -> float:
        """The median."""
        return percentile(self.milliseconds, 0.5)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile."""
        return percentile(self.milliseconds, 0.99)


def measure_latencies(url: str, path: str, pause: float, is_over: Callable[[], bool]) -> Latencies:
    """GET a path on one connection until it is over, at least once, with a pause in seconds after each answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    milliseconds, errors = list[float](), 0
    while not milliseconds or not is_over():
        began = time.perf_counter()
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        milliseconds.append((time.perf_counter() - began) * 1000)
        errors += response.status != HTTPStatus.OK
        time.sleep(pause)
    connection.close()
    return Latencies(milliseconds, errors)


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that is not exceeded by at least this share of all samples (nearest rank)."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]
