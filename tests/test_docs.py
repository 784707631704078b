"""The documentation says what the code does: settings, routes, fields, errors, log lines, formats, links."""

import ast
import functools
import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

import src
from src.core import sealing
from src.core.keys import KEY_BYTES, KeyRing
from src.core.sealing import Link, Sealer
from src.errors import Problem
from src.sealed import receipt_key
from src.sealed.items import TERMS
from src.settings import PREFIX, SECRETS, Settings, read_settings
from src.stack import nginx

ROOT = Path(__file__).parents[1]
README, ENV_EXAMPLE = ROOT / "README.md", ROOT / ".env.example"
API, OPERATIONS, SECURITY = (ROOT / "docs" / name for name in ("api.md", "operations.md", "security.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = {PREFIX + name.upper(): field for name, field in Settings.model_fields.items()}
FILE_FORMS = {PREFIX + name.upper() + "_FILE" for name in SECRETS}
METHODS = {"get", "post", "put", "patch", "delete"}

Client = TestClient[web.Request, web.Application]


@functools.cache
def read(page: Path) -> str:
    """Return the text of a page."""
    return page.read_text(encoding="utf-8")


def section(page: Path, heading: str) -> str:
    """Return the text under a heading, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = f"\n{read(page)}".partition(f"\n{heading}\n")

    assert found, f"{page.name} has no heading {heading}"
    return re.split(rf"(?m)^#{{1,{level}}} ", rest)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of each table row, heads and rules left out."""
    lines = text.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    heads = {index - 1 for index, line in enumerate(lines) if line.startswith("| ---")}
    head_cells = [[cell.strip() for cell in lines[index].strip("|").split("|")] for index in heads]
    return [row for row in cells if row not in head_cells and not row[0].startswith("---")]


def words(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def default_of(name: str) -> str:
    """Return a setting's default as it would be written; empty for none, and for one that depends on the machine."""
    default = SETTINGS[name].default
    return "" if default is None or SETTINGS[name].default_factory else str(default)


def documented_settings() -> dict[str, list[str]]:
    """Return the rows of the settings tables by name."""
    return {words(row[0])[0]: row for row in rows(section(OPERATIONS, "## Settings")) if len(row) == 4}


def modules() -> list[str]:
    """Name every module of the application that can be imported without starting something."""
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
    """Return the first argument of each call that logs: its function is `log.<level>` or `level`."""
    events = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not re.match(r"(log\.|level$|_?logger\.)", ast.unparse(node.func)):
                continue
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            events |= {text for text in texts if isinstance(text, str)}
    return events


async def operations(client: Client) -> dict[str, Any]:
    """Return the operations of the served OpenAPI document by "METHOD /path"."""
    async with client.get("/openapi.json") as response:
        document = await response.json()

    def resolve(content: dict[str, Any]) -> set[str]:
        if not content:
            return set()
        name = next(iter(content["content"].values()))["schema"]["$ref"].rpartition("/")[2]
        return set(document["components"]["schemas"][name].get("properties", {}))

    return {
        f"{method.upper()} {path}": {
            "request": resolve(operation.get("requestBody", {})),
            "answer": set().union(
                *(
                    resolve(answer)
                    for status, answer in operation["responses"].items()
                    if status < "300" and "content" in answer
                )
            ),
            "codes": set(re.findall(r"`(\w+)`:", " ".join(a["description"] for a in operation["responses"].values()))),
        }
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def documented_routes() -> dict[str, str]:
    """Return the section of each route in the API page."""
    headings = re.findall(r"(?m)^### ((?:GET|POST|PUT|PATCH|DELETE) /\S*)$", read(API))
    return {heading: section(API, f"### {heading}") for heading in headings}


def test_every_setting_stands_in_the_example_with_its_default() -> None:
    """`.env.example` has each setting, and the file form of each secret, and nothing else."""
    found = dict(re.findall(r"(?m)^#(SEALPOST_\w+)=(.*)$", read(ENV_EXAMPLE)))

    assert {name: default_of(name) for name in SETTINGS} | dict.fromkeys(FILE_FORMS, "") == found


def test_the_example_is_all_comments() -> None:
    """Copying `.env.example` changes nothing until somebody takes a # off."""
    assert [] == [line for line in read(ENV_EXAMPLE).splitlines() if line and not line.startswith("#")]


def test_the_example_loads_when_every_line_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every # taken off, the settings are the defaults."""
    (tmp_path / ".env").write_text(re.sub(r"(?m)^#(?=SEALPOST_)", "", read(ENV_EXAMPLE)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert Settings(_env_file=None) == read_settings()


def test_every_setting_stands_in_the_operators_table_with_its_default() -> None:
    """The tables of `docs/operations.md` have each setting once and no other."""
    found = {name: "".join(words(row[1])) for name, row in documented_settings().items()}

    assert {name: default_of(name) for name in SETTINGS} == found


@pytest.mark.parametrize("name", SETTINGS)
def test_the_operators_table_has_the_bounds(name: str) -> None:
    """What a setting's "allowed" column says is what validation allows."""
    bounds = {
        str(value)
        for constraint in SETTINGS[name].metadata
        for bound in ("ge", "gt", "le", "lt")
        if (value := getattr(constraint, bound, None)) is not None
    }
    allowed = documented_settings()[name][2]
    choices = {choice for choice in getattr(SETTINGS[name].annotation, "__args__", ()) if isinstance(choice, str)}

    if bounds:
        assert bounds == set(re.findall(r"\d+", re.sub(r"`[^`]*`", "", allowed)))
    if choices:
        assert choices == set(words(allowed))


@pytest.mark.parametrize("page", [*PAGES, ENV_EXAMPLE], ids=lambda page: page.name)
def test_no_page_names_a_setting_that_does_not_exist(page: Path) -> None:
    """Each name that begins with the prefix is a setting, or the file form of one."""
    assert set() == set(re.findall(r"SEALPOST_[A-Z0-9_]+\b", read(page))) - set(SETTINGS) - FILE_FORMS


async def test_every_route_is_documented_and_no_other(client: Client) -> None:
    """The API page has a section for each route that is served, and for none that is not."""
    assert set(await operations(client)) == set(documented_routes())


async def test_the_readme_lists_the_routes(client: Client) -> None:
    """The overview in the README has the same routes."""
    assert set(await operations(client)) == {words(row[0])[0] for row in rows(section(README, "## API"))}


async def test_the_fields_of_a_request_are_documented(client: Client) -> None:
    """Each section's table of fields has those of the request's type, and no other."""
    served = {name: operation["request"] for name, operation in (await operations(client)).items()}
    documented = {
        name: {word for row in rows(text) if len(row) == 4 for word in words(row[0])}
        for name, text in documented_routes().items()
    }

    assert served == documented


async def test_the_members_of_an_answer_are_documented(client: Client) -> None:
    """Each section's table of members, if it has one, has those of the answer's type, and no other."""
    served = await operations(client)
    for name, text in documented_routes().items():
        if documented := {word for row in rows(text) if len(row) == 2 for word in words(row[0])}:
            assert served[name]["answer"] == documented, name


async def test_the_errors_of_a_route_are_documented(client: Client) -> None:
    """Each section's list of errors is the route's, those left out that every route may answer."""
    everywhere = {"too_many", "unavailable"}
    served = {name: operation["codes"] - everywhere for name, operation in (await operations(client)).items()}
    documented = {
        name: {code for line in re.findall(r"(?m)^Errors: (.+)$", text) for code in words(line)} - everywhere
        for name, text in documented_routes().items()
    }

    assert served == documented


async def test_the_examples_have_the_shape_of_what_they_show(client: Client) -> None:
    """Each JSON example of a route is a request, an answer or a problem."""
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


def test_the_labels_of_derivations_are_as_documented() -> None:
    """Each label that `docs/security.md` quotes stands in the code."""
    code = "".join(read(ROOT / "src" / "core" / name) for name in ("sealing.py", "keys.py"))
    labels = set(re.findall(r'"(sealpost/v1/[\w-]+|\+phrase)"', read(SECURITY)))

    assert {"sealpost/v1/item-id", "sealpost/v1/item", "+phrase", "sealpost/v1/seal", "sealpost/v1/receipt"} == labels
    assert {"sealpost/v1/item-id", "sealpost/v1/item", "sealpost/v1/", "+phrase"} <= set(
        re.findall(r'b"([^"]+)"', code)
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
        "version": len(receipt_key.VERSION),
        "item id": sealing.ID_BYTES,
        "created at": receipt_key.TIME_BYTES,
        "expires at": receipt_key.TIME_BYTES,
        "mac": receipt_key.MAC_BYTES,
    } == sizes
    assert f"Together {sum(sizes.values())} bytes, {sum(sizes.values()) * 4 // 3} characters" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page: Path) -> None:
    """What a page tells to type is a target of the Makefile."""
    typed = set(re.findall(r"(?m)(?:`|^\$ |^    )make ([a-z-]+)", read(page)))

    assert set() == typed - set(re.findall(r"(?m)^([a-z-]+):", read(ROOT / "Makefile")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_leads_somewhere(page: Path) -> None:
    """Each relative link names a file that exists, and each anchor a heading in it."""
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", read(page)):
        path = (page.parent / target).resolve() if target else page

        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings get."""
    headings = re.findall(r"(?m)^#+ (.+)$", read(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
