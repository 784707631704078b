"""Settings that all processes on one database must share: each process stores fingerprints of its settings.

A fingerprint is a MAC under the newest key of the process's ring, so the database discloses no value. The record of a
process expires soon after the process has ended.
"""

import asyncio
import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import structlog
from pydantic import SecretStr
from pymongo import IndexModel

from ...errors import Unavailable
from ...settings import PREFIX, SHARED, Settings
from ..background import repeat
from ..clock import MILLISECOND
from ..crypto.keys import KeyRing, Purpose
from .mongo import Document, Indexes, Mongo, translate_mongo_errors

COLLECTION = "processes"
INDEXES: Indexes = {COLLECTION: [IndexModel("expires_at", name="expires_at", expireAfterSeconds=0)]}
INTERVAL = 60.0
"""Seconds between two comparisons."""
LIFE = timedelta(minutes=3)
"""A record expires after this time unless its process renews it."""
MOST_PROCESSES = 1000
_WITHDRAWING_SECONDS = 1.0
_KEYS = "keys"

log = structlog.get_logger(__name__)


class SharedSettings:
    """Compares the shared settings of this process with those of all others; ``process`` is its name on its host."""

    def __init__(self, mongo: Mongo, settings: Settings, ring: KeyRing, process: str) -> None:
        self._mongo = mongo
        self._collection = mongo.collection(COLLECTION)
        self._ring = ring
        values = settings.model_dump(mode="json", include=set(SHARED) - {_KEYS})
        values |= {
            name: secret.get_secret_value()
            for name in values
            if isinstance(secret := getattr(settings, name), SecretStr)
        }
        self._messages = {name: f"{name}={json.dumps(value)}".encode() for name, value in values.items()}
        self._host = socket.gethostname()
        # A process that replaces another one overwrites its record.
        self._id = f"{self._host} {process}"
        self._stored_at = float("-inf")
        self._told: Mapping[str, list[str]] = {}

    async def store(self) -> None:
        """Store or renew the record of this process. Raises `Unavailable`."""
        record = {
            "host": self._host,
            "key_ids": list(self._ring.key_ids),
            "settings": self._fingerprints(self._ring.newest),
        }
        expires_at = {"$add": ["$$NOW", LIFE // MILLISECOND]}
        with translate_mongo_errors():
            await self._collection.update_one(
                {"_id": self._id}, [{"$set": {"expires_at": expires_at, **_literal(record)}}], upsert=True
            )
        self._stored_at = time.monotonic()

    async def withdraw(self) -> None:
        """Delete the record of this process if MongoDB answers at once: its successor may have other settings."""
        if self._stored_at > float("-inf"):
            with suppress(Unavailable, TimeoutError), translate_mongo_errors():
                async with asyncio.timeout(_WITHDRAWING_SECONDS):
                    await self._collection.delete_one({"_id": self._id})

    async def differences(self) -> Mapping[str, list[str]]:
        """Return the settings that differ on each host with another process. Raises `Unavailable`."""
        others = {"_id": {"$ne": self._id}, "$expr": {"$gt": ["$expires_at", "$$NOW"]}}
        with translate_mongo_errors():
            records = await self._collection.find(others).sort("_id", 1).limit(MOST_PROCESSES).to_list(None)
        found: dict[str, set[str]] = {}
        for record in records:
            found.setdefault(str(record.get("host")), set()).update(self._differing(record))
        return {host: sorted(PREFIX + name.upper() for name in names) for host, names in found.items()}

    async def watch(self) -> None:
        """Renew the record and log differences, until cancelled."""
        await repeat(self._renew_and_compare, every=INTERVAL)

    async def _renew_and_compare(self) -> None:
        if self._mongo.unfit is not None:
            return
        if time.monotonic() - self._stored_at >= INTERVAL / 2:
            await self.store()
        differences = {host: names for host, names in (await self.differences()).items() if names}
        for host, names in differences.items():
            if names != self._told.get(host):
                log.warning("settings differ from those of another process", host=host, settings=names)
        for host in self._told.keys() - differences.keys():
            log.info("settings no longer differ from those of another process", host=host)
        self._told = differences

    def _differing(self, record: Document) -> set[str]:
        key_ids, theirs = record.get("key_ids"), record.get("settings")
        names = {_KEYS} if key_ids != list(self._ring.key_ids) else set()
        if isinstance(key_ids, list) and key_ids and isinstance(theirs, dict):
            # Without the key, values cannot be compared, and the keys themselves differ.
            ours = self._fingerprints(str(key_ids[0]))
            # A process of another version may have other settings.
            names |= {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
        return names

    def _fingerprints(self, key_id: str) -> dict[str, bytes]:
        made = {name: self._ring.mac_under(Purpose.SETTINGS, key_id, text) for name, text in self._messages.items()}
        return {name: mac for name, mac in made.items() if mac is not None}


def _literal(fields: Document) -> Document:
    return {name: {"$literal": value} for name, value in fields.items()}
