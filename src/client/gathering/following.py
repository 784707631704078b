"""``gather --follow``: builds the follower from the options, runs it, and reports the result."""

import asyncio
import os
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from ..blocking_api import make_transport, server_url
from ..environment import PASSWORD, TOKEN, read_variable, state_directory
from ..errors import ExitCode, WrongUsage
from ..options import Shared
from ..output import say
from ..prompts import ask_password
from ..transport import Transport
from .batch_file import source_of
from .batches import count_lines
from .delivery import RetryingSender
from .follower import Follower, StandardInput, Summary
from .session import SenderSession
from .spool import Spool

TAG_DIGITS = 12


def follow_stdin(shared: Shared, username: str, directory: Path | None, *, limit: int) -> ExitCode:
    """Deliver the lines of stdin and return the exit code; ``limit`` is the spool's, in bytes.

    Raises `ClientError` for permanent errors.
    """
    if sys.stdin is None:
        raise WrongUsage("stdin is closed")
    url, descriptor = server_url(shared), sys.stdin.fileno()
    place = (directory or state_directory() / "spool") / spool_name(username, url)
    spool = Spool(place, source=source_of(descriptor), limit=limit)
    with closing(spool):
        spool.open()
        _tell_what_was_found(spool)
        token = read_variable(TOKEN)
        password = "" if token else ask_password(PASSWORD, f"Password of {username}")
        if os.isatty(descriptor):
            say("type lines; finish with Ctrl-D")
        transport, summary = make_transport(shared, url, keep_alive=True), Summary()
        delivery = RetryingSender(
            SenderSession(transport, api_token=token),
            username=username,
            password=password,
            words={"incorrect_password": f"wrong password for {username} at {url}"},
            say=say,
        )
        follower = Follower(StandardInput(descriptor), spool, delivery, summary, say=say)
        try:
            asyncio.run(_deliver(transport, follower))
        finally:
            _tell_end(shared, summary, spool)
    if summary.waiting:
        return ExitCode.INTERRUPTED
    return ExitCode.REFUSED if summary.refused else ExitCode.OK


def spool_name(username: str, url: str) -> str:
    """Return the directory name for a user and a server; usernames are case-insensitive."""
    parts = urlsplit(url)
    tag = sha256(f"{username.lower()} {url}".encode()).hexdigest()[:TAG_DIGITS]
    host = "".join(character if character.isalnum() or character in ".-" else "_" for character in parts.netloc)
    return f"{username.lower()}@{host}-{tag}"


async def _deliver(transport: Transport, follower: Follower) -> None:
    async with transport:
        await follower.run()


def _tell_what_was_found(spool: Spool) -> None:
    if spool.torn:
        say(f"the machine stopped during a write: the last {spool.torn} bytes of the spool were torn and are discarded")
    for path in spool.damaged:
        say(f"a damaged file of the spool is not sent: {path}")
    if spool.lines:
        say(f"sending {count_lines(spool.lines)} left in the spool first")


def _tell_end(shared: Shared, summary: Summary, spool: Spool) -> None:
    if summary.waiting:
        say(
            f"{count_lines(summary.waiting)} left in {spool.directory}: the next `gather --follow` with the same user,"
            " server and spool sends them"
        )
    shared.output.done(summary.as_record(), f"{count_lines(summary.delivered)} delivered")
