"""The wheel: a client that installs and runs without the server, and a server that is an extra."""

import asyncio
import os
import re
import sys
import tomllib
import venv
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

import src
from src.client.manual import write_manual

from ..processes import PATIENCE, ROOT

IMPORT_EVERYTHING = """
import sys
from importlib import import_module
from pathlib import Path

for path in sorted(Path("src/client").rglob("*.py")):
    if path.stem != "__main__" and path.name != "__init__.py":
        import_module(".".join(path.with_suffix("").parts))
print(*{name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names)
"""
OF_THE_TESTS = {"coverage", "setuptools"}
"""Distributions that are loaded by the environment and not by the client."""
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "man", "src")


def name_of(requirement: str) -> str:
    """Return the normalized name of a requirement."""
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def closure(requirements: list[str]) -> set[str]:
    """Return the names of distributions and of all that they require."""
    found: set[str] = set()
    left = [name_of(one) for one in requirements]
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            with suppress(PackageNotFoundError):  # for another system, or another Python
                left += [name_of(one) for one in requires(name) or [] if "extra ==" not in one]
    return found


async def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a program that has to succeed, and return its stdout."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE * 3)

    assert 0 == process.returncode, err.decode()
    return out.decode()


async def test_the_client_imports_nothing_outside_its_dependencies() -> None:
    """Each distribution that it loads is one of `dependencies`, or required by one; those of the server are extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    imported = (await run(sys.executable, "-c", IMPORT_EVERYTHING)).split()
    distributions = packages_distributions()
    loaded = {name_of(one) for name in imported for one in distributions.get(name, [])}

    assert set() == loaded - closure(project["dependencies"]) - OF_THE_TESTS
    assert {name_of(one) for one in project["dependencies"]} <= loaded | {"rich"}
    assert set() == {name_of(one) for one in project["optional-dependencies"]["server"]} & loaded


def test_the_manual_page_is_that_of_the_help() -> None:
    """`make man` has been called after the last change."""
    assert write_manual() == (ROOT / "man" / "sealpost.1").read_text()


@pytest.mark.package
async def test_the_wheel_brings_the_client_and_the_server_as_an_extra(tmp_path: Path) -> None:
    """Version, help and manual page without the server; with the extra, the server can be imported."""
    uv = Path(sys.executable).with_name("uv")
    source = tmp_path / "source"
    source.mkdir()
    # A build leaves files beside the code.
    await run("cp", "-R", *SOURCE, source)
    await run(uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, cwd=source)
    wheel = next(tmp_path.glob("sealpost-*.whl"))
    venv.create(tmp_path / "client", with_pip=False)
    python = tmp_path / "client" / "bin" / "python"
    await run(uv, "pip", "install", "--quiet", "--python", python, wheel)
    program = python.with_name("sealpost")

    assert f"sealpost {src.__version__}\n" == await run(program, "--version", cwd=tmp_path)
    assert "Options for every command" in await run(program, "--help", cwd=tmp_path)
    assert (ROOT / "man" / "sealpost.1").read_text() == (
        tmp_path / "client" / "share" / "man" / "man1" / "sealpost.1"
    ).read_text()
    installed = await run(uv, "pip", "freeze", "--quiet", "--python", python)
    assert set() == {"motor", "pymongo", "supervisor", "uvloop"} & {
        line.partition("==")[0] for line in installed.splitlines()
    }
    await run(uv, "pip", "install", "--quiet", "--python", python, f"sealpost[server] @ {wheel.as_uri()}")
    await run(python, "-c", "import sealpost.app, sealpost.stack, sealpost.manage", cwd=tmp_path)
