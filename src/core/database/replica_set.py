"""Replica sets: initiating one, and creating its users. The one place for both, embedded or in containers."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

AUTHENTICATION_FAILED = 18
_ALREADY_INITIALIZED = 23
_NOT_YET_INITIALIZED = 94
_USER_EXISTS = 51_003

log = structlog.get_logger(__name__)

Client = MongoClient[dict[str, Any]]


def initiate(client: Client, name: str, member: str, settings: Mapping[str, Any] | None = None) -> None:
    """Initiate a replica set with 1 member, unless it is initiated already. Raises `PyMongoError`.

    Alone, the member is certain to become the primary, where users are created; more members are added later.
    """
    configuration: dict[str, Any] = {"_id": name, "members": [{"_id": 0, "host": member}]}
    if settings:
        configuration["settings"] = settings
    try:
        client.admin.command("replSetInitiate", configuration)
    except OperationFailure as error:
        if error.code != _ALREADY_INITIALIZED:
            raise


async def initiate_if_needed(client: Any, name: str, members: Sequence[str]) -> None:
    """Initiate a replica set with all its members at once, unless it is initiated or its first member does not answer.

    ``client`` is asynchronous, and connected directly to the first member. What fails is logged.
    """
    try:
        await client.admin.command("replSetGetStatus")
    except OperationFailure as error:
        if error.code != _NOT_YET_INITIALIZED:
            return
    except PyMongoError as error:
        log.debug("first member did not answer", reason=type(error).__name__)
        return
    else:
        return
    hosts = [{"_id": number, "host": member} for number, member in enumerate(members)]
    try:
        await client.admin.command("replSetInitiate", {"_id": name, "members": hosts})
    except OperationFailure as error:
        if error.code != _ALREADY_INITIALIZED:
            log.warning("replica set could not be initiated", code=error.code)
    except PyMongoError as error:
        log.warning("replica set could not be initiated", reason=type(error).__name__)
    else:
        log.info("replica set initiated", name=name, members=len(members))


def create_user(client: Client, name: str, password: str, roles: Sequence[Any], **options: Any) -> None:
    """Create a user, or give an existing one the password, roles and options. Raises `PyMongoError`."""
    user = {"pwd": password, "roles": roles, **options}
    try:
        client.admin.command("createUser", name, **user)
    except OperationFailure as error:
        if error.code != _USER_EXISTS:
            raise
        client.admin.command("updateUser", name, **user)


def authenticates(client: Client) -> bool:
    """Tell whether MongoDB accepts a client's password. Raises `PyMongoError` if it does not answer."""
    try:
        client.admin.command("ping")
    except PyMongoError as error:
        if is_refusal(error):
            return False
        raise
    return True


def is_refusal(error: PyMongoError) -> bool:
    """Tell whether an error means that MongoDB does not accept the password."""
    return isinstance(error, OperationFailure) and error.code == AUTHENTICATION_FAILED
