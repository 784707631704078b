"""Metrics of the processes on one host, in the text format of Prometheus."""

from .catalogue import MEDIA_TYPE, Metrics, Work
from .instruments import NOTHING, Counter, Gauge, Histogram, Stopwatch
from .mongo_monitoring import mongo_listeners
from .process import ProcessFigures
from .storage import StorageError

__all__ = [
    "MEDIA_TYPE",
    "NOTHING",
    "Counter",
    "Gauge",
    "Histogram",
    "Metrics",
    "ProcessFigures",
    "Stopwatch",
    "StorageError",
    "Work",
    "mongo_listeners",
]
