"""Databases for the servers of tests."""

import secrets
from collections.abc import Sequence
from typing import Any

import pymongo

from src.core.database import prerequisites
from src.storage import INDEXES


class Databases:
    """Empty databases for the servers of tests. Creating one with its indexes takes longer than a test."""

    def __init__(self, client: "pymongo.MongoClient[dict[str, Any]]") -> None:
        self._client = client
        self._empty: list[str] = []
        self.names: set[str] = set()
        """The names of all databases, empty or not."""

    def take(self) -> str:
        """Return the name of an empty database, which may have the indexes of the service."""
        if not self._empty:
            self._empty.append(f"test-{secrets.token_hex(8)}")
            self.names.add(self._empty[-1])
        return self._empty.pop()

    def give_back(self, name: str) -> None:
        """Empty a database for the next test."""
        self.empty(name)
        self._empty.append(name)

    def empty(self, name: str, *, keys: Sequence[str] = ()) -> None:
        """Delete all documents of a database, except the check values of the keys with these ids."""
        database = self._client[name]
        kept = database[prerequisites.COLLECTION].count_documents({"_id": {"$in": keys}}) if keys else 0
        if database.command("dbStats")["objects"] == kept:
            return
        for collection in database.list_collection_names():
            others = {"_id": {"$nin": keys}} if collection == prerequisites.COLLECTION else {}
            database[collection].delete_many(others)

    def drop(self, name: str) -> None:
        """Drop all collections of a database: each has 24 files or so, and mongod ends at its limit on open files."""
        # The user of the service may drop collections, but no database.
        for collection in self._client[name].list_collection_names():
            self._client[name].drop_collection(collection)

    def changed(self) -> list[str]:
        """Return the indexes of empty databases that differ from those of the service."""
        return [
            f"{name}.{collection}"
            for name in self._empty
            for collection, models in INDEXES.items()
            if {"_id_", *(model.document["name"] for model in models)}
            != set(self._client[name][collection].index_information() or {"_id_"})
        ]
