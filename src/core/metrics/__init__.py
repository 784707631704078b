"""Metrics: what the processes of one host count, and the text in which Prometheus reads it."""

from .catalogue import MEDIA_TYPE, Metrics
from .instruments import Counter, Gauge, Histogram
from .storage import StorageError

__all__ = ["MEDIA_TYPE", "Counter", "Gauge", "Histogram", "Metrics", "StorageError"]
