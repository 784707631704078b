"""The options that every command accepts, before or after its name."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from .addresses import is_key
from .environment import CA_FILE, URL, read_variable
from .output import Output

TIMEOUT = 30.0
PANEL = "Options for every command"


@dataclass(frozen=True)
class Shared:
    """The values of these options."""

    url: str | None = None
    json: bool = False
    no_color: bool = False
    timeout: float = TIMEOUT
    ca_file: Path | None = None
    insecure: bool = False
    allow_http: bool = False

    @property
    def output(self) -> Output:
        """Where a command writes its results."""
        return Output(as_json=self.json, no_color=self.no_color)


def shared_of(context: typer.Context) -> Shared:
    """Return the shared options of a running command, completed from the environment."""
    given = context.find_root().obj or Shared()
    ca_file = read_variable(CA_FILE)
    return replace(
        given,
        # An empty --url stays, and is rejected later: falling back could send data to the wrong server.
        url=read_variable(URL) if given.url is None else given.url,
        ca_file=given.ca_file or (Path(ca_file) if ca_file else None),
    )


def _keep(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> None:
    # An option that is absent after the command's name must not reset one before it.
    if value not in (None, False):
        root = context.find_root()
        root.obj = replace(root.obj or Shared(), **{str(parameter.name): value})


def _option(*names: str, text: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, expose_value=False, callback=_keep, rich_help_panel=PANEL, **more)


@functools.cache
def _shared_parameters() -> list[Any]:
    declaring = typer.Typer(add_completion=False)

    @declaring.command()
    def declare(
        *,
        url: Annotated[str | None, _option("--url", metavar="URL", text=f"The server; or set {URL}.")] = None,
        json: Annotated[bool, _option("--json", text="Write results as JSON, one object per line.")] = False,
        no_color: Annotated[bool, _option("--no-color", text="Use no color; or set NO_COLOR.")] = False,
        timeout: Annotated[
            float | None,
            _option(
                "--timeout",
                metavar="SECONDS",
                min=0.1,
                max=3600,
                text=f"Timeout of each attempt; {TIMEOUT:g} by default.",
            ),
        ] = None,
        ca_file: Annotated[
            Path | None,
            _option("--ca-file", metavar="FILE", text=f"Additional certificate to trust; or set {CA_FILE}."),
        ] = None,
        insecure: Annotated[bool, _option("--insecure", text="Skip certificate verification.")] = False,
        allow_http: Annotated[bool, _option("--allow-http", text="Allow plain http to another machine.")] = False,
    ) -> None: ...

    return [parameter for parameter in get_command(declaring).params if parameter.name != "help"]


class Command(TyperCommand):
    """A command with the shared options."""

    def __init__(self, *arguments: Any, params: list[Any] | None = None, **more: Any) -> None:
        super().__init__(*arguments, params=[*(params or []), *_shared_parameters()], **more)


class KeyCommand(Command):
    """A command whose argument is a link or key; a key may begin with a dash."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move keys that begin with a dash behind ``--``."""
        keys = [word for word in args if word.startswith("-") and is_key(word)]
        options = [word for word in args if word not in keys]
        return super().parse_args(ctx, [*options, "--", *keys] if keys and "--" not in args else args)


class Group(TyperGroup):
    """A group of commands with the shared options."""

    def __init__(self, *arguments: Any, params: list[Any] | None = None, **more: Any) -> None:
        super().__init__(*arguments, params=[*(params or []), *_shared_parameters()], **more)


class DefaultGroup(Group):
    """A group that runs its first command if no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the name of the first command unless a command follows the shared options."""
        options = {name: option for option in _shared_parameters() for name in option.opts}
        left = iter(args)
        first = next((word for word in left if not _consume(word, options, left)), None)
        if first not in self.commands and first not in ctx.help_option_names:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


def _consume(word: str, options: dict[str, Any], left: Iterator[str]) -> bool:
    """Return whether a word is one of the options, and consume its value."""
    option = options.get(word.partition("=")[0])
    if option is None:
        return False
    if not option.is_flag and "=" not in word:
        next(left, None)
    return True
