"""A client of the older service, written from the documentation alone, completes every step."""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Callable

import pytest

from .conftest import Api
from .processes import ROOT


@pytest.mark.lifecycle
async def test_a_client_written_from_the_documentation_meets_every_state_and_refusal(
    serve: Callable[..., Awaitable[Api]],
) -> None:
    """It reads the documented members of every response, and exits with 0."""
    api = await serve(rate_limits="on", limit_login_account="5 per 1 hour")
    session = await api.sign_up("owner")
    _, made = await api.call("POST", "/tokens", {"name": "x", "scopes": ["gather"]}, token=session)
    url = api.client.make_url("")

    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "tests/older_sender.py", str(url.host), str(url.port), made["token"]),
        cwd=ROOT,
        stdout=PIPE,
        stderr=STDOUT,
    )
    assert program.stdout is not None
    said = (await program.stdout.read()).decode()

    assert 0 == await program.wait(), said
    for status in (201, 202, 400, 401, 403, 409, 413, 429):
        assert f" {status} " in said
