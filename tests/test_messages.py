"""Messages: readable by anyone with the link, any number of times, until they expire."""

import asyncio
import html
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.api.pages import prefers_page
from src.api.schema import parse_form
from src.core.clock import utc_now
from src.errors import Malformed
from src.sealed.schemas import CreateMessage, MessageForm

from .conftest import Api, altered
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def create(api: Api, message: str = "a message", **fields: Any) -> tuple[str, str]:
    """Create a message and return the path of its link, and its receipt key."""
    status, answer = await api.call("POST", "/", {"message": message, **fields})

    assert 201 == status
    return urlsplit(answer["url"]).path, answer["receipt_key"]


async def test_a_message_can_be_read_repeatedly(api: Api) -> None:
    """Every reader gets it, in parallel or in sequence."""
    path, _ = await create(api, "für alle ☕\0")

    answers = await asyncio.gather(*(api.call("GET", path) for _ in range(50)))

    assert {200} == {status for status, _ in answers}
    assert {"für alle ☕\0"} == {answer["message"] for _, answer in answers}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"message": "as JSON"}', "as JSON"),
        (b' \n{"message": "with space before"}', "with space before"),
        (b"message=as+a%20form", "as a form"),
        (urlencode({"message": "1+1=2 & ümläut ☕"}).encode(), "1+1=2 & ümläut ☕"),
        ("message=roh und ütf-8".encode(), "roh und ütf-8"),
        (b'message={"message": 1}', '{"message": 1}'),
        (b"message=a=b", "a=b"),
    ],
)
async def test_curl_may_send_json_or_a_form(api: Api, body: bytes, expected: str) -> None:
    """`curl -d` declares both as a form; the body decides."""
    created = await api.send("POST", "/", body, **FORM)

    assert 201 == created.status
    assert expected == (await api.call("GET", urlsplit(created.json()["url"]).path))[1]["message"]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b'{"message": "not ended', b"text=x", b"&".join(b"f%d=1" % number for number in range(30))),
        *(b"message=" + rest for rest in (b"", b"a&message=b", b"%ff", b"\xff", b"a&ttl=1")),
    ],
)
async def test_a_malformed_form_is_refused_without_repeating_it(api: Api, body: bytes) -> None:
    """The response says what to change, and contains no part of a message."""
    answer = await api.send("POST", "/", body, **FORM)

    assert (400, "malformed") == (answer.status, answer.json()["code"])
    assert b"not ended" not in answer.body


async def test_a_form_is_a_form_only_by_its_type(api: Api) -> None:
    """With another content type, a body that is not JSON is rejected."""
    assert 400 == (await api.send("POST", "/", b"message=x", **{"Content-Type": "application/json"})).status


async def test_a_secret_is_not_read_as_a_message(api: Api) -> None:
    """The route without a limit shows no secret, and the route with one opens no message."""
    secret = (await api.create("once", max_opens=1))["secret_key"]
    path, _ = await create(api)

    assert 404 == (await api.call("GET", f"/message/{secret}"))[0]
    assert 404 == (await api.call("GET", path.replace("/message/", "/secrets/")))[0]
    assert 404 == (await api.open(path.removeprefix("/message/")))[0]
    assert 404 == (await api.open(path.removeprefix("/message/"), phrase="x"))[0]
    assert (200, "once") == ((opened := await api.open(secret))[0], opened[1]["secret"])
    assert 200 == (await api.call("GET", path))[0]


async def test_a_secret_made_a_message_in_the_database_does_not_open(api: Api) -> None:
    """Kind and limit are authenticated by the envelope."""
    created = await api.create("once")
    await api.items.update_one({}, {"$set": {"kind": "message", "max_opens": 0}})

    status, problem = await api.call("GET", f"/message/{created['secret_key']}")

    assert (410, "damaged") == (status, problem["code"])


@pytest.mark.parametrize("field", ["envelope", "created_at", "expires_at"])
async def test_a_tampered_message_is_reported_as_damaged(api: Api, field: str) -> None:
    """Any change gets the same problem and no text."""
    path, _ = await create(api)
    document = await api.items.find_one({})
    changed = altered(document[field]) if field == "envelope" else document[field] + timedelta(days=1)
    both = {"expires_at": changed, "delete_at": changed} if field == "expires_at" else {field: changed}
    await api.items.update_one({}, {"$set": both})

    status, problem = await api.call("GET", path)

    assert (410, "damaged") == (status, problem["code"])


async def test_a_message_whose_key_is_not_in_the_ring_is_unavailable(api: Api) -> None:
    """It is neither damaged nor gone: with the key restored, it opens."""
    path, _ = await create(api)
    document = await api.items.find_one({})
    await api.items.update_one({}, {"$set": {"key_id": "elsewhere"}})

    assert 503 == (await api.call("GET", path))[0]
    await api.items.replace_one({}, document)
    assert 200 == (await api.call("GET", path))[0]


async def test_a_receipt_shows_and_burns_a_message(api: Api) -> None:
    """As for secrets, but without a number of openings."""
    path, receipt_key = await create(api)

    _, receipt = await api.call("GET", f"/receipts/{receipt_key}")
    assert ("waiting", None) == (receipt["state"], receipt["opens_left"])
    assert 204 == (await api.call("DELETE", f"/receipts/{receipt_key}"))[0]
    assert 404 == (await api.call("GET", path))[0]
    _, receipt = await api.call("GET", f"/receipts/{receipt_key}")
    assert ("burned", 0) == (receipt["state"], receipt["opens_left"])


async def test_an_expired_message_is_gone_before_it_is_deleted(api: Api) -> None:
    """The query checks the expiry."""
    path, receipt_key = await create(api, ttl={"seconds": 3})
    assert 200 == (await api.call("GET", path))[0]

    async with asyncio.timeout(PATIENCE):
        while (await api.call("GET", path))[0] == 200:
            await asyncio.sleep(0.05)

    assert "expired" == await api.state(receipt_key)


async def test_expired_items_are_purged_on_request(serve: Serve, own_database: str) -> None:
    """Secrets, messages and old tombstones, but no available item."""
    api = await serve(mongo_database=own_database)
    # MongoDB deletes none of it meanwhile.
    await api.items.drop_index("delete_at")
    (kept, _), secret = await create(api, "kept"), await api.create("kept")
    for number in range(3):
        await create(api, f"old {number}")
    await api.create("old")
    past = utc_now() - timedelta(seconds=1)
    newest = await api.items.find({}).sort("created_at", -1).limit(4).to_list(None)
    await api.items.update_one({"_id": newest[0]["_id"]}, {"$set": {"state": "opened"}})
    await api.items.update_many(
        {"_id": {"$in": [item["_id"] for item in newest]}}, {"$set": {"delete_at": past, "expires_at": past}}
    )

    assert (200, {"deleted": 4}) == await api.call("POST", "/delete")
    assert (200, {"deleted": 0}) == await api.call("POST", "/delete")
    assert 200 == (await api.call("GET", kept))[0]
    assert 200 == (await api.open(secret["secret_key"]))[0]


async def test_a_browser_gets_a_page_on_which_text_is_text(api: Api) -> None:
    """Escaped, in UTF-8, under a policy that allows no script; other clients get JSON."""
    text = "\n<script>alert(1)</script>\r\n\"quoted\" & 'so' +ADw-script+AD4- {{7*7}}\ufeff"
    path, _ = await create(api, text)

    page = await api.send("GET", path, Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    data = await api.send("GET", path, Accept="*/*")

    assert ("text/html; charset=utf-8", "Accept, Accept-Language, Cookie") == (
        page.headers["Content-Type"],
        page.headers["Vary"],
    )
    shown = re.search(r"<pre translate=\"no\" class=\"notranslate\">\n(.*)</pre>", page.body.decode(), re.DOTALL)
    assert shown
    assert "<" not in shown[1]
    assert text == html.unescape(shown[1])
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script" not in policy
    assert text == data.json()["message"]
    assert "Accept" == data.headers["Vary"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html", True),
        ("TEXT/HTML ; q=1.0", True),
        ("application/json, text/html", True),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=x", False),
        (";;,,;=", False),
    ],
)
def test_html_is_for_clients_that_prefer_it(accept: str, expected: bool) -> None:
    """Browsers request it; tools that accept anything get JSON."""
    assert expected == prefers_page(accept)


@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8")))
def test_a_form_carries_every_text(message: str) -> None:
    """The text that a browser encodes is stored exactly."""
    raw = f"message={quote_plus(message)}".encode()

    assert message == parse_form(MessageForm, CreateMessage, raw).message


@given(st.binary())
def test_no_form_breaks_the_parser(raw: bytes) -> None:
    """Any body is a message or a problem."""
    try:
        assert parse_form(MessageForm, CreateMessage, raw).message
    except Malformed:
        pass


@pytest.mark.parametrize(
    ("settings", "headers", "expected"),
    [
        ({"public_url": "https://notes.example.org/s"}, {}, "https://notes.example.org/s/message/"),
        (
            {"behind_nginx": True},
            {"X-Forwarded-Host": "notes.example.org:8443", "X-Forwarded-Proto": "https"},
            "https://notes.example.org:8443/message/",
        ),
        ({}, {"Host": "10.0.0.7:8080", "X-Forwarded-Host": "evil.example"}, "http://10.0.0.7:8080/message/"),
    ],
)
async def test_the_link_leads_to_the_public_address(
    serve: Serve, settings: dict[str, Any], headers: dict[str, str], expected: str
) -> None:
    """The public URL, or the host of the request; forwarding headers are trusted only where nginx overwrites them."""
    api = await serve(**settings)

    answer = await api.send("POST", "/", b'{"message": "m"}', **headers)

    assert answer.json()["url"].startswith(expected)


async def test_creating_messages_may_be_for_users_alone(serve: Serve) -> None:
    """With SEALPOST_ANONYMOUS_CREATE=false, creation requires the scope for messages; reading does not."""
    api = await serve(anonymous_create=False)
    session = await api.sign_up()
    tokens = [
        (await api.call("POST", "/tokens", {"name": "x", "scopes": [scope]}, token=session))[1]["token"]
        for scope in ("messages", "secrets")
    ]

    answers = [await api.call("POST", "/", {"message": "m"}, token=token) for token in ("", session, *tokens)]

    assert [401, 201, 201, 403] == [status for status, _ in answers]
    assert 200 == (await api.call("GET", urlsplit(answers[1][1]["url"]).path))[0]
