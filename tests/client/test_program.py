"""The program as a whole: what it loads, its help, its completion."""

import asyncio
import json
import sys
import tomllib
from importlib import import_module

import pytest

import src
from src.client import __main__ as program

from ..processes import PATIENCE, ROOT
from .conftest import Typed

LOADED = "import sys; from src.client.__main__ import main; main(['--version']); print(sorted(sys.modules))"


async def test_it_loads_nothing_of_the_server_and_nothing_in_vain() -> None:
    """Help and completion wait for no HTTP library, no table printer and no event loop."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOADED), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    version, modules = out.decode().splitlines()
    loaded = set(json.loads(modules.replace("'", '"')))

    assert f"sealpost {src.__version__}" == version
    assert {"src"} == {name for name in loaded if name.split(".")[0] == "src" and not name.startswith("src.client")}
    assert set() == loaded & {"aiohttp", "asyncio", "pydantic", "rich.console", "rich.table", "ssl"}


def test_the_installed_program_is_this_one() -> None:
    """The entry point names a function that is there."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["sealpost"].removeprefix("sealpost.").partition(":")

    assert program.main is getattr(import_module(f"src.{module}"), function)


async def test_commands_are_completed(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """And scopes, which nobody remembers."""
    # The shell is looked for among the processes above this one, where the tests need not have any.
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    commands = await typed(_SEALPOST_COMPLETE="complete_bash", COMP_WORDS="sealpost sh", COMP_CWORD="1")
    scopes = await typed(
        _SEALPOST_COMPLETE="complete_bash", COMP_WORDS="sealpost tokens create x --scope se", COMP_CWORD="5"
    )

    assert ["share"] == commands.stdout.split()
    assert ["secrets"] == scopes.stdout.split()
    assert "_SEALPOST_COMPLETE" in (await typed("--show-completion")).stdout


@pytest.mark.parametrize("command", [[], ["--help"], ["message", "--help"], ["tokens"], ["share", "--help"]])
async def test_help_is_there(typed: Typed, command: list[str]) -> None:
    """With the options that every command takes."""
    shown = await typed(*command, COLUMNS="200")

    assert (0 if "--help" in command else 2, True) == (shown.code, "Options for every command" in shown.stdout)


async def test_what_was_not_foreseen_shows_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may show what is secret; the line of code is enough to find the fault."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("the text was 4711")

    monkeypatch.setattr(program, "command_of", fail)

    assert 1 == program.main(["--version"])
    error = capsys.readouterr().err
    assert error.startswith("sealpost: unexpected error: ZeroDivisionError in ")
    assert "4711" not in error
