"""`docs/client.md` says what the client does: commands, options, exit codes, variables, numbers."""

import re
from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from src.client import __doc__ as guide
from src.client.__main__ import app
from src.client.addresses import DEFAULT_URL
from src.client.bot import __doc__ as guide_of_the_bot
from src.client.bot import plan
from src.client.bot.tally import Check
from src.client.commands.bot import AT_ONCE, MOST_AT_ONCE
from src.client.commands.posts import SHOWN
from src.client.commands.tokens import SCOPES
from src.client.environment import VARIABLES
from src.client.errors import MEANINGS, ExitCode
from src.client.options import TIMEOUT, Command, Group
from src.client.transport import LONGEST_WAIT, PAUSES
from src.settings import OF_THE_CLIENT, Settings

from ..processes import ROOT
from ..test_docs import read, rows, said, section, words

CLIENT = ROOT / "docs" / "client.md"
SUBJECTS = ("## Secrets and messages", "## Account", "## Posts", "## Messages of programs", "## Echo", "## Bot")
SHARED = "## Options for every command"


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Return each command with its full name."""
    for word, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{word} ")
        else:
            yield name + word, command


def options(parameters: list[Any]) -> set[str]:
    """Return the names of options, and what stands for arguments."""
    named = {name for parameter in parameters for name in parameter.opts if name.startswith("--") and name != "--help"}
    arguments = [str(one.metavar) for one in parameters if one.param_type_name == "argument"]
    return named | {word for metavar in arguments for word in metavar.split("|")}


def shared() -> set[str]:
    """Return the options that every command takes."""
    return {word for row in rows(section(CLIENT, SHARED)) for word in re.findall("--[a-z-]+", row[0])}


def test_every_command_stands_with_all_it_takes() -> None:
    """Each with its own options and arguments, and no other; an argument that may be left out in brackets."""
    served = {name: options(command.params) - shared() for name, command in commands(get_command(app))}
    lines = "\n".join(re.findall(r"(?m)^    sealpost (.*)$", "".join(section(CLIENT, subject) for subject in SUBJECTS)))
    typed = re.findall(r"(?m)^([a-z-]+(?: [a-z][a-z-]*)?)\b(.*)$", lines)

    assert served == {
        name: set(re.findall(r"--[a-z-]+|[A-Z_]+", re.sub(r"(--[a-z-]+) [A-Z]+", r"\1", rest))) for name, rest in typed
    }
    for name, command in commands(get_command(app)):
        needed = {str(one.metavar) for one in command.params if one.param_type_name == "argument" and one.required}
        rest = dict(typed)[name]

        assert needed == set(re.findall(r"(?<![\[A-Z_])[A-Z_]+(?![\]A-Z_])", re.sub(r"--[a-z-]+ [A-Z]+", "", rest)))


def test_every_command_and_option_is_described() -> None:
    """In a table, or in the section of its own."""
    described = {word for subject in SUBJECTS for row in rows(section(CLIENT, subject)) for word in words(row[0])}
    served = dict(commands(get_command(app)))

    assert set(served) - {"echo", "bot"} <= described
    assert {
        one for command in served.values() for one in options(command.params) if one.startswith("--")
    } - shared() == {word for word in described if word.startswith("--")}


def test_every_command_takes_the_shared_options() -> None:
    """A command that was registered without them would not know them behind its name."""
    root = get_command(app)
    groups = [one for one in root.commands.values() if isinstance(one, TyperGroup)]  # type: ignore[attr-defined]

    assert all(isinstance(command, Command) for _, command in commands(root))
    assert all(isinstance(group, Group) for group in [root, *groups])
    assert {"--version", "--install-completion", "--show-completion"} == options(root.params) - shared()
    assert all(name in section(CLIENT, SHARED) for name in options(root.params))


def test_exit_codes_and_variables_are_as_documented() -> None:
    """Each with its meaning, and no other."""
    codes = rows(section(CLIENT, "### Exit codes"))
    variables = {words(row[0])[0]: row[1] for row in rows(section(CLIENT, "### Environment"))}

    assert {str(int(code)): meaning for code, meaning in MEANINGS.items()} == {row[0]: row[1] for row in codes}
    assert list(ExitCode) == list(MEANINGS)
    assert variables == VARIABLES


def test_the_variables_of_the_client_are_no_settings() -> None:
    """A server passes over each of them, and has none of that name itself."""
    assert OF_THE_CLIENT == set(VARIABLES)
    assert set() == {name.removeprefix("SEALPOST_").lower() for name in VARIABLES} & set(Settings.model_fields)


def test_the_numbers_are_as_documented() -> None:
    """Time-out, waits, tries, page, scopes, default server."""
    trouble = said(CLIENT, "## When something goes wrong")

    assert f"of a request: {TIMEOUT:g} by default" in section(CLIENT, SHARED)
    assert f"The number of posts, {SHOWN} by default" in section(CLIENT, "## Posts")
    assert {2: "at most twice"}[len(PAUSES)] in trouble
    assert {str(LONGEST_WAIT)} == set(re.findall(r"at most (\d+) seconds", trouble))
    assert ", ".join(f"`{scope}`" for scope in SCOPES) in section(CLIENT, "## Account")
    bot = {words(row[0])[0]: row[1] for row in rows(section(CLIENT, "## Bot")) if row[0].startswith("`--")}
    for option, default, most in (
        ("--users", plan.USERS, plan.MOST_USERS),
        ("--posts", plan.POSTS, plan.MOST_POSTS),
        ("--likes", plan.LIKES, plan.MOST_LIKES),
        ("--secrets", plan.SECRETS, plan.MOST_SECRETS),
        ("--concurrency", AT_ONCE, MOST_AT_ONCE),
    ):
        assert f": {default} by default, and at most {most}." in bot[option]
    assert {check.value for check in Check} <= {row[0] for row in rows(section(CLIENT, "## Bot"))}
    assert f"`{DEFAULT_URL}`" in section(CLIENT, "## Which server, and how it is reached")


def test_the_guide_names_what_is_there() -> None:
    """The package's docstring names each of its modules."""
    modules = {path.stem for path in (ROOT / "src" / "client").glob("*.py")} - {"__init__"}

    assert modules <= set(re.findall(r"``(\w+)``", str(guide)))
    modules = {path.stem for path in (ROOT / "src" / "client" / "bot").glob("*.py")} - {"__init__"}
    assert modules == set(re.findall(r"``(\w+)``", str(guide_of_the_bot)))
    assert "docs/client.md" in read(ROOT / "README.md")
