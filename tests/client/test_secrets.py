"""Secrets, messages and receipts at the terminal."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from src.client.commands import my_secrets, opening

from ..conftest import PASSWORD, Api
from .conftest import Dialogue, Typed, go_to, spoil_access_tokens
from .servers import LOSE, odd_server, reply

Serve = Callable[..., Awaitable[Api]]
TEXT = "  Grüße ☕\tzwei\nZeilen\r\n"
LOOK = '{"phrase_required": false, "opens_left": 1, "created_at": "2026-03-01T09:30:00Z", "expires_at": "2026-03-01"}'


async def test_a_text_arrives_as_it_was_sent(url: str, typed: Typed) -> None:
    """To the byte: from stdin to stdout, which has nothing but the link and nothing but the text."""
    shared = await typed("share", "--ttl", "1d12h", stdin=TEXT.encode())

    assert (0, "") == (shared.code, shared.stderr)
    assert shared.stdout.startswith(f"{url}/s#1")
    opened = await typed("open", shared.stdout)
    assert (0, TEXT, "") == (opened.code, opened.stdout, opened.stderr)
    again = await typed("open", shared.stdout)
    assert (1, "") == (again.code, again.stdout)
    assert again.stderr.startswith("sealpost: nothing there")


async def test_the_options_of_a_secret_reach_the_server(api: Api, url: str, typed: Typed, tmp_path: Path) -> None:
    """Phrase, openings, attempts and time to live; without encryption here, the key alone opens it as well."""
    (tmp_path / "phrase").write_text("old friend\r\n")
    created = await typed(
        *("share", "a text", "--json", "--ttl", "2h", "--opens", "2", "--attempts", "3", "--server-side"),
        SEALPOST_PHRASE="-",
    )
    document = await api.items.find_one({})
    with_file = ("--phrase-file", str(tmp_path / "phrase"))
    other = json.loads((await typed("share", "another", "--json", *with_file)).stdout)
    key = json.loads(created.stdout)["secret_key"]
    first = await typed("open", key, "--json", SEALPOST_PHRASE="-")

    assert (2, 3) == (document["max_opens"], document["phrase"]["max_attempts"])
    assert 2 == (document["expires_at"] - document["created_at"]).total_seconds() / 3600
    assert {"secret": "a text", "opens_left": 1} == json.loads(first.stdout)
    assert "another" == (await typed("open", other["url"], *with_file)).stdout


async def test_kept_secrets_are_listed_and_burned(
    api: Api, url: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account lists them over all pages, newest first, and burns one by its id; keeping requires a sign-in."""
    monkeypatch.setattr(my_secrets, "LARGEST_PAGE", 2)
    anonymous = await typed("share", "a text", "--keep")
    await typed("register", "ann", SEALPOST_PASSWORD=PASSWORD)
    link = (await typed("share", "a text", "--keep")).stdout
    for _ in range(2):
        await typed("message", "send", "a message", "--keep")
    await typed("share", "not kept")
    assert 0 == (await typed("open", link)).code

    listed = [json.loads(line) for line in (await typed("secrets", "list", "--json")).stdout.splitlines()]
    states = [(item["kind"], item["state"]) for item in listed]
    burned = [await typed("secrets", "burn", item["id"]) for item in (listed[0], listed[2])]
    table = (await typed("secrets", "list")).stdout.splitlines()

    assert 0 != anonymous.code
    assert "requires a sign-in" in anonymous.stderr
    assert [("message", "waiting"), ("message", "waiting"), ("secret", "opened")] == states
    assert [(0, "sealpost: burned: it can no longer be opened\n")] == [(one.code, one.stderr) for one in burned[:1]]
    assert (1, True) == (burned[1].code, burned[1].stderr.startswith("sealpost: nothing to burn"))
    assert ["message", "burned"] == table[1].split()[:2]
    assert listed[2]["id"] == table[3].split()[-1]


async def test_a_wrong_phrase_is_said_to_be_one(url: str, typed: Typed) -> None:
    """With the attempts left; the last one destroys the secret, and says so."""
    link = (await typed("share", "a text", "--attempts", "2", SEALPOST_PHRASE="old friend")).stdout

    first = await typed("open", link, SEALPOST_PHRASE="old foe")
    without = await typed("open", link)
    last = await typed("open", link, SEALPOST_PHRASE="old foe")

    assert (1, "sealpost: wrong password; 1 attempt left\n") == (first.code, first.stderr)
    assert (2, "") == (without.code, without.stdout)
    assert "no terminal to prompt on: use --password-file, or set SEALPOST_PHRASE" in without.stderr
    assert (1, "") == (last.code, last.stdout)
    assert "the secret is destroyed" in last.stderr


async def test_what_is_shared_is_encrypted_before_it_is_sent(api: Api, url: str, typed: Typed) -> None:
    """The server opens an envelope and no text, and a phrase is none that it knows."""
    created = json.loads((await typed("share", "a text", "--json")).stdout)
    with_phrase = json.loads((await typed("share", "another", "--json", SEALPOST_PHRASE="old friend")).stdout)
    path = f"/secrets/{with_phrase['secret_key']}"

    opened = await (await api.client.post(f"/secrets/{created['secret_key']}")).json()
    refused = await api.client.post(path, json={"phrase": "old friend"})

    assert opened["secret"].startswith("sealpost-text-1.AQ")
    assert (403, 4) == (refused.status, (await refused.json())["attempts_left"])
    ended = await typed("open", with_phrase["url"], "--json", SEALPOST_PHRASE="old friend")
    assert {"secret": "another", "opens_left": 0} == json.loads(ended.stdout)


async def test_what_is_not_of_this_link_is_said_to_be_so(url: str, typed: Typed) -> None:
    """A server that answers something else under it does not pass it off as the text."""
    link = (await typed("share", "a text")).stdout.strip()
    found = '{"secret": "another text", "opens_left": 0}'
    async with odd_server([reply(200, LOOK), reply(200, found)]) as server:
        ended = await typed("open", server.url + link.removeprefix(url))

    assert (1, "") == (ended.code, ended.stdout)
    assert "does not belong to this link" in ended.stderr


async def test_a_receipt_is_shown_and_burns(url: str, typed: Typed) -> None:
    """What became of a secret, in words and as JSON; what is burned cannot be burned again."""
    created = json.loads((await typed("share", "a text", "--json")).stdout)
    receipt_key = created["receipt_key"]

    waiting, burned = await typed("receipt", receipt_key), await typed("burn", receipt_key)
    again, opened = await typed("burn", receipt_key, "--json"), await typed("open", created["url"])
    told = json.loads((await typed("receipt", receipt_key, "--json")).stdout)

    assert ["state", "waiting"] == waiting.stdout.splitlines()[0].split()
    assert (0, "", "sealpost: burned: it can no longer be opened\n") == (burned.code, burned.stdout, burned.stderr)
    assert (1, 1, "burned") == (again.code, opened.code, told["state"])
    assert "nothing left to burn" in again.stderr
    unknown = await typed("receipt", "A" * 60)
    assert (1, True) == (unknown.code, unknown.stderr.startswith("sealpost: no such receipt"))


async def test_a_message_is_read_as_often_as_one_likes(url: str, typed: Typed) -> None:
    """By `open` and by `message show`, by its link and by its key; it has a receipt as well."""
    created = json.loads((await typed("message", "--json", "--server-side", "--ttl", "2d", "show")).stdout)
    link, key = created["url"], created["url"].rpartition("/")[2]

    texts = [
        (await typed(*command)).stdout
        for command in (
            ("open", link),
            ("open", key),
            ("message", "show", link),
            ("message", "--timeout", "9", "show", key),
        )
    ]

    assert ["show"] * 4 == texts
    assert "waiting" == json.loads((await typed("receipt", created["receipt_key"], "--json")).stdout)["state"]
    assert "show" == json.loads((await typed("message", "show", key, "--json")).stdout)["message"]
    sent = (await typed("message", "send", "from `send`")).stdout
    assert sent.startswith(f"{url}/m#1")
    assert ["from `send`"] * 2 == [(await typed(*command, sent)).stdout for command in (("open",), ("message", "show"))]
    gone = await typed("message", "show", "A" * 43)
    assert (1, True) == (gone.code, "no such message" in gone.stderr)


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["share"], b"", "no text:"),
        (["share", ""], b"", "no text:"),
        (["share"], b"\xff", "stdin is not UTF-8"),
        (["share", "a\udcff"], b"", "the text is not UTF-8"),
        (["share"], b"a" * (2**20 + 1), "larger than 1 MiB"),
        (["share", "a", "--ttl", "12"], b"", "needs units"),
        (["share", "a", "--ttl", ""], b"", "needs units"),
        (["message", "a", "--ttl", ""], b"", "needs units"),
        (["share", "a", "--url", ""], b"", "must look like"),
        (["share", "a", "--opens", "101"], b"", "--opens"),
        (["share", "a", "--phrase"], b"", "no terminal to prompt on"),
        (["share", "a", "--phrase-file", "/nowhere"], b"", "No such file"),
        (["share", "a", "--phrase-file", "/dev/null"], b"", "is empty"),
        (["open", "https://example.org/other/x"], b"", "not a link to a secret"),
        (["open", "https://example.org/s"], b"", "this link is incomplete"),
        (["open", "https://example.org/m#1" + "A" * 91], b"", "was altered"),
        (["open", "A" * 60], b"", "a receipt key, which cannot open anything"),
        (["receipt", "A" * 43], b"", "has 60 characters"),
        (["message", "show", "https://example.org/secrets/" + "A" * 43], b"", "sealpost open"),
        (["nonsense"], b"", "No such command"),
        (["share", "a", "--url", "http://192.0.2.1"], b"", "could read your data"),
    ],
)
async def test_wrong_usage_is_told_before_anything_is_sent(
    typed: Typed, arguments: list[str], stdin: bytes, words: str
) -> None:
    """With the exit code 2, on stderr alone."""
    async with odd_server([LOSE]) as server:
        ended = await typed(*arguments, stdin=stdin, SEALPOST_URL=server.url, COLUMNS="200")

    assert (2, "", []) == (ended.code, ended.stdout, server.requests)
    assert words in ended.stderr


async def test_what_the_server_refuses_is_told_in_its_words(url: str, typed: Typed) -> None:
    """A time to live over its limit, by the field."""
    ended = await typed("share", "a", "--ttl", "8d")

    assert (1, "", True) == (ended.code, ended.stdout, ended.stderr.startswith("sealpost: ttl: must be"))


async def test_a_link_goes_to_its_own_server_and_takes_no_credentials_along(url: str, ann: str, typed: Typed) -> None:
    """Nor does a token of the environment go there, even where the other server asks for one."""
    wanted = reply(401, '{"code": "unauthorized", "detail": "Sign in"}')
    async with odd_server([wanted]) as other:
        ended = await typed("open", f"{other.url}/secrets/{'A' * 43}", SEALPOST_TOKEN="sp_x")

    assert (4, ["GET /secrets/" + "A" * 43]) == (ended.code, other.lines)
    assert "authorization" not in other.requests[0].lower()


async def test_creating_signs_in_only_where_it_has_to(
    serve: Serve, typed: Typed, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that asks who one is gets the token; without one, the words say what to do."""
    server = await serve(anonymous_create=False)
    go_to(server, monkeypatch)
    await server.register("ann")
    refused = await typed("share", "a text")
    await typed("login", "ann", SEALPOST_PASSWORD=PASSWORD)

    assert (4, True) == (refused.code, "sealpost login" in refused.stderr)
    for command in ("share", "message"):
        assert 0 == (await typed(command, "a text")).code
    spoil_access_tokens(config)
    assert 0 == (await typed("share", "a text")).code


async def test_an_opening_whose_answer_stays_lost_is_told(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is repeated with the same key; in the end the user is told what may have happened, and what to do."""
    monkeypatch.setattr(opening, "HOLD_SECONDS", 0.0)
    async with odd_server([reply(200, LOOK), LOSE]) as server:
        ended = await typed("open", f"{server.url}/secrets/{'A' * 43}")

    assert (3, "") == (ended.code, ended.stdout)
    assert ["GET", "POST", "POST", "POST"] == [line.split()[0] for line in server.lines]
    assert 1 == len({request.partition("\r\n\r\n")[2] for request in server.requests[1:]})
    assert "the connection to" in ended.stderr
    assert "ask the sender" in ended.stderr


@pytest.mark.parametrize(("command", "words"), [("share", "share it again"), ("message", "send it again")])
async def test_a_creation_whose_answer_is_lost_is_not_repeated(typed: Typed, command: str, words: str) -> None:
    """It may be, by the one who typed it: nobody has the link."""
    async with odd_server([LOSE]) as server:
        ended = await typed(command, "a text", "--url", server.url)

    assert (3, 1) == (ended.code, len(server.requests))
    assert words in ended.stderr


async def test_a_burning_whose_answer_is_lost_is_repeated(typed: Typed) -> None:
    """That nothing waits then is no failure."""
    gone = reply(404, '{"code": "key_not_found", "detail": "Key not found"}')
    async with odd_server([LOSE, gone]) as server:
        ended = await typed("burn", "A" * 60, "--url", server.url)

    assert (0, 2) == (ended.code, len(server.requests))
    assert "the response to the first attempt was lost" in ended.stderr


async def test_a_link_without_a_host_gets_that_of_the_server(typed: Typed) -> None:
    """A server that does not know its own address answers a path."""
    created = f'{{"url": "/secrets/{"A" * 43}", "receipt_key": "y", "expires_at": "2026-03-01T09:30:00Z"}}'
    async with odd_server([reply(201, created)] * 2 + [reply(201, created.replace("A" * 43, "x"))]) as server:
        command = ("share", "a text", "--url", f"{server.url}/below/")
        ended, plain, odd = await typed(*command), await typed(*command, "--server-side"), await typed(*command)

    assert f"{server.url}/below/secrets/{'A' * 43}\n" == plain.stdout
    assert ended.stdout.startswith(f"{server.url}/below/s#1" + "A" * 42)
    assert ["POST /below/generate"] * 3 == server.lines
    assert (3, "", True) == (odd.code, odd.stdout, "the response is not from Sealpost" in odd.stderr)


async def test_a_link_keeps_the_path_prefix_of_the_server(typed: Typed) -> None:
    """Also where the server does not know of it, in the link alone as in JSON."""
    created = f'{{"url": "http://127.0.0.1/secrets/{"A" * 43}", "receipt_key": "y", "expires_at": "2026-03-01T09:30"}}'
    async with odd_server([reply(201, created)]) as server:
        command = ("share", "a text", "--server-side", "--url", f"{server.url}/below")
        ended, as_json = await typed(*command), await typed(*command, "--json")

    assert f"{server.url}/below/secrets/{'A' * 43}" == ended.stdout.strip()
    assert ended.stdout.strip() == json.loads(as_json.stdout)["url"]


@pytest.mark.parametrize("how", ["option", "variable"])
async def test_a_server_is_named_by_host_and_port(url: str, typed: Typed, how: str) -> None:
    """As the older gatherer's client took it; which scheme that means is said once."""
    address = url.removeprefix("http://")
    options, variables = (("--url", address), {}) if how == "option" else ((), {"SEALPOST_URL": address})
    ended = await typed("share", "a text", *options, **variables)

    assert (0, True) == (ended.code, ended.stdout.startswith(f"{url}/s#1"))
    assert f"sealpost: no http:// or https:// given: using {url}\n" == ended.stderr


async def test_a_text_does_not_command_the_terminal(url: str, typed: Typed, dialogue: Dialogue) -> None:
    """On a terminal, control characters are written out, and a pipe gets them as they are."""
    text = "\x1b]0;title\x07 \x9b31m red\r\nblue \u202egpj.exe\u2028"
    link = (await typed("share", text, "--opens", "2")).stdout.strip()

    async with dialogue("open", link) as terminal:
        await terminal.expect("\\x1b]0;title\\x07 \\x9b31m red\nblue \\u202egpj.exe\\u2028\n")
        await terminal.expect("control characters")
        await terminal.expect("1 view left")

    assert text == (await typed("open", link)).stdout
