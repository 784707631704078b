"""The configuration of nginx, as text: what is filled in, left out and refused."""

import json
import re
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from src import errors
from src.api.bodies import MAX_BODY
from src.settings import Settings
from src.stack.nginx import TEMPLATE, render

PLACE = Path("/run/sealpost")

Client = TestClient[web.Request, web.Application]


def rendered(
    *, socket_dir: Path = PLACE, user: str | None = None, metrics_listen: Sequence[str] = (), **settings: Any
) -> str:
    return render(
        Settings(_env_file=None, **settings),
        listen=["80", "[::]:80"],
        metrics_listen=metrics_listen,
        socket_dir=socket_dir,
        log_dir=Path("/var/log/sealpost"),
        temp_dir=PLACE / "nginx",
        pid_file=PLACE / "nginx.pid",
        user=user,
    )


def logged_route(path: str) -> str:
    """Return what the access log calls a path: the value of the first rule that matches, as nginx's map has it."""
    rules = re.search(r"map \$uri \$route \{(.*?)\n {4}\}", rendered(), re.DOTALL)

    assert rules
    for expression, value in re.findall(r'"~(\S+)" (\S+);', rules[1]):
        # What PCRE calls \z, the absolute end, is \Z to Python.
        if re.search(expression.replace(r"\z", r"\Z"), path):
            return path if value == "$uri" else str(value).strip('"')
    return "other"


def test_every_name_of_the_template_is_filled_in() -> None:
    """Nothing of the template's own notation reaches nginx, and the braces are even."""
    text = rendered()

    assert re.findall(r"%\{\w+\}", TEMPLATE.read_text())
    assert re.findall(r"%\{\w+\}", text) == []
    assert text.count("{") == text.count("}")


def test_the_addresses_and_sockets_are_those_asked_for() -> None:
    """Each address is listened on, and there is one upstream server for each worker."""
    text = rendered()

    assert re.findall(r"listen (\S+) ", text) == ["80", "[::]:80"]
    sockets = [f"unix:{PLACE}/worker-{number}.sock" for number in range(1, 5)]
    assert re.findall(r'server "(\S+)" max_fails=0;', text) == sockets


def test_metrics_are_told_only_where_they_shall_be() -> None:
    """With an address of their own there is a server for them; without one, there is none."""
    text = rendered(metrics_listen=["127.0.0.1:9145"])

    assert re.findall(r"listen (\S+?);", text) == ["127.0.0.1:9145"]
    assert [text.count("server {"), rendered().count("server {")] == [2, 1]
    assert "# metrics" not in rendered()
    assert text.count("{") == text.count("}")


def test_the_rates_come_from_the_settings() -> None:
    """Each limit is the one that its setting names."""
    text = rendered(rate_all="9r/s", rate_create="8r/m", rate_open="7r/s")

    assert re.findall(r"zone=(\w+):10m rate=(\S+);", text) == [("all", "9r/s"), ("create", "8r/m"), ("open", "7r/s")]
    assert len(re.findall(r"limit_req zone=", text)) == 3


def test_no_limiter_is_left_when_they_are_off() -> None:
    """With SEALPOST_RATE_LIMITS=off nothing counts requests or connections."""
    directives = r"limit_(req|conn)|creator|opener"

    assert re.search(directives, rendered())
    assert not re.search(directives, rendered(rate_limits="off"))


def test_only_networks_in_the_settings_are_trusted() -> None:
    """Each trusted network is named to the module that reads X-Forwarded-For; by default there is none."""
    text = rendered(trusted_proxies="10.1.2.3/8, fd00::/8,192.0.2.7")

    assert ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"] == re.findall(r"set_real_ip_from (\S+);", text)
    assert ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"] == re.findall(r"(?m)^ +(\S+/\d+) 1;$", text)
    assert not re.search(r"real_ip|\b1;$", rendered().partition("geo ")[2].partition("}")[0])
    assert "real_ip_" not in rendered()


@pytest.mark.parametrize(
    ("hard", "files", "connections"),
    [(resource.RLIM_INFINITY, 32_832, 32_768), (1 << 20, 32_832, 32_768), (4096, 4096, 4032)],
)
def test_nginx_has_the_connections_that_the_machine_allows(
    monkeypatch: pytest.MonkeyPatch, hard: int, files: int, connections: int
) -> None:
    """As many as one address can open, as far as the limit on open files goes: one above it would not be granted."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, hard))

    assert f"worker_rlimit_nofile {files};" in rendered()
    assert f"worker_connections {connections};" in rendered()


def test_the_largest_answer_fits_into_the_buffers() -> None:
    """A worker hands it over at once, and none reaches the disk. A byte of a text may become six of JSON or HTML."""
    [(count, size)] = set(re.findall(r"proxy_buffers (\d+) (\d+)k;", rendered()))

    assert int(count) * int(size) * 1024 > 6 * MAX_BODY + 65_536
    assert "proxy_max_temp_file_size 0;" in rendered()


def test_nginx_waits_longer_than_a_worker() -> None:
    """A worker answers 503 by itself when a request takes too long; nginx leaves it the time, reloads included."""
    text = rendered(request_timeout=19.5)

    assert "proxy_read_timeout 25s;" in text
    assert "worker_shutdown_timeout 25s;" in text


def test_the_user_is_named_only_for_a_master_that_is_root() -> None:
    """Without root the directive would do nothing but warn."""
    assert "\nuser " not in rendered()
    assert "\nuser root;" in rendered(user="root")


@pytest.mark.parametrize("name", ["a$b", 'a"b', "a\\b", "a\nb"])
def test_a_path_that_nginx_would_misread_is_refused(name: str) -> None:
    """A path is never taken for a variable or the end of a word."""
    with pytest.raises(ValueError, match="nginx cannot use"):
        rendered(socket_dir=PLACE / name)


def test_a_path_may_have_spaces() -> None:
    """Paths stand in quotes."""
    assert '"unix:/My Words/worker-1.sock"' in rendered(socket_dir=Path("/My Words"))


def test_errors_have_the_words_of_the_workers() -> None:
    """A client that knows the workers' 413 and 429 knows nginx's. Its only 503 says that no worker is up."""
    text = rendered()
    for problem in (errors.NotFound, errors.TooLarge, errors.TooMany):
        for words in (problem.code, problem.title, problem.default):
            assert f'{problem.status} "{words}";' in text


def test_no_error_needs_escaping_in_json() -> None:
    """The words are put into JSON as they are; the standard descriptions are escaped already."""
    maps, descriptions = rendered().split("map $status $problem_description {")
    words = re.findall(r'^ {8}\d{3} (".*");$', maps, re.MULTILINE)
    described = re.findall(r'^ {8}(\d{3}) (".*");$', descriptions, re.MULTILINE)

    assert len(words) > 30
    assert [word for word in words if re.search(r'["\\$]', word[1:-1])] == []
    assert len(described) > 10
    for status, description in described:
        assert errors.describe_status(int(status)) == json.loads(f'"{json.loads(description)}"')
        assert "$" not in description


def test_the_error_log_knows_no_request() -> None:
    """Inside http only what cannot be about a request is logged: a request's path holds a key."""
    outside, _, inside = rendered().partition("\nhttp {")

    assert re.findall(r"error_log .* (\w+);", outside) == ["notice"]
    assert re.findall(r"error_log .* (\w+);", inside) == ["emerg"]
    assert re.search(r"log_format requests[^;]*", inside)
    for variable in ("$request ", "$request_uri", "$args", "$http_referer", "$http_user_agent", "$uri"):
        assert variable not in (re.search(r"log_format requests[^;]*", inside) or [""])[0]


async def test_the_access_log_has_each_route_by_its_template(client: Client) -> None:
    """What the service answers is told apart in the log, and where a path has a key or an id, the log has its name."""
    async with client.get("/openapi.json") as response:
        paths = (await response.json())["paths"]

    assert {path: path for path in paths} == {path: logged_route(re.sub(r"{\w+}", "a-Key_1", path)) for path in paths}


@pytest.mark.parametrize(
    "path",
    [
        *("/secrets/key/", "/x/key", "/me/key", "/register/key", "/tokens/key/more", "/delete/key", "/message/"),
        *("/posts/", "/posts/key/", "/posts/key/other", "/posts/key/like/more", "/posts/analytics/key"),
    ],
)
def test_the_access_log_has_no_path_that_is_unknown(path: str) -> None:
    """Whatever else is asked for may hold a key, and is one word in the log."""
    assert "other" == logged_route(path)


async def test_a_line_break_at_its_end_makes_another_path(client: Client) -> None:
    """What is logged as it came is one of the paths that are served, to the last character."""
    async with client.get("/openapi.json") as response:
        paths = (await response.json())["paths"]

    assert [] == [path for path in paths if "\n" in logged_route(f"{path}\n")]
    assert "other" == logged_route("/login\n")
    assert not re.search(r'"~[^"]*\$" \$(uri|request_method);', rendered())


def test_an_id_does_not_hide_a_route_of_its_own() -> None:
    """Where a fixed path looks like one with an id, the log has the fixed one, as the service answers it."""
    assert "/posts/analytics" == logged_route("/posts/analytics")
    assert "/posts/{post_id}" == logged_route("/posts/analytic")
    assert "/posts/{post_id}/like" == logged_route("/posts/analytics/like")
