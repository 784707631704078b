"""The operator's commands: their effects, output and error messages."""

import asyncio
import io
import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from src.accounts.administration import AccountAdministration
from src.accounts.api_tokens import ApiTokenStore
from src.accounts.feature import credential_limits
from src.accounts.sessions import SessionStore
from src.accounts.users import User, UserContent, UserNames, UserStore
from src.core.audit import NoAudit
from src.core.crypto.keys import KeyRing, KeyRingError, new_key, put_in_front, read_key_ring
from src.core.database.embedded import embedded_mongod
from src.core.database.group_commit import group_commit
from src.core.database.mongo import Mongo
from src.core.database.prerequisites import KeyChecks
from src.manage.__main__ import main
from src.settings import Settings

from .commands import Operator
from .conftest import PASSWORD, Api, seconds_accepted
from .processes import PATIENCE
from .programs import ROOT

Serve = Callable[..., Awaitable[Api]]
NEW = "a password that the operator chose"


@pytest.fixture
def operator(api: Api, mongo_url: str) -> Operator:
    """The operator of the server with the default settings."""
    return Operator.of(api.settings, mongo_url)


async def login(api: Api, password: str = PASSWORD) -> tuple[int, str]:
    """Try to sign in as Ann; return the status and the problem's code."""
    status, answer = await api.call("POST", "/login", {"username": "ann", "password": password})
    return status, answer.get("code", "")


async def refused(api: Api, pair: Any) -> None:
    """Use a session's tokens until they are rejected, within 2 seconds."""
    assert 401 == (await api.call("POST", "/refresh", {"refresh_token": pair["refresh_token"]}))[0]

    async def use() -> int:
        return (await api.call("GET", "/me", token=pair["access_token"]))[0]

    assert await seconds_accepted(use) < 2


async def test_users_are_listed(api: Api, operator: Operator) -> None:
    """As a table and as JSON lines, oldest first, including a user who cannot be decrypted."""
    ids = [(await api.register(name))["user_id"] for name in ("Ann", "bob", "eve")]
    await api.login("ann")
    await operator.run("users", "make-operator", "bob")
    await api.mongo.collection("users").update_one({"_id": bytes.fromhex(ids[2])}, {"$set": {"envelope": b"x"}})

    table, lines = await asyncio.gather(operator.run("users", "list"), operator.run("users", "list", "--json"))

    assert (0, 0) == (table.code, lines.code)
    ann, bob, eve = (json.loads(line) for line in lines.stdout.splitlines())
    assert (["Ann", "bob", None], ids) == (
        [user["username"] for user in (ann, bob, eve)],
        [u["user_id"] for u in (ann, bob, eve)],
    )
    times = [datetime.fromisoformat(ann[name]) for name in ("created_at", "last_login_at", "last_request_at")]
    assert sorted(times) == times
    assert (None, True, False) == (bob["last_login_at"], bob["operator"], bob["disabled"])
    assert {"username": None, "user_id": ids[2], "unreadable": True} == eve
    rows = table.stdout.splitlines()
    assert ["username", "user id"] == re.split(r"\s{2,}", rows[0])[:2]
    assert ["Ann", ids[0]] == rows[1].split()[:2]
    assert rows[2].split()[-1] == "operator"
    assert rows[3].endswith("cannot be read")
    assert "cannot be decrypted" in lines.stderr


async def test_one_user_is_shown(api: Api, operator: Operator) -> None:
    """By name in any case, with active sessions and API tokens."""
    await api.register("Ann")
    token = (await api.login())["access_token"]
    await api.call("POST", "/logout", token=(await api.login())["access_token"])
    await api.call("POST", "/tokens", {"name": "ci", "scopes": ["secrets"]}, token=token)

    lines, text = await asyncio.gather(
        operator.run("users", "show", "aNN", "--json"), operator.run("users", "show", "ANN")
    )

    shown = json.loads(lines.stdout)
    assert ("Ann", 1, 1) == (shown["username"], shown["sessions"], shown["api_tokens"])
    assert ("username:     Ann", "API tokens:   1") == (text.stdout.splitlines()[0], text.stdout.splitlines()[-1])


async def test_a_disabled_user_is_out_until_enabled(api: Api, operator: Operator) -> None:
    """Password, sessions and API tokens stop working; once enabled, the password and API tokens work again."""
    await api.register()
    pair = await api.login()
    _, token = await api.call("POST", "/tokens", {"name": "ci", "scopes": ["secrets"]}, token=pair["access_token"])

    async def use() -> int:
        return (await api.call("DELETE", "/me", {}, token=token["token"]))[0]

    assert 403 == await use()  # valid, but without the scope
    assert 0 == (await operator.run("users", "disable", "ANN")).code

    assert (403, "account_disabled") == await login(api)
    await refused(api, pair)
    assert await seconds_accepted(use) < 2

    enabled = await operator.run("users", "enable", "ann")
    assert (0, "sealpost: ann is enabled\n") == (enabled.code, enabled.stderr)
    assert (200, "") == await login(api)
    assert 403 == await use()
    await refused(api, pair)


async def test_accounts_are_created_whoever_may_register(serve: Serve, mongo_url: str) -> None:
    """With the role and a password from stdin or a generated one; an invalid or taken name gets a clear message."""
    api = await serve(registration="closed")
    operator = Operator.of(api.settings, mongo_url, SEALPOST_REGISTRATION="closed")

    ann = await operator.run("users", "create", "Ann", "--operator", stdin=PASSWORD.encode())
    bob, invited, *refusals = await asyncio.gather(
        operator.run("users", "create", "bob", "--generate"),
        operator.run("users", "invite"),
        *(
            operator.run("users", "create", name, stdin=password.encode())
            for name, password in (("ANN", PASSWORD), ("eve\n", PASSWORD), ("eve", "short"))
        ),
    )

    assert (0, "sealpost: Ann has an account and is an operator\n") == (ann.code, ann.stderr)
    assert 200 == (await api.call("GET", "/users", token=(await api.login("ann"))["access_token"]))[0]
    assert (0, "sealpost: bob has an account\n") == (bob.code, bob.stderr)
    await api.login("bob", bob.stdout.strip())
    for refused, words in zip(refusals, ("is taken", "3 to 32", "8 to 1024"), strict=True):
        assert (1, True) == (refused.code, words in refused.stderr)
    assert (1, "") == (invited.code, invited.stdout)
    assert "Registration is closed" in invited.stderr


async def test_people_are_invited_on_the_command_line(serve: Serve, mongo_url: str) -> None:
    """The link leads to the service's public URL; without one, the invitation is printed. It belongs to no account."""
    api = await serve(registration="invite")
    operator = Operator.of(api.settings, mongo_url, SEALPOST_REGISTRATION="invite")
    public = Operator.of(api.settings, mongo_url, SEALPOST_PUBLIC_URL="https://example.org/post/")

    one, two = await asyncio.gather(
        operator.run("users", "invite", "--role", "operator"),
        public.run("users", "invite", "--uses", "3", "--days", "1"),
    )

    assert (0, 0) == (one.code, two.code)
    assert re.fullmatch(r"si_[\w-]{43}\n", one.stdout)
    assert "append the invitation" in one.stderr
    assert re.fullmatch(r"https://example\.org/post/join#si_[\w-]{43}\n", two.stdout)
    assert "valid for 3 accounts until" in two.stderr
    body = {"username": "ann", "password": PASSWORD, "invitation": one.stdout.strip()}
    assert 201 == (await api.call("POST", "/register", body))[0]
    _, answer = await api.call("GET", "/invitations", token=(await api.login())["access_token"])
    assert [("member", None, 3)] == [(i["role"], i["created_by"], i["uses_left"]) for i in answer["invitations"]]


async def test_an_operator_remains_one_until_revoked(api: Api, operator: Operator) -> None:
    """Also if the user's document is resealed."""
    await api.register()
    token = (await api.login())["access_token"]

    async def is_operator() -> bool:
        return bool(json.loads((await operator.run("users", "show", "ann", "--json")).stdout)["operator"])

    assert "now an operator" in (await operator.run("users", "make-operator", "ann")).stderr
    assert 204 == (await api.call("PUT", "/me/password", {"current": PASSWORD, "new": NEW}, token=token))[0]
    assert await is_operator()
    assert "no longer an operator" in (await operator.run("users", "make-operator", "ann", "--revoke")).stderr
    assert not await is_operator()


async def test_a_reset_password_signs_in_at_once(serve: Serve, mongo_url: str) -> None:
    """Also if the account was locked, and without a byte order mark; the old password stops working."""
    limit = "2 per 15 minutes"
    api = await serve(rate_limits="on", limit_login_account=limit)
    operator = Operator.of(api.settings, mongo_url, SEALPOST_LIMIT_LOGIN_ACCOUNT=limit)
    await api.register()
    pair = await api.login()
    while (await login(api, "wrong"))[0] != 429:
        pass

    ended = await operator.run("users", "reset-password", "Ann", stdin=f"\ufeff{NEW}\r\n".encode())

    assert (0, "") == (ended.code, ended.stdout)
    assert (200, "") == await login(api, NEW)
    assert 401 == (await login(api))[0]
    await refused(api, pair)


async def test_a_password_is_generated(api: Api, operator: Operator) -> None:
    """It is the only output on stdout, and it signs in."""
    await api.register()

    ended = await operator.run("users", "reset-password", "ann", "--generate")

    assert 24 == len(ended.stdout.strip())
    assert ended.stdout.strip() not in ended.stderr
    assert (200, "") == await login(api, ended.stdout.strip())


@pytest.mark.parametrize(("again", "code"), [(NEW, 0), ("another one", 1), ("\x04", 1)])
async def test_a_password_is_asked_for_twice_on_a_terminal(api: Api, operator: Operator, again: str, code: int) -> None:
    """It is not echoed; two different ones, or a single one, change nothing."""
    await api.register()
    terminal, stdin = pty.openpty()
    async with operator.running("users", "reset-password", "ann", stdin=stdin) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = await process.stderr.readuntil(b"New password: ")
        os.write(terminal, f"{NEW}\n".encode())
        said += await process.stderr.readuntil(b"Again: ")
        os.write(terminal, f"{again}\n".encode())
        said += await process.stderr.read() + await process.stdout.read()
        assert code == await process.wait()
    os.close(stdin)
    os.set_blocking(terminal, False)
    try:
        said += os.read(terminal, 10_000)
    except OSError:
        pass
    os.close(terminal)

    assert NEW.encode() not in said
    assert 200 == (await login(api, PASSWORD if code else NEW))[0]


@pytest.mark.parametrize(
    ("arguments", "stdin", "environment", "code", "told"),
    [
        (["users", "show", "nobody"], b"", {}, 1, "there is no user named 'nobody'"),
        (["users", "enable", "\udcff"], b"", {}, 1, "there is no user named '\\udcff'"),
        (["users", "disable", "ann"], b"", {}, 1, "the account of 'ann' cannot be decrypted"),
        (["users", "reset-password", "ann"], b"", {}, 1, "8 to 1024 characters"),
        (["users", "reset-password", "ann"], b"seven77\n", {}, 1, "8 to 1024 characters"),
        (["users", "reset-password", "ann"], b"x" * 5000, {}, 1, "8 to 1024 characters"),
        (["users", "reset-password", "ann"], b"\xff" * 12 + b"\n", {}, 1, "not UTF-8"),
        (["users", "show"], b"", {}, 2, "Missing argument"),
        (["users", "forget", "ann"], b"", {}, 2, "No such command"),
        ([], b"", {}, 2, "Usage"),
        (["users", "list"], b"", {"SEALPOST_TTL_MAX": "s3cret"}, 2, "SEALPOST_TTL_MAX"),
        (["users", "list"], b"", {"SEALPOST_KEYS": "s3cret"}, 2, "SEALPOST_KEYS"),
        (["users", "list"], b"", {"SEALPOST_MONGO_URL": "s3cret"}, 2, "SEALPOST_MONGO_URL"),
        (
            ["keys", "list"],
            b"",
            {"SEALPOST_MONGO_URL": "mongodb://u:s3cret@127.0.0.1:9/?replicaSet=r", "SEALPOST_MONGO_TIMEOUT": "0.3"},
            1,
            "does not answer",
        ),
        (["keys", "list"], b"", {"SEALPOST_MONGO_URL": "", "SEALPOST_DATA_DIR": "/proc/none"}, 1, "SEALPOST_DATA_DIR"),
        (["keys", "list"], b"", {"SEALPOST_MONGO_URL": "", "SEALPOST_MONGOD": "/none"}, 1, "SEALPOST_MONGOD"),
        (["keys", "new", "--add"], b"", {}, 1, "not in a file"),
        (
            ["keys", "new", "--add"],
            b"",
            {"SEALPOST_MONGO_URL": "", "SEALPOST_KEYS": "", "SEALPOST_DATA_DIR": "/dev/null"},
            1,
            "/dev/null/keys cannot be used: Not a directory",
        ),
    ],
)
def test_errors_are_reported(
    make_settings: Callable[..., Settings],
    mongo_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    stdin: bytes,
    environment: dict[str, str],
    code: int,
    told: str,
) -> None:
    """On stderr, with a reason and without a secret; in this process, because there are so many cases."""
    settings = make_settings()
    with capture_logs():
        asyncio.run(add_damaged_user(settings, mongo_url))
    changed = {"SEALPOST_DATA_DIR": str(tmp_path), **environment}
    for name, value in {**Operator.of(settings, mongo_url).environment, **changed}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    monkeypatch.setattr("src.manage.runner.configure_logs", lambda *_: None)

    with capture_logs():
        ended = main(arguments)

    shown = capsys.readouterr()
    assert (code, "", True) == (ended, shown.out, told in shown.err), shown
    assert "Traceback" not in shown.err
    assert "s3cret" not in shown.err
    assert "sealpost: " in shown.err or code == 2


async def add_damaged_user(settings: Settings, url: str) -> None:
    """Store a user under an unknown key."""
    mongo = Mongo(settings, url)
    await KeyChecks(mongo, read_key_ring(settings)).require()
    users = UserStore(mongo, KeyRing.parse(new_key()), group_commit(max_batch=1, max_queue=1))
    user = await users.add(UserContent(username="ann"))
    assert user is not None
    name_index = UserNames(read_key_ring(settings)).index("ann")
    await mongo.collection("users").update_one({"_id": user.user_id}, {"$set": {"name_index": name_index}})
    await mongo.close()


async def test_an_unexpected_error_shows_only_its_place(operator: Operator) -> None:
    """No message or traceback, which may contain secrets."""
    script = (
        "import sys; from src.manage import users; from src.manage.__main__ import main\n"
        "users.new_password = lambda: 1 / 0\n"
        "sys.exit(main(sys.argv[1:]))"
    )

    ended = await Operator(operator.environment, script).run("users", "reset-password", "ann", "--generate")

    assert (1, True) == (ended.code, "unexpected error: ZeroDivisionError in <string>:2" in ended.stderr)


@pytest.mark.lifecycle
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_command_ends_at_once(operator: Operator, number: signal.Signals, tmp_path: Path) -> None:
    """Also while it waits for MongoDB."""
    mark = tmp_path / "waiting"
    script = (
        "import sys; from pathlib import Path\n"
        "from src.core.database.mongo import Mongo\n"
        "from src.manage.__main__ import main\n"
        "opened = Mongo._open\n"
        f"Mongo._open = lambda *a, **k: (opened(*a, **k), Path({str(mark)!r}).touch())[0]\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    nowhere = {"SEALPOST_MONGO_URL": "mongodb://127.0.0.1:9/?replicaSet=r", "SEALPOST_MONGO_TIMEOUT": f"{PATIENCE:.0f}"}
    async with Operator({**operator.environment, **nowhere}, script).running("users", "list") as process:
        while not mark.exists():
            assert process.returncode is None
            await asyncio.sleep(0.01)
        process.send_signal(number)
        # MongoDB is waited for twice as long.
        _, told = await asyncio.wait_for(process.communicate(), PATIENCE / 2)

    assert (130, True) == (process.returncode, b"can run the command again" in told)


def running(data_dir: Path) -> bool:
    """Tell whether the data directory's mongod is running."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        # Processes of other tests end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            if f"{data_dir}/mongo/db".encode() in entry.read_bytes().split(b"\0"):
                return True
    return False


@pytest.mark.lifecycle
async def test_the_embedded_mongodb_is_started_or_joined(tmp_path: Path) -> None:
    """A command stops a mongod that it has started, and leaves one running that it has joined."""
    operator = Operator({"SEALPOST_DATA_DIR": str(tmp_path)})

    alone = await operator.run("users", "list", "--json")
    assert (0, "", False) == (alone.code, alone.stdout, running(tmp_path))

    with embedded_mongod(tmp_path):
        beside = await operator.run("keys", "list", "--json")
        assert running(tmp_path)
    key = KeyRing.parse((tmp_path / "keys").read_text()).newest
    assert (0, key) == (beside.code, json.loads(beside.stdout)["key_id"])
    assert 0o600 == stat.S_IMODE((tmp_path / "keys").stat().st_mode)


def test_a_new_key_is_shown() -> None:
    """An entry on stdout, and its destination on stderr; run without the fork server."""
    ended = subprocess.run(
        [sys.executable, "-m", "src.manage", "keys", "new"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert 1 == len(KeyRing.parse(ended.stdout).key_ids)
    assert "SEALPOST_KEYS" in ended.stderr


@pytest.mark.parametrize("generated", [True, False])
async def test_a_new_key_is_added_to_the_key_file(tmp_path: Path, *, generated: bool) -> None:
    """In front of the others, without showing any; a missing file is an error."""
    path = tmp_path / ("keys" if generated else "ring")
    environment = {"SEALPOST_DATA_DIR": str(tmp_path), **({} if generated else {"SEALPOST_KEYS_FILE": str(path)})}
    old = new_key()
    if generated:
        missing = await Operator(environment).run("keys", "new", "--add")
        assert (1, True) == (missing.code, "does not exist yet" in missing.stderr)
    path.write_text(f"{old}\n")
    path.chmod(0o600)

    ended = await Operator(environment).run("keys", "new", "--add")

    ring = KeyRing.parse(path.read_text())
    assert (0, f"{ring.newest}\n") == (ended.code, ended.stdout)
    assert (ring.newest, old.partition(":")[0]) == ring.key_ids
    for entry in path.read_text().split():
        assert entry.partition(":")[2] not in ended.stdout + ended.stderr
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_keys_added_at_once_are_all_kept(tmp_path: Path) -> None:
    """12 additions through a symbolic link make 13 keys in one file of the same mode; the link remains a link."""
    path, link = tmp_path / "ring", tmp_path / "link"
    path.write_text(new_key())
    path.chmod(0o640)
    link.symlink_to(path)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: put_in_front(new_key(), link), range(12)))

    assert 13 == len(KeyRing.parse(path.read_text()).key_ids)
    assert (True, 0o640) == (link.is_symlink(), stat.S_IMODE(path.stat().st_mode))
    assert {path, link} == set(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["no ring", "k:schlüssel"])
async def test_a_broken_key_file_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    """No key is added to a file that is not a key ring."""
    path = tmp_path / "keys"
    path.write_text(text)

    with pytest.raises(KeyRingError):
        put_in_front(new_key(), path)
    ended = await Operator({"SEALPOST_DATA_DIR": str(tmp_path)}).run("keys", "new", "--add")

    # The second entry, after the new one.
    assert (1, True) == (ended.code, "entry 2 of the key ring" in ended.stderr)
    assert text == path.read_text()
    assert [path] == list(tmp_path.iterdir())


async def test_a_concurrent_change_survives(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that the user changes during the operator's command is kept."""
    await api.register()
    token = (await api.login())["access_token"]
    ring = read_key_ring(api.settings)
    find, batching = UserStore.find_by_name, group_commit(max_batch=1, max_queue=1)

    async def find_then_change(store: UserStore, username: str) -> User | None:
        user = await find(store, username)
        monkeypatch.setattr(UserStore, "find_by_name", find)
        assert 204 == (await api.call("PUT", "/me/password", {"current": PASSWORD, "new": NEW}, token=token))[0]
        return user

    monkeypatch.setattr(UserStore, "find_by_name", find_then_change)
    accounts = AccountAdministration(
        users=UserStore(api.mongo, ring, batching),
        sessions=SessionStore(api.mongo, ring, life=timedelta(days=1)),
        tokens=ApiTokenStore(api.mongo, ring, batching),
        limits=credential_limits(api.settings, api.mongo, ring),
        bcrypt_cost=4,
        audit=NoAudit(),
    )

    user = await accounts.change("ann", operator=True)

    assert user == await accounts.change("ANN", operator=True)
    assert user.content.operator
    assert (200, "") == await login(api, NEW)
