"""The activity bot against nginx and 4 workers."""

import asyncio
import json
from pathlib import Path

import pytest

from bench.running_stack import RunningStack

from .. import programs
from ..processes import PATIENCE
from .test_restart import all_running

pytestmark = pytest.mark.stack

SIZE = ("--users", "200", "--posts", "50", "--likes", "1000", "--secrets", "100", "--seed", "7")


async def test_two_hundred_users_find_nothing_wrong(stack: RunningStack, tmp_path: Path) -> None:
    """Every secret is opened once, every count is right, and no request fails."""
    await all_running(stack)
    arguments = ("-m", "src.client", "bot", *SIZE, "--concurrency", "48", "--json", "--url", stack.url)
    async with programs.running(*arguments, environment={"XDG_CONFIG_HOME": str(tmp_path)}) as process:
        out, err = await asyncio.wait_for(process.communicate(), 5 * PATIENCE)
    report = json.loads(out)

    assert (0, [], [], 0) == (process.returncode, report["errors"], report["wrong"], report["accounts_left"]), err
    assert {0} == {check["not_checked"] for check in report["checks"].values()}
    assert (100, 50) == tuple(
        report["checks"][name]["right"] for name in ("secrets opened exactly once", "likes and dislikes counted right")
    )
