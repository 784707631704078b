"""Opening a secret at the terminal when responses are lost."""

import json
import os
from collections.abc import Callable
from datetime import datetime

import pytest

from src.client.commands import opening

from ..conftest import Api
from .conftest import Typed
from .liar import LOST, Forward, Told, liar, problem
from .servers import odd_server, reply

LOOK = '{"phrase_required": false, "opens_left": 1, "created_at": "2026-03-01T09:30:00Z", "expires_at": "2026-03-01"}'


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client ask again soon."""
    monkeypatch.setattr(opening, "FIRST_PAUSE", 0.01)


def after_the_fact(told: Told, times: int) -> Callable[[str, Forward], object]:
    """Return a lie: the first openings are carried out, and their responses replaced."""
    left = times

    async def lie(line: str, forward: Forward) -> Told:
        nonlocal left
        truth = await forward()
        if line.startswith("POST /secrets/") and not line.endswith("/received") and left:
            left -= 1
            return told
        return truth

    return lie


@pytest.mark.parametrize("password", [{}, {"SEALPOST_PHRASE": "old friend"}])
@pytest.mark.parametrize(
    "told", [LOST, Told(502, None), Told(504, None), problem(503, "unavailable", Retry_After="0")], ids=str
)
async def test_a_lost_response_loses_no_text(
    api: Api, url: str, typed: Typed, told: Told, password: dict[str, str]
) -> None:
    """The client asks again with the same key, also after several losses, and then confirms the text."""
    created = json.loads((await typed("share", "a text", "--json", **password)).stdout)
    async with liar(url, after_the_fact(told, 5)) as lying:  # type: ignore[arg-type]
        ended = await typed("open", created["url"].replace(url, lying), **password)
    receipt = json.loads((await typed("receipt", created["receipt_key"], "--json")).stdout)
    shown = (await typed("receipt", created["receipt_key"])).stdout

    assert (0, "a text") == (ended.code, ended.stdout)
    assert "Asking again in" in ended.stderr
    assert ("opened", 0, 0) == (receipt["state"], receipt["late_attempts"], receipt["failed_attempts"])
    # As text, a whole second would be later than the milliseconds after it.
    assert datetime.fromisoformat(receipt["received_at"]) >= datetime.fromisoformat(receipt["opened_at"])
    assert "received " in shown
    assert 0 == await api.mongo.collection("held").count_documents({})


async def test_a_text_that_is_not_written_is_not_confirmed(url: str, typed: Typed) -> None:
    """If stdout fails, the server is not told that the text has arrived."""
    created = json.loads((await typed("share", "a text", "--json")).stdout)
    with os.fdopen(os.open("/dev/full", os.O_WRONLY), "w") as full:
        ended = await typed("open", created["url"], stdout=full)
    receipt = json.loads((await typed("receipt", created["receipt_key"], "--json")).stdout)

    assert 1 == ended.code
    assert ("opened", None) == (receipt["state"], receipt["received_at"])


async def test_late_attempts_are_shown(api: Api, url: str, typed: Typed) -> None:
    """With their number and the time of the last one."""
    created = json.loads((await typed("share", "a text", "--json")).stdout)
    assert 0 == (await typed("open", created["url"])).code
    before = (await typed("receipt", created["receipt_key"])).stdout
    for _ in range(2):
        await api.open(created["secret_key"])

    after = (await typed("receipt", created["receipt_key"])).stdout

    assert "late attempts" not in before
    [line] = [line for line in after.splitlines() if line.startswith("late attempts")]
    assert line.split()[2:6] == ["2,", "the", "last", "one"]


@pytest.mark.parametrize("refusal", ["unknown field", "other"])
async def test_an_older_server_gets_no_key(typed: Typed, refusal: str) -> None:
    """If it does not know the field, the secret is opened without it."""
    field = "reader" if refusal == "unknown field" else "phrase"
    error = {"code": "malformed", "detail": "no", "errors": [{"field": field, "reason": "is unknown; remove it"}]}
    answers = [reply(200, LOOK), reply(400, json.dumps(error)), reply(200, '{"secret": "a text", "opens_left": 0}')]
    async with odd_server(answers) as server:
        ended = await typed("open", f"{server.url}/secrets/{'A' * 43}")

    bodies = [request.partition("\r\n\r\n")[2] for request in server.requests]
    if refusal == "unknown field":
        assert (0, "a text", "") == (ended.code, ended.stdout, bodies[2])
    else:
        assert (1, 2) == (ended.code, len(bodies))


async def test_an_unreachable_server_is_told_at_once(typed: Typed, closed_port: int) -> None:
    """Nothing was sent, so there is nothing to ask again for."""
    ended = await typed("open", f"http://127.0.0.1:{closed_port}/secrets/{'A' * 43}")

    assert 3 == ended.code
    assert "Asking again" not in ended.stderr
