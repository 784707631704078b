"""Prepare the containers: ``python -m src.stack.provision files|database|keys|new-key``.

- ``files``, as root: keys, passwords, nginx's configuration and its certificate under `ROOT`, each for the user who
  needs it;
- ``database``, beside MongoDB: its replica set, and the user of the workers;
- ``keys``: replace the key ring by the one on standard input;
- ``new-key``: print a new key for a key ring.
"""

import argparse
import base64
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from ..core.crypto.keys import KeyRing, KeyRingError, new_key
from ..core.files import locked, replacing
from ..core.tls.certificates import CertificateError, CertificatePair, read_pair, self_signed_files
from ..core.tls.self_signed import ensure_self_signed, public_hosts
from ..pages.assets import STATIC
from ..settings import DOTENV, PREFIX, Settings, SettingsError, read_settings, unknown_names
from .nginx import HTTPS_PORT, Tls, render
from .replica_set import APPLICATION, REPLICA_SET, DatabaseError, set_up_database

ROOT = Path("/provision")
LOCK_SECONDS = 60.0
"""How long a run waits for another one in the same directory."""
NGINX_SCRIPT = Path(__file__).parents[2] / "confs" / "compose" / "nginx.sh"
_KEY_FILE_BYTES = 756  # as base64 under the 1024 characters that MongoDB takes
_PASSWORD_BYTES = 32
_NGINX_PLACE = Path("/etc/sealpost")
"""Where nginx's container has its directory."""


DECIDED_HERE = frozenset(
    PREFIX + name
    for name in (
        *("MONGO_DATABASE", "MONGOD", "DATA_DIR", "LOG_FILE", "METRICS_DIR", "TLS_CERT", "TLS_KEY"),
        *("MONGO_URL", "MONGO_URL_FILE", "KEYS", "KEYS_FILE"),
    )
)
"""Variables of settings that docker-compose.yml decides itself."""


class ProvisionError(Exception):
    """The containers must not start like this; the message says why and what to do, and holds no secret."""


@dataclass(frozen=True)
class Owner:
    """A user and a group, by number: they need no name in any image."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Owners:
    """Who runs in which container, as docker-compose.yml and the Dockerfile have it."""

    web: Owner = Owner(10001, 10001)
    db: Owner = Owner(999, 999)
    nginx: Owner = Owner(10002, 10001)
    grafana: Owner = Owner(472, 472)


def check_dotenv(path: Path) -> list[str]:
    """Return the settings in an operator's ``.env`` that do not reach the containers; none where there is no file.

    Docker Compose hands on the variables that docker-compose.yml names and ignores all others. Raises `SettingsError`
    for a name that is no setting at all.
    """
    given = [name for name, value in dotenv_values(path).items() if value]
    if unknown := unknown_names(given):
        raise SettingsError(
            "\n".join(f"{name}: no such setting, in .env beside docker-compose.yml" for name in unknown)
        )
    return [name for name in given if name in DECIDED_HERE]


def provision_files(
    root: Path, members: Sequence[str], settings: Settings, owners: Owners, tls_port: int = HTTPS_PORT
) -> None:
    """Make what is missing under ``root``, and nothing anew that cannot be made again.

    Directories: ``web``, ``db`` and ``grafana`` for secrets, ``nginx`` for its configuration and certificate, ``tls``
    for a certificate of the operator's own, ``sockets``, ``logs``, and ``data`` with one directory for each member of
    the replica set. ``tls_port`` is where clients find HTTPS. Killed at any moment, it leaves whole files only. Raises
    `ProvisionError` where there is data whose keys are gone, and for a certificate that cannot be served.
    """
    # First: what is wrong with it changes nothing.
    certificate = _provide_certificate(root, settings)
    web, db, grafana = root / "web", root / "db", root / "grafana"
    with locked(web, patience=LOCK_SECONDS, is_directory=True):
        _check_that_keys_and_data_belong_together(root)
        _give(web, owners.web, 0o700)
        _give(db, owners.db, 0o700)
        _give(grafana, owners.grafana, 0o700)
        _ensure(db / "keyfile", lambda: base64.b64encode(secrets.token_bytes(_KEY_FILE_BYTES)).decode(), owners.db)
        _ensure(db / "root-password", _new_password, owners.db)
        _ensure(db / "application-password", _new_password, owners.db)
        password = (db / "application-password").read_text(encoding="ascii").strip()
        url = f"mongodb://{APPLICATION}:{password}@{','.join(members)}/?replicaSet={REPLICA_SET}&authSource=admin"
        _write(web / "mongo-url", url, owners.web, 0o400)
        _ensure(grafana / "admin-password", _new_password, owners.grafana)
        # Last: while it is missing, nothing was ever sealed.
        _ensure(web / "keys", new_key, owners.web)
    _provision_nginx(root / "nginx", settings, owners.nginx, certificate, tls_port)
    _give(root / "sockets", owners.web, 0o750)
    for name, owner in {"web": owners.web, "nginx": owners.nginx}.items():
        (root / "logs" / name).mkdir(exist_ok=True)
        _give(root / "logs" / name, owner, 0o700)
    for data in (root / "data").iterdir():
        _give(data, owners.db, 0o700)


def replace_key_ring(root: Path, text: str, owners: Owners) -> KeyRing:
    """Put a key ring in place of the one that is there. Raises `ProvisionError` for what is none."""
    try:
        ring = KeyRing.parse(text)
    except KeyRingError as error:
        raise ProvisionError(f"Nothing was changed: {error}.") from None
    with locked(root / "web", patience=LOCK_SECONDS, is_directory=True):
        _write(root / "web" / "keys", text, owners.web, 0o400)
    return ring


def provision_database(root: Path, members: Sequence[str]) -> list[str]:
    """Make the running MongoDB a replica set of these members, with its users; as `set_up_database`."""
    root_password, application_password = (
        (root / "db" / name).read_text(encoding="ascii").strip() for name in ("root-password", "application-password")
    )
    return set_up_database(members, root_password=root_password, application_password=application_password)


def _check_that_keys_and_data_belong_together(root: Path) -> None:
    needed = [root / "web" / "keys", root / "db" / "root-password", root / "db" / "keyfile"]
    has_data = any((data / "WiredTiger").exists() for data in (root / "data").iterdir())
    if has_data and not all(path.exists() for path in needed):
        raise ProvisionError(
            "MongoDB has data, but the volumes with its passwords and the keys are empty (`docker-compose down -v`"
            " removes them). New keys could not decrypt that data. Restore the keys from your backup, or move the data"
            " away to start over: docs/compose.md, Backup and restore."
        )


def _provide_certificate(root: Path, settings: Settings) -> CertificatePair | None:
    """Read the certificate that nginx is to serve, a self-signed one made where none is good; None without TLS."""
    files = (root / "tls" / "cert.pem", root / "tls" / "key.pem")
    try:
        match settings.tls:
            case "off":
                return None
            case "self-signed":
                files = self_signed_files(root / "nginx")
                with locked(root / "nginx", patience=LOCK_SECONDS, is_directory=True):
                    ensure_self_signed(root / "nginx", public_hosts(settings))
        return read_pair(*files)
    except CertificateError as error:
        # As the operator sees it, beside docker-compose.yml.
        raise ProvisionError(f"SEALPOST_TLS={settings.tls}: {str(error).replace(f'{root}/', '')}") from None


def _provision_nginx(
    directory: Path, settings: Settings, nginx: Owner, certificate: CertificatePair | None, tls_port: int
) -> None:
    served = "tls.pem"
    configuration = render(
        settings,
        listen=["8080"],
        metrics_listen=["9145"],
        socket_dir=Path("/run/sealpost"),
        log_dir=Path("/var/log/sealpost"),
        temp_dir=Path("/tmp"),  # noqa: S108 (nginx's own, in its container)
        pid_file=Path("/tmp/nginx.pid"),  # noqa: S108
        assets_dir=_NGINX_PLACE / "pages",
        tls=Tls(["8443"], _NGINX_PLACE / served, tls_port) if certificate else None,
    )
    us = Owner(os.geteuid(), os.getegid())
    _give(directory, us, 0o755)
    if certificate:
        # One file, so that nginx never meets a certificate with another one's key.
        _write(directory / served, certificate.certificate + certificate.key, nginx, 0o400)
    pages = directory / "pages"
    pages.mkdir(exist_ok=True)
    _give(pages, us, 0o755)
    for path in STATIC.iterdir():
        _write(pages / path.name, path.read_text(encoding="utf-8"), us, 0o444)
    _write(directory / "nginx.conf", configuration, us, 0o444)
    _write(directory / "nginx.sh", NGINX_SCRIPT.read_text(encoding="utf-8"), us, 0o444)
    if not certificate:
        (directory / served).unlink(missing_ok=True)


def _new_password() -> str:
    return secrets.token_hex(_PASSWORD_BYTES)


def _ensure(path: Path, make: Callable[[], str], owner: Owner) -> None:
    """Make a secret file, for its owner to read, where there is none."""
    _write(path, path.read_text(encoding="ascii") if path.exists() else make(), owner, 0o400)


def _write(path: Path, text: str, owner: Owner, mode: int) -> None:
    """Write a file that a crash leaves as it was or whole; one that has this text already only gets owner and mode."""
    content = text.strip() + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == content:
        _give(path, owner, mode)
        return
    with replacing(path) as file:
        os.fchown(file.fileno(), owner.uid, owner.gid)
        os.fchmod(file.fileno(), mode)
        file.write(content.encode())


def _give(path: Path, owner: Owner, mode: int) -> None:
    os.chown(path, owner.uid, owner.gid)
    path.chmod(mode)


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT, owners: Owners | None = None) -> int:
    """Do one of the tasks and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m src.stack.provision", description="Prepare the containers.")
    parser.add_argument("task", choices=("files", "database", "keys", "new-key"))
    task = parser.parse_args(arguments).task
    owners = owners or Owners()
    members = os.environ.get("MONGO_MEMBERS", "db:27017").split(",")
    try:
        match task:
            case "files":
                for name in check_dotenv(root / "clone" / DOTENV):
                    _say(f"{name} in .env has no effect: docker-compose.yml sets it.")
                provision_files(root, members, read_settings(), owners, _published_port())
            case "database":
                for member in provision_database(root, members):
                    _say(f"{member} is still copying the data.")
            case "keys":
                ring = replace_key_ring(root, sys.stdin.read(), owners)
                _say(f"Keys in the key ring, newest first: {', '.join(ring.key_ids)}. Restart the workers.")
            case "new-key":
                _say(new_key())
    except (ProvisionError, DatabaseError, SettingsError, OSError) as error:
        sys.stderr.write(f"sealpost: {error}\n")
        return 1
    return 0


def _published_port() -> int:
    """Return the port at the end of ``TLS_PORT``, which may have an address before it, as docker-compose takes it."""
    port = os.environ.get("TLS_PORT", "").rpartition(":")[2]
    if port and not port.isdecimal():
        raise ProvisionError("TLS_PORT must be a port, or an address and a port: 443, 127.0.0.1:8443")
    return int(port or HTTPS_PORT)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
