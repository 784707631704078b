"""The replica set and the user that applications need in the embedded mongod."""

from ..replica_set import Client, authenticates, create_user, initiate

ADDRESS = "127.0.0.1"
NAME = "sealpost"
USER = "sealpost"
# Reads and writes in every database but mongod's own, and the state of the set; no users, no settings, no shutdown.
ROLES = ["readWriteAnyDatabase", "clusterMonitor"]

_SELECTION_MS = 3_000
_COMMAND_MS = 60_000


def make_url(port: int, password: str) -> str:
    """Return the URL for applications."""
    return f"mongodb://{USER}:{password}@{ADDRESS}:{port}/?authSource=admin&replicaSet={NAME}"


def connect_as_system(port: int, key: str) -> Client:
    """Return a client, not connected yet, for mongod's own user, whose password is the replica set's key.

    That user is there before the set and its users are, so that set-up can go on from wherever a crash cut it short.
    """
    return Client(
        ADDRESS,
        port,
        username="__system",
        password=key,
        authSource="local",
        authMechanism="SCRAM-SHA-256",
        directConnection=True,
        connect=False,
        serverSelectionTimeoutMS=_SELECTION_MS,
        socketTimeoutMS=_COMMAND_MS,
    )


def settle(system: Client, port: int) -> bool:
    """Initiate the set or move it to the port where that is needed, and tell whether it has elected its primary.

    Call it again until it has. Raises PyMongoError while mongod is not ready for the next step.
    """
    member = f"{ADDRESS}:{port}"
    config = system.local["system.replset"].find_one()
    if config is None:
        initiate(system, NAME, member)
    elif config["members"][0]["host"] != member:
        config["version"] += 1
        config["members"][0]["host"] = member
        # Forced, because a member whose address is another's now cannot be the primary that a plain one needs.
        system.admin.command("replSetReconfig", config, force=True)
    return bool(system.admin.command("hello")["isWritablePrimary"])


def ensure_user(system: Client, port: int, password: str) -> None:
    """Create the applications' user, or give it the password, unless the URL works already."""
    with Client(make_url(port, password), serverSelectionTimeoutMS=_SELECTION_MS) as client:
        if authenticates(client):
            return
    create_user(system, USER, password, ROLES, mechanisms=["SCRAM-SHA-256"])
