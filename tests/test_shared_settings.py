"""Settings that all hosts must share: a process logs a difference, and `doctor` reports it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from src.core.background import background_tasks
from src.core.crypto.keys import KeyRing, new_key, read_key_ring
from src.core.database.mongo import Mongo
from src.core.database.shared_settings import COLLECTION, SharedSettings
from src.manage.doctor.database import examine_database
from src.manage.doctor.examination import Status
from src.settings import OF_A_HOST, SECRETS, SHARED, Settings

from .conftest import Api
from .databases import Databases
from .examination import collect
from .processes import PATIENCE

MakeSettings = Callable[..., Settings]
Serve = Callable[..., Awaitable[Api]]
KEYS = new_key()


@pytest.fixture
async def mongo(
    databases: Databases, own_database: str, mongo_url: str, make_settings: MakeSettings
) -> AsyncIterator[Mongo]:
    """A connection to an empty database without a server."""
    mongo = Mongo(make_settings(mongo_database=own_database), mongo_url)
    yield mongo
    await mongo.close()
    # No other test gets it: a command that was cancelled may store a record late.
    databases.drop(own_database)


@pytest.fixture
def on_host(
    mongo: Mongo, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SharedSettings]:
    """Create the objects of a process on a host, with its own key ring and settings."""

    def on_host(host: str, keys: str = KEYS, **settings: Any) -> SharedSettings:
        monkeypatch.setattr("socket.gethostname", lambda: host)
        return SharedSettings(mongo, make_settings(keys=SecretStr(keys), **settings), KeyRing.parse(keys), "worker-1")

    return on_host


@asynccontextmanager
async def watched(shared: SharedSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Compare the settings of a process continuously."""
    monkeypatch.setattr("src.core.database.shared_settings.INTERVAL", 0.01)
    async with background_tasks(shared.watch()):
        yield


async def until_printed(text: str, capsys: pytest.CaptureFixture[str], printed: str = "") -> str:
    """Wait until the log contains a text, and return the whole log."""
    async with asyncio.timeout(PATIENCE):
        while text not in printed:
            await asyncio.sleep(0.01)
            printed += capsys.readouterr().out
    return printed


async def test_differences_are_reported_by_host(on_host: Callable[..., SharedSettings]) -> None:
    """Different lifetimes, limits and switches are named, but no setting that may differ between hosts."""
    here = on_host("a")
    for other in (
        on_host("b", ttl_max=60, anonymous_create=False, hashing_threads=7, log_level="error"),
        on_host("c"),
    ):
        await other.store()

    assert {"b": ["SEALPOST_ANONYMOUS_CREATE", "SEALPOST_TTL_MAX"], "c": []} == await here.differences()


async def test_secrets_are_compared(on_host: Callable[..., SharedSettings]) -> None:
    """By their values, of which the database holds only fingerprints."""
    provider = {"oidc_issuer": "https://login.example.org", "oidc_client_id": "sealpost"}
    here, other = (on_host(host, oidc_client_secret=SecretStr(f"secret of {host}"), **provider) for host in "ab")
    await other.store()

    assert {"b": ["SEALPOST_OIDC_CLIENT_SECRET"]} == await here.differences()


async def test_settings_are_compared_across_a_rotation_of_keys(on_host: Callable[..., SharedSettings]) -> None:
    """A host with a new key in front differs in its keys; its other settings are still compared."""
    new = new_key()
    here, behind, foreign = on_host("a", f"{new},{KEYS}"), on_host("b", KEYS, ttl_max=60), on_host("c", new_key())
    await here.store()
    await behind.store()
    await foreign.store()

    assert {"b": ["SEALPOST_KEYS", "SEALPOST_TTL_MAX"], "c": ["SEALPOST_KEYS"]} == await here.differences()
    assert {"a": ["SEALPOST_KEYS"], "c": ["SEALPOST_KEYS"]} == await behind.differences()


async def test_a_difference_is_logged_once(
    on_host: Callable[..., SharedSettings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it appears and when it ends, with the names of the settings and without values."""
    here, other = on_host("a"), on_host("b", public_url="https://other.example.org")
    await other.store()
    async with watched(here, monkeypatch):
        printed = await until_printed("settings differ from those of another process", capsys)
        await asyncio.sleep(0.1)
        await other.withdraw()
        printed = await until_printed("settings no longer differ", capsys, printed)

    assert 1 == printed.count("settings differ")
    assert "SEALPOST_PUBLIC_URL" in printed
    assert "other.example.org" not in printed


async def test_the_record_of_a_process_holds_no_value(mongo: Mongo, on_host: Callable[..., SharedSettings]) -> None:
    """It has names, fingerprints, key ids and the host's name, and expires within minutes."""
    await on_host("a", public_url="https://secrets.example.org").store()

    [record] = await mongo.collection(COLLECTION).find().to_list(None)
    assert {"_id", "host", "key_ids", "settings", "expires_at"} == record.keys()
    assert {16} == {len(fingerprint) for fingerprint in record["settings"].values()}
    assert set(SHARED) - {"keys"} == record["settings"].keys()


async def test_a_restarted_process_replaces_its_record(on_host: Callable[..., SharedSettings]) -> None:
    """A restarted worker does not differ from its predecessor."""
    await on_host("a", ttl_max=60).store()
    restarted = on_host("a")

    assert {} == await restarted.differences()


async def test_a_server_has_a_record_while_it_runs(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process stores its record before it is ready, and deletes it at exit."""
    monkeypatch.setattr("src.core.database.shared_settings._WITHDRAWING_SECONDS", PATIENCE)
    api = await serve()
    records = Mongo(api.settings, api.mongo._url)
    present = await records.collection(COLLECTION).count_documents({})
    await api.client.close()
    left = await records.collection(COLLECTION).count_documents({})
    await records.close()

    assert (1, 0) == (present, left)


async def test_the_doctor_names_differences(mongo_url: str, serve: Serve) -> None:
    """A warning names the settings and the host; hosts that agree are listed."""
    server = await serve()
    settings = server.settings.model_copy(update={"mongo_url": SecretStr(mongo_url)})
    same = await collect(examine_database(settings, read_key_ring(settings)))
    settings = settings.model_copy(update={"session_ttl": 60})
    other = await collect(examine_database(settings, read_key_ring(settings)))
    none = await collect(examine_database(settings, None))

    assert (Status.OK, Status.WARNING, Status.NOT_CHECKED) == tuple(
        found["shared settings"].status for found in (same, other, none)
    )
    assert "SEALPOST_SESSION_TTL on " in other["shared settings"].found


def test_each_setting_is_of_a_host_or_shared() -> None:
    """A new setting is compared unless it is listed."""
    assert OF_A_HOST <= Settings.model_fields.keys()
    assert {"keys", "oidc_client_secret"} == set(SECRETS) & set(SHARED)
