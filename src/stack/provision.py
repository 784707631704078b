"""Prepare the containers: ``python -m src.stack.provision files|database|keys|new-key``.

- ``files``, as root: create keys, passwords, nginx's configuration and its certificate under `ROOT`, each readable by
  the user who needs it;
- ``database``, in MongoDB's container: set up the replica set and the user of the workers;
- ``keys``: replace the key ring with the one on standard input;
- ``new-key``: print a new key for a key ring.
"""

import argparse
import base64
import os
import secrets
import stat
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
from ..pages.branding import read_brand
from ..settings import DOTENV, PREFIX, Settings, SettingsError, read_settings, unknown_names
from .nginx import HTTPS_PORT, Tls, render
from .replica_set import APPLICATION, REPLICA_SET, DatabaseError, set_up_database

ROOT = Path("/provision")
LOCK_SECONDS = 60.0
"""Seconds that a run waits for another run in the same directory."""
NGINX_SCRIPT = Path(__file__).parents[2] / "confs" / "compose" / "nginx.sh"
_KEY_FILE_BYTES = 756  # in base64 under 1024 characters, the maximum of MongoDB
_PASSWORD_BYTES = 32
_NGINX_DIRECTORY = Path("/etc/sealpost")
"""Mount point of the ``nginx`` directory in nginx's container."""


SET_BY_COMPOSE = frozenset(
    PREFIX + name
    for name in (
        *("MONGO_DATABASE", "MONGOD", "DATA_DIR", "LOG_FILE", "METRICS_DIR", "TLS_CERT", "TLS_KEY"),
        *("MONGO_URL", "MONGO_URL_FILE", "KEYS", "KEYS_FILE", "OIDC_CLIENT_SECRET", "OIDC_CLIENT_SECRET_FILE"),
    )
)
"""Settings that docker-compose.yml sets itself, and secrets, which it passes to no container."""


class ProvisionError(Exception):
    """The containers must not start; the message says why and what to do, and contains no secret."""


@dataclass(frozen=True)
class Owner:
    """A user and a group, by number: images need not name them."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Owners:
    """The user and group of each container, as in docker-compose.yml and the Dockerfile."""

    web: Owner = Owner(10001, 10001)
    db: Owner = Owner(999, 999)
    nginx: Owner = Owner(10002, 10001)
    grafana: Owner = Owner(472, 472)


def check_dotenv(path: Path) -> list[str]:
    """Return the settings in an operator's ``.env`` that have no effect on the containers; none without the file.

    Docker Compose passes on only the variables that docker-compose.yml names. Raises `SettingsError` for an unknown
    setting.
    """
    given = [name for name, value in dotenv_values(path).items() if value]
    if unknown := unknown_names(given):
        raise SettingsError(
            "\n".join(f"{name}: no such setting, in .env beside docker-compose.yml" for name in unknown)
        )
    return [name for name in given if name in SET_BY_COMPOSE]


def provision_files(
    root: Path, members: Sequence[str], settings: Settings, owners: Owners, tls_port: int = HTTPS_PORT
) -> None:
    """Create missing files under ``root`` and update the others; master keys and passwords are never replaced.

    Directories: ``web``, ``db`` and ``grafana`` for secrets, ``nginx`` for its configuration and certificate, ``tls``
    for the operator's certificate, ``sockets``, ``logs``, and ``data`` with a directory per member of the replica set.
    Clients use HTTPS at ``tls_port``. Files are written atomically. Raises `ProvisionError` if there is data whose keys
    are missing, for a certificate that cannot be served, and for a logo that the workers cannot read. Raises
    `SettingsError` for unusable branding.
    """
    # First, so that an error changes nothing.
    _check_brand(settings)
    certificate = _provide_certificate(root, settings)
    web, db, grafana = root / "web", root / "db", root / "grafana"
    with locked(web, patience=LOCK_SECONDS, is_directory=True):
        _check_keys_of_data(root)
        _set_access(web, owners.web, 0o700)
        _set_access(db, owners.db, 0o700)
        _set_access(grafana, owners.grafana, 0o700)
        _ensure(db / "keyfile", lambda: base64.b64encode(secrets.token_bytes(_KEY_FILE_BYTES)).decode(), owners.db)
        _ensure(db / "root-password", _new_password, owners.db)
        _ensure(db / "application-password", _new_password, owners.db)
        password = (db / "application-password").read_text(encoding="ascii").strip()
        url = f"mongodb://{APPLICATION}:{password}@{','.join(members)}/?replicaSet={REPLICA_SET}&authSource=admin"
        _write(web / "mongo-url", url, owners.web, 0o400)
        _ensure(grafana / "admin-password", _new_password, owners.grafana)
        # Last: while it is missing, nothing has been encrypted.
        _ensure(web / "keys", new_key, owners.web)
    _provision_nginx(root / "nginx", settings, owners.nginx, certificate, tls_port)
    _set_access(root / "sockets", owners.web, 0o750)
    for name, owner in {"web": owners.web, "nginx": owners.nginx}.items():
        (root / "logs" / name).mkdir(exist_ok=True)
        _set_access(root / "logs" / name, owner, 0o700)
    for data in (root / "data").iterdir():
        _set_access(data, owners.db, 0o700)


def replace_key_ring(root: Path, text: str, owners: Owners) -> KeyRing:
    """Replace the key ring. Raises `ProvisionError` if the text is not a key ring."""
    try:
        ring = KeyRing.parse(text)
    except KeyRingError as error:
        raise ProvisionError(f"Nothing was changed: {error}.") from None
    with locked(root / "web", patience=LOCK_SECONDS, is_directory=True):
        _write(root / "web" / "keys", text, owners.web, 0o400)
    return ring


def provision_database(root: Path, members: Sequence[str]) -> list[str]:
    """Set up the running MongoDB with the passwords under ``root``: see `set_up_database`."""
    root_password, application_password = (
        (root / "db" / name).read_text(encoding="ascii").strip() for name in ("root-password", "application-password")
    )
    return set_up_database(members, root_password=root_password, application_password=application_password)


def _check_keys_of_data(root: Path) -> None:
    needed = [root / "web" / "keys", root / "db" / "root-password", root / "db" / "keyfile"]
    has_data = any((data / "WiredTiger").exists() for data in (root / "data").iterdir())
    if has_data and not all(path.exists() for path in needed):
        raise ProvisionError(
            "MongoDB has data, but the volumes with its passwords and the keys are empty (`docker-compose down -v`"
            " removes them). New keys could not decrypt that data. Restore the keys from your backup, or move the data"
            " away to start over: docs/compose.md, Backup and restore."
        )


def _check_brand(settings: Settings) -> None:
    read_brand(settings)
    logo = settings.brand_logo
    # This process may read every file; the workers are another user.
    if logo and not logo.stat().st_mode & stat.S_IROTH:
        raise ProvisionError(f"SEALPOST_BRAND_LOGO: the workers cannot read it. Run chmod a+r {logo}")


def _provide_certificate(root: Path, settings: Settings) -> CertificatePair | None:
    """Return the certificate for nginx, and create a self-signed one if needed; None without TLS."""
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
        # Paths as the operator sees them, relative to docker-compose.yml.
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
        assets_dir=_NGINX_DIRECTORY / "pages",
        tls=Tls(["8443"], _NGINX_DIRECTORY / served, tls_port) if certificate else None,
    )
    this_process = Owner(os.geteuid(), os.getegid())
    _set_access(directory, this_process, 0o755)
    if certificate:
        # One file, so that nginx never reads a certificate with the key of another.
        _write(directory / served, certificate.certificate + certificate.key, nginx, 0o400)
    pages = directory / "pages"
    pages.mkdir(exist_ok=True)
    _set_access(pages, this_process, 0o755)
    for path in STATIC.iterdir():
        _write_bytes(pages / path.name, path.read_bytes(), this_process, 0o444)
    _write(directory / "nginx.conf", configuration, this_process, 0o444)
    _write(directory / "nginx.sh", NGINX_SCRIPT.read_text(encoding="utf-8"), this_process, 0o444)
    if not certificate:
        (directory / served).unlink(missing_ok=True)


def _new_password() -> str:
    return secrets.token_hex(_PASSWORD_BYTES)


def _ensure(path: Path, make: Callable[[], str], owner: Owner) -> None:
    """Create a secret file that only its owner can read, unless it exists."""
    _write(path, path.read_text(encoding="ascii") if path.exists() else make(), owner, 0o400)


def _write(path: Path, text: str, owner: Owner, mode: int) -> None:
    _write_bytes(path, (text.strip() + "\n").encode(), owner, mode)


def _write_bytes(path: Path, content: bytes, owner: Owner, mode: int) -> None:
    """Write a file atomically. If it already has this content, only set owner and mode."""
    if path.exists() and path.read_bytes() == content:
        _set_access(path, owner, mode)
        return
    with replacing(path) as file:
        os.fchown(file.fileno(), owner.uid, owner.gid)
        os.fchmod(file.fileno(), mode)
        file.write(content)


def _set_access(path: Path, owner: Owner, mode: int) -> None:
    os.chown(path, owner.uid, owner.gid)
    path.chmod(mode)


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT, owners: Owners | None = None) -> int:
    """Run a task and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m src.stack.provision", description="Prepare the containers.")
    parser.add_argument("task", choices=("files", "database", "keys", "new-key"))
    task = parser.parse_args(arguments).task
    owners = owners or Owners()
    members = os.environ.get("MONGO_MEMBERS", "db:27017").split(",")
    try:
        match task:
            case "files":
                for name in check_dotenv(root / "clone" / DOTENV):
                    _say(f"{name} in .env has no effect: docker-compose.yml does not pass it on.")
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
    """Return the port in ``TLS_PORT``, which may begin with an address, as in docker-compose.yml."""
    port = os.environ.get("TLS_PORT", "").rpartition(":")[2]
    if port and not port.isdecimal():
        raise ProvisionError("TLS_PORT must be a port, or an address and a port: 443, 127.0.0.1:8443")
    return int(port or HTTPS_PORT)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
