"""The operator's commands in docs/compose.md."""

import asyncio
import json
import re
import ssl
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bench.running_stack import free_port
from src.api.edge import STRICT_TRANSPORT
from src.core.tls.certificates import read_chain

from ..certificates import Files, make_files
from ..stack.traffic import create, open_secret
from .conftest import session
from .engine import RECONFIGURATION_SECONDS, ROOT, Compose, project

pytestmark = pytest.mark.compose

INIT = ("run", "--rm", "-T", "init")
COLLECTIONS = """
import pathlib, pymongo
url = pathlib.Path('/etc/sealpost/mongo-url').read_text().strip()
print(pymongo.MongoClient(url).sealpost.list_collection_names())
"""
PROVISION = (*INIT, "python", "-m", "src.stack.provision")


@pytest.fixture(scope="module")
def own(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    with project(tmp_path_factory.mktemp("operations"), image) as made:
        made.settings |= {"SEALPOST_RATE_LIMITS": "off", "SEALPOST_TLS": "self-signed"}
        made.up()
        yield made


async def restart_workers(stack: Compose) -> None:
    await asyncio.to_thread(stack.execute, "web", "python", "-m", "src.manage", "restart")


def served(stack: Compose) -> str:
    """Return nginx's certificate."""
    return ssl.get_server_certificate(("127.0.0.1", stack.tls_port))


async def test_http_only_redirects_to_the_port_that_is_published(own: Compose) -> None:
    """Nothing served over TLS is served without it, and only nginx can read the certificate's file."""
    async with session(own) as client:
        async with client.get(f"http://127.0.0.1:{own.port}/secrets/x", allow_redirects=False) as response:
            assert 308 == response.status
            assert f"{own.url}/secrets/x" == response.headers["Location"]
        async with client.post("/generate", json={"secret": "s"}) as response:
            assert (await response.json())["url"].startswith(f"{own.url}/secrets/")
            assert STRICT_TRANSPORT == response.headers["Strict-Transport-Security"]
    assert own.execute("nginx", "stat", "-c", "%a %u:%g", "/etc/sealpost/tls.pem") == "400 10002:10001\n"


def test_a_certificate_is_brought_in_and_renewed(own: Compose, tmp_path: Path) -> None:
    """One beside docker-compose.yml replaces a self-signed one; an invalid one changes nothing, the next one does."""
    assert own.compose(*INIT, "cat", "/provision/nginx/tls/cert.pem") == served(own)

    def put(files: Files) -> str:
        files.certificate.replace(own.directory / "tls" / "cert.pem")
        files.key.replace(own.directory / "tls" / "key.pem")
        return read_chain(own.directory / "tls" / "cert.pem")[0].public_bytes(Encoding.PEM).decode()

    first = put(make_files(tmp_path, name="first"))
    own.apply(SEALPOST_TLS="files")
    assert first == served(own)
    broken = make_files(tmp_path, name="broken")
    broken.key.write_text("no key")
    put(broken)
    with pytest.raises(AssertionError, match=r"tls/key\.pem contains no private key"):
        own.compose(*INIT)
    assert first == served(own)
    second = put(make_files(tmp_path, name="second"))
    own.compose(*INIT)
    deadline = time.monotonic() + RECONFIGURATION_SECONDS
    while served(own) == first:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert second == served(own)


async def test_a_key_is_replaced_while_it_runs(own: Compose, tmp_path: Path) -> None:
    """Data sealed under the old key opens, and new data is sealed under the new key."""
    async with session(own) as client:
        old = await create(client, "old")
        fresh = own.compose(*PROVISION, "new-key")
        ring = own.execute("web", "cat", "/etc/sealpost/keys")
        for text in (ring + fresh, fresh + ring):
            (tmp_path / "ring").write_text(text)
            said = own.compose(*PROVISION, "keys", reads=tmp_path / "ring")
            await restart_workers(own)
        new = await create(client, "new")
        opened = [await open_secret(client, key) for key in (old, new)]

    assert said.startswith(f"Keys in the key ring, newest first: {fresh.partition(':')[0]}, ")
    assert ["old", "new"] == [outcome.body["secret"] for outcome in opened]
    assert own.execute("web", "stat", "-c", "%a %u", "/etc/sealpost/keys") == "400 10001\n"


async def test_volumes_that_were_removed_are_put_back_from_a_copy(own: Compose, tmp_path: Path) -> None:
    """Without the copy, nothing starts with new keys; with it, everything is as before."""
    copy = tmp_path / "keys.tar"
    async with session(own) as client:
        key = await create(client, "kept")
        own.compose(*INIT, "tar", "-C", "/provision", "-cf", "-", "web", "db", writes=copy)
        own.compose("down", "--volumes")
        own.compose("up", "-d", check=False)
        said = own.compose("logs", "init")
        own.compose(*INIT, "tar", "-C", "/provision", "-xf", "-", reads=copy)
        await asyncio.to_thread(own.up)
        outcome = await open_secret(client, key)

    assert "MongoDB has data, but the volumes" in said
    assert (200, "kept") == (outcome.status, outcome.body["secret"])


def test_a_misspelt_setting_is_refused(own: Compose) -> None:
    """Docker Compose ignores it; `init` names it, and running containers continue."""
    path = own.directory / ".env"
    path.write_text("SEALPOST_TTL_MX=60\n")
    try:
        own.compose("up", "-d", check=False)
        said = own.compose("logs", "init")
        refused = own.inspect("init")["State"]["ExitCode"]
    finally:
        path.unlink()
    own.up()

    assert 1 == refused
    assert "SEALPOST_TTL_MX: no such setting" in said


def test_the_doctor_finds_nothing_wrong(own: Compose) -> None:
    """Beside the workers, as their user; nginx is out of its reach and not checked."""
    lines = own.execute("web", "python", "-m", "src.manage", "doctor", "--json", "--strict").splitlines()
    marks = {finding["check"]: finding["mark"] for finding in map(json.loads, lines)}
    left_out = {"data directory", "front", "security headers", "metrics", "body limit"}
    left_out |= {"certificate files", "HTTPS", "certificate", "proxy"}

    assert {check: "not checked" if check in left_out else "ok" for check in marks} == marks
    assert {"secret files", "replica set", "write concern", "log directory", "worker 4"} <= marks.keys()


def test_the_smoke_test_runs_beside_the_deployment(own: Compose) -> None:
    """`run --rm web python -m unittest src/tests.py` passes and leaves no collection and no gathered line."""
    dump = ("sh", "-c", "cat logs/gathered.jsonl | wc -c")
    before = own.execute("web", *dump)

    # Fails with the output unless the exit code is 0.
    own.compose("run", "--rm", "-T", "web", "python", "-m", "unittest", "src/tests.py")

    assert before == own.execute("web", *dump)
    assert "smoke_" not in own.execute("web", "python", "-c", COLLECTIONS)


def test_the_database_is_opened_by_an_override(own: Compose) -> None:
    """With the lines of docs/compose.md, MongoDB is reachable on a loopback port; by default it is not."""
    text = (ROOT / "docs" / "compose.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"(?m)^    services: \{db:.*\n(?:    .+\n)+", text)
    port = free_port()
    assert not any(own.inspect("db")["NetworkSettings"]["Ports"].values())
    (own.directory / "docker-compose.override.yml").write_text(textwrap.dedent(lines).replace(":27017:", f":{port}:"))
    files, own.files = own.files, (*own.files, "docker-compose.override.yml")
    password = own.execute("db", "cat", "/etc/sealpost/root-password").strip()

    own.up()

    where: Any = {"username": "root", "password": password, "directConnection": True}
    with pymongo.MongoClient[dict[str, Any]]("127.0.0.1", port, **where) as client:
        assert "sealpost" in client.list_database_names()
    own.files = files
    own.up()
    assert not any(own.inspect("db")["NetworkSettings"]["Ports"].values())
