"""The cost of a request is proportional to its size, whatever it contains."""

import gzip
import json
import re
import secrets
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.api.routing import FORM_TYPE
from src.api.schema import QueryParameters, RequestBody, parse_body, parse_form, parse_query
from src.errors import MOST_ERRORS, Malformed
from src.gatherer.schemas import MOST_MESSAGES, Message
from src.sealed.schemas import CreateMessage, CreateSecret, MessageForm

from .conftest import Api
from .hostile_bodies import FORM_BODIES, JSON_BODIES, SIZE, bomb
from .senders import operator_token

MOST_TIMES = 25
"""How many times the CPU time of parsing an ordinary body of the same size a hostile body may cost."""
ORDINARY = json.dumps([{"number": number, "text": f"text {number}", "list": [1, 2]} for number in range(20_000)])
LARGEST_REFUSAL = 64 * 1024


def _schemas(base: type[Any] = RequestBody) -> Iterator[type[Any]]:
    for schema in base.__subclasses__():
        if schema.__module__.startswith("src."):
            yield schema
        yield from _schemas(schema)


def _cpu_seconds(work: Callable[..., object], *arguments: object) -> float:
    began = time.process_time()
    with suppress(Malformed):
        work(*arguments)
    return time.process_time() - began


def _times(parse: Callable[..., object], *arguments: object) -> float:
    """Return the CPU time as a multiple of the time for an ordinary body, the minimum of several rounds.

    Both are measured in turn: a slow or busy machine slows both.
    """
    ratios: list[float] = []
    while len(ratios) < 5 and min(ratios, default=MOST_TIMES) >= MOST_TIMES:
        ratios.append(_cpu_seconds(parse, *arguments) / _cpu_seconds(json.loads, ORDINARY))
    return min(ratios)


@pytest.mark.parametrize("name", JSON_BODIES)
def test_no_json_body_is_slow_on_any_route(name: str) -> None:
    """Neither to parse nor to reject: no error is created for each of 100,000 fields."""
    times = {schema.__name__: _times(parse_body, schema, JSON_BODIES[name]) for schema in _schemas()}

    assert max(times.values()) < MOST_TIMES, times


@pytest.mark.parametrize("name", FORM_BODIES)
def test_no_form_is_slow(name: str) -> None:
    """However many fields and escapes it has."""
    assert _times(parse_form, MessageForm, CreateMessage, FORM_BODIES[name]) < MOST_TIMES


@pytest.mark.parametrize("name", JSON_BODIES)
def test_no_json_body_needs_much_memory(name: str) -> None:
    """A small multiple of its size, all of which is freed."""
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            parse_body(CreateSecret, JSON_BODIES[name])
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 24 * SIZE
    assert kept < SIZE / 4


async def test_no_error_response_is_long(api: Api) -> None:
    """Every route with a body rejects 130,000 unknown fields in less than 64 kB."""
    token = await operator_token(api)
    document = (await api.send("GET", "/openapi.json")).json()
    routes = [
        (method.upper(), re.sub(r"{\w+_id}", "0" * 32, path).replace("{", "").replace("}", ""))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "application/json" in operation.get("requestBody", {"content": {}})["content"]
    ]
    assert ("POST", "/login") in routes
    for method, path in routes:
        body = JSON_BODIES["unknown fields"] if path != "/echo" else JSON_BODIES["unknown fields"][:1_000_000]

        answer = await api.send(method, path, body, Authorization=f"Bearer {token}")

        assert 400 == answer.status, path
        assert len(answer.body) < LARGEST_REFUSAL


@pytest.mark.parametrize("unknown", [1, MOST_ERRORS - 2, MOST_ERRORS - 1, 100_000])
async def test_an_error_lists_twenty_fields_and_counts_the_rest(api: Api, unknown: int) -> None:
    """Known invalid fields come first, and the count includes all."""
    body = {f"{number:x}": 1 for number in range(unknown)}

    answer = await api.send("POST", "/login", json.dumps({"username": 1, **body}, separators=(",", ":")).encode())

    problem, total = answer.json(), unknown + 2
    listed = [error["field"] for error in problem["errors"]]
    assert 400 == answer.status
    assert ["username", "password", *body][:MOST_ERRORS] == listed
    assert f"There are {total} errors in all." in problem["detail"]
    assert (total > MOST_ERRORS) == (f"{total - MOST_ERRORS} more are not" in problem["detail"])


def test_wrong_elements_of_a_list_are_listed_up_to_twenty() -> None:
    """All are counted, as a list has a maximum length."""
    body = {"message_type": "MESSAGE", "messages": [1] * MOST_MESSAGES}

    with pytest.raises(Malformed, match=f"There are {MOST_MESSAGES} errors in all") as refusal:
        parse_body(Message, json.dumps(body).encode())

    assert [f"messages.{index}" for index in range(MOST_ERRORS)] == [error.field for error in refusal.value.errors]


def test_unknown_parameters_of_a_query_are_listed_up_to_twenty() -> None:
    """As for the fields of a body."""
    # A provider may send further parameters to the callback.
    for schema in (schema for schema in _schemas(QueryParameters) if schema.model_config["extra"] == "forbid"):
        with pytest.raises(Malformed, match=r"270[0-2] errors") as refusal:
            parse_query(schema, [(f"p{number}", "") for number in range(2700)])

        assert MOST_ERRORS == len(refusal.value.errors)


async def test_brackets_in_a_text_are_text(api: Api) -> None:
    """Source code, JSON in JSON and the like are stored unchanged."""
    text = json.dumps([[[{"quote": '"', "backslash": "\\"}]] * 5] * 500) * 2
    created = await api.create(text)

    assert text == (await api.open(created["secret_key"]))[1]["secret"]


@pytest.mark.parametrize("text", ["grüße & mehr = 100 % +1", "\x01\ufeff\x7f", "a=b&c=d", ""])
@pytest.mark.parametrize("is_escaped", [True, False])
def test_a_form_is_read_as_browsers_and_curl_write_it(text: str, is_escaped: bool) -> None:
    """With and without escapes; empty fields are ignored."""
    if not is_escaped:
        text = text.translate(dict.fromkeys(map(ord, "&+%")))
    raw = f"&message=x{quote(text) if is_escaped else text}&".encode()

    assert f"x{text}" == parse_form(MessageForm, CreateMessage, raw).message


@given(st.text(alphabet="%=+&;\r\n_ aAfF09zé\0", max_size=30).map(str.encode))
def test_a_form_is_read_as_the_standard_library_reads_it(value: bytes) -> None:
    """Including incomplete escapes and stray signs."""
    raw = b"message=x" + value
    try:
        fields = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        fields = []

    if [name for name, _ in fields] == ["message"]:
        assert fields[0][1] == parse_form(MessageForm, CreateMessage, raw).message
    else:
        with pytest.raises(Malformed):
            parse_form(MessageForm, CreateMessage, raw)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "raw deflate", "identity", "GZIP"])
async def test_a_body_may_be_compressed(api: Api, encoding: str) -> None:
    """With gzip or deflate, the latter also without its header."""
    plain = b'{"secret": "x"}'
    raw_deflate = zlib.compressobj(wbits=-15)
    packed = {
        "deflate": zlib.compress(plain),
        "identity": plain,
        "raw deflate": raw_deflate.compress(plain) + raw_deflate.flush(),
    }.get(encoding, gzip.compress(plain, mtime=0))

    answer = await api.send("POST", "/generate", packed, **{"Content-Encoding": encoding.removeprefix("raw ")})

    assert 201 == answer.status


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"{}"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0)),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-1]),
        ("gzip", gzip.compress(b"{}", mtime=0) + gzip.compress(b"{}", mtime=0)),
        ("deflate", b"{}"),
    ],
    ids=["unknown", "twice", "cut off", "two members", "not compressed"],
)
async def test_an_invalid_encoding_is_named(api: Api, encoding: str, body: bytes) -> None:
    """Unknown and repeated encodings, and bodies that are truncated or have trailing data."""
    answer = await api.send("POST", "/login", body, **{"Content-Encoding": encoding})

    assert (400, "malformed") == (answer.status, answer.json()["code"])
    assert "Content-Encoding" in answer.json()["detail"]


async def test_decompression_stops_at_the_limit(api: Api) -> None:
    """1 GiB of zeros in 1 MiB is rejected cheaply, whether or not a handler would have read it."""
    packed = bomb()
    for path, status in {"/login": 413, "/delete": 200, "/hello": 405, "/nowhere": 404}.items():
        began = time.process_time()

        answer = await api.send("POST", path, packed, **{"Content-Encoding": "gzip"})

        seconds = time.process_time() - began
        assert status == answer.status
        assert seconds < MOST_TIMES * _cpu_seconds(json.loads, ORDINARY)


async def test_empty_blocks_are_rejected(api: Api) -> None:
    """1 MiB of them costs 0.1 s for no output; text that hardly compresses is accepted."""
    empty = zlib.compressobj(wbits=-15)
    block = empty.compress(b"") + empty.flush(zlib.Z_FULL_FLUSH)
    random_text = secrets.token_hex(200_000)

    refused = await api.send("POST", "/login", block * (SIZE // len(block)), **{"Content-Encoding": "deflate"})
    taken = await api.send(
        "POST",
        "/generate",
        gzip.compress(b'{"secret": "%s"}' % random_text.encode(), mtime=0),
        **{"Content-Encoding": "gzip"},
    )

    assert (400, True) == (refused.status, "larger compressed" in refused.json()["detail"])
    assert 201 == taken.status


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
async def test_a_byte_order_mark_before_json_or_a_form_is_ignored(api: Api, mark: bytes) -> None:
    """RFC 8259 allows this, and there is no other interpretation."""
    json_answer = await api.send("POST", "/generate", mark + b'{"secret": "x"}')
    form_answer = await api.send("POST", "/", mark + b"message=x", **{"Content-Type": FORM_TYPE})
    typed_as_form = await api.send("POST", "/", mark + b'{"message": "x"}', **{"Content-Type": FORM_TYPE})

    assert [201, 201, 201] == [json_answer.status, form_answer.status, typed_as_form.status]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
async def test_another_encoding_is_named(api: Api, encoding: str, mark: str) -> None:
    """RFC 8259, section 8.1, requires UTF-8: UTF-16 and UTF-32 are rejected, with and without byte order mark."""
    answer = await api.send("POST", "/generate", (mark + '{"secret": "x"}').encode(encoding))

    assert (400, "malformed") == (answer.status, answer.json()["code"])
    assert encoding.upper()[:6] in answer.json()["detail"]
    assert "UTF-8" in answer.json()["detail"]


def test_excessive_nesting_is_named() -> None:
    """The error of a body that is nested too deeply says so."""
    with pytest.raises(Malformed, match="nested too deeply"):
        parse_body(CreateSecret, b"[" * 300 + b"]" * 300)
