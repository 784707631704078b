"""Gathered messages for operators: over HTTP and by the command, in constant memory, without damaged ones."""

import asyncio
import copy
import json
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError

from bench.fill_gathered import fill_gathered
from src.api.times import EARLIEST, LATEST, parse_time
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing
from src.errors import Unavailable
from src.gatherer.bundle_reader import PAGE, BundleReader

from .commands import Operator
from .conftest import Api
from .senders import Sender, gathered, operator_token, sent
from .test_tampering import tampered

Serve = Callable[..., Awaitable[Api]]


@pytest.fixture
async def api(share: Serve) -> Api:
    """A server that trusts nginx's address header."""
    return await share(behind_nginx=True)


async def test_it_is_only_for_operators(api: Api) -> None:
    """Users, API tokens of operators, and former operators get nothing."""
    token = await operator_token(api)
    user = await api.sign_up("ann")
    scopes = ["secrets", "messages", "posts", "gather", "echo"]
    _, made = await api.call("POST", "/tokens", {"name": "all", "scopes": scopes}, token=token)

    refusals = {
        "": (401, "unauthorized"),
        "nonsense": (401, "invalid_token"),
        user: (403, "not_operator"),
        made["token"]: (403, "insufficient_scope"),
    }
    for credentials, expected in refusals.items():
        status, answer = await api.call("GET", "/gathered", token=credentials)
        assert expected == (status, answer["code"])
    assert [] == await gathered(api, token)


async def test_it_is_filtered_by_time_and_sender(api: Api) -> None:
    """From a time, inclusive, to another, exclusive; by a sender's name in any case; oldest first."""
    token = await operator_token(api)
    one, two = Sender(api, username="Web-1"), Sender(api, username="web-2")
    tokens = await one.token(), await two.token()
    for number in range(3):
        await one.send(tokens[0], f"one {number}")
        await asyncio.sleep(0.01)
        await two.send(tokens[1], f"two {number}", "again")
        await asyncio.sleep(0.01)
    lines = await gathered(api, token)
    times = [line["received_at"] for line in lines]

    assert 9 == len(lines)
    assert sorted(times) == times
    assert [f"one {number}" for number in range(3)] == [
        line["message"] for line in await gathered(api, token, username="WEB-1")
    ]
    assert lines[4:] == await gathered(api, token, since=times[4])
    assert lines[:4] == await gathered(api, token, until=times[4])
    assert lines[1:4] == await gathered(api, token, since=times[1], until=times[4])
    assert lines[4:6] == await gathered(api, token, username="web-2", since=times[3], until=times[6])
    assert lines == await gathered(api, token, since=times[0].partition("T")[0], until="9999-12-31")
    zone = datetime.fromisoformat(times[4]).astimezone().isoformat()
    assert lines[4:] == await gathered(api, token, since=zone)
    for parameters in ({"username": "nobody"}, {"since": "2999-01-01"}, {"until": "2000-01-01"}):
        assert [] == await gathered(api, token, **parameters)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=yesterday", "since"),
        ("since=2026-13-01", "since"),
        ("until=2026-01-01T00:00:00", "until"),
        ("until=1767225600", "until"),
        ("since=2026-01-02&until=2026-01-01", "until"),
        ("limit=5", "limit"),
        ("since=2026-01-01&since=2026-01-02", None),
        ("since=2026-01-01T00:00:00+02:00", "since"),
    ],
)
async def test_an_invalid_query_gets_a_helpful_error(api: Api, query: str, field: str | None) -> None:
    """A 400 names the parameter before any line is sent; an unescaped plus is a space."""
    token = await operator_token(api)

    status, answer = await api.call("GET", f"/gathered?{query}", token=token)

    assert 400 == status
    if field:
        assert [field] == [error["field"] for error in answer["errors"]]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T09:30:00.25Z", datetime(2026, 3, 1, 9, 30, 0, 250000, tzinfo=UTC)),
        ("2026-03-01T09:30:00+02:00", datetime(2026, 3, 1, 7, 30, tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:59", EARLIEST),
        ("9999-12-31T23:59:59-23:59", LATEST),
    ],
)
def test_days_and_times_are_parsed(text: str, moment: datetime) -> None:
    """As in RFC 3339, to the ends of the calendar."""
    assert moment == parse_time(text)


def ring_of(api: Api) -> KeyRing:
    """Return the ring of a server."""
    assert api.settings.keys is not None
    return KeyRing.parse(api.settings.keys.get_secret_value())


async def fill(api: Api, mongo_url: str, messages: int, each: int) -> None:
    """Generate the messages of a year."""
    await fill_gathered(mongo_url, api.settings.mongo_database, ring_of(api), messages=messages, each=each)


async def test_more_than_a_page_is_streamed_whole(api: Api, mongo_url: str) -> None:
    """Every line once, in order, over many pages, by time and by sender; HEAD has no body."""
    await fill(api, mongo_url, 3 * PAGE, 1)
    token = await operator_token(api)

    lines = await gathered(api, token)

    assert 3 * PAGE == len(lines)
    times = [line["received_at"] for line in lines]
    assert sorted(times) == times
    assert len(times) == len(set(times))
    half = await gathered(api, token, since=times[PAGE + 7])
    assert lines[PAGE + 7 :] == half
    mine = [line for line in lines if line["username"] == "bench-sender-3"]
    assert mine == await gathered(api, token, username="bench-sender-3")
    assert list(range(1, len(mine) + 1)) == [line["sequence"] for line in mine]
    async with api.client.head("/gathered", headers={"Authorization": f"Bearer {token}"}) as response:
        assert (200, b"") == (response.status, await response.read())


async def test_a_partial_response_is_recognizable(api: Api, mongo_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If MongoDB fails before the first line, a 503; later, a body without its end."""
    await fill(api, mongo_url, 2 * PAGE, 1)
    token = await operator_token(api)
    page, pages = BundleReader.page, [2]

    async def failing(self: BundleReader, *arguments: Any) -> Any:
        pages[0] -= 1
        if not pages[0]:
            raise Unavailable
        return await page(self, *arguments)

    monkeypatch.setattr(BundleReader, "page", failing)
    with pytest.raises(ClientPayloadError):
        await gathered(api, token)
    pages[0] = 1
    assert 503 == (await api.call("GET", "/gathered", token=token))[0]


async def test_tampered_messages_are_left_out(api: Api) -> None:
    """With any byte changed, or any field removed or of another type: no crash, and no false message."""
    token = await operator_token(api)
    sender, other = Sender(api), Sender(api, username="other")
    await sender.send(await sender.token(), "the first", batch="b")
    await other.send(await other.token(), "the second")
    collection = api.mongo.collection("gathered")
    first, second = await collection.find().sort("_id", 1).to_list(None)
    sound = [("web-1", 1, "the first"), ("other", 1, "the second")]
    tried = 0
    for described, document in tampered(first):
        tried += 1
        if described.startswith("envelope=") and tried % 8:
            continue
        if "batch_index" in described:
            continue
        await collection.replace_one({"_id": first["_id"]}, document)

        assert await sent(api, token) in (sound, sound[1:]), described
    await collection.replace_one({"_id": first["_id"]}, {**second, "_id": first["_id"]})
    assert sound[1:] == await sent(api, token)
    await collection.replace_one({"_id": first["_id"]}, first)
    assert sound == await sent(api, token)
    await collection.insert_one({**copy.deepcopy(second), "_id": b"\xff" * 20})
    assert sound == await sent(api, token)


async def test_expired_messages_are_gone(serve: Serve) -> None:
    """No request returns them, whether or not MongoDB has deleted them; the setting is their lifetime."""
    api = await serve(behind_nginx=True, gathered_ttl=3600)
    token = await operator_token(api)
    sender = Sender(api)
    senders_token = await sender.token()
    await sender.send(senders_token, "old")
    await sender.send(senders_token, "new")
    collection = api.mongo.collection("gathered")
    document = await collection.find_one()
    assert timedelta(hours=1) == document["expires_at"] - document["received_at"]

    past = utc_now() - timedelta(seconds=1)
    await collection.update_one({"_id": document["_id"]}, {"$set": {"expires_at": past}})

    assert [("web-1", 2, "new")] == await sent(api, token)
    await collection.delete_many({})
    assert (3, 3) == await sender.send(senders_token, "numbers go on")


@pytest.fixture
def operator(api: Api, mongo_url: str) -> Operator:
    """The operator of the server."""
    return Operator.of(api.settings, mongo_url)


async def test_the_command_exports_the_same_as_http(api: Api, operator: Operator, tmp_path: Path) -> None:
    """To stdout or to a file of mode 0600, with the same filters; it reports the number of lines."""
    token = await operator_token(api)
    one, two = Sender(api), Sender(api, username="web-2")
    await one.send(await one.token(), "one", "ünïcödé\n")
    await asyncio.sleep(0.01)
    await two.send(await two.token(), "two")
    lines = await gathered(api, token)
    file = tmp_path / "export.jsonl"
    file.write_text("of yesterday")

    everything = await operator.run("gathered", "export")
    written = await operator.run("gathered", "export", "--output", str(file), "--username", "WEB-1")
    counted = await operator.run("gathered", "count", "--username", "web-1", "--until", lines[2]["received_at"])
    since = await operator.run("gathered", "count", "--since", lines[2]["received_at"])

    assert (0, lines) == (everything.code, [json.loads(line) for line in everything.stdout.splitlines()])
    assert everything.stderr.endswith("sealpost: wrote 3 messages\n")
    assert (0, "") == (written.code, written.stdout)
    assert lines[:2] == [json.loads(line) for line in file.read_text().splitlines()]
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert [file] == list(tmp_path.iterdir())
    assert ("2\n", "1\n") == (counted.stdout, since.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("export", "--since", "yesterday"), 2, "must be a day"),
        (("count", "--since", "2026-01-02", "--until", "2026-01-01"), 2, "must not be before"),
        (("export", "--username", "nobody"), 1, "there is no user nobody"),
        (("export", "--output", "/nowhere/at/all"), 1, "/nowhere/at/"),
    ],
)
async def test_the_command_reports_errors(operator: Operator, arguments: tuple[str, ...], code: int, told: str) -> None:
    """With the exit codes of all commands, and no traceback."""
    ended = await operator.run("gathered", *arguments)

    assert (code, True) == (ended.code, told in " ".join(ended.stderr.split()))


async def test_a_closed_pipe_ends_the_export(api: Api, mongo_url: str, operator: Operator) -> None:
    """As with `head`: a message, no traceback, and the exit code of a failed command."""
    await fill(api, mongo_url, 4000, 100)
    read, write = os.pipe()
    async with operator.running("gathered", "export", stdout=write) as process:
        os.close(write)
        os.read(read, 1)
        os.close(read)
        _, told = await process.communicate()

    assert 1 == process.returncode
    assert b"the reader closed the pipe" in told
    assert b"Traceback" not in told


async def peak_mib(operator: Operator, output: Path) -> float:
    """Export to a file and return the command's peak memory in MiB."""
    # Not the operating system's peak of the process, which includes the process that forked it.
    script = (
        "import re, sys; from src.manage.__main__ import main; code = main(sys.argv[1:]);"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]); sys.exit(code)"
    )
    ended = await replace(operator, script=script).run("gathered", "export", "--output", str(output))

    assert 0 == ended.code
    return int(ended.stdout.split()[-1]) / 1024


async def test_an_export_has_constant_memory(api: Api, mongo_url: str, operator: Operator, tmp_path: Path) -> None:
    """20,000 messages and 20 large ones need only a few pages more than none."""
    nothing = await peak_mib(operator, tmp_path / "nothing")
    await fill(api, mongo_url, 20_000, 10)
    sender = Sender(api)
    token = await sender.token()
    for number in range(20):
        await sender.send(token, str(number), "x" * 1_000_000)

    everything = await peak_mib(operator, tmp_path / "everything")

    assert 20_040 == (tmp_path / "everything").read_bytes().count(b"\n")
    assert everything < nothing + 40
