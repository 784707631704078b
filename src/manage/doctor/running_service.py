"""Compare the settings of the running service with those of this command."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.crypto.keys import KeyRing
from ...core.running_settings import LAUNCHER, RunningSettings, find, plain_values
from ...core.workers import locate_run_directory
from ...settings import PREFIX, SECRETS, Settings, SettingsError, read_settings
from .examination import Outcome, not_checked, ok, warning

_OF_THE_LAUNCHER = frozenset(
    {
        *("data_dir", "mongod", "tls", "tls_cert", "tls_key"),
        *("rate_limits", "rate_all", "rate_create", "rate_open"),
        *("gathered_file", "hashing_threads"),
    }
)
"""Settings that the launcher uses itself, or passes to the workers in another form."""
_ALSO_OF_NGINX = ("public_url", "request_timeout", "trusted_proxies")
"""Settings of the workers that the launcher also renders into nginx's configuration."""
_OF_SUPERVISORD = frozenset({"log_file", "metrics_dir"})
"""Settings that supervisord's configuration sets for each worker."""
_ADVICE = (
    "These checks use the values of the service. If they are right, run this command in its directory and with its"
    " environment; if not, restart the service: see docs/operations.md, Restarting the workers."
)


@dataclass(frozen=True)
class RunningService:
    """The processes that have published their settings in a run directory, by name."""

    run_dir: Path
    processes: Mapping[str, RunningSettings] = field(default_factory=dict)

    @classmethod
    def find(cls, settings: Settings, environment: Mapping[str, str]) -> "RunningService":
        """Find the service of these settings, or of a container's ``RUN_DIR``. Raises `OSError`."""
        given = environment.get("RUN_DIR")
        run_dir = Path(given) if given else locate_run_directory(settings.data_dir)
        return cls(run_dir, find(run_dir))

    @property
    def log_dir(self) -> str | None:
        """Log directory of the launcher."""
        launcher = self.processes.get(LAUNCHER)
        return launcher.log_dir if launcher else None

    def settings(self, own: Settings) -> Settings:
        """Return the service's settings with the secrets of this command, or ``own`` if no service is running."""
        if not self.processes:
            return own
        unset: dict[str, Any] = {name: None for name in SECRETS if name not in self._secrets().fingerprints}
        try:
            return read_settings(**self._values(), **unset)
        except SettingsError:  # perhaps of another version
            return own

    def unknown(self, own: Settings) -> set[str]:
        """Return the secrets that are set in the service, but not for this command."""
        return (
            {name for name in self._secrets().fingerprints if getattr(own, name) is None} if self.processes else set()
        )

    def compare(self, own: Settings, ring: KeyRing | None) -> Outcome:
        """Compare the settings of this command with those of the service."""
        if not self.processes:
            return not_checked(f"no running process has published its settings in {self.run_dir}")
        found = [*self._differences(own), *self._different_secrets(own, ring), *self._different_workers()]
        names = ", ".join(self.processes)
        if found:
            return warning(f"{names} in {self._any().directory}: {'; '.join(found)}", _ADVICE)
        return ok(f"identical to those of {names} in {self._any().directory}")

    def _differences(self, own: Settings) -> list[str]:
        here, there = plain_values(own), self._values()
        launcher = self.processes.get(LAUNCHER)
        of_nginx = {
            name: launcher.values.get(name) for name in _ALSO_OF_NGINX if launcher and there.get(name) == here[name]
        }
        return [
            f"{PREFIX}{name.upper()} is {_shown(value)} {where}, but {_shown(here[name])} here"
            for where, values in (("in the service", there), ("in nginx", of_nginx))
            for name, value in values.items()
            if name in here and here[name] != value
        ]

    def _different_secrets(self, own: Settings, ring: KeyRing | None) -> list[str]:
        service, found = self._secrets(), []
        for name in SECRETS:
            variable, there, here = PREFIX + name.upper(), name in service.fingerprints, getattr(own, name) is not None
            if there != here:
                found.append(f"{variable} is {_set(there)} in the service, but {_set(here)} here")
        if ring is not None and (keys := self._any().key_ids) != list(ring.key_ids):
            found.append(f"the key ids of the service are {', '.join(keys)}, but {', '.join(ring.key_ids)} here")
        elif ring is not None:
            found += [
                f"{PREFIX}{name.upper()} differs between the service and here"
                for name in service.fingerprints
                if getattr(own, name) is not None and not service.agrees_on(name, own, ring)
            ]
        return found

    def _different_workers(self) -> list[str]:
        workers = {name: running for name, running in self.processes.items() if name != LAUNCHER}
        first = self._any()
        different = sorted(
            {
                PREFIX + name.upper()
                for running in workers.values()
                for name, value in running.values.items()
                if name not in _OF_SUPERVISORD and first.values.get(name) != value
            }
        )
        return [f"the workers have different values of {', '.join(different)}"] if different else []

    def _any(self) -> RunningSettings:
        """Return the record of the first worker, or of the launcher if no worker is running."""
        return next((self.processes[name] for name in self.processes if name != LAUNCHER), self._secrets())

    def _secrets(self) -> RunningSettings:
        """Return the record of the secrets that the operator has set."""
        return self.processes.get(LAUNCHER) or next(iter(self.processes.values()))

    def _values(self) -> dict[str, Any]:
        values = {name: value for name, value in self._any().values.items() if name in Settings.model_fields}
        if any(name.startswith("worker-") for name in self.processes):
            values = {name: value for name, value in values.items() if name not in _OF_SUPERVISORD}
        if launcher := self.processes.get(LAUNCHER):
            values |= {name: launcher.values[name] for name in _OF_THE_LAUNCHER if name in launcher.values}
        return values


def _shown(value: object) -> str:
    return "unset" if value is None else str(value)


def _set(is_set: bool) -> str:
    return "set" if is_set else "unset"
