"""The OpenAPI document, tested against the server that it describes."""

import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from src.api.openapi import openapi_document
from src.api.routing import Header, Route
from src.pages import examples

from .conftest import Api
from .processes import ROOT, run_app
from .uploads import MEDIA_TYPE

Answers = dict[tuple[str, str], Counter[int]]
RunSchemathesis = Callable[..., Awaitable[Answers]]

EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "50")
"""Maximum examples of each operation and phase."""


async def test_the_document_describes_every_route(api: Api) -> None:
    """It has exactly the served routes, including its own."""
    app = api.client.app
    assert app is not None
    served = {(route.method.lower(), route.resource.canonical) for route in app.router.routes() if route.resource}
    # Each GET route also answers HEAD.
    served -= {("head", path) for method, path in served if method == "get"}

    document = (await api.send("GET", "/openapi.json")).json()

    assert "3.1.0" == document["openapi"]
    assert served == {(method, path) for path, methods in document["paths"].items() for method in methods}
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert {"429", "503"} <= set(operation["responses"])


async def test_every_reference_resolves(api: Api) -> None:
    """No schema is missing or unused."""
    text = (await api.send("GET", "/openapi.json")).body.decode()
    document = (await api.send("GET", "/openapi.json")).json()

    used = set(re.findall(r'"\$ref": ?"([^"]*)"', text))
    assert {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} == used


async def test_every_field_has_a_meaning(api: Api) -> None:
    """Each parameter, and each field of a body or answer, has a description."""
    document = (await api.send("GET", "/openapi.json")).json()
    operations = {
        f"{method} {path}": one for path, methods in document["paths"].items() for method, one in methods.items()
    }
    fields = {
        f"{schema}.{name}": field
        for schema, described in document["components"]["schemas"].items()
        for name, field in described.get("properties", {}).items()
    }

    assert [] == [
        (name, parameter["name"])
        for name, operation in operations.items()
        for parameter in operation.get("parameters", [])
        if not (parameter.get("description") or parameter["schema"].get("description"))
    ]
    assert [] == [name for name, field in fields.items() if not field.get("description")]


async def test_every_body_has_an_example(api: Api) -> None:
    """Each type of a body has an example that contains only its fields, and all that are required."""
    document = (await api.send("GET", "/openapi.json")).json()
    schemas = document["components"]["schemas"]
    bodies = {
        content["schema"]["$ref"].rpartition("/")[2]
        for methods in document["paths"].values()
        for operation in methods.values()
        for media_type, content in operation.get("requestBody", {"content": {}})["content"].items()
        # The content of a file has no fields.
        if media_type != MEDIA_TYPE
    }

    assert len(bodies) > 10
    for name in bodies:
        for example in schemas[name]["examples"]:
            assert set(schemas[name].get("required", ())) <= set(example) <= set(schemas[name]["properties"]), name


def test_header_fields_and_files_are_described() -> None:
    """A header field is a parameter, and a file has any type; the command for both is complete."""

    async def handler(_: web.Request, __: None) -> None: ...

    headers = {
        "Sealpost-Reader": Header("The key.", "$READER", "^[A-Z]+$", is_required=True),
        "Range": Header("A part."),
    }
    route = Route[None](
        method="GET", path="/file", tag="test", summary="Get", handler=handler, headers=headers, is_file=True
    )

    document = openapi_document([route]).model_dump()

    operation = document["paths"]["/file"]["get"]
    key, part = operation["parameters"]
    assert ("Sealpost-Reader", "header", True, "The key.") == tuple(
        key[member] for member in ("name", "in", "required", "description")
    )
    assert {"type": "string", "pattern": "^[A-Z]+$", "examples": ["$READER"]} == key["schema"]
    assert ("Range", False, {"type": "string"}) == (part["name"], part["required"], part["schema"])
    assert ["*/*"] == list(operation["responses"]["200"]["content"])
    assert f'curl -OJ "{examples.ORIGIN}/file" \\\n  -H "Sealpost-Reader: $READER"' == examples.example(
        "GET", "/file", operation, {}
    )


NEVER_DONE = {("POST", "/passkeys"), ("DELETE", "/me/password")}
"""Operations that need a passkey, which only a browser can create."""


@pytest.mark.fuzz
async def test_schemathesis_finds_no_violation(run_schemathesis: RunSchemathesis) -> None:
    """Examples, boundary values, fuzzing and stateful runs against a live server: every response is as documented."""
    answers = await run_schemathesis()

    assert ("GET", "/me") in answers
    # Creation accepts a token, but does not require one.
    assert all(statuses[401] or statuses[201] for statuses in answers.values()), answers


@pytest.mark.fuzz
async def test_schemathesis_finds_no_violation_with_credentials(run_schemathesis: RunSchemathesis) -> None:
    """The same as a signed-in user, whose protected operations all succeeded."""
    answers = await run_schemathesis(SEALPOST_ANONYMOUS_CREATE="false", SCHEMATHESIS_HOOKS="tests.schemathesis_auth")
    let_in = {operation: statuses.total() - statuses[401] for operation, statuses in answers.items()}

    assert ("POST", "/generate") in answers
    assert 0 < min(let_in.values()), answers
    assert sum(let_in.values()) > sum(statuses.total() for statuses in answers.values()) / 4
    for (method, path), statuses in answers.items():
        # An existing id has to come from an earlier response, which does not happen in every run.
        if "{" not in path and (method, path) not in NEVER_DONE:
            assert {200, 201, 204} & set(statuses), (method, path, statuses)


@pytest.fixture
def run_schemathesis(mongo_directory: Path, tmp_path: Path, unused_tcp_port: int) -> RunSchemathesis:
    """Run schemathesis against a server, and return the number of responses of each protected operation by status."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    log = tmp_path / "log"
    defaults = {
        "SEALPOST_DATA_DIR": str(mongo_directory),
        "SEALPOST_MONGO_DATABASE": f"test-{tmp_path.name[-30:]}",
        "SEALPOST_LOG_FILE": str(log),
        "SEALPOST_HASHING_QUEUE": "1000",
        "SEALPOST_BCRYPT_COST": "4",
        "SEALPOST_RATE_LIMITS": "off",
        "SCHEMATHESIS_HOOKS": "tests.schemathesis_media",
    }

    async def run(**environment: str) -> Answers:
        environment = {**defaults, **environment}
        output = tmp_path / "out"
        async with run_app("-P", str(unused_tcp_port), url=url, output=output, environment=environment) as app:
            await app.ready()
            async with aiohttp.ClientSession() as session, session.get(f"{url}/openapi.json") as answer:
                document = await answer.json()
            process = await asyncio.create_subprocess_exec(
                *(Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json"),
                *(
                    "--continue-on-failure",
                    "--max-examples",
                    EXAMPLES,
                    "--checks",
                    "all",
                    "--report-dir",
                    tmp_path,
                ),
                cwd=ROOT,
                # Tracing schemathesis would double its time, and its code is not measured.
                env={n: v for n, v in {**os.environ, **environment}.items() if not n.startswith("COVERAGE_")},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            printed, _ = await process.communicate()
        operations = {
            (method.upper(), path): "security" in operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }
        answers: Answers = {operation: Counter() for operation, guarded in operations.items() if guarded}
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if (operation := (entry.get("method"), entry.get("route"))) in answers:
                answers[operation][entry["status"]] += 1

        assert 0 == process.returncode, printed.decode()[-5000:]
        # Schemathesis does not request the document itself.
        assert f"{len(operations) - 1} selected / {len(operations) - 1} total" in printed.decode()
        assert "unexpected error" not in log.read_text()
        return answers

    return run
