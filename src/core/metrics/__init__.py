"""Metrics: what the processes of one host count, and the text in which Prometheus reads it."""

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
