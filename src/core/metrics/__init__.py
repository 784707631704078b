"""Metrics: what the processes of one host count, and the text in which Prometheus reads it."""

from .catalogue import MEDIA_TYPE, Metrics, Work
from .instruments import Counter, Gauge, Histogram, Nothing
from .mongo_monitoring import mongo_listeners
from .process import ProcessFigures
from .storage import StorageError
from .timing import Stopwatch

__all__ = [
    "MEDIA_TYPE",
    "Counter",
    "Gauge",
    "Histogram",
    "Metrics",
    "Nothing",
    "ProcessFigures",
    "Stopwatch",
    "StorageError",
    "Work",
    "mongo_listeners",
]
