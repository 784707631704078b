"""The scenarios of `make bench`: the requests that it measures, on which server, and with which other requests."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from src.core.crypto.hashing import REFUSAL

from . import bare
from .fill_posts import CONTENT
from .supplies import PHRASE, Supplies
from .wrk import Load

GROUP, SINGLE, FLOOR = "group", "single", "bare"
"""The servers: the stack, the stack with one MongoDB command per request, and bare aiohttp."""
CONNECTIONS, TEXT = 128, 100
"""The number of connections, and the bytes of a text, where no others are asked for."""
HASHING_CONNECTIONS = 16
"""Enough to keep every hashing thread busy, with queues so short that no request is refused."""
READER = "A" * 43
OPENING_BYTES, MOST_OPENINGS = 300_000_000, 6000
"""The secrets for a second of opening: more than this machine can open, so that no run ends for lack of keys."""
FLOOR_EVERY = 5
"""The floor is measured again before every few scenarios, because the speed of a shared machine changes."""
ONE_COMMAND = "one command per request"


@dataclass(frozen=True)
class Scenario:
    """One kind of request; ``load`` prepares it for a text of some bytes and a run of some seconds.

    A main scenario is measured at all numbers of connections, and one with ``has_text`` with texts of all sizes.
    """

    name: str
    title: str
    method: str
    load: Callable[[Supplies, int, int], Load]
    server: str = GROUP
    is_main: bool = False
    has_text: bool = False
    connections: int | None = None

    @property
    def floor(self) -> "Scenario":
        """The request to bare aiohttp that this one is compared with."""
        return BARE_GET if self.method == "GET" else BARE_POST


@dataclass(frozen=True)
class Case:
    """What one run of wrk measures: a scenario at some connections, with texts of some bytes."""

    scenario: str
    connections: int
    text: int = TEXT


def text_of(size: int) -> str:
    """Return a text of some bytes."""
    return ("0123456789abcdef" * (size // 16 + 1))[:size]


def _get(path: str) -> Callable[[Supplies, int, int], Load]:
    return lambda _supplies, _text, _seconds: Load("GET", path, 200)


def _bare_post(_supplies: Supplies, text: int, _seconds: int) -> Load:
    return Load("POST", bare.PATH, bare.CREATED, json.dumps({"secret": text_of(text)}))


def _echo(supplies: Supplies, text: int, _seconds: int) -> Load:
    return Load("POST", "/echo", 200, json.dumps({"str": text_of(text)}), token=supplies.api_token)


def _echo_jwt(supplies: Supplies, text: int, _seconds: int) -> Load:
    return Load("POST", "/echo", 200, json.dumps({"str": text_of(text)}), token=supplies.access_token())


def _generate(_supplies: Supplies, text: int, _seconds: int) -> Load:
    return Load("POST", "/generate", 201, json.dumps({"secret": text_of(text)}))


def _generate_phrase(_supplies: Supplies, text: int, _seconds: int) -> Load:
    return Load("POST", "/generate", 201, json.dumps({"secret": text_of(text), "phrase": PHRASE}), refusal=REFUSAL)


def _open(supplies: Supplies, text: int, seconds: int) -> Load:
    return Load("POST", "/secrets/", 200, keys=supplies.keys(_openings(text) * seconds, text_of(text)))


def _open_reader(supplies: Supplies, text: int, seconds: int) -> Load:
    keys = supplies.keys(_openings(text) * seconds, text_of(text))
    return Load("POST", "/secrets/", 200, json.dumps({"reader": READER}), keys)


def _openings(text: int) -> int:
    return min(MOST_OPENINGS, OPENING_BYTES // text)


def _message(_supplies: Supplies, text: int, _seconds: int) -> Load:
    return Load("POST", "/", 201, json.dumps({"message": text_of(text)}))


def _message_read(supplies: Supplies, text: int, _seconds: int) -> Load:
    return Load("GET", supplies.message_path(text_of(text)), 200)


def _post(supplies: Supplies, _text: int, _seconds: int) -> Load:
    return Load("POST", "/posts", 201, json.dumps({"content": CONTENT}), token=supplies.access_token())


def _feed(supplies: Supplies, _text: int, _seconds: int) -> Load:
    return Load("GET", supplies.feed_path(), 200, token=supplies.access_token())


def _like(supplies: Supplies, _text: int, _seconds: int) -> Load:
    return Load("PUT", "/posts/", 200, keys=supplies.reactions(), token=supplies.access_token(), repeats_keys=True)


def _gather(supplies: Supplies, text: int, _seconds: int) -> Load:
    body = {"message_type": "MESSAGE", "message": text_of(text)}
    return Load("POST", "/message", 201, json.dumps(body), token=supplies.api_token)


def _gather_batch(supplies: Supplies, text: int, _seconds: int) -> Load:
    body = {"message_type": "MESSAGE", "messages": [text_of(text)] * 100}
    return Load("POST", "/message", 201, json.dumps(body), token=supplies.api_token)


BARE_GET = Scenario("bare-get", "bare aiohttp, GET", "GET", _get(bare.PATH), FLOOR, is_main=True)
BARE_POST = Scenario("bare-post", "bare aiohttp, POST", "POST", _bare_post, FLOOR, is_main=True, has_text=True)
GENERATE = Scenario("generate", "`POST /generate`", "POST", _generate, is_main=True, has_text=True)
OPEN = Scenario("open", "`POST /secrets/{key}`", "POST", _open, is_main=True, has_text=True)
OPEN_READER = Scenario("open-reader", "the same with a reader's key", "POST", _open_reader)
GENERATE_SINGLE = Scenario("generate-single", f"`POST /generate`, {ONE_COMMAND}", "POST", _generate, SINGLE)
OPEN_SINGLE = Scenario("open-single", f"`POST /secrets/{{key}}`, {ONE_COMMAND}", "POST", _open, SINGLE)
SCENARIOS = (
    Scenario("hello", "`GET /hello`", "GET", _get("/hello")),
    Scenario("healthz", "`GET /healthz`", "GET", _get("/healthz"), is_main=True),
    Scenario("echo", "`POST /echo`, API token", "POST", _echo, is_main=True),
    Scenario("echo-jwt", "`POST /echo`, access token", "POST", _echo_jwt),
    GENERATE,
    OPEN,
    OPEN_READER,
    GENERATE_SINGLE,
    OPEN_SINGLE,
    Scenario("message", "`POST /`, a message", "POST", _message),
    Scenario("message-read", "`GET /message/{key}`", "GET", _message_read),
    Scenario("post", "`POST /posts`", "POST", _post),
    Scenario("feed", "`GET /posts`, 20 posts", "GET", _feed),
    Scenario("like", "`PUT /posts/{id}/like`", "PUT", _like),
    Scenario("gather", "`POST /message`, 1 message", "POST", _gather),
    Scenario("gather-batch", "`POST /message`, 100 messages", "POST", _gather_batch),
)
GENERATE_PHRASE = Scenario(
    "generate-phrase", "`POST /generate` with a phrase", "POST", _generate_phrase, connections=HASHING_CONNECTIONS
)
"""Of the scenarios that hash, the one that `bench.hash_shares` does not compare with its hash alone."""
BY_NAME = {one.name: one for one in (BARE_GET, BARE_POST, *SCENARIOS, GENERATE_PHRASE)}


def plan(scenarios: Sequence[Scenario], connections: Sequence[int], texts: Sequence[int]) -> Iterator[Case]:
    """Yield the runs of a round: the scenarios in order, and before every few of them the floor."""
    usual = CONNECTIONS if CONNECTIONS in connections else connections[0]
    cases = [
        *(
            Case(one.name, one.connections or count)
            for count in connections
            for one in scenarios
            if one.is_main or count == usual
        ),
        *(Case(one.name, usual, text) for text in texts if text != TEXT for one in scenarios if one.has_text),
    ]
    since: dict[Case, int] = {}
    for number, case in enumerate(cases):
        scenario = BY_NAME[case.scenario]
        floor = Case(scenario.floor.name, case.connections, case.text)
        if not scenario.connections and number - since.get(floor, -FLOOR_EVERY) >= FLOOR_EVERY:
            since[floor] = number
            yield floor
        yield case
