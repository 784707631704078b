"""Requests of the client: what is sent again, what is not, and what is said."""

from collections.abc import Callable

import pytest

from src.client.errors import NotSealpost, OutcomeUnknown, Unreachable, WrongUsage
from src.client.tls import tls_context
from src.client.transport import LARGEST_ANSWER, Resend, Transport

from .servers import LOSE, odd_server, reply

BUSY = '{"code": "unavailable", "detail": "Not now"}'
LIMITED = '{"code": "too_many", "detail": "Too many requests"}'


def transport(url: str, notify: Callable[[str], None] = print, **more: object) -> Transport:
    """Return a transport with a short time-out."""
    options: dict[str, object] = {"timeout": 5.0, **more}
    return Transport(url, tls=tls_context(), notify=notify, **options)  # type: ignore[arg-type]


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
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (reply(200, "x" * (LARGEST_ANSWER + 1)), "too long"),
    ],
)
async def test_what_is_no_answer_is_not_believed(bad: bytes, words: str) -> None:
    """Something else may listen there."""
    async with odd_server([bad]) as server, transport(server.url) as sending:
        with pytest.raises(NotSealpost, match=words):
            await sending.send("GET", "/x", resend=Resend.ALWAYS)

    assert 1 == len(server.requests)


async def test_no_redirect_is_followed() -> None:
    """The address that it leads to is named, but not its path, which may have a key in it."""
    moved = reply(302, Location="https://example.org/secrets/key")
    async with odd_server([moved]) as server, transport(server.url) as sending:
        with pytest.raises(Unreachable) as caught:
            await sending.send("GET", "/secrets/key", token="a token", resend=Resend.ALWAYS)

    assert f"{server.url} sends on to https://example.org; give that with --url" == str(caught.value)


async def test_plain_http_stays_on_this_machine() -> None:
    """Unless somebody says otherwise, nothing is sent in the clear to another one."""
    with pytest.raises(WrongUsage, match="can be read on the way"):
        await transport("http://192.0.2.1").__aenter__()


async def test_a_server_that_is_not_there_is_said_to_be(unused_tcp_port: int) -> None:
    """After a second look."""
    said: list[str] = []
    async with transport(f"http://127.0.0.1:{unused_tcp_port}", said.append) as sending:
        with pytest.raises(Unreachable, match="Connection refused"):
            await sending.send("POST", "/x", resend=Resend.LIMITED)

    assert 2 == len(said)
