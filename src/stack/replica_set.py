"""Set up MongoDB in its containers: a replica set, a root user, and an unprivileged user for the workers."""

import time
from collections.abc import Sequence
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from ..core.database.replica_set import Client, authenticates, create_user, initiate

REPLICA_SET = "rs0"
DATABASE = "sealpost"
ROOT, APPLICATION = "root", "sealpost"
PATIENCE = 180.0
"""Seconds until a MongoDB that does not come up, or does not find a primary, is an error."""
COPY_PATIENCE = 60.0
"""Seconds to wait for new members to copy the data."""
_PAUSE = 0.3
_PROBE_MILLISECONDS = 5000
# A primary that is gone is replaced after about this time; half of MongoDB's own. Its successor then asks all members
# how far they are, and one whose container is gone answers nothing at all: so that wait is shorter as well.
_TIMES = {
    "electionTimeoutMillis": 5000,
    "heartbeatTimeoutSecs": 3,
    "heartbeatIntervalMillis": 1000,
    "catchUpTimeoutMillis": 2000,
}
_UNAUTHORIZED = 13
_PRIMARY, _SECONDARY = 1, 2
_MAJORITY = {"w": "majority"}


class DatabaseError(Exception):
    """MongoDB cannot be set up; the message says why, and holds no secret."""


class _NotYetError(Exception):
    """Something has to happen first; the message says what is waited for."""


def set_up_database(
    members: Sequence[str],
    *,
    root_password: str,
    application_password: str,
    local: str = "127.0.0.1:27017",
    patience: float = PATIENCE,
) -> list[str]:
    """Set up the replica set and its users as far as they are not yet; killed at any moment, it can be run again.

    ``members`` are host:port, the first one also reached as ``local``, by which MongoDB takes the very first user.
    Members are added and never removed. Return those that have no copy of the data yet after a while of waiting: with a
    large database that takes its time, and the others can be used meanwhile. Raises `DatabaseError`.
    """
    steps = _Steps(members, local, root_password, application_password)
    deadline = time.monotonic() + patience
    while True:
        try:
            steps.take()
            break
        except (_NotYetError, PyMongoError) as error:
            if time.monotonic() > deadline:
                reason = str(error) if isinstance(error, _NotYetError) else type(error).__name__
                raise DatabaseError(f"MongoDB was not set up within {patience:.0f} s: {reason}") from None
            time.sleep(_PAUSE)
    deadline = time.monotonic() + min(patience, COPY_PATIENCE)
    while (late := steps.members_without_copy()) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return late


class _Steps:
    """The way from an empty MongoDB to one that the workers can use; each step looks first whether it was taken."""

    def __init__(self, members: Sequence[str], local: str, root_password: str, application_password: str) -> None:
        self._members = members
        self._local = local
        self._root_password = root_password
        self._application_password = application_password

    def take(self) -> None:
        """Take the steps that are left. Raises `_NotYetError` or a `PyMongoError` where it has to be called again."""
        if not self._root_is_known():
            self._initiate()
            self._make_root()
        with self._as_user(ROOT, self._root_password) as client:
            self._add_members(client)
            self._ensure_application_user(client)

    def members_without_copy(self) -> list[str]:
        """Name the members that could not take over yet."""
        try:
            with self._as_user(ROOT, self._root_password) as client:
                members = client.admin.command("replSetGetStatus")["members"]
        except PyMongoError:
            return list(self._members)
        return [member["name"] for member in members if member["state"] not in {_PRIMARY, _SECONDARY}]

    def _root_is_known(self) -> bool:
        with self._locally(username=ROOT, password=self._root_password, authSource="admin") as client:
            return authenticates(client)

    def _initiate(self) -> None:
        with self._locally() as client:
            if client.admin.command("hello").get("setName"):
                return
            # A member that has lost its data belongs to the others' set, and will hear of it from them.
            for other in self._members[1:]:
                with MongoClient[dict[str, Any]](other, **_PROBE, directConnection=True) as probe:
                    if probe.admin.command("hello").get("setName"):
                        raise _NotYetError("the other members have not added this one yet")
            initiate(client, REPLICA_SET, self._members[0], _TIMES)

    def _make_root(self) -> None:
        with self._locally() as client:
            if not client.admin.command("hello").get("isWritablePrimary"):
                raise _NotYetError("this member is not the primary, or does not know the root user yet")
            try:
                client.admin.command(
                    "createUser", ROOT, pwd=self._root_password, roles=["root"], writeConcern=_MAJORITY
                )
            except OperationFailure as error:
                if error.code != _UNAUTHORIZED:
                    raise
                raise DatabaseError(
                    "The root password in MongoDB differs from that in the volume. Restore volumes that belong to the"
                    " data: docs/compose.md, Backup and restore."
                ) from None

    def _add_members(self, client: Client) -> None:
        for host in self._members:
            configuration = client.admin.command("replSetGetConfig")["config"]
            present = configuration["members"]
            if host not in {member["host"] for member in present}:
                present.append({"_id": max(member["_id"] for member in present) + 1, "host": host})
                configuration["version"] += 1
                client.admin.command("replSetReconfig", configuration)

    def _ensure_application_user(self, client: Client) -> None:
        with self._as_user(APPLICATION, self._application_password) as application:
            if authenticates(application):
                return
        roles = [{"role": "readWrite", "db": DATABASE}]
        create_user(client, APPLICATION, self._application_password, roles, writeConcern=_MAJORITY)

    def _locally(self, **options: Any) -> Client:
        return MongoClient(self._local, **_PROBE, directConnection=True, **options)

    def _as_user(self, name: str, password: str) -> Client:
        return MongoClient(
            list(self._members),
            **_PROBE,
            replicaSet=REPLICA_SET,
            username=name,
            password=password,
            authSource="admin",
        )


_PROBE: dict[str, Any] = {"serverSelectionTimeoutMS": _PROBE_MILLISECONDS, "connectTimeoutMS": _PROBE_MILLISECONDS}
