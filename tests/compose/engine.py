"""A fresh copy of the tree under docker-compose, and queries of the Docker engine."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bench.running_stack import free_port

from ..test_readme import is_ready

ROOT = Path(__file__).parents[2]
REPLICAS = ("docker-compose.yml", "docker-compose.replicas.yml")
START_SECONDS = 60.0
"""The promise for a fresh clone."""
PATIENCE = 180.0
"""Seconds after which any other start has failed: a busy machine is slower."""
RECONFIGURATION_SECONDS = 60.0
COMMAND_SECONDS = 600.0
LABEL = "com.docker.compose"
NOTHING = Path(os.devnull)


def docker(*arguments: str | Path, check: bool = True) -> str:
    """Run a docker command and return its output."""
    return run(["docker", *arguments], check=check)


def run(
    command: list[str | Path], *, check: bool = True, reads: Path = NOTHING, writes: Path | None = None, **options: Any
) -> str:
    """Run a command, its standard input and output from and to a file where one is given; else return the output."""
    with reads.open("rb") as given, writes.open("wb") if writes else nullcontext(subprocess.PIPE) as output:
        done = subprocess.run(
            command, stdin=given, stdout=output, stderr=subprocess.PIPE, timeout=COMMAND_SECONDS, check=False, **options
        )
    printed = (done.stdout or b"").decode(errors="replace")
    assert done.returncode == 0 or not check, f"{command}\n{printed}\n{done.stderr.decode(errors='replace')}"
    return printed


def report(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print a figure, bypassing pytest's capture."""
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


def compose_command() -> list[str | Path]:
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


def fresh_clone(directory: Path) -> Path:
    """Copy the files that git tracks, including uncommitted changes."""
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    return directory


def trusting_anybody() -> ssl.SSLContext:
    """Return a context without verification; another test checks the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@dataclass
class Compose:
    """One project; ``settings`` are the environment variables of `docker-compose`."""

    directory: Path
    image: str
    project: str = field(default_factory=lambda: f"sealpost-check-{uuid4().hex[:8]}")
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    files: tuple[str, ...] = REPLICAS[:1]
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def has_tls(self) -> bool:
        return self.settings.get("SEALPOST_TLS", "off") != "off"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}" if self.has_tls else f"http://127.0.0.1:{self.port}"

    def compose(self, *arguments: str, **options: Any) -> str:
        """Run a command of docker-compose, with the options of `run`."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("SEALPOST_", "COMPOSE_"))
        }
        environment = {
            **inherited,
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": os.pathsep.join(self.files),
            "HTTP_PORT": f"127.0.0.1:{self.port}",
            "TLS_PORT": f"127.0.0.1:{self.tls_port}",
            "IMAGE": self.image,
            **self.settings,
        }
        return run([*compose_command(), *arguments], cwd=self.directory, env=environment, **options)

    def up(self) -> float:
        """Start everything, and return the seconds until it is ready."""
        begun = time.monotonic()
        self.compose("up", "-d")
        while not self.is_ready():
            assert time.monotonic() - begun < PATIENCE, self.compose("logs", "--tail=50", check=False)
            time.sleep(0.1)
        return time.monotonic() - begun

    def apply(self, **settings: str) -> None:
        """Start it with other settings, and wait until nginx has loaded its own."""
        before = self.nginx_configuration()
        self.settings |= settings
        self.up()
        deadline = time.monotonic() + RECONFIGURATION_SECONDS
        while self.nginx_configuration() == before:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # The old processes exit after their last response.
        time.sleep(1)

    def nginx_configuration(self) -> tuple[str, int]:
        """Return a value that changes when nginx loads a configuration, by a start or a reload."""
        log = self.execute("nginx", "cat", "/var/log/sealpost/nginx.log")
        return self.start_of("nginx"), log.count("(SIGHUP) received")

    def is_ready(self) -> bool:
        return is_ready(self.url, trusting_anybody())

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        labels = {"project": self.project, "service": service, "oneoff": "False"}
        filters = [part for name, value in labels.items() for part in ("--filter", f"label={LABEL}.{name}={value}")]
        return docker("ps", "--all", "--quiet", "--no-trunc", *filters).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.container(service)))[0]
        return found

    def execute(self, service: str, *command: str, check: bool = True) -> str:
        """Run a command in a service's container, as its user."""
        return docker("exec", self.container(service), *command, check=check)

    def kill_main_process(self, service: str) -> None:
        """Send SIGKILL to a container's first process from outside, as the kernel does when memory runs out.

        `docker kill` counts as an order to stop, after which Docker restarts nothing.
        """
        pid = self.inspect(service)["State"]["Pid"]
        self.helper("--pid=host", "--cap-add=KILL", code=f"import os; os.kill({pid}, 9)")

    def helper(self, *options: str, code: str) -> str:
        """Run Python code as root in a temporary container."""
        hardened = ("--rm", "--user=0:0", "--cap-drop=ALL")
        return docker("run", *hardened, *options, self.image, "python", "-c", code)

    def start_of(self, service: str) -> str:
        return str(self.inspect(service)["State"]["StartedAt"])

    def remove(self) -> None:
        """Remove every container, volume and network, and the files of the containers' users."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout=20", check=False)
        self.helper(
            "--cap-add=DAC_OVERRIDE",
            "--cap-add=FOWNER",
            f"--volume={self.directory}:/tree",
            code="import pathlib, shutil; [shutil.rmtree(path) for name in ('mongodb*', 'logs/*/')"
            " for path in pathlib.Path('/tree').glob(name)]",
        )


@contextmanager
def project(directory: Path, image: str) -> Iterator[Compose]:
    """Yield a project in a fresh clone, and remove it afterwards."""
    made = Compose(fresh_clone(directory), image)
    try:
        yield made
    finally:
        made.remove()
