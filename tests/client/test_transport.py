"""Requests of the client: what is sent again, what is not, and what is said."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from src.client.errors import NotSealpost, OutcomeUnknown, Unreachable, WrongUsage
from src.client.policy import Resend
from src.client.transport import LARGEST_ANSWER, Transport, explain_failure

from ..processes import PATIENCE
from .certificates import make_certificate, tls_server
from .conftest import Typed
from .servers import LOSE, STALL, odd_server, reply

BUSY = '{"code": "unavailable", "detail": "Not now"}'
RECEIPT = '{"state": "burned", "created_at": "2026-03-01T09:30:00Z", "expires_at": "2026-03-01T09:30:00Z"}'
LIMITED = '{"code": "too_many", "detail": "Too many requests"}'


def transport(url: str, notify: Callable[[str], None] = print, **more: object) -> Transport:
    """Return a transport."""
    options: dict[str, object] = {"timeout": PATIENCE, **more}
    return Transport(url, tls=None, notify=notify, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("resend", "bad", "tries"),
    [
        (Resend.NEVER, reply(429, LIMITED, Retry_After="0"), 1),
        (Resend.LIMITED, reply(429, LIMITED, Retry_After="0"), 2),
        (Resend.LIMITED, reply(503, BUSY, Retry_After="0"), 1),
        (Resend.UNAVAILABLE, reply(503, BUSY, Retry_After="0"), 2),
        (Resend.ALWAYS, reply(503, BUSY), 2),
        (Resend.ALWAYS, reply(502, "<html>"), 2),
        (Resend.ALWAYS, LOSE, 2),
        (Resend.ALWAYS, reply(429, LIMITED, Retry_After="900"), 1),
        (Resend.ALWAYS, reply(404, '{"code": "key_not_found"}'), 1),
    ],
)
async def test_a_request_is_sent_again_where_that_is_safe(resend: Resend, bad: bytes, tries: int) -> None:
    """And only there; it is told, and not waited for longer than half a minute."""
    said: list[str] = []
    async with odd_server([bad, reply(200)]) as server, transport(server.url, said.append) as sending:
        answer = await sending.send("POST", "/x", {"a": "b"}, resend=resend)

    assert tries == len(server.requests)
    assert tries - 1 == len([line for line in said if "Trying again in" in line])
    assert (tries == 2) == answer.ok
    assert answer.after_loss == (tries == 2 and bad in (LOSE, reply(502, "<html>")))


@pytest.mark.parametrize("bad", [LOSE, reply(502, "<html>"), reply(504, BUSY)])
async def test_what_may_have_been_carried_out_is_not_sent_twice(bad: bytes) -> None:
    """A lost answer is said to be one."""
    async with odd_server([bad]) as server, transport(server.url) as sending:
        with pytest.raises(OutcomeUnknown, match="may or may not have been carried out"):
            await sending.send("POST", "/x", {}, resend=Resend.UNAVAILABLE)

    assert ["POST /x"] == server.lines


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer with valid HTTP"),
        (reply(200, "x" * (LARGEST_ANSWER + 1)), "too large"),
    ],
)
async def test_what_is_no_answer_is_not_believed(bad: bytes, words: str) -> None:
    """Something else may listen there."""
    async with odd_server([bad]) as server, transport(server.url) as sending:
        with pytest.raises(NotSealpost, match=words):
            await sending.send("GET", "/x", resend=Resend.ALWAYS)

    assert 1 == len(server.requests)


@pytest.mark.parametrize(("keep_alive", "connections"), [(True, 1), (False, 3)])
async def test_connections_are_used_again_where_that_is_wanted(keep_alive: bool, connections: int) -> None:
    """By a program that sends many requests; a command has a fresh one each time, which nobody has closed meanwhile."""
    opened = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with (
        server,
        transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", keep_alive=keep_alive) as sending,
    ):
        assert all([(await sending.send("GET", "/x")).ok for _ in range(3)])
    assert connections == opened


async def test_no_redirect_is_followed() -> None:
    """The address that it leads to is named, but not its path, which may have a key in it."""
    moved = reply(302, Location="https://example.org/secrets/key")
    async with odd_server([moved]) as server, transport(server.url) as sending:
        with pytest.raises(Unreachable) as caught:
            await sending.send("GET", "/secrets/key", token="a token", resend=Resend.ALWAYS)

    assert f"{server.url} redirects to https://example.org: use that URL instead" == str(caught.value)


async def test_a_redirect_to_another_place_keeps_the_path_prefix() -> None:
    """What is named can be given with --url as it is."""
    moved = reply(308, Location="https://example.org/sealpost/receipts/key?x=y")
    async with odd_server([moved]) as server, transport(server.url + "/old") as sending:
        with pytest.raises(Unreachable) as caught:
            await sending.send("GET", "/receipts/key")

    assert f"{server.url}/old redirects to https://example.org/sealpost: use that URL instead" == str(caught.value)


async def test_a_redirect_out_of_tls_is_refused(tmp_path: Path, typed: Typed) -> None:
    """It is not even named as a place to go to."""
    certificate = make_certificate(tmp_path, "127.0.0.1")
    with tls_server(certificate, b"", f"http://127.0.0.1/receipts/{'A' * 60}") as server:
        ended = await typed("receipt", "A" * 60, "--url", server, "--ca-file", str(certificate))

    assert (3, f"sealpost: {server} redirects to an address without https, which is not allowed\n") == (
        ended.code,
        ended.stderr,
    )


async def test_plain_http_stays_on_this_machine() -> None:
    """Unless somebody says otherwise, nothing is sent in the clear to another one."""
    with pytest.raises(WrongUsage, match="could read your data"):
        await transport("http://192.0.2.1").__aenter__()


async def test_a_server_that_is_not_there_is_said_to_be(closed_port: int) -> None:
    """After a second look."""
    said: list[str] = []
    async with transport(f"http://127.0.0.1:{closed_port}", said.append) as sending:
        with pytest.raises(Unreachable, match="Connection refused"):
            await sending.send("POST", "/x", resend=Resend.LIMITED)

    assert 2 == len(said)


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    """After the time-out, and without a second try."""
    async with odd_server([STALL]) as server, transport(server.url, timeout=2) as sending:
        with pytest.raises(OutcomeUnknown, match=r"did not answer within 2 s"):
            await sending.send("GET", "/x", resend=Resend.ALWAYS)

    assert 1 == len(server.requests)


async def test_a_request_may_be_given_more_time() -> None:
    """In addition to the time-out, for a request whose work takes longer."""
    async with odd_server([STALL]) as server, transport(server.url, timeout=2) as sending:
        with pytest.raises(OutcomeUnknown, match=r"did not answer within 2.5 s"):
            await sending.send("GET", "/x", extra_seconds=0.5)


async def test_a_lost_connection_is_not_repeated_behind_the_back() -> None:
    """Not even for a PUT, which the HTTP library would send again by itself."""
    async with odd_server([LOSE]) as server, transport(server.url) as sending:
        with pytest.raises(OutcomeUnknown):
            await sending.send("PUT", "/x", {}, resend=Resend.UNAVAILABLE)

    assert ["PUT /x"] == server.lines


async def test_a_certificate_has_to_be_trusted(tmp_path: Path, typed: Typed) -> None:
    """That of a server of one's own is named; a certificate of another host is refused all the same."""
    ours, others = make_certificate(tmp_path, "127.0.0.1"), make_certificate(tmp_path, "127.0.0.2")
    command = ("receipt", "A" * 60, "--url")
    with tls_server(ours, RECEIPT.encode()) as server:
        refused = await typed(*command, server)
        named = await typed(*command, server, "--ca-file", str(ours))
        by_environment = await typed(*command, server, SEALPOST_CA_FILE=str(ours))
        insecure = await typed(*command, server, "--insecure")
        plain = await typed(*command, server.replace("https", "http"))
    with tls_server(others, RECEIPT.encode()) as server:
        misplaced = await typed(*command, server, "--ca-file", str(others))

    assert [3, 0, 0, 0, 3, 3] == [one.code for one in (refused, named, by_environment, insecure, plain, misplaced)]
    assert "certificate cannot be verified (self-signed certificate)" in refused.stderr
    assert "--ca-file FILE" in refused.stderr
    assert "certificate verification is off" in insecure.stderr
    assert "127.0.0.1" in misplaced.stderr.partition("cannot be verified")[2]


@pytest.mark.parametrize(
    ("name", "words"), [("/nowhere", "cannot read /nowhere: "), ("/dev/null", "/dev/null contains no certificate")]
)
async def test_a_file_without_a_certificate_is_told(typed: Typed, name: str, words: str) -> None:
    """Before anything is sent."""
    ended = await typed("receipt", "A" * 60, "--url", "https://sealpost.invalid", "--ca-file", name)

    assert (2, True) == (ended.code, ended.stderr.startswith(f"sealpost: {words}"))


async def test_tls_where_there_is_none_is_told(url: str, typed: Typed) -> None:
    """In words that help."""
    ended = await typed("receipt", "A" * 60, "--url", url.replace("http", "https"))

    assert (3, True) == (ended.code, "Is it an http:// server?" in ended.stderr)


@pytest.mark.parametrize(("host", "words"), [("sealpost.invalid", "unknown host"), ("1.2.3.4.5", "is not a valid URL")])
async def test_a_host_that_is_not_there_is_told(typed: Typed, host: str, words: str) -> None:
    """And not tried again."""
    ended = await typed("receipt", "A" * 60, "--url", f"https://{host}")

    assert (3, 1) == (ended.code, len(ended.stderr.splitlines()))
    assert words in ended.stderr


def test_a_host_that_takes_no_connection_is_told() -> None:
    """Behind a firewall, for example; nothing was sent."""
    failure = explain_failure(aiohttp.ConnectionTimeoutError(), url="https://example.org", timeout=30)

    assert "the connection timed out" in str(failure)
    assert not isinstance(failure, OutcomeUnknown)


@pytest.mark.parametrize(
    "tokens", ['[{"name": 1}]', "[3]", '{"a": 1}', '[{"name": "x", "scopes": [1]}]', '[{"name": "x", "scopes": "y"}]']
)
async def test_lists_are_looked_through(typed: Typed, tokens: str) -> None:
    """What is in them may be anything, too."""
    async with odd_server([reply(200, f'{{"tokens": {tokens}}}')]) as server:
        ended = await typed("tokens", "list", "--url", server.url, SEALPOST_TOKEN="sp_x")

    assert (3, "") == (ended.code, ended.stdout)
    assert "the response is not from Sealpost" in ended.stderr


@pytest.mark.parametrize(
    ("bad", "code", "words"),
    [
        (reply(200, "<html>"), 3, "did not answer like a Sealpost server"),
        (reply(200, "[]"), 3, "did not answer like a Sealpost server"),
        (reply(404, "<html>"), 3, "did not answer like a Sealpost server"),
        (reply(200, '{"state": 1}'), 3, "state is missing or has the wrong type"),
        (reply(200, '{"state": "burned", "created_at": "today"}'), 3, "created_at is not a time"),
        (reply(200, '{"state": "burned", "created_at": "0001-01-01T00:00:00+09:00"}'), 3, "created_at is not a time"),
        (reply(429, '{"code": "too_many"}', Retry_After="9" * 5000), 1, "too_many. Try again in 11574 days"),
        (reply(500, "<html>"), 3, "cannot answer now (500): Internal Server Error"),
        (reply(599, "<html>"), 3, "cannot answer now (599): no reason given"),
        (reply(503, '{"code": "unavailable", "detail": "Later."}', Retry_After="120"), 3, "Try again in 2 minutes"),
        (reply(429, '{"code": "limit_reached", "detail": "Slow."}', Retry_After="900"), 1, "Slow. Try again in 15 min"),
        (reply(400, '{"code": "malformed", "errors": [{"field": "a", "reason": "b"}, 3]}'), 1, "sealpost: a: b\n"),
        (reply(400, '{"code": "x\\u001b]0;y"}'), 1, "sealpost: x\\x1b]0;y\n"),
        (reply(401, '{"code": "invalid_token", "detail": "No good."}'), 4, "No good."),
    ],
)
async def test_every_answer_has_its_words_and_its_exit_code(typed: Typed, bad: bytes, code: int, words: str) -> None:
    """Whatever it is that answers."""
    async with odd_server([bad]) as server:
        ended = await typed("receipt", "A" * 60, "--url", server.url)

    assert (code, "") == (ended.code, ended.stdout)
    assert words in ended.stderr


@pytest.mark.parametrize("key", ["-" + "h" * 59, "--" + "a" * 58])
async def test_a_key_may_begin_with_a_dash(typed: Typed, key: str) -> None:
    """It is no option."""
    async with odd_server([reply(204, "")]) as server:
        ended = await typed("burn", key, "--url", server.url, "--json")

    assert (0, '{"burned": true}\n') == (ended.code, ended.stdout)
    assert [f"DELETE /receipts/{key}"] == server.lines
