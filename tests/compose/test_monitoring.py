"""The profile `monitoring`: Prometheus really runs and reaches the workers; Grafana is checked by its configuration.

Where no registry is reached, Debian's Prometheus takes the place of the official image, under its name and with its
user and paths, for the time of the tests. There is no such stand-in for Grafana: what Grafana itself does with its
settings, its data source and the dashboard has to be tried where its image can be had.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ..processes import PATIENCE
from .engine import ROOT, Compose, docker
from .test_confinement import (
    test_a_container_has_bounds_and_comes_back as has_bounds_and_comes_back,
)

pytestmark = pytest.mark.compose

IMAGE = re.findall(r"image: (prom/prometheus:\S+)", (ROOT / "docker-compose.yml").read_text())[0]
STAND_IN = """
FROM python:3.13-slim
RUN apt-get update -qq \\
 && apt-get install -y -qq --no-install-recommends prometheus >/dev/null \\
 && install -d -o 65534 -g 65534 /prometheus
USER 65534:65534
ENTRYPOINT ["/bin/prometheus"]
"""
ASK = """
import sys, urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9090/api/v1/" + sys.argv[1], timeout=5).read().decode())
"""


@pytest.fixture(scope="module")
def prometheus_image(engine: None) -> Iterator[None]:
    """The official image, or else a stand-in, which is gone afterwards."""
    ways = (("image", "inspect"), ("pull", "--quiet"))
    if any(subprocess.run(["docker", *way, IMAGE], capture_output=True, check=False).returncode == 0 for way in ways):
        yield
    else:
        subprocess.run(["docker", "build", "--quiet", "--tag", IMAGE, "-"], input=STAND_IN.encode(), check=True)
        yield
        docker("image", "rm", "--force", IMAGE, check=False)


@pytest.fixture
def monitored(stack: Compose, prometheus_image: None) -> Iterator[Compose]:
    """The project with Prometheus, as the profile starts it."""
    stack.settings["COMPOSE_PROFILES"] = "monitoring"
    stack.compose("up", "-d", "prometheus")
    yield stack
    stack.compose("rm", "--stop", "--force", "prometheus")
    del stack.settings["COMPOSE_PROFILES"]


def ask(stack: Compose, path: str) -> Any:
    """Return a response of Prometheus' API inside its container, or None without one."""
    beside = f"--network=container:{stack.container('prometheus')}"
    answer = docker("run", "--rm", beside, stack.image, "python", "-c", ASK, path, check=False)
    return json.loads(answer)["data"] if answer else None


def reached(stack: Compose) -> Any:
    """Return the target after its first scrape, as reported by Prometheus."""
    deadline = time.monotonic() + PATIENCE
    while True:
        targets = (ask(stack, "targets") or {}).get("activeTargets", [])
        if targets and targets[0]["health"] != "unknown":
            return targets
        assert time.monotonic() < deadline, stack.compose("logs", "prometheus")
        time.sleep(0.5)


def test_without_the_profile_there_is_nothing_of_it(stack: Compose) -> None:
    """`up` alone starts neither, and needs neither image."""
    assert ["", ""] == [stack.container(name) for name in ("prometheus", "grafana")]
    assert stack.execute("nginx", "cat", "/etc/sealpost/nginx.conf", "/etc/sealpost/nginx.sh").count("listen 9145") == 1


def test_prometheus_reaches_the_workers_and_loads_the_rules(monitored: Compose) -> None:
    """Over an internal network, on a port that is not published, as an unprivileged user."""
    [target] = reached(monitored)
    rules = [rule for group in ask(monitored, "rules")["groups"] for rule in group["rules"]]
    status = dict(re.findall(r"(?m)^(\w+):\s+(.+)$", monitored.execute("prometheus", "cat", "/proc/1/status")))
    found = monitored.inspect("prometheus")
    network = json.loads(docker("network", "inspect", f"{monitored.project}_monitoring"))[0]

    assert ("up", "", "nginx:9145") == (target["health"], target["lastError"], target["labels"]["instance"])
    assert {"Sealpost" in rule["name"] for rule in rules if rule["type"] == "alerting"} == {True}
    assert [] == [rule["name"] for rule in rules if rule.get("lastError")]
    assert ("65534", 0, "1") == (status["Uid"].split()[0], int(status["CapBnd"], 16), status["NoNewPrivs"])
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert not any(found["NetworkSettings"]["Ports"].values())
    assert [f"{monitored.project}_monitoring"] == list(found["NetworkSettings"]["Networks"])
    assert network["Internal"]
    has_bounds_and_comes_back(monitored, "prometheus")


def test_grafana_has_its_own_password_and_contacts_no_other_host(stack: Compose) -> None:
    """Its file is readable only by its user; anonymous access and external requests are off."""
    listed = stack.compose(
        *("run", "--rm", "-T", "--no-deps", "init"),
        *("sh", "-c", "stat -c '%a %u:%g' /provision/grafana /provision/grafana/admin-password"),
    )
    stack.settings["COMPOSE_PROFILES"] = "monitoring"
    configuration = stack.compose("config")
    del stack.settings["COMPOSE_PROFILES"]
    settings = dict(re.findall(r"(GF_\w+): '?\"?([^'\"\n]+)", configuration))

    assert "700 472:472\n400 472:472\n" == listed
    assert "/etc/sealpost/admin-password" == settings.pop("GF_SECURITY_ADMIN_PASSWORD__FILE")
    assert settings.pop("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH")
    switched_off = {name for name, value in settings.items() if value == ("true" if "DISABLE" in name else "false")}

    assert set(settings) == switched_off
    assert {"GF_AUTH_ANONYMOUS_ENABLED", "GF_USERS_ALLOW_SIGN_UP", "GF_ANALYTICS_REPORTING_ENABLED"} < switched_off
