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
"""Seconds after which a MongoDB that does not start or elects no primary is an error."""
COPY_PATIENCE = 60.0
"""Seconds to wait for new members to copy the data."""
_PAUSE = 0.3
_PROBE_MILLISECONDS = 5000
# A lost primary is replaced after about the election timeout, half of MongoDB's default. The new primary then asks all
# members for their state; a member whose container is gone never answers, so the catch-up timeout is shorter, too.
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
    """MongoDB cannot be set up; the message says why and contains no secret."""


class _NotYetError(Exception):
    """A precondition does not hold yet; the message names it."""


def set_up_database(
    members: Sequence[str],
    *,
    root_password: str,
    application_password: str,
    local: str = "127.0.0.1:27017",
    patience: float = PATIENCE,
) -> list[str]:
    """Set up the replica set and its users, as far as they are missing. If it is killed, it can be run again.

    ``members`` are host:port. ``local`` is the loopback address of the first one; MongoDB accepts the creation of the
    first user only there. Members are added and never removed. Return the members that have not copied the data within
    `COPY_PATIENCE`: a large database takes longer, and the others can be used meanwhile. Raises `DatabaseError`.
    """
    steps = _Steps(members, local, root_password, application_password)
    deadline = time.monotonic() + patience
    while True:
        try:
            steps.run()
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
    """The steps from an empty MongoDB to one that the workers can use; each step is skipped if it is already done."""

    def __init__(self, members: Sequence[str], local: str, root_password: str, application_password: str) -> None:
        self._members = members
        self._local = local
        self._root_password = root_password
        self._application_password = application_password

    def run(self) -> None:
        """Run the remaining steps. Raises `_NotYetError` or a `PyMongoError` if it must be called again."""
        if not self._root_exists():
            self._initiate()
            self._create_root()
        with self._as_user(ROOT, self._root_password) as client:
            self._add_members(client)
            self._ensure_application_user(client)

    def members_without_copy(self) -> list[str]:
        """Return the members that could not become primary yet."""
        try:
            with self._as_user(ROOT, self._root_password) as client:
                members = client.admin.command("replSetGetStatus")["members"]
        except PyMongoError:
            return list(self._members)
        return [member["name"] for member in members if member["state"] not in {_PRIMARY, _SECONDARY}]

    def _root_exists(self) -> bool:
        with self._locally(username=ROOT, password=self._root_password, authSource="admin") as client:
            return authenticates(client)

    def _initiate(self) -> None:
        with self._locally() as client:
            if client.admin.command("hello").get("setName"):
                return
            # A member that has lost its data belongs to the set of the others; they will add it.
            for other in self._members[1:]:
                with MongoClient[dict[str, Any]](other, **_PROBE, directConnection=True) as probe:
                    if probe.admin.command("hello").get("setName"):
                        raise _NotYetError("the other members have not added this one yet")
            initiate(client, REPLICA_SET, self._members[0], _TIMES)

    def _create_root(self) -> None:
        with self._locally() as client:
            if not client.admin.command("hello").get("isWritablePrimary"):
                raise _NotYetError("this member is not the primary, or has not replicated the root user yet")
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
