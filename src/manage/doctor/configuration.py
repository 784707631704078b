"""Checks of the settings, the key ring, and the files that hold secrets."""

import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from ...core.crypto.keys import KEY_FILE, KeyRing, read_key_ring
from ...core.tls.certificates import certificate_files
from ...pages.branding import read_brand
from ...settings import PREFIX, Settings, SettingsError, read_settings, secret_files
from .examination import Finding, Outcome, examine, failed, in_thread, not_checked, ok, warning, worst
from .running_service import RunningService

_OTHERS, _GROUP_CHANGES, _GROUP_READS = 0o007, 0o030, 0o040


class Configuration:
    """The checks of the configuration, and the settings that the other checks use.

    ``settings`` and ``ring`` are None unless they are valid. If the service is running, ``settings`` are those of the
    service, except secrets. ``unknown`` names the secrets that are set in the service, but not for this command.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.settings: Settings | None = None
        self.ring: KeyRing | None = None
        self.service: RunningService | None = None
        self.unknown: set[str] = set()
        self._environment = environment
        self._own: Settings | None = None

    async def examine(self) -> AsyncIterator[Finding]:
        """Run the checks."""
        yield await examine("settings", self._read_settings())
        yield await examine("key ring", self._read_ring())
        yield await examine("service settings", self._compare())
        yield await examine("secret files", self._check_secret_files())

    async def _read_settings(self) -> Outcome:
        try:
            self.settings = self._own = own = await in_thread(read_settings)
            await in_thread(lambda: read_brand(own))
        except SettingsError as error:
            return failed(
                "; ".join(str(error).splitlines()),
                "Correct them in the environment or in .env: docs/operations.md, Settings, lists the allowed values.",
            )
        names = sorted(PREFIX + name.upper() for name in own.model_fields_set)
        with suppress(OSError):
            self.service = service = await in_thread(lambda: RunningService.find(own, self._environment))
            self.settings, self.unknown = await in_thread(lambda: service.settings(own)), service.unknown(own)
        off = f"; features off: {', '.join(own.features_off)}" if own.features_off else ""
        return ok(f"valid; set: {', '.join(names)}{off}" if names else "valid; all have their defaults")

    async def _compare(self) -> Outcome:
        if self._own is None:
            return not_checked("the settings are invalid")
        if self.service is None:
            return not_checked("this user cannot read them", "Run this command as the user of the service.")
        return self.service.compare(self._own, self.ring)

    async def _read_ring(self) -> Outcome:
        settings = self.settings
        if settings is None:
            return not_checked("the settings are invalid")
        if "keys" in self.unknown:
            return not_checked("the service uses SEALPOST_KEYS, which is not set here", "Set it here as well.")
        generated = settings.data_dir / KEY_FILE
        # Reading a missing key ring would create it.
        if not settings.keys and not await in_thread(generated.exists):
            if await in_thread((settings.data_dir / "mongo").exists):
                return failed(
                    f"{generated} is missing, but there is data that was encrypted with its keys",
                    "Restore it from your backup before you start the service. A new key could not decrypt the existing"
                    " data.",
                )
            return not_checked(f"{generated} does not exist yet: the service creates it at its first start")
        try:
            self.ring = await in_thread(lambda: read_key_ring(settings))
        except SettingsError as error:
            return failed(
                str(error), "Restore the key ring from your backup: docs/operations.md, Keys, describes its format."
            )
        ids = self.ring.key_ids
        older = f"; older: {', '.join(ids[1:])}" if len(ids) > 1 else ""
        return ok(f"{len(ids)} {'key' if len(ids) == 1 else 'keys'}; {self.ring.newest} is the newest{older}")

    async def _check_secret_files(self) -> Outcome:
        files = await in_thread(secret_files)
        if self.settings is not None and not self.settings.keys:
            files.append(self.settings.data_dir / KEY_FILE)
        if self.settings is not None:
            # Missing certificate files have their own check.
            with suppress(SettingsError):
                files += (certificate_files(self.settings) or ())[1:]
        modes = [(path, await in_thread(partial(_mode, path))) for path in files]
        outcomes = [_judge(path, mode) for path, mode in modes if mode is not None]
        return worst(outcomes) if outcomes else not_checked("no file holds a secret")


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _judge(path: Path, mode: int) -> Outcome:
    found = f"{path} has mode {mode:04o}"
    if mode & _OTHERS:
        return failed(f"{found}: every user of this host has access", f"chmod 600 {path}")
    if mode & _GROUP_CHANGES:
        return failed(f"{found}: its group can change it", f"chmod 600 {path}")
    if mode & _GROUP_READS:
        return warning(f"{found}: its group can read it", f"chmod 600 {path}, unless the group is that of the service.")
    return ok(found)
