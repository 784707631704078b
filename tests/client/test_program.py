"""The program as a whole: what it loads, its help, its completion."""

import asyncio
import json
import os
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import src
from src.client import __main__ as program

from ..commands import Ended
from ..conftest import PASSWORD
from ..processes import PATIENCE, ROOT
from .conftest import Typed
from .terminal import Terminal

WITHOUT_POSIX = """
import os, select, sys
for name in ("termios", "fcntl", "pwd", "grp", "resource", "tty", "pty"):
    sys.modules[name] = None
del os.geteuid, os.O_CLOEXEC, os.O_NOCTTY, os.O_DIRECTORY, select.poll
from src.client.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
"""What Windows does not have; asyncio and aiohttp need none of it."""
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
    others = {name for name in loaded if name.split(".")[0] == "src" and not name.startswith("src.client")}
    assert {"src", "src.lenient_keys"} == others
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


@pytest.mark.lifecycle
async def test_it_runs_without_posix(url: str, tmp_path: Path) -> None:
    """As on Windows: a text is shared and opened, a user signs in, and what cannot be is said in a sentence."""
    (tmp_path / "phrase").write_text("old friend")

    async def run(*arguments: str, stdin: bytes = b"") -> Ended:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WITHOUT_POSIX, *arguments, "--url", url),
            cwd=ROOT,
            env={**os.environ, "SEALPOST_PASSWORD": PASSWORD},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin), PATIENCE)
        return Ended(await process.wait(), out.decode(), err.decode())

    shared = await run("share", "--phrase-file", str(tmp_path / "phrase"), stdin=b"a text")
    opened = await run("open", shared.stdout.strip(), "--phrase-file", str(tmp_path / "phrase"))
    asked = await run("share", "a text", "--phrase")
    registered = await run("register", "ann")
    signed_in = await run("whoami", "--json")
    menu = await run("gather", "--user", "ann")
    followed = await run("gather", "--user", "ann", "--follow", stdin=b"a line")

    assert [0, 0, 2, 0, 0, 2, 2] == [one.code for one in (shared, opened, asked, registered, signed_in, menu, followed)]
    assert ("a text", "ann") == (opened.stdout, json.loads(signed_in.stdout)["username"])
    assert "no terminal to prompt on: use --password-file" in asked.stderr
    assert "stdin is not a terminal" in menu.stderr
    assert "sealpost: --follow needs POSIX file locks: use Linux, macOS or WSL\n" == (followed.stderr)


@pytest.mark.lifecycle
async def test_a_person_is_asked_without_posix(url: str) -> None:
    """Where the terminal would show a password while it is typed, it is not asked for."""
    async with Terminal() as terminal:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WITHOUT_POSIX, "login", "--url", url),
            cwd=ROOT,
            stdin=terminal.inner,
            stdout=terminal.inner,
            stderr=terminal.inner,
        )
        await terminal.expect("Username: ")
        await terminal.type("ann\n")
        await terminal.expect("this terminal cannot hide the input: set SEALPOST_PASSWORD")
        code = await asyncio.wait_for(process.wait(), PATIENCE)
        terminal.read_on()

    assert 2 == code
    assert "Warning" not in terminal.screen


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
