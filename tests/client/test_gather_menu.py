"""The menu of `gather`, with somebody at a terminal: every choice, and whatever goes wrong on the way."""

import asyncio
import re
import sys

import pytest

from ..conftest import PASSWORD, Api
from ..processes import PATIENCE, ROOT
from ..senders import operator_token, sent
from ..test_readme import shows
from .conftest import Dialogue
from .gate import gate_to
from .servers import STALL, odd_server, reply
from .terminal import Terminal
from .test_gather_follow import ACCEPTED, problem
from .test_terminal import AT_ITS_TERMINAL

NEXT = "What next: "


async def type_all(terminal: Terminal, *typed: str) -> None:
    """Type a choice each time that the menu asks for one."""
    for line in typed:
        await terminal.expect(NEXT)
        await terminal.type(f"{line}\n")


async def give(terminal: Terminal, prompt: str, *passwords: str) -> None:
    """Type passwords where they are asked for."""
    for number, password in enumerate(passwords):
        await terminal.expect("Again: " if number % 2 else prompt)
        await terminal.type(f"{password}\n", hidden=True)


def transcript() -> list[str]:
    """Return the lines of the tour's session, without the command."""
    text = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    found = re.search(r"(?m)^    \$ sealpost gather\n((?:    .*\n|\n)+)", text)
    assert found
    return [line.removeprefix("    ") for line in found[1].strip("\n").split("\n")]


async def test_the_session_of_the_tour_is_as_shown(url: str, dialogue: Dialogue) -> None:
    """Typed line by line, the screen is the one shown."""
    lines = transcript()
    typed = [line.removeprefix(NEXT) for line in lines if line.startswith(NEXT)]
    async with dialogue("gather") as terminal:
        for line in typed:
            await type_all(terminal, line)
            if line == "authenticate":
                await give(terminal, "Password of db-1: ", *[PASSWORD] * 2)

    assert "quit" == typed[-1]
    written = [line.rstrip() for line in terminal.screen.strip("\n").split("\n")]
    assert len(lines) == len(written)
    assert [] == [(one, other) for one, other in zip(lines, written, strict=True) if not shows(one, other)]


async def test_steps_are_taken_one_after_the_other(api: Api, url: str, dialogue: Dialogue) -> None:
    """By number, word or beginning; what comes too early is said and not sent; several lines are one batch."""
    async with dialogue("gather", "--user", "menu-1") as terminal:
        await type_all(terminal, "3")
        await terminal.expect("out of order: identify first")
        for choice, words in (
            ("au", "identify first"),
            ("6", "identify first"),
            *((one, "no such choice") for one in "08 !"),
            *((one, "authenticated  You have a token.") for one in ("?", "help", "h")),
        ):
            await type_all(terminal, choice)
            await terminal.expect(words)
        await type_all(terminal, "1", "send too early")
        await terminal.expect("out of order: authenticate first")
        await type_all(terminal, "2")
        await give(terminal, "Password of menu-1: ", "abc", "abc")
        await terminal.expect("password: must have at least 4 characters")
        await type_all(terminal, "2")
        await give(terminal, "Password of menu-1: ", PASSWORD, "another one", PASSWORD, PASSWORD)
        await terminal.expect("password set")
        await type_all(terminal, "send")
        for number, line in enumerate(("  one", "logout", ""), start=1):
            await terminal.expect(f"Line {number}: ")
            await terminal.type(f"{line}\n")
        await terminal.expect("stored as messages 1 to 2")
        await type_all(terminal, "send")
        await terminal.expect("Line 1: ")
        await terminal.type("\x04")
        await terminal.expect("nothing to send")
        await type_all(terminal, "log out")
        await terminal.expect("logged out")
        await type_all(terminal, "switch user")
        await terminal.expect("Username: ")
        await terminal.type("a b\n")
        await terminal.expect("3 to 32 characters")
        await type_all(terminal, "user MENU-1", "identify")
        await terminal.expect("MENU-1 exists")
        await type_all(terminal, "authenticate")
        await give(terminal, "Password of MENU-1: ", "a wrong one")
        await terminal.expect("wrong password")
        await type_all(terminal, "authenticate")
        await give(terminal, "Password of MENU-1: ", PASSWORD)
        await terminal.expect("password correct")
        await terminal.expect(f"{NEXT}")
        await terminal.type("\x04")

    assert PASSWORD not in terminal.screen
    assert [("menu-1", 1, "  one"), ("menu-1", 2, "logout")] == await sent(api, await operator_token(api))


async def test_lines_whose_answer_is_lost_are_kept(api: Api, url: str, dialogue: Dialogue) -> None:
    """And sent again first, under the same id; a server that is down is said, and the menu stays."""
    async with gate_to(url) as gate, dialogue("gather", "--url", gate.url, SEALPOST_PASSWORD=PASSWORD) as terminal:
        gate.close()
        await type_all(terminal, "identify menu-1")
        await terminal.expect("was lost\n")
        gate.open()
        await type_all(terminal, "identify", "authenticate")
        await terminal.expect("password set")
        gate.text, gate.loses = b'"MESSAGE"', 3
        await type_all(terminal, "send one")
        await terminal.expect("1 line kept")
        await type_all(terminal, "send two")
        await terminal.expect("sending 1 line kept from before")
        await terminal.expect("stored as message 1\n")
        await terminal.expect("stored as message 2\n")
        gate.close()
        await type_all(terminal, "send three")
        await terminal.expect("1 line kept")
        await type_all(terminal, "user menu-2")
        await terminal.expect("1 line of menu-1 may not have been stored")
        await type_all(terminal, "quit")

    assert ["one", "two"] == [text for _, _, text in await sent(api, await operator_token(api))]


async def test_what_a_server_takes_back_is_said(dialogue: Dialogue, url: str) -> None:
    """A token that is over, an address that has changed, limits, and a batch that is never taken."""
    replies = [
        *(ACCEPTED, ACCEPTED, problem(403, "out_of_order")),
        *(ACCEPTED, ACCEPTED, problem(401, "invalid_token")),
        *(ACCEPTED, ACCEPTED, problem(409, "batch_reused")),
        *(problem(403, "out_of_order"), problem(403, "insufficient_scope")),
        reply(202, '{"token": "a token", "expires_in": 0}'),
    ]
    async with (
        odd_server(replies) as server,
        dialogue("gather", "--user", "menu-1", "--url", server.url, SEALPOST_PASSWORD=PASSWORD) as terminal,
    ):
        await type_all(terminal, "identify", "authenticate", "send one")
        await terminal.expect("you are not authenticated. Identify again")
        await terminal.expect("1 line kept")
        await type_all(terminal, "identify", "authenticate", "send")
        await terminal.expect("has expired or was revoked. Identify again")
        await type_all(terminal, "identify", "authenticate", "send")
        await terminal.expect("It is batch_reused")
        await type_all(terminal, "logout")
        await terminal.expect("Identify again")
        await type_all(terminal, "identify")
        await terminal.expect("It is insufficient_scope")
        await type_all(terminal, "identify", "authenticate")
        await terminal.expect("your token has expired, so you are grounded")
        await type_all(terminal, "quit")

    assert "menu-1 at" in terminal.screen


async def test_another_server_is_gone_to(url: str, dialogue: Dialogue) -> None:
    """One that cannot be used is not; nothing is sent in the clear to another machine."""
    async with odd_server([reply(502, "nginx")]) as other, dialogue("gather", "--user", "menu-1") as terminal:
        await type_all(terminal, "server nonsense")
        await terminal.expect("the server's URL must look like")
        await type_all(terminal, "5")
        await terminal.expect("Server: ")
        await terminal.type("http://192.0.2.1\n")
        await terminal.expect("is plain http to another machine")
        await type_all(terminal, f"switch server {other.url}/")
        await terminal.expect(f"menu-1 at {other.url}: grounded")
        await type_all(terminal, "identify")
        await terminal.expect("cannot answer now (502)")
        await type_all(terminal, "quit")


async def test_an_api_token_needs_no_steps(api: Api, url: str, dialogue: Dialogue) -> None:
    """Neither identifying nor authenticating nor logging out; sending is enough."""
    body = {"name": "menu", "scopes": ["gather"]}
    token = (await api.call("POST", "/tokens", body, token=await api.sign_up("ann")))[1]["token"]
    async with dialogue("gather", SEALPOST_TOKEN=token) as terminal:
        await terminal.expect("API token from SEALPOST_TOKEN, no sign-in needed")
        for choice in ("identify", "authenticate", "user", "logout"):
            await type_all(terminal, choice)
            await terminal.expect("no sign-in is needed: send right away")
        await type_all(terminal, "send one")
        await terminal.expect("stored as message 1")
        await type_all(terminal, "quit")


async def test_a_wrong_password_of_the_environment_is_tried_once(api: Api, url: str, dialogue: Dialogue) -> None:
    """Then it is asked for."""
    await api.register("menu-1")
    async with dialogue("gather", SEALPOST_PASSWORD="a wrong one") as terminal:
        await type_all(terminal, "identify menu-1", "authenticate")
        await terminal.expect("wrong password")
        await type_all(terminal, "authenticate")
        await give(terminal, "Password of menu-1: ", PASSWORD)
        await terminal.expect("password correct")
        await terminal.expect(NEXT)
        await terminal.type("Gr\udcfc\udcdfe\n")
        await terminal.expect("not UTF-8")
        await type_all(terminal, "quit")


@pytest.mark.lifecycle
async def test_ctrl_c_leads_back_to_the_menu_and_out_of_it(api: Api, url: str) -> None:
    """At a question, while the server does not answer, and at the menu itself."""
    async with odd_server([STALL]) as server, Terminal() as terminal:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", AT_ITS_TERMINAL, "gather", "--url", server.url),
            cwd=ROOT,
            stdin=terminal.inner,
            stdout=terminal.inner,
            stderr=terminal.inner,
            start_new_session=True,
        )
        await type_all(terminal, "identify")
        await terminal.expect("Username: ")
        await terminal.type("half a na\x03")
        await terminal.expect("cancelled")
        await type_all(terminal, "identify menu-1")
        async with asyncio.timeout(PATIENCE):
            while not server.requests:
                await asyncio.sleep(0.02)
        await terminal.type("\x03")
        await terminal.expect("interrupted before the server answered")
        await terminal.expect(NEXT)
        await terminal.type("\x03")
        code = await asyncio.wait_for(process.wait(), PATIENCE)
        terminal.read_on()

    assert 130 == code
    assert "Traceback" not in terminal.screen
