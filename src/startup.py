"""Startup steps that all entry points share: settings, keys, logs, MongoDB."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from .core.crypto.keys import read_key_ring
from .core.database.embedded import embedded_mongod
from .core.logs import configure_logs
from .pages.branding import read_brand
from .settings import LOG_LEVELS, Settings, SettingsError, read_settings


def add_log_level(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--log-level``."""
    parser.add_argument("--log-level", type=str.lower, choices=LOG_LEVELS, help="overrides SEALPOST_LOG_LEVEL")


def prepare(log_level: str | None = None) -> Settings:
    """Read the settings, the key ring and the branding, configure the logs, and return the settings.

    ``log_level`` overrides `SEALPOST_LOG_LEVEL`. Raises `SettingsError`, and `OSError` for an unusable log file.
    """
    settings = read_settings(**({"log_level": log_level} if log_level else {}))
    read_key_ring(settings)
    read_brand(settings)
    configure_logs(settings)
    return settings


def refuse_cleartext(settings: Settings, advice: str) -> None:
    """Raise `SettingsError` if a port would serve plain HTTP although TLS is configured."""
    if settings.tls != "off":
        raise SettingsError(f"SEALPOST_TLS applies to the stack only. {advice}, or set SEALPOST_TLS=off.")


@contextmanager
def mongo_url(settings: Settings) -> Iterator[str]:
    """Yield the URL of the configured MongoDB, or of an embedded one that runs until the context ends.

    Raises `MongodError` if the embedded one cannot be started or stopped.
    """
    if settings.mongo_url:
        yield settings.mongo_url.get_secret_value()
    else:
        with embedded_mongod(settings.data_dir, settings.mongod) as url:
            yield url
