"""What docs/compose.md tells an operator to type."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..stack.traffic import create, open_secret
from .conftest import session
from .engine import Compose, project

pytestmark = pytest.mark.compose

INIT = ("run", "--rm", "-T", "init")
PROVISION = (*INIT, "python", "-m", "src.stack.provision")


@pytest.fixture(scope="module")
def own(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    with project(tmp_path_factory.mktemp("operations"), image) as made:
        made.settings["SEALPOST_RATE_LIMITS"] = "off"
        made.up()
        yield made


async def restart_workers(stack: Compose) -> None:
    for number in range(1, 5):
        control = ("supervisorctl", "-c", "confs/supervisor/supervisord.conf")
        await asyncio.to_thread(stack.execute, "web", *control, "restart", f"worker:worker-{number}")


async def test_a_key_is_replaced_while_it_runs(own: Compose, tmp_path: Path) -> None:
    """What was sealed under the old key opens after, and what is new is sealed under the new one."""
    async with session(own) as client:
        old = await create(client, "old")
        fresh = own.compose(*PROVISION, "new-key")
        ring = own.execute("web", "cat", "/etc/sealpost/keys")
        for text in (ring + fresh, fresh + ring):
            (tmp_path / "ring").write_text(text)
            said = own.compose(*PROVISION, "keys", reads=tmp_path / "ring")
            await restart_workers(own)
        new = await create(client, "new")
        opened = [await open_secret(client, key) for key in (old, new)]

    assert said.startswith(f"The key ring holds, newest first: {fresh.partition(':')[0]}, ")
    assert ["old", "new"] == [outcome.body["secret"] for outcome in opened]
    assert own.execute("web", "stat", "-c", "%a %u", "/etc/sealpost/keys") == "400 10001\n"


async def test_volumes_that_were_removed_are_put_back_from_a_copy(own: Compose, tmp_path: Path) -> None:
    """Without the copy nothing starts over the data with new keys; with it all is as before."""
    copy = tmp_path / "keys.tar"
    async with session(own) as client:
        key = await create(client, "kept")
        own.compose(*INIT, "tar", "-C", "/provision", "-cf", "-", "web", "db", writes=copy)
        own.compose("down", "--volumes")
        own.compose("up", "-d", check=False)
        said = own.compose("logs", "init")
        own.compose(*INIT, "tar", "-C", "/provision", "-xf", "-", reads=copy)
        await asyncio.to_thread(own.up)
        outcome = await open_secret(client, key)

    assert "MongoDB has data, but the volumes" in said
    assert (200, "kept") == (outcome.status, outcome.body["secret"])
