"""`docker-compose up` on a fresh clone, and again later."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import ClientSession

from src.pages.assets import CACHE_CONTROL, read_assets

from .. import test_readme
from ..stack.traffic import create, open_secret
from .engine import START_SECONDS, Compose, docker, report

pytestmark = pytest.mark.compose

SECRET_FILES = {
    "web": ("/etc/sealpost/keys", "/etc/sealpost/mongo-url"),
    "db": ("/etc/sealpost/root-password", "/etc/sealpost/application-password", "/etc/sealpost/keyfile"),
}


def digests(stack: Compose) -> list[str]:
    return [stack.execute(service, "sha256sum", *paths) for service, paths in SECRET_FILES.items()]


def test_a_fresh_clone_serves_within_a_minute(
    first_start: tuple[Compose, float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without configuration, and with the images present, it is ready in under 60 seconds."""
    _, seconds = first_start
    report(capsys, f"ready {seconds:.1f} s after `up -d` on a fresh clone")

    # Three times the promise, for a busy machine.
    assert seconds < 3 * START_SECONDS


@pytest.mark.parametrize("page", [test_readme.README, test_readme.TOUR], ids=lambda page: page.name)
def test_the_sessions_work_through_nginx(stack: Compose, tmp_path: Path, page: Path) -> None:
    """The commands of README and tour have the documented output."""
    test_readme.test_the_session_has_the_documented_output(stack.url, tmp_path, page)


async def test_a_browser_gets_the_page(client: ClientSession) -> None:
    """The page from a worker, and its files from nginx, to the byte."""
    assets = read_assets()
    async with client.get("/", headers={"Accept": "text/html"}) as answer:
        assert (200, "text/html") == (answer.status, answer.content_type)
        assert assets.path in await answer.text()
    for name, body in assets.files.items():
        async with client.get(f"/{assets.path}{name}") as answer:
            assert (200, body, CACHE_CONTROL) == (answer.status, await answer.read(), answer.headers["Cache-Control"])
            # Responses of workers name the worker.
            assert answer.headers["Server"].startswith("nginx")


async def test_down_and_up_keep_every_secret(unlimited: Compose, client: ClientSession) -> None:
    """Keys and passwords are kept, and secrets created before open after, once."""
    keys = [await create(client, f"secret {number}") for number in range(20)]
    before = digests(unlimited)
    await asyncio.to_thread(unlimited.compose, "down")
    await asyncio.to_thread(unlimited.up)

    assert before == digests(unlimited)
    for number, key in enumerate(keys):
        outcome = await open_secret(client, key)

        assert (200, f"secret {number}") == (outcome.status, outcome.body["secret"])
        assert (await open_secret(client, key)).status == 404


def test_a_new_setting_reaches_workers_and_nginx(stack: Compose) -> None:
    """`up -d` with another setting recreates the workers, and nginx loads its configuration."""
    before = stack.container("web")
    stack.apply(SEALPOST_RATE_LIMITS="on", SEALPOST_RATE_OPEN="7r/s")

    assert "rate=7r/s" in stack.execute("nginx", "cat", "/etc/sealpost/nginx.conf")
    assert before != stack.container("web")


def test_the_logs_are_in_the_clone(stack: Compose) -> None:
    """./logs has those of nginx and every worker, as JSON lines."""
    listed = stack.execute("web", "ls", "/app/logs").split()
    access = stack.execute("nginx", "tail", "-n", "1", "/var/log/sealpost/access.jsonl")
    mounts = {mount["Source"] for service in ("web", "nginx") for mount in stack.inspect(service)["Mounts"]}

    assert {"supervisord.log", *(f"worker-{number}.jsonl" for number in range(1, 5))} <= set(listed)
    assert {"method", "status"} <= json.loads(access).keys()
    assert {str(stack.directory / "logs" / name) for name in ("web", "nginx")} <= mounts
    assert (stack.directory / "logs" / ".gitkeep").exists()


def test_docker_calls_the_workers_healthy(stack: Compose) -> None:
    """The health check finds a ready worker."""
    docker("exec", stack.container("web"), "python", "-m", "src.stack.healthcheck")
    failing = stack.compose("run", "--rm", "--no-deps", "-T", "init", "sh", "-c", "! python -m src.stack.healthcheck")

    assert failing == ""
