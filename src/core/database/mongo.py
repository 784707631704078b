"""The MongoDB client: the one place that imports Motor, connects, sets up the database and translates driver errors."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import structlog
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, IndexModel, uri_parser
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.server_description import ServerDescription

from ...errors import Unavailable
from ...settings import Settings, SettingsError
from ..addresses import join_host_and_port
from ..clock import DatabaseClock
from .primary import PrimaryWatch
from .replica_set import initiate_if_needed

Document = dict[str, Any]
Prerequisite = Callable[[], Awaitable[None]]
"""Raises `Unfit` while this process must not use the database."""
Result = TypeVar("Result")
Indexes = Mapping[str, Sequence[IndexModel]]
"""The indexes that a feature needs, by collection."""

DUPLICATE = 11_000
SHUTTING_DOWN = {91, 11600, 11602}
PROBE_MILLISECONDS = 2000
# A server whose packets are lost counts as gone after the sum of both. A lost SYN is resent after 1 s.
HEARTBEAT_MILLISECONDS, CONNECT_MILLISECONDS = 2000, 3000
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

log = structlog.get_logger(__name__)


class Unfit(Exception):
    """The process must not use the database; the message says why and what to do, and may be shown to clients."""


class Mongo:
    """A connected database, bound to the event loop in which it is created.

    ``listeners`` are the driver's event listeners. The names of all collections begin with ``prefix``.
    """

    def __init__(self, settings: Settings, url: str, listeners: Sequence[Any] = (), *, prefix: str = "") -> None:
        self._settings = settings
        self._url = url
        self._prefix = prefix
        # Motor and PyMongo's async client have different types; the methods used here are the same.
        self._client: Any = self._open(url, event_listeners=listeners)
        self.database: Any = self._client[settings.mongo_database]
        self.clock = DatabaseClock()
        self._primary = PrimaryWatch(self._client)
        self._set_up = asyncio.Event()
        self._transactions: set[asyncio.Task[Any]] = set()
        self.unfit: Unfit | None = None
        """Why this process must not use the database; None if it may."""

    @property
    def is_set_up(self) -> bool:
        """Tell whether the set-up is complete: this process may use the database, and the indexes exist."""
        return self._set_up.is_set()

    async def admit(self) -> None:
        """Wait up to 1 second for a primary to be known, and up to a command's timeout for the set-up to complete.

        Raises `Unavailable` after that, and at once if this process must not use the database or no primary has been
        known for 1 second.
        """
        if self.unfit is None and await self._primary.wait() and not self.is_set_up:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.mongo_timeout):
                    await self._set_up.wait()
        if self.unfit is not None:
            raise Unavailable(str(self.unfit))
        if not self.is_set_up or not self._primary.is_known():
            raise Unavailable("The database does not answer yet. Try again after the delay in Retry-After.")

    async def when_set_up(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run the work once the set-up is complete."""
        await self._set_up.wait()
        await work()

    async def check(self, prerequisite: Prerequisite) -> None:
        """Check whether this process may use the database, and log a change. Raises `Unavailable`."""
        before, found = self.unfit, None
        try:
            await prerequisite()
        except Unfit as error:
            found = error
        self.unfit = found
        if found is not None and str(found) != str(before or ""):
            log.error("database access suspended", reason=str(found))
        elif before is not None and found is None:
            log.info("database access resumed")

    def collection(self, name: str) -> Any:
        """Return a collection of the configured database."""
        return self.database[self._prefix + name]

    @property
    def servers(self) -> list[ServerDescription]:
        """The driver's current descriptions of all servers, including unreachable ones."""
        return list(self._client.topology_description.server_descriptions().values())

    async def transact(self, work: Callable[[Any], Awaitable[Result]]) -> Result:
        """Run ``work`` in a transaction, and return its result.

        ``work`` passes its session to each command, and may be called again after a conflict. Raises `Unavailable`, at
        the latest after the timeout of a command: the driver would retry for 2 minutes. No commit starts after that; a
        commit that has started may still succeed.
        """
        deadline = time.monotonic() + self._settings.mongo_timeout
        timeout = asyncio.timeout(self._settings.mongo_timeout)

        def is_over() -> bool:
            # uvloop rounds timers to milliseconds, so this one may fire just before the deadline by the clock.
            return timeout.expired() or time.monotonic() >= deadline

        # In its own task: cancelled within a command, a transaction could not be aborted before the command ends.
        transaction = asyncio.create_task(self._transact(work, is_over))
        self._transactions.add(transaction)
        transaction.add_done_callback(self._transactions.discard)
        try:
            async with timeout:
                result: Result = await asyncio.shield(transaction)
        except TimeoutError:
            log.warning("transaction timed out")
            transaction.add_done_callback(_retrieve)
            raise Unavailable from None
        except asyncio.CancelledError:
            transaction.add_done_callback(_retrieve)
            raise
        return result

    async def _transact(self, work: Callable[[Any], Awaitable[Result]], is_over: Callable[[], bool]) -> Result:
        """Retry the transaction until its time is over."""
        with translate_mongo_errors():
            session = await _awaited(self._client.start_session())
            try:
                while True:
                    try:
                        await _awaited(session.start_transaction())
                        result = await work(session)
                        if is_over():
                            # The caller has already got an error.
                            raise Unavailable
                        await _commit(session, is_over)
                    except PyMongoError as error:
                        if not error.has_error_label("TransientTransactionError") or is_over():
                            raise
                        await _abort(session)
                    else:
                        return result
            finally:
                # Motor's context manager would abort the transaction on the event loop's thread.
                await _abort(session)
                await session.end_session()

    async def set_up(self, indexes: Indexes, prerequisite: Prerequisite | None = None) -> None:
        """Wait for a primary and for the prerequisite, initiate the replica set if needed, and create the indexes.

        It retries for ever, drops nothing, and logs what it waits for. Nothing is written before the prerequisite
        holds.
        """
        pause = FIRST_PAUSE
        while not self.is_set_up:
            await self._initiate()
            try:
                await self._check_kind()
                if prerequisite is not None:
                    await self.check(prerequisite)
                if self.unfit is None:
                    for collection, models in indexes.items():
                        if models:
                            await self.collection(collection).create_indexes(list(models))
                    self._set_up.set()
                    break
            except (PyMongoError, Unavailable) as error:
                log.warning("waiting for MongoDB", reason=type(error).__name__, retry_in_seconds=round(pause, 1))
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        log.info("MongoDB is ready", database=self._settings.mongo_database)

    async def is_ready(self) -> bool:
        """Tell whether this process may use the database, the set-up is complete and a primary answers now."""
        if not self.is_set_up or self.unfit is not None or not await self._primary.wait():
            return False
        try:
            await self.database.command("ping")
        except PyMongoError:
            return False
        return True

    async def close(self) -> None:
        """Close every connection."""
        await self._primary.close()
        await _close(self._client)

    def _open(self, url: str, **options: Any) -> Any:
        timeout = int(self._settings.mongo_timeout * 1000)
        client = AsyncIOMotorClient if self._settings.mongo_driver == "motor" else AsyncMongoClient
        return client(
            url,
            **{
                "appname": "sealpost",
                "tz_aware": True,
                # A write is acknowledged when it is in the journals of a majority.
                "w": "majority",
                "journal": True,
                # An answer must not depend on a write that a failover may still roll back.
                "readConcernLevel": "majority",
                "retryWrites": True,
                "timeoutMS": timeout,
                "serverSelectionTimeoutMS": timeout,
                "connectTimeoutMS": min(timeout, CONNECT_MILLISECONDS),
                "heartbeatFrequencyMS": HEARTBEAT_MILLISECONDS,
                "maxPoolSize": 20,
                **options,
            },
        )

    async def _check_kind(self) -> None:
        """Raise `ConfigurationError` for a server that is neither in a replica set nor a router."""
        hello = await self._client.admin.command("hello")
        if hello.get("msg") == "isdbgrid":
            log.warning("MongoDB is a sharded cluster, which is not supported: use a replica set")
        elif "setName" not in hello:
            log.error("MongoDB is not a replica set: start it with --replSet and name the set in the URL")
            raise ConfigurationError

    async def _initiate(self) -> None:
        """Initiate a replica set of the seeds in the URL if needed."""
        seeds, name = _seeds(self._url)
        if not seeds or not name:
            return
        # A server outside a replica set answers only a client that does not ask for one.
        client = self._open(
            _direct(self._url, seeds[0]), directConnection=True, replicaSet=None, timeoutMS=PROBE_MILLISECONDS
        )
        try:
            await initiate_if_needed(client, name, seeds)
        finally:
            # A process that ends while it starts cancels this task, and the client is to be closed all the same.
            await asyncio.shield(_close(client))


@contextmanager
def translate_mongo_errors() -> Iterator[None]:
    """Translate errors of the driver to `Unavailable`: a client's input never causes them."""
    try:
        yield
    except PyMongoError as error:
        passing = error.timeout or not isinstance(error, OperationFailure) or error.code in SHUTTING_DOWN
        level = log.warning if passing else log.error
        level("MongoDB command failed", reason=type(error).__name__, code=getattr(error, "code", None))
        raise Unavailable("The database does not answer. Try again after the delay in Retry-After.") from None


async def insert_each(collection: Any, documents: Sequence[Document]) -> list[Exception | None]:
    """Insert documents with one command, and return for each None if it was stored, else its error."""
    outcomes: list[Exception | None] = [None] * len(documents)
    with translate_mongo_errors():
        try:
            await collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if error.details.get("writeConcernErrors"):
                raise
            for failure in error.details["writeErrors"]:
                log.error("MongoDB rejected a document", code=failure.get("code"))
                outcomes[failure["index"]] = Unavailable()
    return outcomes


async def insert_unique(collection: Any, document: Document) -> bool:
    """Insert a document; return False if a majority has another document with the same value in a unique index.

    Raises `Unavailable`, also if a majority has not acknowledged that other document yet.
    """
    with translate_mongo_errors():
        try:
            # insert_one raises the same DuplicateKeyError whether or not a majority has the other document.
            await collection.insert_many([document], ordered=False)
        except BulkWriteError as error:
            if error.details.get("writeConcernErrors") or error.details["writeErrors"][0]["code"] != DUPLICATE:
                raise
            return False
    return True


async def aggregate(collection: Any, pipeline: Sequence[Document], **options: Any) -> Sequence[Document]:
    """Return the result of a pipeline as a list; it must be short."""
    # Only PyMongo's client requires awaiting the cursor.
    cursor = collection.aggregate(pipeline, **options)
    documents: Sequence[Document] = await (await cursor if inspect.isawaitable(cursor) else cursor).to_list(None)
    return documents


def check_url(url: str) -> None:
    """Raise `SettingsError`, which does not contain the URL, for an invalid MongoDB URL."""
    try:
        if not url.startswith("mongodb+srv://"):
            uri_parser.parse_uri(url)
    except (InvalidURI, ConfigurationError, ValueError):
        raise SettingsError("SEALPOST_MONGO_URL: not a mongodb:// or mongodb+srv:// URL") from None


def _seeds(url: str) -> tuple[list[str], str | None]:
    if url.startswith("mongodb+srv://"):
        return [], None
    parts = uri_parser.parse_uri(url)
    seeds = [join_host_and_port(host, port) for host, port in parts["nodelist"]]
    return seeds, parts["options"].get("replicaSet")


def _direct(url: str, seed: str) -> str:
    """Return the URL with a single seed and the same credentials and options."""
    scheme, _, rest = url.partition("://")
    authority, slash, tail = rest.partition("/")
    credentials, at, _ = authority.rpartition("@")
    return f"{scheme}://{credentials}{at}{seed}{slash}{tail}"


async def _commit(session: Any, is_over: Callable[[], bool]) -> None:
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label("UnknownTransactionCommitResult") or is_over():
                raise
        else:
            return


async def _abort(session: Any) -> None:
    """Abort the transaction of a session, if any; if this fails, MongoDB aborts it by itself."""
    if session.in_transaction:
        with suppress(PyMongoError):
            await session.abort_transaction()


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieve an outcome that came too late for its caller, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


async def _awaited(result: Any) -> Any:
    """Return the result, awaited if the driver in use returns an awaitable."""
    return await result if inspect.isawaitable(result) else result


async def _close(client: Any) -> None:
    await _awaited(client.close())
