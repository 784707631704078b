"""Preparation of the containers: files created once, and a database with a user without root privileges."""

import importlib
import io
import os
import re
import socket
import socketserver
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from pymongo.synchronous.database import Database
from pymongo.write_concern import WriteConcern

from bench.running_stack import free_port, free_ports
from src.core.crypto.keys import KeyRing, new_key
from src.core.database.embedded import find_mongod
from src.core.tls.certificates import CertificatePair, read_pair
from src.pages.assets import STATIC
from src.settings import SECRETS, Settings, SettingsError
from src.stack import healthcheck, provision
from src.stack.provision import SET_BY_COMPOSE, Owner, Owners, ProvisionError, main, provision_files, replace_key_ring
from src.stack.replica_set import DatabaseError, set_up_database

from .certificates import make_files
from .processes import PATIENCE

ROOT = Path(__file__).parents[1]
yaml: Any = importlib.import_module("yaml")  # schemathesis brings it, without types
US = Owner(os.geteuid(), os.getegid())
OWNERS = Owners(US, US, US, US)
MEMBERS = ["db:27017"]
SECRET_FILES = (
    *("web/keys", "web/mongo-url", "db/keyfile", "db/root-password", "db/application-password"),
    "grafana/admin-password",
)
FILES = {
    *SECRET_FILES,
    "nginx/nginx.conf",
    "nginx/nginx.sh",
    *(f"nginx/pages/{path.name}" for path in STATIC.iterdir()),
}
PASSWORDS: dict[str, Any] = {"root_password": "r" * 64, "application_password": "a" * 64}
KEY_FILE = "c2VhbHBvc3Q=" * 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directories as mounted by docker-compose."""
    for name in ("web", "db", "nginx", "tls", "sockets", "grafana", "logs", "data/db"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def settings() -> Settings:
    return Settings(_env_file=None)


def contents(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text() for name in SECRET_FILES}


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


class CrashError(BaseException):
    """Simulates a power cut."""


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Prevent the call with this number among all that change something."""
    count = 0

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                raise CrashError
            return function(*arguments, **options)

        return call

    for place, name in ((os, "fsync"), (os, "chown"), (Path, "chmod"), (Path, "replace"), (Path, "mkdir")):
        monkeypatch.setattr(place, name, counted(getattr(place, name)))


def test_files_are_private(root: Path, settings: Settings) -> None:
    """Secrets have mode 0400, in directories of mode 0700; sockets are also for the group."""
    provision_files(root, MEMBERS, settings, OWNERS)
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in SECRET_FILES}
    directories = {
        name: stat.S_IMODE((root / name).stat().st_mode)
        for name in ("web", "db", "nginx", "sockets", "grafana", "logs/web", "logs/nginx", "data/db")
    }

    assert dict.fromkeys(SECRET_FILES, 0o400) == modes
    assert {**dict.fromkeys(directories, 0o700), "nginx": 0o755, "sockets": 0o750} == directories
    assert FILES == names(root)


@pytest.mark.parametrize(
    ("mode", "accent", "error"),
    [
        (0o640, "", "SEALPOST_BRAND_LOGO: the workers cannot read it. Run chmod a+r "),
        (0o644, "#ffcc00", "SEALPOST_BRAND_ACCENT: too light"),
    ],
)
def test_unusable_branding_changes_nothing(root: Path, tmp_path: Path, mode: int, accent: str, error: str) -> None:
    """Init rejects it, also a logo that only root can read."""
    logo = tmp_path / "logo.png"
    logo.write_bytes(b"\x89PNG\r\n\x1a\n")
    logo.chmod(mode)
    before = names(root)

    with pytest.raises((ProvisionError, SettingsError), match=f"^{re.escape(error)}"):
        provision_files(root, MEMBERS, Settings(_env_file=None, brand_logo=logo, brand_accent=accent), OWNERS)
    assert before == names(root)


def test_the_branding_is_mounted_where_init_and_the_workers_look_for_it() -> None:
    """A path relative to the clone is the same in the containers."""
    services = compose("docker-compose.yml")["services"]
    directory = re.findall(r"(?m)^WORKDIR (\S+)", (ROOT / "Dockerfile").read_text())[-1]

    for name in ("init", "web"):
        assert f"./branding:{directory}/branding:ro,z" in services[name]["volumes"]


def test_created_files_are_valid(root: Path, settings: Settings) -> None:
    """The key ring parses, the URL has the members and the password, and MongoDB accepts the key file."""
    provision_files(root, ["db:27017", "db2:27017"], settings, OWNERS)
    files = {name: text.strip() for name, text in contents(root).items()}

    assert len(KeyRing.parse(files["web/keys"]).key_ids) == 1
    assert files["web/mongo-url"] == (
        f"mongodb://sealpost:{files['db/application-password']}@db:27017,db2:27017/?replicaSet=rs0&authSource=admin"
    )
    assert re.fullmatch(r"[A-Za-z0-9+/=]{6,1024}", files["db/keyfile"])
    assert files["db/root-password"] != files["db/application-password"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", files[f"db/{name}-password"]) for name in ("root", "application"))


def test_later_runs_keep_secrets(root: Path, settings: Settings) -> None:
    """Only the URL changes with the members, and nginx's configuration with the settings."""
    provision_files(root, MEMBERS, settings, OWNERS)
    before = contents(root)
    provision_files(root, [*MEMBERS, "db2:27017"], settings.model_copy(update={"rate_open": "9r/s"}), OWNERS)
    after = contents(root)

    assert {name for name in before if before[name] != after[name]} == {"web/mongo-url"}
    assert "rate=9r/s" in (root / "nginx" / "nginx.conf").read_text()


def test_an_unchanged_configuration_is_not_rewritten(root: Path, settings: Settings) -> None:
    """So nginx is not reloaded."""
    provision_files(root, MEMBERS, settings, OWNERS)
    before = (root / "nginx" / "nginx.conf").stat().st_ino
    provision_files(root, MEMBERS, settings, OWNERS)

    assert before == (root / "nginx" / "nginx.conf").stat().st_ino


def test_a_crash_leaves_no_partial_file(root: Path, settings: Settings) -> None:
    """Complete files remain, and the next run creates the rest."""
    crashes = 0
    while True:
        before = {name: (root / name).read_text() for name in SECRET_FILES if (root / name).exists()}
        with pytest.MonkeyPatch.context() as monkeypatch:
            crash_at(monkeypatch, crashes + 1)
            try:
                provision_files(root, MEMBERS, settings, OWNERS)
                break
            except CrashError:
                crashes += 1
        assert before.items() <= {name: (root / name).read_text() for name in before}.items()
        assert all((root / name).read_text().endswith("\n") for name in SECRET_FILES if (root / name).exists())

    assert crashes > 20
    assert FILES == names(root)


@pytest.mark.parametrize("lost", ["web/keys", "db/root-password", "db/keyfile"])
def test_data_without_its_keys_gets_no_new_ones(root: Path, settings: Settings, lost: str) -> None:
    """New keys would open nothing, and hide that the old ones are missing."""
    provision_files(root, MEMBERS, settings, OWNERS)
    (root / "data" / "db" / "WiredTiger").touch()
    provision_files(root, MEMBERS, settings, OWNERS)
    (root / lost).unlink()

    with pytest.raises(ProvisionError, match="Restore the keys"):
        provision_files(root, MEMBERS, settings, OWNERS)
    assert not (root / lost).exists()


def test_a_key_ring_is_replaced_atomically(root: Path, settings: Settings) -> None:
    """By a valid key ring; anything else changes nothing."""
    provision_files(root, MEMBERS, settings, OWNERS)
    text = f"{new_key()}\n{contents(root)['web/keys']}"
    ring = replace_key_ring(root, text, OWNERS)

    assert text == contents(root)["web/keys"]
    assert len(ring.key_ids) == 2
    for wrong in ("", "not a ring"):
        with pytest.raises(ProvisionError, match="Nothing was changed"):
            replace_key_ring(root, wrong, OWNERS)
    assert text == contents(root)["web/keys"]


def give_certificate(root: Path, *, name: str = "cert") -> CertificatePair:
    """Put a certificate in the operator's place."""
    files = make_files(root / "tls", name=name)
    files.certificate.replace(root / "tls" / "cert.pem")
    files.key.replace(root / "tls" / "key.pem")
    return read_pair(root / "tls" / "cert.pem", root / "tls" / "key.pem")


def test_a_certificate_is_copied_for_nginx(root: Path) -> None:
    """Into a file of mode 0400, again with each run, and removed if TLS is off."""
    served, configuration = root / "nginx" / "tls.pem", root / "nginx" / "nginx.conf"
    for name in ("first", "second"):
        pair = give_certificate(root, name=name)
        provision_files(root, MEMBERS, Settings(_env_file=None, tls="files"), OWNERS, tls_port=9443)

        assert f"{pair.certificate}{pair.key}" == served.read_text()
        assert 0o400 == stat.S_IMODE(served.stat().st_mode)
    assert 'ssl_certificate "/etc/sealpost/tls.pem";' in configuration.read_text()
    assert "https://$redirect_host:9443$request_uri" in configuration.read_text()
    assert "listen 8443 ssl " in configuration.read_text()
    provision_files(root, MEMBERS, Settings(_env_file=None), OWNERS)
    assert not served.exists()
    assert "ssl" not in configuration.read_text().partition("\nhttp {")[2]


def test_an_invalid_certificate_changes_nothing(root: Path) -> None:
    """The error has the operator's name of the file, and nginx keeps the old one."""
    settings = Settings(_env_file=None, tls="files")
    with pytest.raises(ProvisionError, match=r"^SEALPOST_TLS=files: tls/cert\.pem cannot be read"):
        provision_files(root, MEMBERS, settings, OWNERS)
    assert set() == names(root)

    give_certificate(root)
    provision_files(root, MEMBERS, settings, OWNERS)
    before = (root / "nginx" / "tls.pem").read_text()
    make_files(root / "tls", name="other").key.replace(root / "tls" / "key.pem")
    with pytest.raises(ProvisionError, match=r"tls/key\.pem is not the key of the certificate in tls/cert\.pem"):
        provision_files(root, MEMBERS, settings.model_copy(update={"rate_open": "9r/s"}), OWNERS)
    assert before == (root / "nginx" / "tls.pem").read_text()
    assert "rate=9r/s" not in (root / "nginx" / "nginx.conf").read_text()


def test_a_self_signed_certificate_is_kept(root: Path) -> None:
    """Through later runs, and while TLS is off; it is for the public host, and recreated for another."""
    served, made = root / "nginx" / "tls.pem", list[str]()
    for public_url, tls in (("https://a.example", "self-signed"), ("http://a.example", "off")) * 2:
        provision_files(root, MEMBERS, Settings(_env_file=None, tls=tls, public_url=public_url), OWNERS)
        if tls != "off":
            made.append(served.read_text())
    settings = Settings(_env_file=None, tls="self-signed", public_url="https://b.example")
    provision_files(root, MEMBERS, settings, OWNERS)

    assert made[0] == made[1] != served.read_text()
    assert 0o600 == stat.S_IMODE((root / "nginx" / "tls" / "key.pem").stat().st_mode)


def test_the_command_line_does_each_task(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reports its actions, without a key, or the error."""
    monkeypatch.chdir(root)
    asked: list[tuple[Path, Sequence[str]]] = []

    def note(root: Path, members: Sequence[str]) -> list[str]:
        asked.append((root, members))
        return ["db2:27017"]

    monkeypatch.setattr(provision, "provision_database", note)
    monkeypatch.setenv("MONGO_MEMBERS", "db:27017,db2:27017")
    monkeypatch.setenv("SEALPOST_TLS", "self-signed")
    for port in ("", "443", "8443", "127.0.0.1:8443", "[::1]:8443"):
        monkeypatch.setenv("TLS_PORT", port)

        assert main(["files"], root=root, owners=OWNERS) == 0
        assert capsys.readouterr() == ("", "")
        suffix = ":8443" if "8443" in port else ""
        assert f"https://$redirect_host{suffix}$request_uri" in (root / "nginx" / "nginx.conf").read_text()
    monkeypatch.setenv("TLS_PORT", "8443-8445")
    assert main(["files"], root=root, owners=OWNERS) == 1
    assert "TLS_PORT must be a port" in capsys.readouterr().err
    assert main(["database"], root=root) == 0
    assert asked == [(root, ["db:27017", "db2:27017"])]
    assert "db2:27017 is still copying" in capsys.readouterr().out
    assert main(["new-key"]) == 0
    key = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(key))
    assert main(["keys"], root=root, owners=OWNERS) == 0
    assert key.partition(":")[2].strip() not in capsys.readouterr().out
    assert key == contents(root)["web/keys"]
    monkeypatch.setattr("sys.stdin", io.StringIO("wrong"))
    assert main(["keys"], root=root, owners=OWNERS) == 1
    assert "Nothing was changed" in capsys.readouterr().err


@contextmanager
def member(directory: Path, port: int) -> Iterator[None]:
    """A mongod as in its container: with a key file, in a replica set that is not initiated."""
    directory.mkdir()
    key_file = directory / "keyfile"
    key_file.write_text(KEY_FILE)
    key_file.chmod(0o400)
    place = ("--dbpath", str(directory), "--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket")
    kind = ("--replSet", "rs0", "--keyFile", str(key_file), "--wiredTigerCacheSizeGB", "0.25")
    closed = ("--networkMessageCompressors", "disabled")
    process = subprocess.Popen([find_mongod(None), *place, *kind, *closed], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[str]]:
    ports = free_ports(2)
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(member(tmp_path / str(port), port))
        yield [f"127.0.0.1:{port}" for port in ports]


def as_user(members: Sequence[str], name: str, password: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(list(members), replicaSet="rs0", username=name, password=password, authSource="admin")


def await_full_members(client: MongoClient[dict[str, Any]], members: Sequence[str]) -> None:
    """Wait until a server knows that all members of its set vote; a new one does so soon after its initial sync."""
    deadline = time.monotonic() + PATIENCE
    while sorted(members) != (hosts := sorted(client.admin.command("hello").get("hosts", ()))):
        assert time.monotonic() < deadline, hosts
        time.sleep(0.1)


@pytest.mark.lifecycle
def test_an_empty_mongodb_becomes_a_replica_set_with_users(members: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows by a member, does nothing if complete, and continues after a crash at any command."""
    first = members[:1]
    seen = set[str]()
    original = Database.command

    def dying(self: Any, name: str, *arguments: Any, **options: Any) -> Any:
        """Let each command be the last one in turn: it is executed, and its response is lost."""
        answer = original(self, name, *arguments, **options)
        step = f"{name} {arguments[0] if name == 'createUser' else ''}".strip()
        if step not in seen:
            seen.add(step)
            raise CrashError
        return answer

    monkeypatch.setattr(Database, "command", dying)
    while True:
        try:
            late = set_up_database(first, local=first[0], **PASSWORDS)
            break
        except CrashError:
            continue
    monkeypatch.undo()

    assert late == []
    assert {"replSetInitiate", "createUser root", "createUser sealpost", "replSetGetConfig", "replSetGetStatus"} <= seen
    with as_user(first, "sealpost", PASSWORDS["application_password"]) as application:
        application.sealpost.items.insert_one({"_id": 1})
        application.sealpost.items.create_index("expires_at", expireAfterSeconds=0)
        with pytest.raises(OperationFailure):
            application.other.items.insert_one({"_id": 1})
        with pytest.raises(OperationFailure):
            application.admin.command("createUser", "other", pwd="other", roles=["root"])
        set_up_database(members, local=first[0], **{**PASSWORDS, "application_password": "b" * 64})

        assert application.sealpost.items.count_documents({}) == 1
    with as_user(members, "sealpost", "b" * 64) as application:
        await_full_members(application, members)
    with pytest.raises(DatabaseError, match="root password in MongoDB differs"):
        set_up_database(members, local=first[0], **{**PASSWORDS, "root_password": "x"})


@pytest.mark.lifecycle
def test_a_member_that_lost_its_data_rejoins_the_set(tmp_path: Path) -> None:
    """It copies the data of the other members, and no new set is initiated."""
    ports = free_ports(2)
    members = [f"127.0.0.1:{port}" for port in ports]
    with member(tmp_path / "second", ports[1]):
        with member(tmp_path / "first", ports[0]):
            assert set_up_database(members, local=members[0], **PASSWORDS) == []
            with as_user(members, "sealpost", PASSWORDS["application_password"]) as application:
                items = application.sealpost.get_collection("items", write_concern=WriteConcern(w=2))
                items.insert_one({"_id": 1})
            # Without a vote, it could not become primary, and no one could let the first one in again.
            with MongoClient[dict[str, Any]](members[1], directConnection=True) as second:
                await_full_members(second, members)
        with member(tmp_path / "first-anew", ports[0]):
            assert set_up_database(members, local=members[0], **PASSWORDS) == []
            with as_user(members, "sealpost", PASSWORDS["application_password"]) as application:
                hello = application.admin.command("hello")

                assert application.sealpost.items.count_documents({}) == 1
                assert sorted(members) == sorted(hello["hosts"])


@pytest.mark.lifecycle
def test_a_mongodb_that_does_not_answer_is_an_error() -> None:
    """After the timeout, with a reason and no password."""
    nobody = f"127.0.0.1:{free_port()}"

    with pytest.raises(DatabaseError, match=r"not set up within 0 s: \w+$"):
        set_up_database([nobody], local=nobody, patience=0, **PASSWORDS)


def compose(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_compose_passes_every_setting_that_is_no_secret() -> None:
    """Each can be set from outside, except those fixed by the containers."""
    decided = {"mongo_database", "mongod", "data_dir", "log_file", "metrics_dir", "tls_cert", "tls_key", *SECRETS}
    variables = {f"SEALPOST_{name.upper()}" for name in decided}
    passed = {name for name in compose("docker-compose.yml")["x-settings"] if name.startswith("SEALPOST_")}

    assert {f"SEALPOST_{name.upper()}" for name in Settings.model_fields if name not in decided} == passed
    assert SET_BY_COMPOSE == variables | {f"SEALPOST_{name.upper()}_FILE" for name in SECRETS}


def test_a_misspelt_setting_beside_compose_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compose ignores it, so init reads .env itself; one fixed by the containers is only reported."""
    monkeypatch.chdir(root)
    (root / "clone").mkdir()
    (root / "clone" / ".env").write_text("HTTP_PORT=8080\nSEALPOST_TTL_MX=s3cret\nSEALPOST_KEYZ_FILE=/x\n")
    before = names(root)
    misspelt = main(["files"], root=root, owners=OWNERS), capsys.readouterr().err
    left = names(root)
    (root / "clone" / ".env").write_text("SEALPOST_TTL_MAX=60\nSEALPOST_KEYS=s3cret\nSEALPOST_URL=https://x\n")
    accepted = main(["files"], root=root, owners=OWNERS), capsys.readouterr().out

    assert 1 == misspelt[0]
    assert "SEALPOST_TTL_MX: no such setting" in misspelt[1]
    assert "SEALPOST_KEYZ_FILE: no such setting" in misspelt[1]
    assert "s3cret" not in misspelt[1] + accepted[1]
    assert before == left
    assert (0, "SEALPOST_KEYS in .env has no effect: docker-compose.yml does not pass it on.\n") == accepted


def test_each_image_is_one_version_and_each_service_is_bounded() -> None:
    """Tags are pinned; processes are limited and dump no core."""
    services = {
        f"{name} {service}": content
        for name in ("docker-compose.yml", "docker-compose.replicas.yml")
        for service, content in compose(name)["services"].items()
        if "image" in content
    }
    images = {content["image"] for content in services.values()} - {"${IMAGE:-sealpost}"}
    bases = re.findall(r"(?m)^FROM (\S+)", (ROOT / "Dockerfile").read_text())

    assert len(services) == 9
    assert [] == [image for image in (*images, *bases) if not re.search(r":v?\d+\.\d+\.\d+(-slim)?$", image)]
    assert {name for name, content in services.items() if content["pids_limit"] > 0} == services.keys()
    assert {0} == {content["ulimits"]["core"] for content in services.values()}


def test_the_overlay_has_members_like_the_first() -> None:
    """db2 and db3 differ from db only in their data volume."""
    first = compose("docker-compose.yml")["services"]["db"]
    others = compose("docker-compose.replicas.yml")["services"]
    for name in ("db2", "db3"):
        data = {"volumes": ["passwords:/etc/sealpost:ro", f"./mongo{name}:/data/db:z"]}

        assert {**first, **data} == others[name]


def test_compose_names_the_users_that_files_are_given_to() -> None:
    """The user ids and the version agree in the Dockerfile, docker-compose.yml and the code."""
    services = compose("docker-compose.yml")["services"]
    owners = Owners()
    dockerfile = (ROOT / "Dockerfile").read_text()
    version = re.findall(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())

    assert f"USER {owners.web.uid}:{owners.web.gid}" in dockerfile
    assert f"{owners.db.uid}:{owners.db.gid}" == services["db"]["user"] == services["init-db"]["user"]
    assert f"{owners.nginx.uid}:{owners.nginx.gid}" == services["nginx"]["user"]
    assert f"{owners.grafana.uid}:{owners.grafana.gid}" == services["grafana"]["user"]
    assert version == re.findall(r"(?m)^ARG VERSION=(.+)$", dockerfile)


@contextmanager
def worker(path: Path, answer: bytes) -> Iterator[None]:
    """A server on a socket with a fixed response."""

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(answer)

    with socketserver.UnixStreamServer(str(path), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_health_is_a_worker_that_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is enough; missing, unready, dead and non-HTTP ones do not count."""
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    found = [healthcheck.main()]
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "worker-1.sock"))
    found.append(healthcheck.main())
    with worker(tmp_path / "worker-2.sock", b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"):
        found.append(healthcheck.main())
        with worker(tmp_path / "worker-3.sock", b"nonsense\r\n"):
            found.append(healthcheck.main())
            with worker(tmp_path / "worker-4.sock", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
                found.append(healthcheck.main())

    assert found == [1, 1, 1, 1, 0]
