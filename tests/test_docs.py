"""The documentation matches the code: settings, routes, fields, errors, log lines, formats, links."""

import ast
import functools
import importlib
import json
import pkgutil
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from typer.core import TyperGroup as Group
from typer.main import get_command

import src
from src.accounts import (
    access_tokens,
    api_tokens,
    invitations,
    passwords,
    sessions,
    users,
)
from src.accounts import service as accounts_service
from src.accounts.access_tokens import RefreshToken
from src.accounts.auth import TOKEN_LOOKUP_SECONDS, Scope
from src.accounts.oidc import sign_in
from src.accounts.oidc.sign_in import SignInState
from src.accounts.users import UserContent
from src.api import edge, streamed_bodies
from src.api.pages import Page, page_response
from src.api.streaming import PIECE_BYTES, STALL_SECONDS
from src.core.crypto import records, sealed_tokens, sealing, signed_tokens
from src.core.crypto.keys import KEY_BYTES, MAC_BYTES, KeyRing, Purpose
from src.core.crypto.records import Content, RecordSealer
from src.core.crypto.sealing import Link, Sealer
from src.core.database.prerequisites import MOST_APART
from src.core.metrics import Metrics
from src.core.stored_files import RESERVATION
from src.core.tls import certificates, self_signed
from src.errors import Problem
from src.files import chunk_sealing, headers, uploading, uploads
from src.files import routes as file_routes
from src.files.chunk_sealing import ChunkSealer
from src.gatherer import bundle, sender_states
from src.gatherer import schemas as gatherer_schemas
from src.manage import __main__ as manage
from src.manage.doctor import certificates as examined_certificates
from src.manage.doctor import command as doctor
from src.manage.doctor import database, disk, examination, mongodb
from src.posts import analytics, feed, schemas, service, store
from src.sealed import downloads, receipts
from src.sealed.items import MESSAGE, SECRET, TERMS, UNLIMITED
from src.settings import OF_A_HOST, OF_THE_CLIENT, PREFIX, SECRETS, Settings, read_settings
from src.stack import nginx

from .conftest import Api

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING, ENV_EXAMPLE = ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".env.example"
API, ARCHITECTURE, COMPATIBILITY, COMPOSE, OPERATIONS, ROUTES, SECURITY, SOURCE_MAP = (
    ROOT / "docs" / f"{name}.md"
    for name in ("api", "architecture", "compatibility", "compose", "operations", "routes", "security", "source-map")
)
PAGES = [README, CONTRIBUTING, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = {PREFIX + name.upper(): field for name, field in Settings.model_fields.items()}
FILE_FORMS = {PREFIX + name.upper() + "_FILE" for name in SECRETS}
METHODS = {"get", "head", "options", "post", "put", "patch", "delete"}
EVERYWHERE = {"cross_site", "misdirected", "too_many", "unavailable"}
COMMANDS = ("## Keys", "## Users", "## Posts", "## Gathered messages", "## Audit")

PROVIDER = {"oidc_issuer": "https://id.example.org", "oidc_client_id": "sealpost"}

Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Awaitable[Api]]


@pytest.fixture
async def client(serve: Serve) -> Client:
    """The HTTP client of a server with all routes."""
    return (await serve(**PROVIDER)).client


@functools.cache
def read(page: Path) -> str:
    """Return the text of a page."""
    return page.read_text(encoding="utf-8")


def section(page: Path, heading: str) -> str:
    """Return the text under a heading, up to the next heading of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = f"\n{read(page)}".partition(f"\n{heading}\n")

    assert found, f"{page.name} has no heading {heading}"
    return re.split(rf"(?m)^#{{1,{level}}} ", rest)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of each table row, without heads and rules."""
    lines = text.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    heads = {index - 1 for index, line in enumerate(lines) if line.startswith("| ---")}
    head_cells = [[cell.strip() for cell in lines[index].strip("|").split("|")] for index in heads]
    return [row for row in cells if row not in head_cells and not row[0].startswith("---")]


def words(cell: str) -> list[str]:
    """Return the texts in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def default_of(name: str) -> str:
    """Return a setting's default as written in the docs; empty for none, and for one that depends on the machine."""
    default = SETTINGS[name].default
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None or SETTINGS[name].default_factory else str(default)


def documented_settings() -> dict[str, list[str]]:
    """Return the rows of the settings tables by name."""
    return {words(row[0])[0]: row for row in rows(section(OPERATIONS, "## Settings")) if len(row) == 4}


def modules() -> list[str]:
    """Return every module of the application that can be imported without side effects."""
    found = (module.name for module in pkgutil.walk_packages(src.__path__, "src."))
    return [name for name in found if not name.endswith("__main__")]


def problems() -> set[type[Problem]]:
    """Return every problem that the application defines."""
    for name in modules():
        importlib.import_module(name)
    found, queue = set[type[Problem]](), [Problem]
    while queue:
        problem = queue.pop()
        queue += problem.__subclasses__()
        if problem.__module__.startswith("src."):
            found.add(problem)
    return found


def logged_events() -> set[str]:
    """Return the first argument of each logging call, `[self._]log.<level>` or `level`."""
    logging_call = re.compile(r"((self\._)?log\.(debug|info|warning|error|critical|log)$|level$|_?logger\.)")
    events = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not logging_call.match(ast.unparse(node.func)):
                continue
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            events |= {text for text in texts if isinstance(text, str)}
    return events


async def operations(client: Client) -> dict[str, Any]:
    """Return the operations of the served OpenAPI document by "METHOD /path"."""
    async with client.get("/openapi.json") as response:
        document = await response.json()

    def properties(schema: dict[str, Any]) -> dict[str, Any]:
        name = schema.get("$ref", "").rpartition("/")[2]
        found: dict[str, Any] = document["components"]["schemas"][name].get("properties", {}) if name else {}
        return found

    def schema_of(content: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = next(iter(content["content"].values()))["schema"] if "content" in content else {}
        return found

    def nested(schema: dict[str, Any]) -> set[str]:
        return {
            f"{name}.{member}"
            for name, value in properties(schema).items()
            for member in properties(value.get("items", value))
        }

    def answer_of(operation: dict[str, Any]) -> dict[str, Any]:
        return next((schema_of(answer) for status, answer in operation["responses"].items() if status < "300"), {})

    return {
        f"{method.upper()} {path}": {
            "request": set(properties(schema_of(operation.get("requestBody", {}))))
            | {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] != "path"},
            "answer": set(properties(answer_of(operation))),
            "members": set(properties(answer_of(operation))) | nested(answer_of(operation)),
            "codes": set(re.findall(r"`(\w+)`:", " ".join(a["description"] for a in operation["responses"].values()))),
            "scopes": {scope for needed in operation.get("security", []) for some in needed.values() for scope in some},
        }
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def documented_routes() -> dict[str, str]:
    """Return the section of each route in the API page."""
    headings = re.findall(r"(?m)^### ((?:GET|HEAD|OPTIONS|POST|PUT|PATCH|DELETE) /\S*)$", read(API))
    return {heading: section(API, f"### {heading}") for heading in headings}


def codes_in(text: str, line: str) -> set[str]:
    """Return the codes of each list of errors that begins with these words, over all its lines."""
    return {code for codes in re.findall(rf"(?m)^{line}: ((?:.+\n)+)", text) for code in words(codes)}


def sizes_in(heading: str) -> dict[str, str]:
    """Return the column of bytes of a table in `docs/security.md`, by part."""
    return {row[0]: row[1] for row in rows(section(SECURITY, heading)) if len(row) == 3}


def seconds(text: str) -> int:
    """Return the seconds of a span such as `15 minutes`."""
    number, unit = text.split()
    return int(number) * {"second": 1, "minute": 60, "hour": 3600, "day": 86400}[unit.rstrip("s")]


def said(page: Path, heading: str) -> str:
    """Return a section on one line, so that a sentence is found however it is wrapped."""
    return " ".join(section(page, heading).split())


def test_every_setting_is_in_the_example_with_its_default() -> None:
    """`.env.example` has exactly the settings, and the file form of each secret."""
    found = dict(re.findall(r"(?m)^#(SEALPOST_\w+)=(.*)$", read(ENV_EXAMPLE)))

    assert {name: default_of(name) for name in SETTINGS} | dict.fromkeys(FILE_FORMS, "") == found


def test_the_example_is_all_comments() -> None:
    """A copy of `.env.example` changes nothing until a line is uncommented."""
    assert [] == [line for line in read(ENV_EXAMPLE).splitlines() if line and not line.startswith("#")]


def test_the_example_loads_when_uncommented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every line uncommented, the settings are the defaults."""
    (tmp_path / ".env").write_text(re.sub(r"(?m)^#(?=SEALPOST_)", "", read(ENV_EXAMPLE)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert Settings(_env_file=None) == read_settings()


def test_every_setting_is_in_the_operators_table_with_its_default() -> None:
    """The tables of `docs/operations.md` have each setting once and no other."""
    found = {name: "".join(words(row[1])) for name, row in documented_settings().items()}

    assert {name: default_of(name) for name in SETTINGS} == found


@pytest.mark.parametrize("name", SETTINGS)
def test_the_operators_table_has_the_bounds(name: str) -> None:
    """A setting's "allowed" column matches its validation."""
    bounds = {
        str(value)
        for constraint in SETTINGS[name].metadata
        for bound in ("ge", "gt", "le", "lt")
        if (value := getattr(constraint, bound, None)) is not None
    }
    allowed = documented_settings()[name][2]
    choices = {choice for choice in getattr(SETTINGS[name].annotation, "__args__", ()) if isinstance(choice, str)}
    choices |= {"true", "false"} if SETTINGS[name].annotation is bool else set()

    if bounds:
        assert bounds == set(re.findall(r"\d+", re.sub(r"`[^`]*`", "", allowed)))
    if choices:
        assert choices == set(words(allowed))


@pytest.mark.parametrize("page", [*PAGES, ENV_EXAMPLE], ids=lambda page: page.name)
def test_no_page_names_a_setting_that_does_not_exist(page: Path) -> None:
    """Each name with the prefix is a setting, the file form of one, or a variable of the client."""
    assert set() == set(re.findall(r"SEALPOST_[A-Z0-9_]+\b", read(page))) - set(SETTINGS) - FILE_FORMS - OF_THE_CLIENT


async def test_every_route_is_documented_and_no_other(client: Client) -> None:
    """The API page has a section for exactly the routes that are served."""
    assert set(await operations(client)) == set(documented_routes())


async def test_the_table_lists_the_routes(client: Client) -> None:
    """The tables of `docs/routes.md` have each route once, and no other."""
    assert sorted(await operations(client)) == sorted(words(row[0])[0] for row in rows(read(ROUTES)))


def test_each_route_of_the_table_leads_to_its_section() -> None:
    """A route links to the section of the API page with its name."""
    table = re.findall(r"(?m)^\| \[`([^`]+)`\]\(api\.md#([^)]*)\)", read(ROUTES))

    assert len(rows(read(ROUTES))) == len(table)
    assert {route: anchor_of(route) for route, _ in table} == dict(table)


async def test_the_fields_of_a_request_are_documented(client: Client) -> None:
    """Each section's table of fields, query parameters or header fields has exactly those of the request."""
    served = {name: operation["request"] for name, operation in (await operations(client)).items()}
    documented = {
        name: {word for row in rows(text) if len(row) == 4 for word in words(row[0])}
        for name, text in documented_routes().items()
    }

    assert served == documented


async def test_the_members_of_a_response_are_documented(client: Client) -> None:
    """Each section's table of members, if any, has exactly those of the response's type."""
    served = await operations(client)
    for name, text in documented_routes().items():
        if documented := {word for row in rows(text) if len(row) == 2 for word in words(row[0])}:
            assert served[name]["members"] == documented, name


async def test_the_errors_of_a_route_are_documented(client: Client) -> None:
    """Each section's list has exactly the errors of the route, without those common to all routes."""
    served = {name: operation["codes"] - EVERYWHERE for name, operation in (await operations(client)).items()}
    documented = {name: codes_in(text, "Errors") - EVERYWHERE for name, text in documented_routes().items()}

    assert served == documented


async def test_errors_of_restricted_creation_are_documented(serve: Serve) -> None:
    """The same with SEALPOST_ANONYMOUS_CREATE=false, for sections with a list for that."""
    served = await operations((await serve(anonymous_create=False, **PROVIDER)).client)
    documented = {
        name: (codes_in(text, "Errors then") or codes_in(text, "Errors")) - EVERYWHERE
        for name, text in documented_routes().items()
    }

    assert {name: operation["codes"] - EVERYWHERE for name, operation in served.items()} == documented


async def test_the_scopes_are_documented(serve: Serve) -> None:
    """The table of scopes has each one, with the requests that require it, and no other."""
    served = await operations((await serve(anonymous_create=False, **PROVIDER)).client)
    asking: dict[str, set[str]] = {scope.value: set() for scope in Scope}
    for name, operation in served.items():
        for scope in operation["scopes"]:
            asking[scope].add(name)
    overview = section(API, "## API tokens").partition("\n### ")[0]
    documented = {words(row[0])[0]: set(words(row[1])) for row in rows(overview)}

    assert asking == {name: requests - {"SEALPOST_ANONYMOUS_CREATE=false"} for name, requests in documented.items()}


async def test_the_examples_are_valid(client: Client) -> None:
    """Each JSON example of a route is a valid request, response or problem."""
    served = await operations(client)
    problem = {"type", "title", "status", "detail", "code", "request_id", "Error", "attempts_left"}
    for name, text in documented_routes().items():
        for example in re.findall(r"(?ms)^```json\n(.*?)^```$", text):
            members = set(json.loads(example))

            assert members <= served[name]["request"] or members in (served[name]["answer"], problem), name


def test_every_error_code_is_documented() -> None:
    """The table of errors has the code of each problem, with its status, and no other."""
    ours, nginxs = (
        {(row[0], words(row[1])[0]) for row in part}
        for part in (
            rows(read(API).partition("\n## Errors\n")[2].partition("nginx answers")[0]),
            rows(read(API).partition("\n## Errors\n")[2].partition("nginx answers")[2]),
        )
    )
    expected = {(str(problem.status), problem.code) for problem in problems()}
    of_nginx = {(str(status), code) for status, (code, _, _) in nginx._PROBLEMS.items()}

    assert expected == ours
    assert {(status, code) for status, code in of_nginx if code not in {code for _, code in ours}} == nginxs


def test_every_log_line_is_documented() -> None:
    """The table of log lines has each event that the code logs, and no other."""
    assert logged_events() == {words(row[0])[0] for row in rows(section(OPERATIONS, "## Log lines"))}


def test_the_settings_that_may_differ_between_hosts_are_documented() -> None:
    """They are listed; processes compare all others."""
    listed = section(OPERATIONS, "## Several hosts").partition("All others")[0]

    assert {PREFIX + name.upper() for name in OF_A_HOST} == set(words(listed))


def test_every_metric_is_documented() -> None:
    """The table of metrics has each one with its type and its labels, and no other."""
    table = [row for row in rows(section(OPERATIONS, "## Metrics")) if len(row) == 4]
    counted = {one.name: (one.kind, set(one.labels)) for one in Metrics.off().definitions}

    assert counted == {words(row[0])[0]: (row[1], set(words(row[2]))) for row in table}
    assert len(counted) == len(table)


def test_the_envelope_is_as_documented() -> None:
    """Sizes in `docs/security.md` are those of the constants and of a real envelope."""
    text = section(SECURITY, "### The envelope")
    sizes = {row[0]: row[1] for row in rows(text) if len(row) == 3}
    ring, link = KeyRing([("k", bytes(KEY_BYTES))]), Link.new()
    lengths = [len(Sealer(ring).seal(bytes(size), link=link, terms=b"")[1]) for size in (1, 63, 64)]

    assert {
        "version": str(len(sealing.VERSION)),
        "salt": str(sealing.SALT_BYTES),
        "nonce": str(sealing.NONCE_BYTES),
        "ciphertext": f"a multiple of {sealing.PADDED_TO}",
        "tag": "16",
    } == sizes
    assert [109, 109, 109 + sealing.PADDED_TO] == lengths
    assert f"of up to {sealing.PADDED_TO - 1} bytes has {lengths[0]} bytes" in " ".join(text.split())
    assert f"item id | {sealing.ID_BYTES} bytes" in text
    assert [8, 8, 4, 4] == [int(size) for size in re.findall(r"\((\d+)(?: bytes)?[,)]", text.partition("| terms |")[2])]
    assert 8 + 8 + 4 + 4 == TERMS.size
    assert f"kind (`{SECRET}` or `{MESSAGE}`)" in text
    assert f"allowed of a message are {UNLIMITED}," in text


def test_the_labels_of_derivations_are_as_documented() -> None:
    """`docs/security.md` quotes each label that the code has, and no other."""
    code = "".join(read(path) for path in (ROOT / "src").rglob("*.py"))
    in_code = set(re.findall(r'b"(sealpost/v1/[\w-]+|\+phrase)"', code))

    assert 'b"sealpost/v1/" + purpose.encode()' in code
    assert in_code | {f"sealpost/v1/{purpose}" for purpose in Purpose} == set(
        re.findall(r'"(sealpost/v1/[\w-]+|\+phrase)"', read(SECURITY))
    )


def test_the_cost_of_a_phrase_is_as_documented() -> None:
    """The default cost of Argon2id in `docs/security.md` is that of the settings."""
    defaults = Settings(_env_file=None)
    text = section(SECURITY, "### Phrases")

    assert f"{defaults.argon2_memory_kib} KiB of memory and {defaults.argon2_passes} passes" in text
    assert f"salt has {sealing.SALT_BYTES} random bytes" in text


def test_the_receipt_key_is_as_documented() -> None:
    """Sizes in `docs/security.md` are those of the constants."""
    text = section(SECURITY, "### Receipt keys")
    sizes = {row[0]: int(row[1]) for row in rows(text)}

    assert {
        "version": len(receipts.VERSION),
        "item id": sealing.ID_BYTES,
        "created at": receipts.TIME_BYTES,
        "expires at": receipts.TIME_BYTES,
        "mac": MAC_BYTES,
    } == sizes
    assert f"Together {sum(sizes.values())} bytes, {sum(sizes.values()) * 4 // 3} characters" in text


def test_the_envelope_of_a_record_is_as_documented() -> None:
    """Sizes in `docs/security.md` are those of the constants and of a real record."""
    sizes = sizes_in("### The envelope of a record")
    sealer = RecordSealer(KeyRing([("k", bytes(KEY_BYTES))]), users.KIND)
    password_hash = passwords.hash_password("a password", 4)
    lengths = {
        len(
            sealer.seal(
                UserContent(username=name, password_hash=password_hash, operator=flag, disabled=flag), bytes(16)
            )["envelope"]
        )
        for name in ("ann", "a" * 32)
        for flag in (True, False)
    }

    assert {
        "version": str(len(records.VERSION)),
        "nonce": str(sealing.NONCE_BYTES),
        "ciphertext": f"a multiple of {sealing.PADDED_TO}",
        "tag": "16",
    } == sizes
    assert f"`{records.VERSION.hex()}`" in section(SECURITY, "### The envelope of a record")
    assert 1 == len(lengths)
    assert f"every user has {lengths.pop()} bytes" in said(SECURITY, "### The envelope of a record")


def test_what_is_sealed_is_as_documented() -> None:
    """The table of records has each kind, with as many things as its content has."""
    found = [getattr(importlib.import_module(name), "RESEALABLE", ()) for name in modules()]
    contents = {one.kind: one.schema for some in found for one in (some if isinstance(some, tuple) else (some,))}
    table = {
        words(row[0])[0]: row[1] for row in rows(section(SECURITY, "### The envelope of a record")) if len(row) == 2
    }

    # Clients keep this one, so it is never sealed again.
    assert {*contents.values(), SignInState} == {
        content for content in Content.__subclasses__() if content.__module__.startswith("src.")
    }
    assert {kind: len(content.model_fields) for kind, content in contents.items()} == {
        kind: len(sealed.split(", ")) for kind, sealed in table.items()
    }


def test_the_pre_hash_and_the_cost_of_a_password_are_as_documented() -> None:
    """Version, length and default cost are those of a real hash."""
    text = said(SECURITY, "### Passwords")
    cost = Settings(_env_file=None).bcrypt_cost

    assert f'"{passwords.hash_password("a password", 4).partition("$")[0]}$"' in text
    assert f"{len(passwords._prehash('a password'))} characters" in text
    assert f"cost is {cost} by default: {2**cost} rounds" in text


def test_access_tokens_are_as_documented() -> None:
    """Algorithm, claims, life and leeway are those of the code, on each page that mentions them."""
    text = section(SECURITY, "### Access tokens")
    life, leeway = access_tokens.LIFE.total_seconds(), signed_tokens.LEEWAY.total_seconds()
    stolen = said(SECURITY, "### Stolen tokens")

    assert set(access_tokens.REQUIRED) == {claim for row in rows(text) for claim in words(row[0])}
    assert f"Only {signed_tokens.ALGORITHM} is accepted" in text
    assert f"`{signed_tokens.ISSUER}`" in text
    assert f"{life:.0f} seconds later" in text
    assert f"for {life / 60:.0f} minutes, with {leeway:.0f} seconds of leeway" in stolen
    assert f"| {life / 60:.0f} minutes, and no longer than its session |" in section(API, "## Signing in")
    assert f'"expires_in":{life:.0f},' in section(API, "### POST /login")
    assert f"has {leeway:.0f} seconds of leeway" in said(API, "## Signing in")
    assert f"{life / 60:.0f} minutes, with {leeway:.0f} seconds of leeway" in said(
        COMPATIBILITY, "## Accounts and posts"
    )


def test_sign_ins_in_progress_are_as_documented() -> None:
    """Sizes and life are those of the code."""
    text = said(SECURITY, "### Sign-ins in progress")

    assert f"has {sealing.ID_BYTES + sealed_tokens.EXPIRY_BYTES} bytes" in text
    assert f"expires after {sign_in.LIFE.total_seconds() / 60:.0f} minutes" in text
    assert f"for {sign_in.LIFE.total_seconds() / 60:.0f} minutes" in said(API, "### GET /oidc/start")


def test_the_delay_of_revocation_is_as_documented() -> None:
    """The query interval and the maximum age are the constants; together they keep the promise."""
    stolen = said(SECURITY, "### Stolen tokens")
    life = sessions.MARK_LIFE.total_seconds() / 60

    assert f"every {sessions.REVOCATION_INTERVAL} seconds" in stolen
    assert f"older than {sessions.REVOCATION_STALE} seconds" in stolen
    assert "within 2 seconds" in stolen
    assert sessions.REVOCATION_STALE + sessions.REVOCATION_INTERVAL <= 2
    assert 1 == TOKEN_LOOKUP_SECONDS
    assert "at most once a second by each worker" in stolen
    assert f"{life:.0f} minutes later" in section(OPERATIONS, "## Collections")
    assert f"stay for about {life + 1:.0f} minutes" in said(SECURITY, "### Deleting an account")


def test_refresh_tokens_are_as_documented() -> None:
    """Prefix, parts and length are those of the code, and of a real token."""
    sizes = sizes_in("### Refresh tokens")
    token = RefreshToken.new().text
    form = f"`{access_tokens.PREFIX}` and {len(token) - len(access_tokens.PREFIX)} characters"

    assert {
        "session id": str(access_tokens.SESSION_ID_BYTES),
        "family": str(access_tokens.FAMILY_BYTES),
        "secret": str(access_tokens.SECRET_BYTES),
    } == sizes
    assert token.startswith(access_tokens.PREFIX)
    assert form in section(SECURITY, "### Refresh tokens")
    assert form in section(API, "## Signing in")


def test_api_tokens_are_as_documented() -> None:
    """Prefix, parts, length and the expression that finds them are those of the code, and of a real token."""
    sizes = sizes_in("### API tokens")
    token = api_tokens.new_api_token()
    form = f"`{api_tokens.PREFIX}` and {len(token) - len(api_tokens.PREFIX)} hexadecimal digits"
    expressions = re.findall(r"`(sp_\[.+?)`", read(API))

    assert {"secret": str(api_tokens.RANDOM_BYTES), "checksum": str(api_tokens.CHECKSUM_BYTES)} == sizes
    assert f"{form}, {len(token)} characters together" in section(SECURITY, "### API tokens")
    assert form in section(API, "## Signing in")
    assert f"{len(token)} characters" in section(API, "### POST /tokens")
    assert 1 == len(expressions)
    assert re.fullmatch(expressions[0], token)


def test_the_limits_per_user_are_as_documented() -> None:
    """The numbers of sessions and API tokens of a user, wherever a page has them."""
    assert f"has {sessions.MOST_SESSIONS} sessions already" in section(API, "## Signing in")
    assert f"may have {sessions.MOST_SESSIONS}." in section(API, "### GET /sessions")
    assert f"may have {accounts_service.MOST_TOKENS}." in section(API, "### POST /tokens")
    assert f"has {accounts_service.MOST_TOKENS} API tokens" in section(API, "## Errors")


def test_the_limits_of_invitations_are_as_documented() -> None:
    """Numbers, lives and sizes are the constants, on each page that mentions them."""
    inviting, days = section(API, "### POST /invitations"), invitations.LONGEST_LIFE.days
    size = len(invitations.new_invitation())

    assert f"At most {invitations.MOST_INVITATIONS:,} invitations" in inviting
    assert f"| 1 to {invitations.MOST_USES} | 1 |" in inviting
    assert f"| 1 to {days} | {invitations.DEFAULT_LIFE.days} |" in inviting
    assert f"`--days` the days until it expires (1 to {days}," in section(OPERATIONS, "## Users")
    assert f"the invitation: {size} characters" in inviting
    assert f"{size} characters together: {invitations.RANDOM_BYTES} random bytes" in section(
        SECURITY, "### Invitations"
    )


def test_the_limits_on_credentials_are_as_documented() -> None:
    """The API page has each with its default, and the other pages agree."""
    defaults = {
        PREFIX + name.upper(): field.default for name, field in Settings.model_fields.items() if "limit_" in name
    }
    stored = defaults.pop("SEALPOST_LIMIT_CREATE_BYTES")
    limits = {words(row[3])[0]: row[2] for row in rows(section(API, "## Signing in")) if len(row) == 4}
    registering, failing = (defaults[f"SEALPOST_LIMIT_{name}"].split()[0] for name in ("REGISTER", "LOGIN_ACCOUNT"))

    assert {name: default.replace(" per ", " in ") for name, default in defaults.items()} == limits
    assert f"{stored}, the setting `SEALPOST_LIMIT_CREATE_BYTES`" in said(API, "## General rules")
    assert f"{failing} wrong passwords" in said(SECURITY, "### Guessing passwords")
    assert f"has {registering} tries in 1 hour" in said(SECURITY, "### What the answers tell")


def test_the_limits_of_posts_are_as_documented() -> None:
    """Sizes, page and spans are the constants, wherever a page has the number."""
    publishing, listing = section(API, "### POST /posts"), section(API, "### GET /posts")
    days = service.LONGEST_LIFE.days

    assert f"| string, 1 to {schemas.LONGEST_TITLE} characters |" in publishing
    assert f"| string, 1 to {schemas.LONGEST_CONTENT} characters |" in publishing
    assert f"at most {days} days" in publishing
    assert f"[{days} days]" in section(OPERATIONS, "### Links and lifetimes")
    assert f"up to {days} days" in str(schemas.CreatePost.model_fields["ttl"].description)
    assert f"| 1 to {schemas.LARGEST_PAGE} | {schemas.FeedQuery.model_fields['limit'].default} |" in listing
    assert f"at most {analytics.LONGEST_SPAN.days - 1} days after it" in section(API, "### GET /posts/analytics")
    assert f"at most {analytics.LONGEST_SPAN.days - 1} days" in str(
        schemas.AnalyticsQuery.model_fields["last"].description
    )
    assert f"{store.NEVER:%Y-%m-%d} stands for" in section(ARCHITECTURE, "## What is stored")


def test_cursors_and_ids_of_posts_are_as_documented() -> None:
    """Sizes in `docs/security.md` are those of the constants and of real ones."""
    text = said(SECURITY, "### Cursors")
    sizes = sizes_in("### Cursors")
    cursor = feed.write_cursor(KeyRing([("k", bytes(KEY_BYTES))]), bytes(feed.ID_BYTES), None)

    assert {"post id": str(feed.ID_BYTES), "mac": str(MAC_BYTES)} == sizes
    assert f"Together {feed.ID_BYTES + MAC_BYTES} bytes, {len(cursor)} characters" in text
    assert f"{len(cursor)} characters; null on the last page" in section(API, "### GET /posts")
    assert f"| {feed.ID_BYTES * 2} hexadecimal digits, a UUID of version 7" in section(API, "### POST /posts")


def test_tls_is_as_documented() -> None:
    """Suites, HSTS and the life of a self-signed certificate are those of the code, on every page."""
    table = {row[0]: row[1] for row in rows(section(SECURITY, "## TLS")) if len(row) == 2}
    made = said(OPERATIONS, "### A self-signed certificate")

    assert list(certificates.CIPHERS) == words(table["suites of TLS 1.2"])
    assert [edge.STRICT_TRANSPORT] == words(table["`Strict-Transport-Security`"])
    assert f"| `Strict-Transport-Security` | over TLS only: `{edge.STRICT_TRANSPORT}` |" in read(API)
    assert f"`Strict-Transport-Security: {edge.STRICT_TRANSPORT}`" in said(OPERATIONS, "## TLS")
    assert f"valid for {self_signed.LIFE.days} days" in made
    assert f"within the last {self_signed.RENEWAL.days} of them" in made
    assert f"the last {self_signed.RENEWAL.days} days of its life" in said(COMPOSE, "## TLS in the containers")


def test_the_requests_that_replace_older_ones_exist() -> None:
    """Each request on the compatibility page is one of the API, and each link goes to it."""
    text = read(COMPATIBILITY)
    named = set(re.findall(r"\[`((?:GET|POST|PUT|DELETE) /[^`]*)`\]\(api\.md#", text))

    assert set() == named - set(documented_routes())
    assert {f"{request} /posts" for request in ("GET", "POST")} <= named
    assert "docs/compatibility.md" in read(README)


def test_the_gatherer_is_as_documented() -> None:
    """Lives, sizes and claims are the constants, wherever a page has them."""
    overview, sending = said(API, "## The gatherer"), section(API, "### POST /message")
    claims = section(SECURITY, "### Tokens of senders")
    minutes, seconds = sender_states.LIFE.total_seconds() / 60, sender_states.TOKEN_LIFE.total_seconds()
    reserved, leeway = users.RESERVATION.total_seconds() / 60, signed_tokens.LEEWAY.total_seconds()
    stricter = said(COMPATIBILITY, "## The gatherer")

    assert f"has {minutes:.0f} minutes for the next step" in overview
    assert f"may send for {seconds:.0f} seconds" in overview
    assert f"{leeway:.0f} seconds of leeway" in " ".join(sending.split())
    assert f"after {seconds + leeway:.0f} seconds" in " ".join(sending.split())
    assert f"over {seconds:.0f} seconds old, with {leeway:.0f} seconds of leeway" in stricter
    assert f"after {seconds + leeway:.0f} seconds" in stricter
    assert f"kept for {reserved:.0f} minutes" in overview
    assert f"{reserved:.0f} minutes after the last `/identify`" in section(OPERATIONS, "## Collections")
    assert f'"expires_in":{seconds:.0f}}}' in section(API, "### POST /authenticate")
    assert f"| 1 to {gatherer_schemas.MOST_MESSAGES} strings |" in sending
    assert f"| string, 1 to {gatherer_schemas.LONGEST_BATCH_ID} characters |" in sending
    assert f"over {seconds:.0f} seconds old" in sending
    assert set(sender_states.REQUIRED) == {claim for row in rows(claims) for claim in words(row[0])}
    assert f"`{sender_states.AUDIENCE}`" in claims
    assert f"{seconds:.0f} seconds later" in claims
    assert f"in {bundle.POSITION_BYTES} bytes" in section(ARCHITECTURE, "## What is stored")
    assert 60 == STALL_SECONDS
    assert "reads nothing for a minute is disconnected" in said(API, "### GET /gathered")


def test_the_policy_of_a_page_is_as_documented() -> None:
    """`docs/security.md` has each directive of a real page's policy, and no other."""
    policy = page_response(Page(title="", body="", style="")).headers["Content-Security-Policy"]
    text = section(SECURITY, "### The page of a message")

    assert {one for one in policy.split("; ") if not one.startswith("style-src ")} == {
        word for word in words(text) if " '" in word
    }
    assert re.search(r"style-src 'sha256-[\w+/]+='", policy)
    assert "SHA-256 hash" in text


def test_the_life_of_a_session_is_as_documented() -> None:
    """The description of the tokens has the default in days."""
    days = Settings(_env_file=None).session_ttl // 86400

    assert f"The {days} days are the setting `SEALPOST_SESSION_TTL`" in said(API, "## Signing in")


def test_the_collections_are_as_documented() -> None:
    """The table of `docs/operations.md` has each collection, its TTL field, and its other indexes."""
    indexes = {
        collection: [one.document for one in models]
        for name in modules()
        for collection, models in getattr(importlib.import_module(name), "INDEXES", {}).items()
    }
    by_time, others = (
        {
            collection: {" ".join(one["key"]) for one in documents if ("expireAfterSeconds" in one) == expiring}
            for collection, documents in indexes.items()
        }
        for expiring in (True, False)
    )
    table = rows(section(OPERATIONS, "## Collections"))

    assert by_time == {words(row[0])[0]: set(words(row[2])) for row in table}
    assert others == {words(row[0])[0]: set(words(row[4])) for row in table}


def commands() -> dict[str, list[Any]]:
    """Return the parameters of the operator's commands by name, those of a group as `group command`."""
    group = get_command(manage.app)

    assert isinstance(group, Group)
    return {
        f"{name} {inner_name}".strip(): inner.params
        for name, command in group.commands.items()
        for inner_name, inner in (command.commands if isinstance(command, Group) else {"": command}).items()
    }


def typed_commands(text: str) -> list[tuple[str, str]]:
    """Return the command lines after `src.manage`: each command's name, and the rest of the line."""
    return re.findall(r"src\.manage ((?:[a-z]+ [a-z-]+|[a-z]+)\b)(?: ([^\n`]*))?", text)


def test_the_commands_of_the_operator_are_as_documented() -> None:
    """`docs/operations.md` has exactly the commands, with all their options and arguments."""
    served = {
        name: {
            option if option.startswith("--") else str(parameter.metavar)
            for parameter in parameters
            for option in parameter.opts
            if option != "--help"
        }
        for name, parameters in commands().items()
    }
    lines = "\n".join(re.findall(r"(?m)^    \.venv/bin/python -m (src\.manage .*)$", read(OPERATIONS)))
    described = {words(row[0])[0] for heading in COMMANDS for row in rows(section(OPERATIONS, heading))}

    assert served == {
        name: set(re.findall(r"--[\w-]+|\[[A-Z]+\]\.\.\.|[A-Z]+", re.sub(r"(--[\w-]+) [A-Z]+", r"\1", rest)))
        for name, rest in typed_commands(lines)
    }
    assert set(served) == described | {"purge", "doctor", "restart"}


async def test_the_checks_of_the_doctor_are_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of `docs/operations.md` has each by name, in order, with its limits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "configure_logs", lambda *_: None)
    text = section(OPERATIONS, "## Doctor")
    table = {tuple(words(row[0])): " ".join(row[1:]) for row in rows(text)}
    names = [finding.check async for finding in doctor.examine_all(None, {})]
    room = f"{disk.SCANT_BYTES / disk.GIB} GiB"

    assert [name for name in names if name not in {"worker 2", "worker 3"}] == [name for row in table for name in row]
    assert f"longer than {examination.LIMIT:.0f} s" in text
    assert f"`keys in use`: {database.SCAN_SECONDS + 1:.0f} s" in text
    assert f"longer than {database.SCAN_SECONDS:.0f} s" in table["keys in use",]
    assert f"is {'.'.join(map(str, database.OLDEST))} or later" in table["MongoDB version",]
    fixed = ", ".join(f"{major}.{minor}.{patch}" for (major, minor), patch in mongodb.FIRST_FIXED.items())
    assert f"{mongodb.CVE} ({fixed} or later)" in table["MongoDB patches",]
    assert f"tested with MongoDB {database.TESTED}" in section(OPERATIONS, "## MongoDB")
    assert f"within {database.SLOW_SECONDS * 1000:.0f} ms" in table["round trip",]
    assert f"by {mongodb.WARNED_APART.seconds} s at the most. Over {MOST_APART.seconds} s" in table["clock",]
    for name in ("certificate files", "certificate"):
        assert f"for {examined_certificates.SOON.days} more days" in table[name,]
    for row in (table["MongoDB space",], table["data directory", "log directory"]):
        assert room in row
        assert f"Under {disk.TOO_FEW_BYTES / disk.GIB} GiB" in row
    assert f"{disk.SCANT_FILES} files (inodes) left" in table["data directory", "log directory"]
    assert f"or {disk.TOO_FEW_FILES} files" in table["data directory", "log directory"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_operator_exists(page: Path) -> None:
    """Every `src.manage` command on a page exists."""
    assert set() == {name for name, _ in typed_commands(read(page))} - set(commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page: Path) -> None:
    """Every `make` command on a page names a target of the Makefile."""
    typed = set(re.findall(r"(?m)(?:`|^\$ |^    )make ([a-z-]+)", read(page)))

    assert set() == typed - set(re.findall(r"(?m)^([a-z-]+):", read(ROOT / "Makefile")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_internal_link_resolves(page: Path) -> None:
    """Each relative link names a file that exists, and each anchor a heading in it."""
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", read(page)):
        path = (page.parent / target).resolve() if target else page

        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}#{anchor}"


@pytest.mark.parametrize("page", [CONTRIBUTING, SOURCE_MAP], ids=lambda page: page.name)
def test_every_path_of_the_source_exists(page: Path) -> None:
    """The files and directories in the source map and the recipes of CONTRIBUTING exist."""
    paths = set(re.findall(r"`((?:src|tests|bench|confs|docs)/[^`<>]*)`", read(page)))

    assert len(paths) > 20
    assert set() == {path for path in paths if not any(ROOT.glob(path.rstrip("/")))}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    return {anchor_of(heading) for heading in re.findall(r"(?m)^#+ (.+)$", read(page))}


def anchor_of(heading: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_chunks_of_files_are_as_documented() -> None:
    """Sizes and the test vector in `docs/security.md` are those of the code."""
    text = section(SECURITY, "### Chunks of files")
    sizes, vector = sizes_in("### Chunks of files"), {row[0]: words(row[1])[0] for row in rows(text) if len(row) == 2}
    sealer = ChunkSealer(KeyRing([("k", bytes(range(0x60, 0x80)))]), bytes(range(0x20, 0x40)))

    assert {
        "version": str(len(chunk_sealing.VERSION)),
        "nonce": str(sealing.NONCE_BYTES),
        "ciphertext": f"1 to {chunk_sealing.CHUNK_BYTES}",
        "tag": str(chunk_sealing.TAG_BYTES),
    } == sizes
    assert sealer.upload_id.hex() == vector["upload id"]
    assert b"abc" == sealer.open(bytes.fromhex(vector["chunk"]), key_id="k", start=0, size=3)


def test_uploads_and_downloads_are_as_documented() -> None:
    """Lives, limits and protocol of uploads and downloads are the constants, wherever a page has them."""
    overview, capabilities = said(API, "## Files"), said(API, "### OPTIONS /files")
    sending = said(API, "### PATCH /files/{upload_key}")

    assert f"expires {uploads.LIFE.days} day after its creation" in overview
    assert f"add {uploading.SEGMENT_OVERHEAD} bytes to each {uploading.SEGMENT_BYTES // 1024} KiB" in overview
    assert f"`Tus-Version: {headers.VERSION}`" in capabilities
    assert f"`Tus-Extension: {','.join(file_routes.EXTENSIONS)}`" in capabilities
    assert f"`Tus-Checksum-Algorithm: {','.join(headers.ALGORITHMS)}`" in capabilities
    assert f"`Content-Type: {file_routes.MEDIA_TYPE}`" in sending
    assert f"at least {streamed_bodies.STALL_BYTES // 1024} KiB per minute" in said(
        API, "### PATCH /files/{upload_key}"
    )
    assert 60 == streamed_bodies.STALL_SECONDS
    assert f"{uploading.UPLOADS_AT_ONCE} uploads at once" in said(OPERATIONS, "### Files")
    assert f"sends {downloads.DOWNLOADS_AT_ONCE} files at once" in said(OPERATIONS, "### Files")
    assert f"less than {PIECE_BYTES // 1024} KiB in a minute" in said(
        API, "### GET /secrets/{secret_key}/files/{file_id}"
    )
    assert f"as at least {uploading.LEAST_CHARGE // 1024} KiB" in said(OPERATIONS, "### Storage")
    assert f"reserves it for {RESERVATION.seconds} seconds" in said(ARCHITECTURE, "## What is stored")
