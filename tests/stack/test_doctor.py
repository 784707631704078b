"""The doctor beside the running stack."""

import asyncio
import json

import pytest

from bench.running_stack import RunningStack

from ..commands import Operator
from .conftest import KEYS, SETTINGS
from .mongod import Mongod

pytestmark = pytest.mark.stack


async def test_a_running_stack_is_healthy_until_a_worker_stops(stack: RunningStack, mongod: Mongod) -> None:
    """Workers, nginx and MongoDB are ok; a missing worker is reported, and the others still are ok."""
    operator = Operator(
        {
            "SEALPOST_MONGO_URL": mongod.url,
            "SEALPOST_KEYS": KEYS,
            "SEALPOST_DATA_DIR": str(stack.log_dir.parent),
            # As the launcher was: without the setting, which other tests switch off.
            "SEALPOST_GATHERED_FILE": "",
            **SETTINGS,
        }
    )

    async def examine() -> tuple[int, dict[str, str]]:
        ended = await operator.run("doctor", "--json", "--url", stack.url)
        findings = [json.loads(line) for line in ended.stdout.splitlines()]
        return ended.code, {finding["check"]: finding["mark"] for finding in findings}

    code, healthy = await examine()
    await asyncio.to_thread(stack.supervisorctl, "stop", "worker:worker-3")
    try:
        code_without, without = await examine()
    finally:
        await asyncio.to_thread(stack.supervisorctl, "start", "worker:worker-3")

    # Here no secret is in a file, and TLS is off on a loopback address.
    left_out = dict.fromkeys(("secret files", "certificate files", "HTTPS", "certificate"), "not checked")
    assert 0 == code
    assert {**dict.fromkeys(healthy, "ok"), **left_out} == healthy
    assert {"worker 1", "worker 4", "front", "body limit", "keys in use"} <= healthy.keys()
    assert 1 == code_without
    assert {**healthy, "worker 3": "failed"} == without


async def test_a_shell_with_other_settings_is_detected(stack: RunningStack, mongod: Mongod) -> None:
    """The doctor uses the settings of the workers and nginx, and names those that differ in its shell."""
    operator = Operator(
        {
            "SEALPOST_MONGO_URL": mongod.url,
            "SEALPOST_KEYS": KEYS,
            "SEALPOST_DATA_DIR": str(stack.log_dir.parent),
            "SEALPOST_GATHERED_FILE": "",
            "SEALPOST_TTL_MAX": "60",
        }
    )

    ended = await operator.run("doctor", "--json")

    findings = {finding["check"]: finding for finding in map(json.loads, ended.stdout.splitlines())}
    found = findings["service settings"]["found"]
    assert "warning" == findings["service settings"]["mark"]
    assert "SEALPOST_TTL_MAX is 604800 in the service, but 60 here" in found
    assert "SEALPOST_RATE_LIMITS is off in the service, but on here" in found
    assert "SEALPOST_MONGO_URL" not in found
    assert "SEALPOST_GATHERED_FILE" not in found
    assert str(stack.log_dir) in findings["log directory"]["found"]
