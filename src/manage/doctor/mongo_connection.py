"""Check that MongoDB can be reached, and explain why not."""

import asyncio
import platform
import re
import sys
from functools import partial

from pymongo.errors import ConfigurationError, NetworkTimeout, OperationFailure, PyMongoError
from pymongo.server_description import ServerDescription

from ...core.addresses import join_host_and_port
from ...core.database.embedded import MongodError, find_running
from ...core.database.mongo import Document, Mongo, check_url
from ...settings import Settings, SettingsError
from .examination import Outcome, describe_os_error, failed, in_thread, ok

ANSWER_SECONDS = 3.5
"""Seconds to wait for MongoDB; less than the limit of a check, to leave time for a diagnosis."""
_PROBE_SECONDS = 1.0
_KERNEL_WITHOUT_OLD_RSEQ = (6, 19)
_REFUSED = {18, 8000}
"""Error codes for wrong credentials, of MongoDB and of MongoDB Atlas."""
_STATES = {
    "RSPrimary": "primary",
    "RSSecondary": "secondary",
    "RSArbiter": "arbiter",
    "RSOther": "neither primary nor secondary",
    "RSGhost": "not initiated as a replica set",
    "Standalone": "standalone",
    "Mongos": "router",
}


class MongoConnection:
    """The connection that the checks of MongoDB use; ``hello`` is the response to that command."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mongo: Mongo | None = None
        self.hello: Document = {}

    @property
    def mongo(self) -> Mongo:
        """The connected database. Only available after ``open`` succeeded."""
        if self._mongo is None:
            raise RuntimeError
        return self._mongo

    async def open(self) -> Outcome:
        """Connect. An embedded MongoDB that is not running is not started."""
        url = await self._find_url()
        if isinstance(url, Outcome):
            return url
        # Not longer than the service would wait.
        seconds = min(self._settings.mongo_timeout, ANSWER_SECONDS)
        try:
            check_url(url)
            self._mongo = Mongo(self._settings.model_copy(update={"mongo_timeout": seconds}), url)
            self.hello = await self._mongo.database.command("hello")
        except SettingsError as error:
            return failed(str(error), "See docs/operations.md, MongoDB.")
        except ConfigurationError:
            return failed(
                "an option of SEALPOST_MONGO_URL is invalid, the name in the mongodb+srv:// URL cannot be resolved, or"
                " MongoDB is far too old",
                "Check the URL with the administrator of MongoDB.",
            )
        except PyMongoError as error:
            return await self._explain(error)
        where = self.hello.get("me") or ("a router" if self.hello.get("msg") == "isdbgrid" else "a standalone server")
        return ok(f"connected to {where}{'' if self._settings.mongo_url else ', embedded'}")

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._mongo is not None:
            await self._mongo.close()

    async def _find_url(self) -> str | Outcome:
        if self._settings.mongo_url:
            return self._settings.mongo_url.get_secret_value()
        data_dir = self._settings.data_dir
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                url = await in_thread(partial(find_running, data_dir))
        except TimeoutError:
            return failed("the embedded MongoDB is being started or stopped", "Try again in a moment.")
        except MongodError as error:
            return failed(str(error), "Run this command as the user of the service.")
        return url or failed(
            f"the embedded MongoDB of {data_dir} is not running",
            "Start the service (make run, make stack): this command does not start it. If it is running, run this"
            " command in the directory where it was started.",
        )

    async def _explain(self, error: PyMongoError) -> Outcome:
        """Return why MongoDB did not answer, without the error message, which may contain a secret."""
        if isinstance(error, OperationFailure) and not error.timeout:
            if error.code in _REFUSED:
                return failed(
                    "MongoDB rejects the user name or password in SEALPOST_MONGO_URL",
                    "Correct the URL (special characters as %XX; authSource=admin if the user was created there), or"
                    " change the password of the user.",
                )
            return failed(f"MongoDB rejected the connection (code {error.code})", "See the log of MongoDB.")
        servers = self.mongo.servers
        if not servers:
            return failed(
                "no host of SEALPOST_MONGO_URL is a member of the replica set that it names",
                "Compare replicaSet=NAME with the name of the set. Start a standalone server with --replSet.",
            )
        states = "; ".join([f"{_name(server)}: {await _state(server)}" for server in servers])
        return failed(
            f"no primary answers: {states}", f"Check that mongod is running there, and see its log.{kernel_advice()}"
        )


def kernel_advice(release: str | None = None) -> str:
    """Return advice on MongoDB 8 for kernels on which its allocator may crash, otherwise an empty string.

    ``release`` is the kernel release, by default that of this host, which containers share. See
    https://jira.mongodb.org/browse/SERVER-121912.
    """
    release = platform.release() if release is None else release
    version = re.match(r"(\d+)\.(\d+)", release)
    if sys.platform != "linux" or version is None or (int(version[1]), int(version[2])) < _KERNEL_WITHOUT_OLD_RSEQ:
        return ""
    return (
        f" If it runs on this kernel, Linux {release}, MongoDB 8 may exit with code 139 or refuse to start: set"
        " GLIBC_TUNABLES=glibc.pthread.rseq=1 in its environment (docs/compose.md, When it does not come up)."
    )


def member_states(mongo: Mongo) -> dict[str, str | None]:
    """Return the state of each member according to the driver, or None if the member does not answer."""
    return {_name(server): _STATES.get(server.server_type_name) for server in mongo.servers}


async def _state(server: ServerDescription) -> str:
    if known := _STATES.get(server.server_type_name):
        return known
    host, port = server.address
    if server.error is None or isinstance(server.error, NetworkTimeout) or port is None:
        return "does not answer"
    # The driver's messages differ between versions.
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return "does not answer"
    except OSError as error:
        return describe_os_error(error)
    writer.close()
    return "closes the connection; perhaps only one side uses TLS"


def _name(server: ServerDescription) -> str:
    host, port = server.address
    return host if port is None else join_host_and_port(host, port)
