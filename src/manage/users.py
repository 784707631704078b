"""``users``: list, create and change accounts, and invite people."""

import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from ..accounts.administration import AccountAdministration, InvitationAdministration, check_length
from ..accounts.api_tokens import ApiTokenStore
from ..accounts.feature import credential_limits
from ..accounts.invitations import DEFAULT_LIFE, LONGEST_LIFE, MOST_USES, Invitation, InvitationStore
from ..accounts.passwords import LONGEST_PASSWORD, new_password
from ..accounts.sessions import SessionStore
from ..accounts.users import User, UserStore
from ..audit.feature import create_recorder
from ..core.audit import Audit, NoAudit
from ..core.database.group_commit import Batching, group_commit
from .output import CommandError, format_time, say, show_line, show_records, show_table
from .runner import CommandContext, run_command

LONGEST_UTF8 = 4
HEADS = ("username", "user id", "created", "last login", "last request", "flags")

T = TypeVar("T")


class Role(StrEnum):
    """The role of accounts that are created with an invitation."""

    MEMBER = "member"
    OPERATOR = "operator"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The username; case does not matter.", show_default=False)]
NewName = Annotated[
    str, typer.Argument(metavar="NAME", help="The username: 3 to 32 of A-Z, a-z, 0-9, _, . and -.", show_default=False)
]
Generate = Annotated[bool, typer.Option("--generate", help="Generate a password and print it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, one object per line.")]

app = typer.Typer(help="List, create and change accounts.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_users(*, as_json: AsJson = False) -> None:
    """List all users, oldest first."""

    async def list_all(context: CommandContext) -> list[User | bytes]:
        return [user async for user in _user_store(context).all()]

    users = run_command(list_all, feature="accounts")
    if as_json:
        show_records(map(_record, users))
    else:
        show_table(HEADS, map(_row, users))


@app.command()
def show(name: Name, *, as_json: AsJson = False) -> None:
    """Show one user, with the number of active sessions and API tokens."""
    account = _on_accounts(lambda accounts: accounts.show(name))
    if as_json:
        show_records([{**_record(account.user), "sessions": account.sessions, "api_tokens": account.tokens}])
        return
    row = [*_row(account.user), str(account.sessions), str(account.tokens)]
    for head, cell in zip((*HEADS, "sessions", "API tokens"), row, strict=True):
        show_line(f"{head + ':':<14}{cell}")


@app.command()
def create(
    name: NewName,
    *,
    operator: Annotated[bool, typer.Option("--operator", help="Make the user an operator.")] = False,
    generate: Generate = False,
) -> None:
    """Create an account, also if registration is not open.

    On a terminal, the command asks for the password twice; otherwise it reads the first line of stdin.
    """
    password = new_password() if generate else _read_password()
    user = _on_accounts(lambda accounts: accounts.create(name, password, operator=operator))
    if generate:
        show_line(password)
    say(f"{user.name} has an account" + (" and is an operator" if operator else ""))


@app.command()
def invite(
    *,
    role: Annotated[Role, typer.Option(help="The role of the accounts.")] = Role.MEMBER,
    uses: Annotated[int, typer.Option(min=1, max=MOST_USES, metavar="N", help="Number of accounts.")] = 1,
    days: Annotated[
        int, typer.Option(min=1, max=LONGEST_LIFE.days, metavar="N", help="Days until the invitation expires.")
    ] = DEFAULT_LIFE.days,
) -> None:
    """Create an invitation to register, and print its link.

    Without SEALPOST_PUBLIC_URL, only the invitation is printed.
    """

    async def create(context: CommandContext) -> tuple[Invitation, str, str | None]:
        settings, clock = context.settings, context.mongo.clock
        life = timedelta(days=days)
        async with _audit(context) as audit:
            administration = InvitationAdministration(
                InvitationStore(context.mongo, context.ring),
                clock,
                audit,
                registration_is_closed=settings.registration == "closed",
            )
            invitation, text = await administration.create(operator=role is Role.OPERATOR, uses=uses, life=life)
        return invitation, text, settings.public_url

    invitation, text, url = run_command(create, feature="accounts")
    show_line(f"{url.rstrip('/')}/join#{text}" if url else text)
    if not url:
        say("SEALPOST_PUBLIC_URL is not set: append the invitation to the address of the service and /join#")
    accounts = "1 account" if uses == 1 else f"{uses} accounts"
    say(f"valid for {accounts} until {format_time(invitation.content.expires_at)}, with the role {role.value}")


@app.command()
def disable(name: Name) -> None:
    """Disable a user: end all sessions, and reject the password and API tokens until the user is enabled again."""
    user = _on_accounts(lambda accounts: accounts.change(name, disabled=True))
    say(f"{user.name} is disabled, and all sessions were ended")


@app.command()
def enable(name: Name) -> None:
    """Enable a disabled user."""
    user = _on_accounts(lambda accounts: accounts.change(name, disabled=False))
    say(f"{user.name} is enabled")


@app.command()
def make_operator(
    name: Name,
    *,
    revoke: Annotated[bool, typer.Option("--revoke", help="Make the user an ordinary user again.")] = False,
) -> None:
    """Make a user an operator."""
    user = _on_accounts(lambda accounts: accounts.change(name, operator=not revoke))
    say(f"{user.name} is {'no longer' if revoke else 'now'} an operator")


@app.command()
def reset_password(
    name: Name,
    *,
    generate: Generate = False,
) -> None:
    """Set a new password and end all sessions of the user.

    On a terminal, the command asks for it twice; otherwise it reads the first line of stdin.
    """
    password = new_password() if generate else _read_password()
    user = _on_accounts(lambda accounts: accounts.reset_password(name, password))
    if generate:
        show_line(password)
    say(f"{user.name} has a new password, and all sessions were ended")


def _on_accounts(command: Callable[[AccountAdministration], Awaitable[T]]) -> T:
    async def connected(context: CommandContext) -> T:
        settings, ring, mongo = context.settings, context.ring, context.mongo
        async with _audit(context) as audit:
            accounts = AccountAdministration(
                users=_user_store(context),
                sessions=SessionStore(mongo, ring, life=timedelta(seconds=settings.session_ttl)),
                tokens=ApiTokenStore(mongo, ring, _batching(context)),
                limits=credential_limits(settings, mongo, ring),
                bcrypt_cost=settings.bcrypt_cost,
                audit=audit,
            )
            return await command(accounts)

    return run_command(connected, feature="accounts")


@asynccontextmanager
async def _audit(context: CommandContext) -> AsyncIterator[Audit]:
    """Yield the audit, and store what was recorded, also if the command has failed halfway."""
    recorder = create_recorder(context.settings, context.ring, context.mongo)
    try:
        yield recorder or NoAudit()
    finally:
        if recorder:
            await recorder.flush()


def _user_store(context: CommandContext) -> UserStore:
    return UserStore(context.mongo, context.ring, _batching(context))


def _batching(context: CommandContext) -> Batching:
    return group_commit(max_batch=context.settings.batch_max, max_queue=context.settings.batch_queue)


def _read_password() -> str:
    """Return a new password. Raises `UnusablePassword`, and `CommandError` if none was given."""
    try:
        if sys.stdin.isatty():
            password = getpass.getpass("New password: ")
            if getpass.getpass("Again: ") != password:
                raise CommandError("the passwords do not match")
        else:
            # At most the size in bytes of the longest password, with a line break.
            password = sys.stdin.buffer.readline(LONGEST_PASSWORD * LONGEST_UTF8 + 2).decode("utf-8-sig").rstrip("\r\n")
        password.encode()
    except EOFError:
        raise CommandError("no password was given") from None
    except UnicodeError:
        raise CommandError("the password is not UTF-8") from None
    check_length(password)
    return password


def _record(user: User | bytes) -> dict[str, object]:
    if isinstance(user, bytes):
        return {"username": None, "user_id": user.hex(), "unreadable": True}
    return {
        "username": user.name,
        "user_id": user.user_id.hex(),
        "created_at": user.created_at,
        "last_login_at": user.last_login_at,
        "last_request_at": user.last_request_at,
        "operator": user.content.operator,
        "disabled": user.content.disabled,
        "unreadable": False,
    }


def _row(user: User | bytes) -> list[str]:
    if isinstance(user, bytes):
        return ["-", user.hex(), "-", "-", "-", "cannot be read"]
    flags = [flag for flag in ("operator", "disabled") if getattr(user.content, flag)]
    times = (user.created_at, user.last_login_at, user.last_request_at)
    return [user.name, user.user_id.hex(), *map(format_time, times), ", ".join(flags) or "-"]
