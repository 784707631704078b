"""Each container has only the privileges it needs, and no secret is exposed."""

import json
import re
import subprocess

import pytest

from .engine import Compose, docker, report

pytestmark = pytest.mark.compose

SERVICES = {"web": 10001, "nginx": 10002, "db": 999}
SECRETS = {
    "web": ("keys", "mongo-url"),
    "db": ("root-password", "application-password", "keyfile"),
}
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 27017), 3)
    print("connected")
except OSError:
    print("refused")
"""
CHUNK = 1 << 22


def secrets(stack: Compose) -> list[str]:
    """Return every secret of a project, and of the URL only its password."""
    texts = [
        stack.execute(service, "cat", f"/etc/sealpost/{name}").strip()
        for service, names in SECRETS.items()
        for name in names
    ]
    of_init = ("run", "--rm", "-T", "--no-deps", "init")
    texts.append(stack.compose(*of_init, "cat", "/provision/grafana/admin-password").strip())
    return [re.sub(r"mongodb://\w+:(\w+)@.*", r"\1", text).partition(":")[2] or text for text in texts]


def holds(command: list[str], needles: list[str]) -> bool:
    """Tell whether the output of a command contains one of the texts."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        tail = b""
        while chunk := process.stdout.read(CHUNK):
            if any(needle.encode() in tail + chunk for needle in needles):
                process.kill()
                return True
            tail = chunk[-2048:]
    assert process.returncode == 0
    return False


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_runs_unprivileged(stack: Compose, service: str) -> None:
    """Not root, no capabilities, no privilege escalation, no writable files of its own."""
    host = stack.inspect(service)["HostConfig"]
    status = dict(re.findall(r"(?m)^(\w+):\s+(.+)$", stack.execute(service, "cat", "/proc/1/status")))

    assert str(SERVICES[service]) == status["Uid"].split()[0]
    assert (0, 0) == (int(status["CapEff"], 16), int(status["CapBnd"], 16))
    assert status["NoNewPrivs"] == "1"
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert stack.execute(service, "sh", "-c", "touch /x /usr/x /etc/x 2>/dev/null || echo refused") == "refused\n"


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_bounds_and_comes_back(stack: Compose, service: str) -> None:
    """Memory, processes and logs are limited, no core is dumped, and Docker restarts it."""
    host = stack.inspect(service)["HostConfig"]

    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert {"core": 0} == {limit["Name"]: limit["Hard"] for limit in host["Ulimits"] if limit["Name"] == "core"}
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert {"max-size": "10m", "max-file": "3"} == host["LogConfig"]["Config"]


def test_each_container_mounts_only_what_it_needs(stack: Compose) -> None:
    """Nginx has no key, the database no key ring, and only the init container has everything."""
    mounts = {
        service: {(mount.get("Name", "").removeprefix(f"{stack.project}_"), mount["RW"]) for mount in found}
        for service in SERVICES
        if (found := [mount for mount in stack.inspect(service)["Mounts"] if mount["Type"] == "volume"])
    }

    assert {
        "web": {("keys", False), ("sockets", True)},
        "nginx": {("nginx", False), ("sockets", False)},
        "db": {("passwords", False)},
    } == mounts


@pytest.mark.parametrize(
    ("service", "path", "expected"),
    [
        ("web", "/etc/sealpost", "700 10001:10001"),
        ("web", "/etc/sealpost/keys", "400 10001:10001"),
        ("web", "/etc/sealpost/mongo-url", "400 10001:10001"),
        ("web", "/app/logs", "700 10001:10001"),
        ("web", "/run/sealpost", "750 10001:10001"),
        ("web", "/run/sealpost/worker-1.sock", "660 10001:10001"),
        ("web", "/run/sealpost/supervisor.sock", "700 10001:10001"),
        ("nginx", "/etc/sealpost/nginx.conf", "444 0:0"),
        ("nginx", "/etc/sealpost/pages", "755 0:0"),
        ("nginx", "/etc/sealpost/pages/page.js", "444 0:0"),
        ("nginx", "/var/log/sealpost", "700 10002:10001"),
        ("nginx", "/var/log/sealpost/access.jsonl", "600 10002:10001"),
        ("db", "/etc/sealpost", "700 999:999"),
        ("db", "/etc/sealpost/keyfile", "400 999:999"),
        ("db", "/etc/sealpost/root-password", "400 999:999"),
        ("db", "/data/db", "700 999:999"),
    ],
)
def test_files_have_the_right_owners(stack: Compose, service: str, path: str, expected: str) -> None:
    """Owner and mode, as seen in the container."""
    assert expected == stack.execute(service, "stat", "-c", "%a %u:%g", path).strip()


def test_no_secret_is_exposed(stack: Compose) -> None:
    """Neither in the configuration, nor in Docker's data on containers and image, nor in a layer or a log."""
    needles = secrets(stack)
    told = [
        stack.compose("config"),
        docker("inspect", *(stack.container(service) for service in (*SERVICES, "init", "init-db"))),
        docker("inspect", stack.image),
        docker("history", "--no-trunc", stack.image),
        stack.compose("logs", "--no-color"),
        stack.execute("web", "sh", "-c", "cat /app/logs/*"),
        stack.execute("nginx", "find", "/var/log/sealpost", "/etc/sealpost", "-type", "f", "-exec", "cat", "{}", "+"),
    ]

    assert len(needles) == 6
    assert all(len(needle) > 40 for needle in needles)
    assert [] == [text[:200] for text in told if any(needle in text for needle in needles)]
    assert not holds(["docker", "save", stack.image], needles)


def test_the_image_holds_the_program_and_no_tool_to_build(stack: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    """No compiler, pip, uv, tests or settings; it has labels and a user."""
    image = json.loads(docker("inspect", stack.image))[0]
    tools = stack.execute(
        "web",
        "sh",
        "-c",
        "which cc gcc make uv; for python in python $(command -v /usr/bin/python3 /usr/local/bin/python3);"
        " do $python -c 'import pip' 2>/dev/null && echo pip; done; true",
    )
    # The operator's files are mounted in /app/branding.
    unwanted = r"find /app ! -path '/app/branding/*' \( -name '.env*' -o -name '*.tar' -o -name '.git*' \)"
    listed = stack.execute("web", "sh", "-c", f"ls -A /app; {unwanted}")
    venv = stack.execute("web", "sh", "-c", "du -sm /opt/venv /app | cut -f 1").split()
    report(capsys, f"image: {image['Size'] / 1e6:.0f} MB, of it {venv[0]} MiB dependencies and {venv[1]} MiB program")

    assert tools == ""
    assert {"branding", "confs", "logs", "src"} == set(listed.split())
    assert image["Config"]["User"] == "10001:10001"
    assert {"title", "description", "version", "licenses"} <= {
        label.removeprefix("org.opencontainers.image.") for label in image["Config"]["Labels"]
    }
    assert not any("PASSWORD" in line or "SEALPOST_" in line for line in image["Config"]["Env"])


def test_nginx_does_not_reach_the_database(stack: Compose) -> None:
    """By name or by address: they share no network. A worker reaches it."""
    address = next(iter(stack.inspect("db")["NetworkSettings"]["Networks"].values()))["IPAddress"]
    beside_nginx = ("run", "--rm", f"--network=container:{stack.container('nginx')}", stack.image)
    for host in ("db", address):
        assert stack.execute("web", "python", "-c", CONNECT, host) == "connected\n"
        assert docker(*beside_nginx, "python", "-c", CONNECT, host) == "refused\n"


def test_the_database_is_published_nowhere(stack: Compose) -> None:
    """Only nginx has a port on the host; the database's network is internal; the database requires authentication."""
    published = {
        service: [port for ports in stack.inspect(service)["NetworkSettings"]["Ports"].values() for port in ports or []]
        for service in SERVICES
    }
    network = json.loads(docker("network", "inspect", f"{stack.project}_back"))[0]
    ask = (
        "import pymongo\n"
        "try: pymongo.MongoClient('db', directConnection=True).sealpost.items.find_one()\n"
        "except pymongo.errors.OperationFailure as error: print(error.code)"
    )

    assert {"web": 0, "db": 0} == {service: len(published[service]) for service in ("web", "db")}
    assert {str(stack.port), str(stack.tls_port)} == {port["HostPort"] for port in published["nginx"]}
    assert network["Internal"]
    assert stack.execute("web", "python", "-c", ask) == "13\n"


def test_the_workers_are_not_root_in_the_database(stack: Compose) -> None:
    """They read and write their own database; other databases and user management are denied."""
    ask = (
        "import pathlib, pymongo\n"
        "client = pymongo.MongoClient(pathlib.Path('/etc/sealpost/mongo-url').read_text().strip())\n"
        "print(client.admin.command('connectionStatus')['authInfo']['authenticatedUserRoles'])\n"
        "for database, command in (('other', {'find': 'items'}), ('admin', {'usersInfo': 1}),"
        " ('admin', {'replSetGetStatus': 1})):\n"
        "    try: client[database].command(command)\n"
        "    except pymongo.errors.OperationFailure as error: print(error.code)"
    )

    assert stack.execute("web", "python", "-c", ask) == "[{'role': 'readWrite', 'db': 'sealpost'}]\n13\n13\n13\n"


def test_metrics_are_served_only_inside(stack: Compose) -> None:
    """Of all 4 workers, to containers on nginx's network; not on the published port."""
    ask = (
        "import sys, urllib.error, urllib.request\n"
        "try: print(urllib.request.urlopen(sys.argv[1]).read().decode())\n"
        "except urllib.error.HTTPError as error: print(error.code)"
    )

    def told(port: int) -> str:
        # As Prometheus does, from another container.
        network = f"--network={stack.project}_monitoring"
        return docker("run", "--rm", network, stack.image, "python", "-c", ask, f"http://nginx:{port}/metrics")

    assert {"1", "2", "3", "4"} == set(re.findall(r'sealpost_build_info{.*worker="worker-(\d)"} 1', told(9145)))
    assert "404\n" == told(8080)
    assert "700 10001:10001" == stack.execute("web", "stat", "-c", "%a %u:%g", "/tmp/metrics").strip()
