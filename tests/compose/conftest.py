"""The image that the tests share, and the project that most of them use."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from .engine import Compose, compose_command, docker, fresh_clone, project, trusting_anybody


@pytest.fixture(scope="session")
def engine() -> None:
    """End the run where there is no Docker."""
    for command in (["docker", "info"], [*compose_command(), "version"]):
        if shutil.which(command[0]) is None or subprocess.run(command, capture_output=True, check=False).returncode:
            words = " ".join(map(str, command))
            pytest.exit(f"compose-check needs a Docker engine and docker-compose: `{words}` fails.", returncode=1)


@pytest.fixture(scope="session")
def image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image as docker-compose builds it from a fresh clone; afterwards it is gone, and what its building left."""
    dangling = ("image", "ls", "--quiet", "--no-trunc", "--filter", "dangling=true")
    before = set(docker(*dangling).split())
    made = Compose(fresh_clone(tmp_path_factory.mktemp("image")), "")
    made.image = made.project
    made.compose("build")
    yield made.image
    docker("image", "rm", "--force", made.image, check=False)
    for left in set(docker(*dangling).split()) - before:
        docker("image", "rm", left, check=False)


@pytest.fixture(scope="session")
def first_start(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Compose, float]]:
    """A project that was started from a fresh clone with nothing filled in, and the seconds that it took."""
    with project(tmp_path_factory.mktemp("sealpost"), image) as made:
        yield made, made.up()


@pytest.fixture
def stack(first_start: tuple[Compose, float]) -> Compose:
    """The project of all tests, up and ready."""
    made, _ = first_start
    if not made.is_ready():
        made.up()
    return made


@pytest.fixture
def unlimited(stack: Compose) -> Compose:
    """The same without rate limits."""
    if stack.settings.get("SEALPOST_RATE_LIMITS") != "off":
        stack.apply(SEALPOST_RATE_LIMITS="off")
    return stack


@pytest.fixture
async def client(unlimited: Compose) -> AsyncIterator[ClientSession]:
    async with session(unlimited) as client:
        yield client


def session(compose: Compose) -> ClientSession:
    connector = TCPConnector(limit=0, ssl=trusting_anybody())
    return ClientSession(compose.url, connector=connector, timeout=ClientTimeout(total=30))
