"""The OpenAPI document, against the server that it describes."""

import asyncio
import sys
from pathlib import Path

from .conftest import Api
from .processes import ROOT, run_app


async def test_the_document_describes_every_route(api: Api) -> None:
    """What is served is documented and what is documented is served, itself included."""
    app = api.client.app
    assert app is not None
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"
    }

    document = (await api.send("GET", "/openapi.json")).json()

    assert "3.1.0" == document["openapi"]
    assert served == {(method, path) for path, methods in document["paths"].items() for method in methods}
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert {"429", "503"} <= set(operation["responses"])


async def test_every_reference_resolves(api: Api) -> None:
    """No schema is missing, and none stands there unused."""
    text = (await api.send("GET", "/openapi.json")).body.decode()
    document = (await api.send("GET", "/openapi.json")).json()

    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text


async def test_schemathesis_finds_no_violation(mongo_directory: Path, tmp_path: Path, unused_tcp_port: int) -> None:
    """Examples, boundary values, fuzzing and stateful runs against a live server: every answer is as documented."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    environment = {
        "SEALPOST_DATA_DIR": str(mongo_directory),
        "SEALPOST_MONGO_DATABASE": "test-schemathesis",
        "SEALPOST_HASHING_QUEUE": "1000",
    }
    async with run_app("-P", str(unused_tcp_port), url=url, output=tmp_path / "out", environment=environment) as app:
        await app.ready()
        run = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json", "--continue-on-failure"),
            *("--max-examples", "60", "--checks", "all", "--report-dir", tmp_path),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await run.communicate()

    assert 0 == run.returncode, printed.decode()[-5000:]
    assert b"7 selected / 7 total" in printed
    assert b"unexpected error" not in (tmp_path / "out").read_bytes()
