"""Shard keys: the tables of `docs/sharding.md` have all collections, and requests name the shard key as they say."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from bson import ObjectId

from src.core.clock import utc_now
from src.core.crypto.sealing import encode
from src.core.database.embedded.replica_set import connect_as_system
from src.core.database.purging import expiry_fields, purge
from src.core.files import read_number, read_secret
from src.sealed.ended_files import EndedFiles
from src.storage import INDEXES

from . import secret_files, uploads
from .conftest import PASSWORD, Api
from .senders import Sender, gathered, operator_token
from .test_docs import ROOT, rows, section, words
from .test_posts import publish
from .test_secret_files import new_reader
from .test_uploads import checksum
from .uploads import storage_of

Serve = Callable[..., Awaitable[Api]]
PAGE = ROOT / "docs" / "sharding.md"
ROUTES = {"secrets", "messages", "receipts", "files"}
"""The tags of the routes whose documents are in collections with a shard key; each of them must be requested."""
COMMON_PREFIX = 32
"""Characters that the ends of a targeted range share: an upload's id, or half of a counter's key, in hexadecimal."""
PROFILE_BYTES = 64 << 20


@dataclass(frozen=True)
class ShardKey:
    """A shard key as documented; ``broadcasts`` has the fields of filters without it that are sent to all shards."""

    field: str
    is_hashed: bool
    broadcasts: frozenset[str]


@dataclass(frozen=True)
class Profiled:
    """The part of a profiled command that decides which shards get it.

    ``is_single`` is True for a command that needs the whole shard key: a findAndModify, or an upsert.
    """

    collection: str
    filter: Mapping[str, Any]
    is_single: bool = False

    @property
    def shape(self) -> Any:
        """What commands have in common that differ only in values."""
        return self.collection, _shape(self.filter), self.is_single


def _shape(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _shape(one)) for name, one in value.items()))
    if isinstance(value, list):
        return frozenset(map(_shape, value))
    return type(value).__name__


def shard_keys() -> dict[str, ShardKey]:
    """Return the table of the collections to shard."""
    keys = {}
    for name, key, _, broadcast in rows(section(PAGE, "## Shard keys")):
        found = re.fullmatch(r'`\{ (\w+): (1|"hashed") \}`', key)
        assert found, key
        keys[words(name)[0]] = ShardKey(found[1], found[2] != "1", frozenset(re.findall(r"`([\w.]+)`", broadcast)))
    return keys


def read_profile(entry: Mapping[str, Any]) -> Profiled | None:
    """Return what a profiled command selects; None for one that selects no documents. Raises `ValueError`."""
    collection, command, operation = entry["ns"].partition(".")[2], entry["command"], entry["op"]
    if operation in {"update", "remove"}:
        return Profiled(collection, command["q"], bool(command.get("upsert")))
    if "find" in command:
        return Profiled(collection, command.get("filter", {}))
    if "findAndModify" in command:
        return Profiled(collection, command["query"], is_single=True)
    if "aggregate" in command:
        return Profiled(collection, command["pipeline"][0]["$match"])
    if operation in {"insert", "getmore"} or {"createIndexes", "dbStats"} & command.keys():
        return None
    raise ValueError(f"{operation} {sorted(command)} on {collection}")


def changed_together(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return collection and name of a profiled command that may change several documents; None for any other."""
    collection, command = entry["ns"].partition(".")[2], entry["command"]
    if entry["op"] == "update" and command.get("multi"):
        return collection, "updateMany"
    return (collection, "deleteMany") if entry["op"] == "remove" and command["limit"] == 0 else None


def intervals(plan: Any, field: str) -> list[str]:
    """Return the bounds of a field in the index scans of a plan; those of a scan without it are unbounded."""
    if isinstance(plan, list):
        return [found for part in plan for found in intervals(part, field)]
    if not isinstance(plan, Mapping):
        return []
    below = [found for part in plan.values() for found in intervals(part, field)]
    if plan.get("stage") in {"IXSCAN", "COLLSCAN"}:
        return [*below, *plan.get("indexBounds", {}).get(field, ["[MinKey, MaxKey]"])]
    return below


def is_targeted_interval(interval: str, key: ShardKey) -> bool:
    """Tell whether an interval of an index is a point or, for a key that is not hashed, a narrow range."""
    if re.fullmatch(r".(.+), \1.", interval):
        return True
    ends = [binary or text for binary, text in re.findall(r'BinData\(\d+, (\w+)\)|"([^"]*)"', interval)]
    beginnings = [end[:COMMON_PREFIX] for end in ends]
    return (
        not key.is_hashed and len(ends) == 2 and beginnings[0] == beginnings[1] and len(beginnings[0]) == COMMON_PREFIX
    )


def names(query: Mapping[str, Any], key: ShardKey, *, is_single: bool) -> bool:
    """Tell whether a filter has one or several values of the shard key or, if it is not hashed, both ends of a range.

    If it must be a single document, a range does not do.
    """
    value = query.get(key.field)
    if not isinstance(value, Mapping):
        return value is not None
    if "$in" in value:
        # MongoDB simplifies a list of one to an equality.
        return not is_single or len(value["$in"]) == 1
    return not is_single and not key.is_hashed and "$gte" in value and bool({"$lt", "$lte"} & value.keys())


async def is_targeted(api: Api, profiled: Profiled, key: ShardKey) -> bool:
    """Tell whether a router would send a command only to the shards of its documents, by its filter and its bounds.

    A router derives the shards from the bounds that a filter gives on an index of the shard key.
    """
    # Any index that begins with the shard key has its bounds.
    hint = "_id_" if key.field == "_id" else key.field
    find = {"find": profiled.collection, "filter": profiled.filter, "hint": hint}
    told = await api.mongo.database.command({"explain": find, "verbosity": "queryPlanner"})
    plan = told["queryPlanner"]["winningPlan"]
    # The stage for a filter of an _id alone has no bounds.
    bounds = ["[0, 0]"] if plan["stage"] == "IDHACK" and key.field == "_id" else intervals(plan, key.field)
    return (
        names(profiled.filter, key, is_single=profiled.is_single)
        and bool(bounds)
        and all(is_targeted_interval(interval, key) for interval in bounds)
    )


@contextmanager
def profiling(directory: Path, name: str) -> Iterator[Any]:
    """Let MongoDB record all commands on a database, and yield the database for a user who may read the record."""
    port, secret = read_number(directory / "mongo" / "port"), read_secret(directory / "mongo" / "key")
    assert port
    assert secret
    with connect_as_system(port, secret) as system:
        database = system[name]
        database.create_collection("system.profile", capped=True, size=PROFILE_BYTES)
        database.command("profile", 2)
        try:
            yield database
        finally:
            database.command("profile", 0)
            database.drop_collection("system.profile")


async def use_secrets(api: Api, database: Any) -> None:
    """Create, open, confirm, burn and lock secrets in every way; ``database`` prepares states."""
    reader, items = new_reader(), database["items"]
    plain, shared, phrased, locked, busy, burned, late = await asyncio.gather(
        api.create(),
        api.create(max_opens=3),
        *(api.create(phrase="open sesame", max_attempts=attempts) for attempts in (3, 1, 1)),
        *(api.create() for _ in range(2)),
    )
    for created in (plain, shared):
        assert 200 == (await api.call("GET", f"/secrets/{created['secret_key']}"))[0]
    both = await asyncio.gather(api.open(plain["secret_key"], reader=reader), api.open(shared["secret_key"]))
    assert [200, 200] == [status for status, _ in both]
    assert 200 == (await api.open(plain["secret_key"], reader=reader))[0]
    # Of parallel requests of one reader, one stores the copy.
    again = await asyncio.gather(*(api.open(shared["secret_key"], reader=reader) for _ in range(3)))
    assert {200} == {status for status, _ in again}
    for created in (plain, shared):
        path = f"/secrets/{created['secret_key']}/received"
        assert 204 == (await api.call("POST", path, {"reader": reader}))[0]
    assert 404 == (await api.open(plain["secret_key"]))[0]
    assert 404 == (await api.call("GET", f"/secrets/{plain['secret_key']}"))[0]
    for phrase, status in (("wrong", 403), ("open sesame", 200)):
        assert status == (await api.open(phrased["secret_key"], phrase=phrase, reader=reader))[0]
    assert 403 == (await api.open(locked["secret_key"], phrase="wrong"))[0]
    assert "locked" == await api.state(locked["receipt_key"])
    items.update_one({"phrase.max_attempts": 1}, {"$set": {"checks": [{"id": ObjectId(), "at": utc_now()}]}})
    assert 429 == (await api.open(busy["secret_key"], phrase="open sesame"))[0]
    assert 200 == (await api.open(late["secret_key"], reader=reader))[0]
    for created in (burned, late):
        assert 204 == (await api.call("DELETE", f"/receipts/{created['receipt_key']}"))[0]
    deleted = 0
    while not deleted:  # MongoDB's TTL deletion may be first.
        _, message = await api.call("POST", "/", {"message": "hello"})
        assert 200 == (await api.call("GET", urlsplit(message["url"]).path))[0]
        past = utc_now() - timedelta(seconds=1)
        items.update_one({"kind": "message"}, {"$set": {"expires_at": past, "delete_at": past}})
        _, answer = await api.call("POST", "/delete")
        deleted = answer["deleted"]


async def use_files(api: Api, database: Any) -> None:
    """Upload, share, download and confirm files."""
    reader = new_reader()
    created = await secret_files.create(api)
    path = f"/secrets/{created['secret_key']}"
    _, opened = await api.open(created["secret_key"], reader=reader)
    # A download prolongs a hold once a quarter of it has passed.
    soon = utc_now() + timedelta(minutes=1)
    database["items"].update_one(
        {"holds.id": {"$exists": True}, "files": {"$exists": True}}, {"$set": {"holds.$[].until": soon}}
    )
    for file in opened["files"]:
        answer = await api.send("GET", f"{path}/files/{file['id']}", None, **{"Sealpost-Reader": reader})
        assert 200 == answer.status
    assert 204 == (await api.call("POST", f"{path}/received", {"reader": reader}))[0]
    upload = await uploads.create(api, 3000)
    for end in ("", f"/{upload}"):
        assert 204 == (await api.send("OPTIONS", f"/files{end}")).status
    # The content is longer than a chunk, so the wrong checksum is noticed when some of it is stored.
    assert 204 == (await uploads.patch(api, upload, 0, bytes(1000))).status
    wrong = {"Upload-Checksum": checksum(b"other")}
    assert 460 == (await uploads.patch(api, upload, 1000, bytes(2000), **wrong)).status
    assert 1000 == await uploads.offset_of(api, upload)
    assert 400 == (await api.call("POST", "/generate", {"files": [{"upload": upload}]}))[0]
    assert 204 == (await api.send("DELETE", f"/files/{upload}")).status
    await EndedFiles(api.mongo, storage_of(api)).sweep()


async def use_accounts(api: Api) -> None:
    """Register, sign in and out, keep secrets with the account, and delete it."""
    await api.register("ann")
    assert 401 == (await api.call("POST", "/login", {"username": "ann", "password": "x" * 20}))[0]
    pair, other = await api.login("ann"), await api.login("ann")
    token = pair["access_token"]
    file = {"upload": encode(await uploads.upload(api, b"content"))}
    for fields in ({}, {"files": [file]}, {"phrase": "p"}):
        status, _ = await api.call("POST", "/generate", {"secret": "s", "keep": True, **fields}, token=token)
        assert 201 == status
    _, page = await api.call("GET", "/me/items?limit=2", token=token)
    _, rest = await api.call("GET", f"/me/items?limit=2&before={page['next']}", token=token)
    assert (2, 1) == (len(page["items"]), len(rest["items"]))
    assert 204 == (await api.call("DELETE", f"/me/items/{page['items'][0]['id']}", token=token))[0]
    _, created = await api.call("POST", "/tokens", {"name": "x", "scopes": ["secrets"]}, token=token)
    assert 201 == (await api.call("POST", "/generate", {"secret": "s"}, token=created["token"]))[0]
    assert 200 == (await api.call("GET", "/sessions", token=token))[0]
    changed = {"current": PASSWORD, "new": f"{PASSWORD} 2"}
    assert 204 == (await api.call("PUT", "/me/password", changed, token=token))[0]
    assert 200 == (await api.call("POST", "/refresh", {"refresh_token": pair["refresh_token"]}))[0]
    assert 401 == (await api.call("POST", "/refresh", {"refresh_token": other["refresh_token"]}))[0]
    operator = await operator_token(api)
    assert 201 == (await api.call("POST", "/generate", {"secret": "s", "keep": True}, token=operator))[0]
    _, listed = await api.call("GET", "/users", token=operator)
    ann = next(user["user_id"] for user in listed["users"] if user["username"] == "ann")
    for disabled in (True, False):
        assert 200 == (await api.call("PATCH", f"/users/{ann}", {"disabled": disabled}, token=operator))[0]
    token = (await api.login("ann", changed["new"]))["access_token"]
    post = await publish(api, token)
    for path in ("like", "dislike"):
        assert 200 == (await api.call("PUT", f"/posts/{post['id']}/{path}", token=operator))[0]
    for query in ("", "?author=ann", f"/{post['id']}"):
        assert 200 == (await api.call("GET", f"/posts{query}", token=operator))[0]
    sender = Sender(api, username="a-program")
    await sender.send(await sender.token(), "one", "two", batch="1")
    assert 2 == len(await gathered(api, operator))
    assert 204 == (await api.call("DELETE", "/me", {"password": changed["new"]}, token=token))[0]


async def requested(api: Api) -> set[str]:
    """Return the routes that were requested, with their methods."""
    text = (await api.send("GET", "/metrics")).body.decode()
    found = re.findall(r'sealpost_request_duration_seconds_count\{method="(\w+)",route="([^"]+)"', text)
    return {f"{method} {route}" for method, route in found}


async def served(api: Api) -> set[str]:
    """Return the routes of `ROUTES`."""
    _, document = await api.call("GET", "/openapi.json")
    return {
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if isinstance(operation, dict) and ROUTES & set(operation.get("tags", ()))
    }


async def test_each_request_names_the_shard_key(serve: Serve, own_database: str, mongo_directory: Path) -> None:
    """By MongoDB's profiler and explain, only the documented commands would be sent to all shards."""
    api, keys = await serve(mongo_database=own_database, rate_limits="on"), shard_keys()
    with profiling(mongo_directory, own_database) as database:
        await use_secrets(api, database)
        await use_files(api, database)
        await use_accounts(api)
        assert {name async for name, _ in purge(api.mongo, INDEXES)} >= keys.keys()
        database.command("profile", 0)
        entries = list(database["system.profile"].find({"appName": "sealpost"}))
    selected = [one for entry in entries if (one := read_profile(entry))]
    shapes = {one.shape: one for one in selected if one.collection in keys}
    broadcast = [one for one in shapes.values() if not await is_targeted(api, one, keys[one.collection])]
    together = {one for one in map(changed_together, entries) if one and one[0] in keys}
    documented = {
        (words(row[0])[0], words(row[1])[0]) for row in rows(section(PAGE, "## Commands on several documents"))
    }
    incomplete = [
        name
        for name, key in keys.items()
        if await api.mongo.collection(name).count_documents({key.field: {"$exists": False}})
    ]

    assert set() == await served(api) - await requested(api)
    assert keys.keys() == {one.collection for one in shapes.values()}
    assert [] == [one for one in broadcast if one.is_single]
    assert {(name, frozenset({field})) for name, key in keys.items() for field in key.broadcasts} == {
        (one.collection, frozenset(one.filter.keys() - {"$expr"})) for one in broadcast
    }
    assert [] == incomplete
    assert documented == together


@pytest.mark.parametrize(
    ("query", "is_hashed", "expected"),
    [
        ({"_id": b"a" * 16}, True, True),
        ({"_id": {"$in": [b"a" * 16, b"b" * 16]}, "state": "waiting"}, True, True),
        ({"_id": {"$gte": b"a" * 16 + b"a", "$lte": b"a" * 16 + b"b"}}, False, True),
        ({"_id": {"$gte": b"a" * 16 + b"a", "$lte": b"a" * 16 + b"b"}}, True, False),
        ({"_id": {"$gte": b"a" * 16, "$lte": b"b" * 16}}, False, False),
        ({"_id": {"$gt": b"a" * 16}}, False, False),
        ({"_id": {"$nin": [b"a" * 16]}}, True, False),
        ({"$or": [{"_id": b"a" * 16}, {"state": "waiting"}]}, True, False),
        ({"state": "waiting"}, True, False),
        ({}, True, False),
    ],
)
async def test_a_command_without_the_shard_key_is_noticed(
    api: Api, query: dict[str, Any], is_hashed: bool, expected: bool
) -> None:
    """The check accepts values of the key, and narrow ranges of a key that is not hashed, and nothing else."""
    profiled, key = Profiled("items", query), ShardKey("_id", is_hashed, frozenset())

    assert expected == await is_targeted(api, profiled, key)


def test_each_collection_is_in_a_table() -> None:
    """Each collection is in one; those with a unique index have no shard key, and the others name their TTL field."""
    keys = shard_keys()
    others = [words(row[0]) for row in rows(section(PAGE, "## Collections that stay on one shard"))]
    unique = {name for name, models in INDEXES.items() if any(one.document.get("unique") for one in models)}

    assert sorted(INDEXES) == sorted([*keys, *(name for names in others for name in names)])
    assert set() == unique & keys.keys()
    assert {name: field for name, field in expiry_fields(INDEXES).items() if name in keys} == {
        name: field
        for name, key in keys.items()
        for field in key.broadcasts
        if field in expiry_fields(INDEXES).values()
    }
