"""The client with somebody at a terminal: prompts, panels, colours, and ways out."""

import asyncio
import os
import signal
import sys
import termios
from pathlib import Path

import pytest

from src.client.__main__ import main
from src.client.errors import WrongUsage
from src.client.output import Output

from ..conftest import PASSWORD, Api
from ..processes import PATIENCE, ROOT
from .conftest import Dialogue, Typed
from .terminal import Terminal

AT_ITS_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from src.client.__main__ import main
sys.exit(main())
"""


async def test_a_secret_with_a_phrase_is_shared_and_opened(
    api: Api, url: str, dialogue: Dialogue, typed: Typed
) -> None:
    """Neither text nor phrase is shown; two phrases that differ, and a wrong one, are asked for again."""
    async with dialogue("share", "--phrase", columns=160) as terminal:
        await terminal.expect("Text to share (hidden); finish with Enter and Ctrl-D:")
        await terminal.type("the code\nis 4711\n\x04", hidden=True)
        for prompt, phrase in zip(
            ["Password for this secret: ", "Again: "] * 2, ["old friend", "old fiend", *["old friend"] * 2], strict=True
        ):
            await terminal.expect(prompt)
            await terminal.type(f"{phrase}\n", hidden=True)
        await terminal.expect("expires")

    lines = terminal.screen.splitlines()
    link = next(word for word in terminal.screen.split() if word.startswith(url))
    assert "They do not match. Try again." in lines
    assert [line for line in lines if line.startswith(("╭─ Secret", "╰─"))] == [lines[-6], lines[-1]]
    assert "send it separately from the link" in terminal.screen
    # Not the digits alone, which the port may have.
    for hidden in ("the code", "is 4711", "friend"):
        assert hidden not in terminal.screen

    async with dialogue("open", link) as terminal:
        for phrase in ("", "old foe", "old friend"):
            await terminal.expect("Password of this secret: ")
            await terminal.type(f"{phrase}\n", hidden=True)
        await terminal.expect("the code\nis 4711\n")

    assert 1 == terminal.screen.count("sealpost: wrong password; 4 attempts left\n")
    assert "friend" not in terminal.screen


async def test_a_panel_is_as_wide_as_the_terminal_lets_it_be(url: str, dialogue: Dialogue) -> None:
    """Where a link does not fit into a panel, it stands alone on its line, to be copied whole."""
    async with dialogue("share", "a text", columns=60) as narrow:
        await narrow.expect("expires")

    assert f"link     {url}/s#1" in narrow.screen
    assert "─" not in narrow.screen


@pytest.mark.parametrize("how", ["--no-color", "NO_COLOR"])
async def test_there_are_no_colours_where_none_are_wanted(ann: str, dialogue: Dialogue, how: str) -> None:
    """By option or environment; bold type is no colour."""
    options, environment = (["--no-color"], {}) if how == "--no-color" else ([], {how: "1"})
    async with dialogue("whoami", *options, **environment) as terminal:
        await terminal.expect("ann")

    assert "\x1b[3" not in terminal.raw
    assert "\x1b[1musername" in terminal.raw


async def test_an_account_is_made_at_a_terminal(api: Api, url: str, dialogue: Dialogue) -> None:
    """The name is shown, the password is not; so it is with a sign-in and another password."""
    async with dialogue("register") as terminal:
        await terminal.expect("Username: ")
        await terminal.type("ann\n")
        await terminal.expect("Password: ")
        await terminal.type(f"{PASSWORD}\n", hidden=True)
        await terminal.expect("Again: ")
        await terminal.type(f"{PASSWORD}\n", hidden=True)
        await terminal.expect("signed in")

    async with dialogue("login", "ann") as again:
        await again.expect("Password: ")
        await again.type(f"{PASSWORD}\n", hidden=True)
        await again.expect("signed in")

    async with dialogue("passwd") as changing:
        for prompt, answer in (
            ("Current password", PASSWORD),
            ("New password", "another one"),
            ("Again", "another one"),
        ):
            await changing.expect(f"{prompt}: ")
            await changing.type(f"{answer}\n", hidden=True)
        await changing.expect("password changed")

    assert "Username: ann\n" in terminal.screen
    for screen in (terminal.screen, again.screen, changing.screen):
        assert PASSWORD not in screen
    assert 200 == (await api.call("POST", "/login", {"username": "ann", "password": "another one"}))[0]


async def test_a_post_is_written_and_read_at_a_terminal(ann: str, dialogue: Dialogue, typed: Typed) -> None:
    """What is typed is shown, the last line's end is not part of it, and nobody's post commands the terminal."""
    async with dialogue("post") as terminal:
        await terminal.expect("Post; finish with Enter and Ctrl-D:\n")
        await terminal.type("two\nlines\n\x04")
    await typed("post", "a \x1b[31mred one", "--title", "\x1b]0;t\x07")

    async with dialogue("feed") as reading:
        await reading.expect("  \\x1b]0;t\\x07\n  a \\x1b[31mred one\n")
        await reading.expect("  two\n  lines\n")

    assert "two\nlines\n" in terminal.screen
    assert "\x1b]0;" not in reading.raw


@pytest.mark.parametrize("command", [["share"], ["login"], ["login", "ann"], ["share", "a", "--phrase"], ["message"]])
async def test_ctrl_d_ends_a_prompt(api: Api, url: str, dialogue: Dialogue, command: list[str]) -> None:
    """Quietly, and nothing is sent."""
    async with dialogue(*command, code=130) as terminal:
        await terminal.expect(":")
        await terminal.type("\x04", hidden=command not in (["login"], ["message"]))

    assert "sealpost:" not in terminal.screen
    assert 0 == await api.items.count_documents({})


async def test_what_is_typed_must_be_text(url: str, dialogue: Dialogue) -> None:
    """A terminal with another encoding."""
    async with dialogue("login", code=2) as terminal:
        await terminal.expect("Username: ")
        await terminal.type("Gr\udcfc\udcdfe\n")
        await terminal.expect("the input is not UTF-8")


def test_there_may_be_no_streams_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was started without them has nothing to read, to write, or to say."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)

    assert 2 == main(["share", "--url", "http://127.0.0.1:9"])
    for act in (Output().check, lambda: Output().line("a text")):
        with pytest.raises(WrongUsage, match="stdout is closed"):
            act()


@pytest.mark.parametrize("command", [["share"], ["login", "ann"]])
async def test_ctrl_c_ends_a_prompt(url: str, command: list[str]) -> None:
    """Quietly; the terminal shows again what is typed."""
    async with Terminal() as terminal:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", AT_ITS_TERMINAL, *command),
            cwd=ROOT,
            stdin=terminal.inner,
            stdout=terminal.inner,
            stderr=terminal.inner,
            start_new_session=True,
        )
        await terminal.expect(":")
        await terminal.type("half a tex\x03", hidden=True)
        code = await asyncio.wait_for(process.wait(), PATIENCE)
        terminal.read_on()

        assert (130, True) == (code, bool(termios.tcgetattr(terminal.inner)[3] & termios.ECHO))
    assert "Traceback" not in terminal.screen
    assert "half" not in terminal.screen


async def test_the_receipt_key_is_told_beside_a_pipe(url: str, dialogue: Dialogue, tmp_path: Path) -> None:
    """A sender who sends the link elsewhere still learns it, on the terminal alone."""
    with (tmp_path / "out").open("w") as out:
        async with dialogue("share", "a text", stdout=out) as terminal:
            await terminal.expect("the receipt key is ")

    link, end, rest = (tmp_path / "out").read_text().partition("\n")
    assert (True, "\n", "") == (link.startswith(f"{url}/s#1"), end, rest)


async def test_a_pipe_that_nobody_reads_opens_nothing(api: Api, url: str, typed: Typed) -> None:
    """A secret whose reader has ended already stays where it is."""
    created = await api.create()
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        ended = await typed("open", created["secret_key"], stdout=pipe)

    assert (2, True) == (ended.code, "the program that reads stdout has ended" in ended.stderr)
    assert "waiting" == await api.state(created["receipt_key"])


@pytest.mark.parametrize(("opens", "lost"), [(1, True), (2, False)])
async def test_a_text_that_cannot_be_written_is_said_to_be_lost(
    api: Api, url: str, typed: Typed, opens: int, lost: bool
) -> None:
    """Where the disk is full and it was the last opening."""
    created = await api.create(max_opens=opens)
    with os.fdopen(os.open("/dev/full", os.O_WRONLY), "w") as full:
        ended = await typed("open", created["url"], stdout=full)

    assert (1, True) == (ended.code, "No space left on device" in ended.stderr)
    assert lost == ("The secret was opened and its text is lost" in ended.stderr)


async def test_a_reader_that_has_enough_ends_the_feed(ann: str, api: Api, typed: Typed, config: Path) -> None:
    """As `head` does: without a word, with the exit code of other programs."""
    token = (await api.login("ann"))["access_token"]
    for _ in range(10):
        await api.call("POST", "/posts", {"content": "x" * 10000}, token=token)
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        running = asyncio.ensure_future(typed("feed", "--all", stdout=pipe))
        # More than a pipe holds is still to come.
        await asyncio.to_thread(os.read, read, 100)
        os.close(read)
        ended = await running

    assert (128 + signal.SIGPIPE, "") == (ended.code, ended.stderr)
