"""The first steps of every way to start the service: settings, keys, logs, MongoDB."""

from collections.abc import Iterator
from contextlib import contextmanager

from .core.embedded import embedded_mongod
from .core.keys import read_key_ring
from .core.logs import configure_logs
from .settings import Settings, read_settings


def prepare(log_level: str | None = None) -> Settings:
    """Read the settings and the key ring, configure the logs, and return the settings.

    ``log_level`` overrides `SEALPOST_LOG_LEVEL`. Raises `SettingsError`, and `OSError` for an unusable log file.
    """
    settings = read_settings(**({"log_level": log_level} if log_level else {}))
    read_key_ring(settings)
    configure_logs(settings)
    return settings


@contextmanager
def mongo_url(settings: Settings) -> Iterator[str]:
    """Yield the URL of the configured MongoDB, or of a private one that runs until the context ends.

    Raises `MongodError` when the private one cannot be started or stopped.
    """
    if settings.mongo_url:
        yield settings.mongo_url.get_secret_value()
    else:
        with embedded_mongod(settings.data_dir, settings.mongod) as url:
            yield url
