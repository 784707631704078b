"""What the client keeps, and how a session is kept going."""

import asyncio
import json
import os
import signal
import stat
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.client import authentication, credentials
from src.client.authentication import SessionTokens
from src.client.credentials import CredentialStore, StoredSession
from src.client.errors import ClientError, NotSignedIn
from src.client.transport import Transport

from ..conftest import PASSWORD, Api
from ..processes import PATIENCE, ROOT
from .conftest import Typed, make_stale, spoil_access_tokens
from .servers import LOSE, STALL, odd_server, reply

PAIR = '{"access_token": "new", "refresh_token": "sr_new", "token_type": "Bearer", "expires_in": 600}'
ME = '{"user_id": "x", "username": "ann", "created_at": "2026-03-01T09:30:00Z"}'


def kept(config: Path) -> Any:
    """Return the content of the file."""
    return json.loads((config / "credentials.json").read_text())


async def keep(config: Path, url: str, **changes: Any) -> StoredSession:
    """Store a session, by default one whose access token is too old."""
    session = StoredSession(username="ann", access_token="old", refresh_token="sr_old", access_until=0)
    store, session = CredentialStore(config), replace(session, **changes)
    async with store.locked():
        store.write(replace(store.read().with_session(url, session), default_url=url))
    return session


async def test_what_is_kept_is_for_its_user_alone(ann: str, config: Path) -> None:
    """The file, its lock and the directory; a password is not among it."""
    assert {0o700, 0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (config, *config.iterdir())}
    assert ["credentials.json", "credentials.lock"] == sorted(path.name for path in config.iterdir())
    assert PASSWORD not in (config / "credentials.json").read_text()


@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "words"),
    [(0o640, 0o700, "other users can read"), (0o600, 0o770, "other users can write to")],
)
async def test_what_others_could_have_seen_is_not_used(
    ann: str, config: Path, typed: Typed, file_mode: int, directory_mode: int, words: str
) -> None:
    """Until its mode is right again."""
    (config / "credentials.json").chmod(file_mode)
    config.chmod(directory_mode)

    ended = await typed("whoami")

    assert (1, True) == (ended.code, words in ended.stderr)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "default_url": null, "sessions": {"x": {}}}']
)
async def test_a_damaged_file_is_said_to_be_one(config: Path, typed: Typed, content: str) -> None:
    """And what to do about it."""
    config.mkdir(parents=True, mode=0o700)
    (config / "credentials.json").write_text(content)
    (config / "credentials.json").chmod(0o600)

    ended = await typed("whoami")

    assert (1, True) == (ended.code, "is damaged. Delete it and sign in again" in ended.stderr)


async def test_a_session_of_another_type_is_damage(config: Path) -> None:
    """Each member is looked at."""
    await keep(config, "http://127.0.0.1", access_token=3)
    with pytest.raises(ClientError, match="damaged"):
        CredentialStore(config).read()


async def test_a_file_that_cannot_be_used_is_told(config: Path, typed: Typed, url: str, api: Api) -> None:
    """A directory in its place, or a file in the place of the directory."""
    await api.register("ann")
    config.parent.mkdir()
    config.write_text("")
    in_the_way = await typed("login", "ann", SEALPOST_PASSWORD=PASSWORD)
    config.unlink()
    (config / "credentials.json").mkdir(parents=True)
    no_file = await typed("whoami")

    assert [(1, True), (1, True)] == [(one.code, "sealpost: cannot " in one.stderr) for one in (in_the_way, no_file)]


async def test_an_old_access_token_is_refreshed(ann: str, config: Path, typed: Typed) -> None:
    """Without a word, and what came is kept."""
    before = kept(config)["sessions"]
    make_stale(config)

    shown = await typed("whoami")

    after = kept(config)["sessions"]
    assert (0, "") == (shown.code, shown.stderr)
    for url, session in before.items():
        assert session["refresh_token"] != after[url]["refresh_token"]
        assert after[url]["access_until"] > time.time() + 500


async def test_an_access_token_that_is_refused_before_its_time_is_refreshed(
    ann: str, api: Api, config: Path, typed: Typed
) -> None:
    """As when this machine's clock is wrong; also for what is created, as nothing was done."""
    spoil_access_tokens(config)

    assert 0 == (await typed("post", "a text")).code
    assert 1 == await api.mongo.collection("posts").count_documents({})


async def test_commands_at_once_refresh_once(ann: str, api: Api, config: Path, url: str) -> None:
    """Twenty that find the access token too old; a refresh token used twice would end the session."""
    make_stale(config)
    transport = Transport(url, tls=None, timeout=PATIENCE)
    async with transport:
        tokens = await asyncio.gather(*(SessionTokens(CredentialStore(config), transport).token() for _ in range(20)))

        assert 1 == len(set(tokens))
        assert 200 == (await api.call("GET", "/me", token=str(tokens[0])))[0]


@pytest.mark.lifecycle
async def test_processes_at_once_refresh_once(ann: str, config: Path, url: str) -> None:
    """The lock holds between processes as well."""
    make_stale(config)

    async def whoami() -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "src.client", "whoami"), cwd=ROOT, stdout=asyncio.subprocess.DEVNULL
        )
        return await asyncio.wait_for(process.wait(), PATIENCE)

    assert [0, 0, 0] == await asyncio.gather(*(whoami() for _ in range(3)))


async def test_a_refused_refresh_says_to_sign_in_again(ann: str, api: Api, config: Path, typed: Typed) -> None:
    """What is kept is forgotten, but not where one was."""
    url, session = next(iter(kept(config)["sessions"].items()))
    await api.call("POST", "/refresh", {"refresh_token": session["refresh_token"]})
    make_stale(config)

    ended = await typed("whoami")

    assert (4, True) == (ended.code, "Sign in again: sealpost login ann" in ended.stderr)
    assert ({}, url) == (kept(config)["sessions"], kept(config)["default_url"])


async def test_a_refresh_whose_answer_is_lost_keeps_what_there_is(config: Path, typed: Typed) -> None:
    """The next command tries it once more."""
    async with odd_server([LOSE]) as server:
        await keep(config, server.url)
        ended = await typed("whoami")

    assert (3, ["POST /refresh"]) == (ended.code, server.lines)
    assert "sr_old" == kept(config)["sessions"][server.url]["refresh_token"]


async def test_nothing_is_refreshed_that_cannot_be_kept(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk must not use the refresh token up."""
    async with odd_server([reply(200, PAIR)]) as server:
        await keep(config, server.url)

        def fail(*_: Any, **__: Any) -> Any:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tempfile, "mkstemp", fail)
        async with Transport(server.url, tls=None, timeout=PATIENCE) as transport:
            with pytest.raises(ClientError, match="No space left on device"):
                await SessionTokens(CredentialStore(config), transport).token()

    assert [] == server.requests


async def test_a_session_that_cannot_be_kept_is_not_left_behind(
    api: Api, url: str, config: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the sign-in: it ends on the server too, and half a file is left nowhere."""
    await api.register("ann")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    ended = await typed("login", "ann", SEALPOST_PASSWORD=PASSWORD)

    assert (1, True) == (ended.code, "No space left on device" in ended.stderr)
    assert ["credentials.lock"] == [path.name for path in config.iterdir()]
    assert 0 == await api.mongo.collection("sessions").count_documents({"ended_at": None})


async def test_what_belongs_to_another_user_is_not_used(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a home directory that somebody else has made."""
    await keep(config, "http://127.0.0.1")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(ClientError, match="belongs to another user"):
        CredentialStore(config).read()


async def test_a_directory_that_cannot_be_made_is_told(config: Path) -> None:
    """A file stands in its way."""
    config.parent.mkdir()
    config.write_text("")

    with pytest.raises(ClientError, match="cannot use"):
        await keep(config, "http://127.0.0.1")


async def test_a_refresh_is_finished_before_a_command_is_cancelled(config: Path) -> None:
    """What has come in place of a used refresh token is kept."""
    async with odd_server([reply(200, PAIR)]) as server:
        await keep(config, server.url)
        async with Transport(server.url, tls=None, timeout=PATIENCE) as transport:
            task = asyncio.create_task(SessionTokens(CredentialStore(config), transport).token())
            async with asyncio.timeout(PATIENCE):
                while not server.requests:
                    await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    assert "sr_new" == kept(config)["sessions"][server.url]["refresh_token"]


async def test_a_lock_that_is_not_released_is_told(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while."""
    monkeypatch.setattr(credentials, "LOCK_SECONDS", 0.1)
    store = CredentialStore(config)
    async with store.locked():
        with pytest.raises(ClientError, match="for more than"):
            async with CredentialStore(config).locked():
                pass


async def test_who_signed_out_meanwhile_is_not_signed_in(config: Path) -> None:
    """Another command has removed the session that this one wanted to refresh."""
    async with Transport("http://127.0.0.1:9", tls=None, timeout=PATIENCE) as transport:
        with pytest.raises(NotSignedIn, match="no longer signed in"):
            await SessionTokens(CredentialStore(config), transport).renew("old")


async def test_the_server_of_the_sign_in_is_the_default(
    ann: str, url: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whoever names none; credentials go to their own server alone."""
    monkeypatch.delenv("SEALPOST_URL")
    async with odd_server([reply(200, ME)]) as other:
        at_home = await typed("whoami", "--json")
        elsewhere = await typed("whoami", "--url", other.url)

    assert (0, url) == (at_home.code, json.loads(at_home.stdout)["url"])
    assert (4, []) == (elsewhere.code, other.requests)


async def test_a_token_of_the_environment_goes_before_the_sign_in(ann: str, api: Api, typed: Typed) -> None:
    """An API token does what its scopes say; one that is no good is not replaced by the session."""
    created = await typed("tokens", "create", "ci", "--scope", "echo")
    token = created.stdout.strip()

    assert "hello" == (await typed("echo", "hello", SEALPOST_TOKEN=token)).stdout
    refused = await typed("whoami", SEALPOST_TOKEN=token)
    assert (1, True) == (refused.code, "token" in refused.stderr)
    no_good = await typed("whoami", SEALPOST_TOKEN="sp_x")
    assert (4, True) == (no_good.code, "SEALPOST_TOKEN" in no_good.stderr)
    with_both = await typed("login", "ann", SEALPOST_PASSWORD=PASSWORD, SEALPOST_TOKEN=token)
    assert "use that token instead of this session" in with_both.stderr


async def test_plain_http_is_remembered_from_the_sign_in(config: Path, typed: Typed) -> None:
    """Who has allowed it once for a server need not do so for each command."""
    host = "http://sealpost.invalid"
    before = await typed("echo", "x", "--url", host)
    await keep(config, host, allow_http=True, access_until=time.time() + 600)
    after = await typed("echo", "x", "--url", host)

    assert (2, 3) == (before.code, after.code)


@pytest.mark.lifecycle
async def test_an_interrupted_command_says_what_is_not_known(tmp_path: Path) -> None:
    """Ctrl-C in the middle of an opening."""
    look = '{"phrase_required": false, "opens_left": 1, "created_at": "x", "expires_at": "x"}'
    async with odd_server([reply(200, look), STALL]) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "src.client", "open", f"{server.url}/secrets/{'A' * 43}"),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            while len(server.requests) < 2:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()

    assert (130, b"sealpost: interrupted. The request may or may not have been carried out\n") == (
        process.returncode,
        err,
    )


def test_no_repr_shows_a_token() -> None:
    """As it could end up in an error."""
    session = StoredSession(username="ann", access_token="eyJ", refresh_token="sr_", access_until=0)

    assert not [part for part in ("eyJ", "sr_") if part in repr(session)]
    assert 0 < authentication.EARLY < 600
