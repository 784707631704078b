"""The configuration of nginx as text: which values are filled in, left out and rejected."""

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
from src.api import streamed_bodies
from src.api.bodies import MAX_BODY
from src.api.streaming import STALL_SECONDS
from src.core.workers import SOCKET_PATH_MAX
from src.settings import Settings
from src.stack.nginx import TEMPLATE, Tls, render

PLACE = Path("/run/sealpost")
TLS = Tls(["443"], PLACE / "tls.pem", 443)

Client = TestClient[web.Request, web.Application]


def rendered(
    *,
    socket_dir: Path = PLACE,
    user: str | None = None,
    metrics_listen: Sequence[str] = (),
    tls: Tls | None = None,
    **settings: Any,
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
        tls=tls,
    )


def logged_route(path: str) -> str:
    """Return the access log's name of a path: that of the path itself, or the value of the first matching rule."""
    rules = re.search(r"map \$uri \$route \{(.*?)\n {4}\}", rendered(), re.DOTALL)

    assert rules
    if name := dict(re.findall(r"(?<= )(/\S*) (/\S*);", rules[1])).get(path.lower()):
        return str(name)
    for expression, value in re.findall(r'"~(\S+)" (\S+);', rules[1]):
        # PCRE's \z, the absolute end, is \Z in Python.
        if re.search(expression.replace(r"\z", r"\Z"), path):
            return str(value).strip('"')
    return "other"


def test_every_name_of_the_template_is_filled_in() -> None:
    """No placeholder of the template remains, and the braces are balanced."""
    text = rendered()

    assert re.findall(r"%\{\w+\}", TEMPLATE.read_text())
    assert re.findall(r"%\{\w+\}", text) == []
    assert text.count("{") == text.count("}")


def test_the_addresses_and_sockets_are_those_configured() -> None:
    """Nginx listens on each address, and has an upstream server for each worker."""
    text = rendered()

    assert re.findall(r"listen (\S+) ", text) == ["80", "[::]:80"]
    sockets = [f"unix:{PLACE}/worker-{number}.sock" for number in range(1, 5)]
    assert re.findall(r'server "(\S+)" max_fails=0;', text) == sockets


def test_one_worker_writes_all_messages_of_the_gatherer() -> None:
    """The others are its backup."""
    upstream = rendered().partition("upstream gatherer {")[2].partition("}")[0]

    places = [f'"unix:{PLACE}/worker-{number}.sock"' for number in range(1, 5)]
    [first, *backups] = re.findall(r"server (.+);", upstream)
    assert f"{places[0]} max_fails=3 fail_timeout=5s" == first
    assert [f"{place} max_fails=0 backup" for place in places[1:]] == backups


def test_the_access_log_knows_each_worker_by_its_socket() -> None:
    """The number of a worker is found by its address, however long: nginx allows 64 bytes by default."""
    numbers = rendered().partition("map $upstream_addr $worker {")[2].partition("}")[0]

    places = [(f"unix:{PLACE}/worker-{number}.sock", str(number)) for number in range(1, 5)]
    assert places == re.findall(r'"(\S+)" (\d);', numbers)
    [bucket] = re.findall(r"map_hash_bucket_size (\d+);", rendered())
    assert int(bucket) >= len("unix:") + SOCKET_PATH_MAX + 32


def test_metrics_are_served_only_at_their_address() -> None:
    """With an address of their own there is a server for them; without one, there is none."""
    text = rendered(metrics_listen=["127.0.0.1:9145"])

    assert re.findall(r"listen (\S+?);", text) == ["127.0.0.1:9145"]
    assert [text.count("server {"), rendered().count("server {")] == [2, 1]
    assert "# metrics" not in rendered()
    assert text.count("{") == text.count("}")


def test_the_rates_come_from_the_settings() -> None:
    """Each limit is that of its setting."""
    text = rendered(rate_all="9r/s", rate_create="8r/m", rate_open="7r/s")

    assert re.findall(r"zone=(\w+):10m rate=(\S+);", text) == [("all", "9r/s"), ("create", "8r/m"), ("open", "7r/s")]
    assert len(re.findall(r"limit_req zone=", text)) == 3


def test_no_limiter_is_left_when_they_are_off() -> None:
    """With SEALPOST_RATE_LIMITS=off, no directive counts requests or connections."""
    directives = r"limit_(req|conn)|creator|opener"

    assert re.search(directives, rendered())
    assert not re.search(directives, rendered(rate_limits="off"))


def test_only_networks_in_the_settings_are_trusted() -> None:
    """X-Forwarded-For is trusted from each configured network; by default there is none."""
    text = rendered(trusted_proxies="10.1.2.3/8, fd00::/8,192.0.2.7")

    assert ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"] == re.findall(r"set_real_ip_from (\S+);", text)
    assert ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"] == re.findall(r"(?m)^ +(\S+/\d+) 1;$", text)
    assert not re.search(r"real_ip|\b1;$", rendered().partition("geo ")[2].partition("}")[0])
    assert "real_ip_" not in rendered()


@pytest.mark.parametrize(
    ("tls", "settings", "expected"),
    [
        (None, {}, ['""', '""', '""']),
        (TLS, {}, ['""', "https", '""']),
        (TLS, {"trusted_proxies": "10.0.0.0/8"}, ["$client_host", "$client_scheme", "$client_prefix"]),
    ],
)
def test_workers_hear_of_a_proxy_only_from_a_trusted_one(tls: Tls | None, settings: Any, expected: list[str]) -> None:
    """Otherwise nginx removes these headers, and says only that the connection has TLS."""
    text = rendered(tls=tls, **settings)
    names = ("Host", "Proto", "Prefix")

    assert expected == [re.findall(rf"proxy_set_header X-Forwarded-{name} (.+);", text)[0] for name in names]
    assert bool(settings) == ("$client_scheme = https" in text) == ("map $trusted_proxy $client_prefix" in text)


@pytest.mark.parametrize(
    ("hard", "files", "connections"),
    [(resource.RLIM_INFINITY, 32_832, 32_768), (1 << 20, 32_832, 32_768), (4096, 4096, 4032)],
)
def test_nginx_has_the_connections_that_the_machine_allows(
    monkeypatch: pytest.MonkeyPatch, hard: int, files: int, connections: int
) -> None:
    """As many as one address can open, within the limit on open files."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, hard))

    assert f"worker_rlimit_nofile {files};" in rendered()
    assert f"worker_connections {connections};" in rendered()


def test_the_largest_response_fits_into_the_buffers() -> None:
    """A worker hands it over at once, without a temporary file. A byte of text may become 6 of JSON or HTML."""
    text = rendered()
    count, size = re.findall(r"proxy_buffers (\d+) (\d+)k;", text)[0]

    assert int(count) * int(size) * 1024 > 6 * MAX_BODY + 65_536
    assert "proxy_max_temp_file_size 0;" in text


def test_a_reader_of_a_file_has_as_long_as_a_worker_would_give_it() -> None:
    """Nginx ends a download that stalls no earlier than the worker, and keeps little of it in memory."""
    location = re.search(r'location ~ "\^/secrets/[^"]*" \{.*?\n {12}\}', rendered(), re.DOTALL)

    assert location
    assert f"send_timeout {STALL_SECONDS:.0f}s;" in location[0]
    assert "proxy_buffers 8 32k;" in location[0]


def test_uploads_pass_through_nginx() -> None:
    """Their content is neither limited nor buffered there, and may pause as long as in a worker."""
    location = re.search(r'location ~ "\^/files\([^"]*" \{.*?\n {12}\}', rendered(), re.DOTALL)

    assert location
    assert "proxy_request_buffering off;" in location[0]
    assert "client_max_body_size 0;" in location[0]
    assert f"client_body_timeout {streamed_bodies.STALL_SECONDS:.0f}s;" in location[0]


def test_few_paths_are_compared_with_regular_expressions() -> None:
    """Each such location is inside a prefix, from which nginx does not redirect to the path with a slash."""
    server = rendered().partition("server {")[2].rpartition("location @")[0]

    assert [] == re.findall(r"(?m)^ {8}location ~.*", server)
    assert ["/secrets", "/files", "/pages"] == re.findall(r"(?m)^ {8}location (/[a-z/]+) \{$", server)


def test_nginx_waits_longer_than_a_worker() -> None:
    """A worker answers 503 by itself after its timeout; nginx waits longer, even during a reload."""
    text = rendered(request_timeout=19.5)

    assert "proxy_read_timeout 25s;" in text
    assert "proxy_read_timeout 55s;" in text
    assert "worker_shutdown_timeout 25s;" in text


def test_the_user_is_named_only_for_a_master_that_is_root() -> None:
    """Without root the directive would only cause a warning."""
    assert "\nuser " not in rendered()
    assert "\nuser root;" in rendered(user="root")


@pytest.mark.parametrize("name", ["a$b", 'a"b', "a\\b", "a\nb"])
def test_a_path_that_nginx_would_misread_is_refused(name: str) -> None:
    """No path can be parsed as a variable or the end of a word."""
    with pytest.raises(ValueError, match="nginx cannot use"):
        rendered(socket_dir=PLACE / name)


def test_a_path_may_have_spaces() -> None:
    """Paths are quoted."""
    assert '"unix:/My Words/worker-1.sock"' in rendered(socket_dir=Path("/My Words"))


def test_errors_match_those_of_the_workers() -> None:
    """Nginx's 413 and 429 equal the workers'. Its only 503 says that no worker is up."""
    text = rendered()
    for problem in (errors.NotFound, errors.TooLarge, errors.TooMany):
        for words in (problem.code, problem.title, problem.default):
            assert f'{problem.status} "{words}";' in text


def test_no_error_needs_escaping_in_json() -> None:
    """The texts are inserted into JSON unchanged; the standard descriptions are already escaped."""
    maps, descriptions = rendered().split("map $status $problem_description {")
    words = re.findall(r'^ {8}\d{3} (".*");$', maps, re.MULTILINE)
    described = re.findall(r'^ {8}(\d{3}) (".*");$', descriptions, re.MULTILINE)

    assert len(words) > 30
    assert [word for word in words if re.search(r'["\\$]', word[1:-1])] == []
    assert len(described) > 10
    for status, description in described:
        assert errors.describe_status(int(status)) == json.loads(f'"{json.loads(description)}"')
        assert "$" not in description


def test_the_error_log_contains_no_request() -> None:
    """Inside http only messages without requests are logged: a request's path contains a key."""
    outside, _, inside = rendered().partition("\nhttp {")

    assert re.findall(r"error_log .* (\w+);", outside) == ["notice"]
    assert re.findall(r"error_log .* (\w+);", inside) == ["emerg"]
    assert re.search(r"log_format requests[^;]*", inside)
    for variable in ("$request ", "$request_uri", "$args", "$http_referer", "$http_user_agent", "$uri"):
        assert variable not in (re.search(r"log_format requests[^;]*", inside) or [""])[0]


async def test_the_access_log_has_each_route_by_its_template(client: Client) -> None:
    """Each route has its own name in the log, with placeholders for keys and ids."""
    async with client.get("/openapi.json") as response:
        paths = (await response.json())["paths"]

    assert {path: path for path in paths} == {path: logged_route(re.sub(r"{\w+}", "a-Key_1", path)) for path in paths}


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/secrets/key/x",
            "/secrets/key/files/id/x",
            "/secrets/key//",
            "/s/key",
            "/skey",
            "/x/key",
            "/me/key",
            "/register/key",
            "/tokens/key/more",
            "/delete/key",
            "/message/",
        ),
        *("/posts/", "/posts/key/", "/posts/key/other", "/posts/key/like/more", "/posts/analytics/key"),
    ],
)
def test_the_access_log_has_no_unknown_path(path: str) -> None:
    """Any other path may contain a key, and is logged as one word."""
    assert "other" == logged_route(path)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/secrets/key/", "/secrets/{secret_key}"),
        ("/message/key/", "/message/{message_key}"),
        ("/receipts/key\n/", "/receipts/{receipt_key}"),
        *((f"/{view}{rest}", f"/{view}") for view in "smr" for rest in ("/", "#key", "/#key/x", "#k\ney\n", "%23key")),
    ],
)
def test_the_access_log_has_the_route_of_an_altered_link(path: str, route: str) -> None:
    """Without the key, whatever it contains and whatever follows it."""
    assert route == logged_route(path)


async def test_a_line_break_at_its_end_makes_another_path(client: Client) -> None:
    """A path is logged unchanged only if it is a served path to the last character."""
    async with client.get("/openapi.json") as response:
        paths = (await response.json())["paths"]

    assert [] == [path for path in paths if "\n" in logged_route(f"{path}\n")]
    assert "other" == logged_route("/login\n")
    assert not re.search(r'"~[^"]*\$" \$(uri|request_method);', rendered())


def test_the_access_log_has_no_path_as_a_client_writes_it() -> None:
    """Nginx compares paths without parameters in any case, and logs its own spelling."""
    rules = re.search(r"map \$uri \$route \{(.*?)\n {4}\}", rendered(), re.DOTALL)

    assert rules
    assert "$uri" not in rules[1]
    fixed = re.findall(r"(?<= )(/\S*) (/\S*);", rules[1])
    assert fixed
    assert [] == [path for path, name in fixed if path != name or path != path.lower()]
    assert "/login" == logged_route("/LogIn")


def test_an_id_does_not_hide_a_route_of_its_own() -> None:
    """If a fixed path looks like one with an id, the log has the fixed one, as the service routes it."""
    assert "/posts/analytics" == logged_route("/posts/analytics")
    assert "/posts/{post_id}" == logged_route("/posts/analytic")
    assert "/posts/{post_id}/like" == logged_route("/posts/analytics/like")
