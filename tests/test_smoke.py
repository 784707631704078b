"""The smoke test of a deployment: `python -m unittest src/tests.py`."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pymongo
import pytest

from src.core.crypto.keys import new_key

from . import programs
from .commands import Ended
from .databases import Databases
from .processes import PATIENCE, PATIENT_ENVIRONMENT

pytestmark = pytest.mark.lifecycle

ENVIRONMENT = {
    **PATIENT_ENVIRONMENT,
    "SEALPOST_BCRYPT_COST": "4",
    "SEALPOST_ARGON2_MEMORY_KIB": "64",
    "SEALPOST_KEYS": new_key(),
}


async def run(*arguments: str, **environment: str) -> Ended:
    """Run unittest to its end."""
    environment = {**ENVIRONMENT, **environment}
    async with programs.running("-m", "unittest", *arguments, environment=environment) as process:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        return Ended(await process.wait(), out.decode(), err.decode())


async def test_it_leaves_nothing_in_the_database(
    mongo_url: str, mongo_directory: Path, own_database: str, databases: Databases
) -> None:
    """On a MongoDB in use, it passes and leaves the collections and their contents unchanged."""
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        database = client[own_database]
        database["items"].insert_one({"_id": b"before"})

        ended = await run("src/tests.py", SEALPOST_DATA_DIR=str(mongo_directory), SEALPOST_MONGO_DATABASE=own_database)
        left = {name: list(database[name].find()) for name in database.list_collection_names()}
    databases.drop(own_database)

    assert (0, True) == (ended.code, "OK" in ended.stderr), ended.stderr
    assert {"items": [{"_id": b"before"}]} == left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
async def test_stopped_midway_it_leaves_nothing(
    mongo_url: str, mongo_directory: Path, own_database: str, number: signal.Signals
) -> None:
    """After Ctrl-C and SIGTERM, its collections are dropped as well."""
    environment = {
        **ENVIRONMENT,
        "SEALPOST_DATA_DIR": str(mongo_directory),
        "SEALPOST_MONGO_DATABASE": own_database,
        # Long enough to be stopped in.
        "SEALPOST_BCRYPT_COST": "15",
    }
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        async with programs.running("-m", "unittest", "src/tests.py", environment=environment) as process:
            while not client[own_database].list_collection_names():
                assert process.returncode is None
                await asyncio.sleep(0.02)

            process.send_signal(number)
            await asyncio.wait_for(process.communicate(), PATIENCE)

        assert 0 != process.returncode
        assert [] == client[own_database].list_collection_names()


async def test_without_a_deployment_it_makes_none(tmp_path: Path) -> None:
    """In a fresh clone, `python -m unittest` finds it and runs it on a temporary MongoDB."""
    ended = await run(SEALPOST_DATA_DIR=str(tmp_path / "data"))

    assert (0, True) == (ended.code, "Ran 7 tests" in ended.stderr), ended.stderr
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["tests"], {}, "Run `make test`"),
        (["src/tests.py"], {"SEALPOST_TTL_MAX": "x"}, "SEALPOST_TTL_MAX: "),
        (["src/tests.py"], {"SEALPOST_MONGOD": "/no/mongod"}, "SEALPOST_MONGOD names /no/mongod"),
    ],
)
async def test_a_run_that_tests_nothing_fails(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], told: str
) -> None:
    """With pytest's tests, invalid settings or no MongoDB, the exit code is 1, and the output has the reason."""
    ended = await run(*arguments, SEALPOST_DATA_DIR=str(tmp_path / "data"), **environment)

    assert (1, True) == (ended.code, told in ended.stderr)


async def test_features_that_are_off_are_skipped(tmp_path: Path) -> None:
    """The rest is tested, and each skipped test names its feature."""
    ended = await run("-v", "src/tests.py", SEALPOST_DATA_DIR=str(tmp_path / "data"), SEALPOST_FEATURES="none")

    assert (0, True) == (ended.code, "OK (skipped=5)" in ended.stderr), ended.stderr
    assert "the feature posts is off" in ended.stderr
