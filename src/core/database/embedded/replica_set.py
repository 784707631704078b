"""The replica set and the user that applications need in the embedded mongod."""

from ..replica_set import Client, authenticates, create_user, initiate

ADDRESS = "127.0.0.1"
NAME = "sealpost"
USER = "sealpost"
# Read and write all databases except mongod's own, and read the state of the set; no user management, no shutdown.
ROLES = ["readWriteAnyDatabase", "clusterMonitor"]

_SELECTION_MS = 3_000
_COMMAND_MS = 60_000


def make_url(port: int, password: str) -> str:
    """Return the URL for applications."""
    return f"mongodb://{USER}:{password}@{ADDRESS}:{port}/?authSource=admin&replicaSet={NAME}"


def connect_as_system(port: int, key: str) -> Client:
    """Return an unconnected client for mongod's internal user, whose password is the replica set's key.

    This user exists before the set and its users, so the set-up can continue wherever a crash interrupted it.
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
    """Initiate the set or change its port if needed, and tell whether it has a primary.

    Call it until it returns True. Raises `PyMongoError` while mongod is not ready for the next step.
    """
    member = f"{ADDRESS}:{port}"
    config = system.local["system.replset"].find_one()
    if config is None:
        initiate(system, NAME, member)
    elif config["members"][0]["host"] != member:
        config["version"] += 1
        config["members"][0]["host"] = member
        # Forced: a plain reconfiguration needs a primary, which a member with an outdated address cannot be.
        system.admin.command("replSetReconfig", config, force=True)
    return bool(system.admin.command("hello")["isWritablePrimary"])


def ensure_user(system: Client, port: int, password: str) -> None:
    """Create the applications' user or set its password, unless the URL works already."""
    with Client(make_url(port, password), serverSelectionTimeoutMS=_SELECTION_MS) as client:
        if authenticates(client):
            return
    create_user(system, USER, password, ROLES, mechanisms=["SCRAM-SHA-256"])
