"""Accounts, sessions and tokens at the terminal."""

import json
from pathlib import Path

import pytest

from ..conftest import PASSWORD, Api
from .conftest import Typed, make_stale, spoil_access_tokens
from .servers import LOSE, odd_server, reply

NEW = "three other words"
INVITED = ("--invitation", "si_" + "A" * 43)
"""With an invitation, registering is a single request."""
TOKENS = '{"access_token": "a", "refresh_token": "sr_a", "token_type": "Bearer", "expires_in": 600}'


async def test_a_new_user_is_signed_in(url: str, typed: Typed) -> None:
    """With one password for both; a name that is taken is refused in the server's words."""
    registered = await typed("register", "Ann", SEALPOST_PASSWORD=PASSWORD)
    shown = await typed("whoami", "--json")
    taken = await typed("register", "ann", SEALPOST_PASSWORD=PASSWORD)
    other = await typed("register", "bob", "--no-login", "--json", SEALPOST_PASSWORD=PASSWORD)

    assert (0, "") == (registered.code, registered.stdout)
    assert [
        f"sealpost: registered Ann on {url}",
        f"sealpost: signed in to {url} as Ann",
    ] == registered.stderr.splitlines()
    assert ("Ann", url) == (json.loads(shown.stdout)["username"], json.loads(shown.stdout)["url"])
    assert (1, True) == (taken.code, "taken" in taken.stderr)
    assert ("bob", "") == (json.loads(other.stdout)["username"], other.stderr)
    assert "username    Ann" == (await typed("whoami")).stdout.splitlines()[0]


async def test_a_wrong_password_is_told(api: Api, url: str, typed: Typed, config: Path) -> None:
    """And nothing is kept."""
    await api.register("ann")

    ended = await typed("login", "ann", SEALPOST_PASSWORD="not this one")

    assert (1, "sealpost: Incorrect username or password.\n") == (ended.code, ended.stderr)
    assert not config.exists()


async def test_what_is_no_text_is_not_sent(ann: str, typed: Typed) -> None:
    """A shell with another encoding."""
    commands = (["login", "J\udcfcrgen"], ["post", "a", "--title", "\udcfc"])

    ended = [await typed(*command, SEALPOST_PASSWORD=PASSWORD) for command in commands]

    assert [(2, True)] * 2 == [(one.code, "is not UTF-8" in one.stderr) for one in ended]


async def test_a_new_sign_in_ends_the_one_before(ann: str, api: Api, typed: Typed) -> None:
    """No session stays behind that nobody has any more."""
    again = await typed("login", "ann", "--json", SEALPOST_PASSWORD=PASSWORD)

    sessions = (await typed("sessions", "list", "--json")).stdout.splitlines()

    assert ("ann", 1) == (json.loads(again.stdout)["username"], len(sessions))
    assert json.loads(sessions[0])["current"]


async def test_signing_out_ends_the_session(ann: str, api: Api, url: str, typed: Typed, config: Path) -> None:
    """Here and on the server; whoever is not signed in is told so."""
    token = json.loads((config / "credentials.json").read_text())["sessions"][url]["refresh_token"]

    out, again, me = await typed("logout"), await typed("logout"), await typed("whoami")

    assert (0, f"sealpost: signed out of {url}\n") == (out.code, out.stderr)
    assert 401 == (await api.call("POST", "/refresh", {"refresh_token": token}))[0]
    assert (4, f"sealpost: you are not signed in to {url}\n") == (again.code, again.stderr)
    assert (4, True) == (me.code, "sealpost login" in me.stderr)


async def test_signing_out_forgets_what_the_server_cannot_be_told(typed: Typed, config: Path) -> None:
    """And says that the session lives on."""
    async with odd_server([reply(200, TOKENS), LOSE]) as server:
        await typed("login", "ann", "--url", server.url, SEALPOST_PASSWORD=PASSWORD)
        ended = await typed("logout", "--url", server.url)

    assert (3, True) == (ended.code, "still active there" in ended.stderr)
    assert {} == json.loads((config / "credentials.json").read_text())["sessions"]


async def test_a_session_ends_whose_access_token_is_no_good(ann: str, api: Api, typed: Typed, config: Path) -> None:
    """It is refreshed for it: an access token that has expired does not say that the session has ended."""
    sessions = api.mongo.collection("sessions")
    make_stale(config)
    first = await typed("logout")
    left = [await sessions.count_documents({"ended_at": None})]
    await typed("login", "ann", SEALPOST_PASSWORD=PASSWORD)
    spoil_access_tokens(config)
    await typed("login", "ann", SEALPOST_PASSWORD=PASSWORD)
    left.append(await sessions.count_documents({"ended_at": None}))
    spoil_access_tokens(config)
    second = await typed("logout")
    left.append(await sessions.count_documents({"ended_at": None}))

    assert ([0, 0], [0, 1, 0]) == ([first.code, second.code], left)


async def test_a_session_that_has_ended_already_is_as_good_as_ended(
    ann: str, api: Api, typed: Typed, config: Path
) -> None:
    """Somebody has ended it from elsewhere."""
    await api.mongo.collection("sessions").delete_many({})
    make_stale(config)

    assert 0 == (await typed("logout")).code


async def test_the_password_is_changed(ann: str, api: Api, typed: Typed) -> None:
    """With the present one as proof; this session stays, others end."""
    other = await api.login("ann")
    wrong = await typed("passwd", SEALPOST_PASSWORD="not this one", SEALPOST_NEW_PASSWORD=NEW)
    changed = await typed("passwd", "--json", SEALPOST_PASSWORD=PASSWORD, SEALPOST_NEW_PASSWORD=NEW)

    assert (1, {"changed": True}) == (wrong.code, json.loads(changed.stdout))
    assert 0 == (await typed("whoami")).code
    assert 401 == (await api.call("POST", "/refresh", {"refresh_token": other["refresh_token"]}))[0]
    assert 0 == (await typed("login", "ann", SEALPOST_PASSWORD=NEW)).code


@pytest.mark.parametrize(
    ("replies", "command", "words"),
    [
        ([LOSE], ["register", "ann", *INVITED], "sealpost login ann"),
        (
            [reply(503, '{"code": "unavailable", "detail": "Later."}')],
            ["register", "ann", *INVITED],
            "sealpost login ann",
        ),
        ([reply(200, TOKENS), reply(503, '{"code": "unavailable"}')], ["post", "x"], "before you publish it again"),
        ([reply(200, TOKENS), LOSE], ["tokens", "create", "x", "--scope", "echo"], "tokens list"),
        ([reply(200, TOKENS), LOSE], ["post", "x"], "before you publish it again"),
        ([reply(200, TOKENS), reply(200), LOSE], ["passwd"], "sign in with the new password"),
    ],
)
async def test_what_is_not_known_to_be_done_is_not_done_again(
    typed: Typed, replies: list[bytes], command: list[str], words: str
) -> None:
    """The words say how to find out."""
    async with odd_server(replies) as server:
        if len(replies) > 1:
            await typed("login", "ann", "--url", server.url, SEALPOST_PASSWORD=PASSWORD)
        ended = await typed(*command, "--url", server.url, SEALPOST_PASSWORD=PASSWORD, SEALPOST_NEW_PASSWORD=NEW)

    assert (3, len(replies)) == (ended.code, len(server.requests))
    assert words in ended.stderr


async def test_sessions_are_listed_and_ended(ann: str, api: Api, typed: Typed) -> None:
    """In a table, with this one marked; what is not there is told."""
    other = await api.login("ann")
    listed = (await typed("sessions", "list", "--json")).stdout.splitlines()
    newest = json.loads(listed[0])["id"]

    table, ended, again = (
        await typed("sessions", "list"),
        await typed("sessions", "end", newest),
        await typed("sessions", "end", newest, "--json"),
    )

    rows = table.stdout.splitlines()
    assert ["created", "refreshed", "expires", "id"] == rows[0].split()
    assert (newest, "current") == (rows[1].split()[-1], rows[2].split()[-2])
    assert (0, "sealpost: session ended\n") == (ended.code, ended.stderr)
    assert (1, "sealpost: no such session. See: sealpost sessions list\n") == (again.code, again.stderr)
    assert 401 == (await api.call("POST", "/refresh", {"refresh_token": other["refresh_token"]}))[0]


async def test_tokens_are_made_listed_and_deleted(ann: str, api: Api, typed: Typed) -> None:
    """The token alone is on stdout, once; the list has everything else of it."""
    created = await typed("tokens", "create", "nightly", "--scope", "secrets", "--scope", "echo", "--days", "3")
    forever = json.loads((await typed("tokens", "create", "other", "--scope", "posts", "--json")).stdout)
    table = (await typed("tokens", "list")).stdout.splitlines()
    listed = [json.loads(line) for line in (await typed("tokens", "list", "--json")).stdout.splitlines()]

    assert (75, 0) == (len(created.stdout.strip()), created.code)
    assert ["other", "nightly"] == [token["name"] for token in listed]
    assert ["posts", "-", "-", forever["id"]] == [table[1].split()[place] for place in (1, 4, 5, 6)]
    assert table[2].startswith("nightly   echo secrets")
    deleted = await typed("tokens", "delete", forever["id"], "--json")
    assert {"deleted": forever["id"]} == json.loads(deleted.stdout)
    assert (1, True) == ((again := await typed("tokens", "delete", forever["id"])).code, "tokens list" in again.stderr)
    refused = await typed("tokens", "create", "x", "--scope", "everything")
    assert (1, True) == (refused.code, "scopes" in refused.stderr)


async def test_the_echo_says_what_it_was_told(ann: str, typed: Typed) -> None:
    """To the byte, from stdin and as an argument."""
    text = "Grüße ☕\r\n\n"

    assert text == (await typed("echo", stdin=text.encode())).stdout
    assert text == (await typed("echo", "-", stdin=text.encode())).stdout
    assert {"str": "-x"} == json.loads((await typed("echo", "--json", "--", "-x")).stdout)
