"""The checker of `make test-hosts`: it detects each violation in a history, and none in a valid one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .hosts.checker import check, longest_gap
from .hosts.faults import FAULTS, name_of
from .hosts.history import Kind, Operation, Outcome, outcome_of, read_history, write_history
from .processes import ROOT

History = list[Operation]


def make(
    kind: Kind,
    subject: str,
    begin: float,
    *,
    status: int | None = 200,
    host: str = "app1",
    final: bool = False,
    lasts: float = 0.1,
    **value: Any,
) -> Operation:
    outcome = Outcome.OK if kind is Kind.GUESS and status == 403 else outcome_of(status)
    return Operation(kind, subject, host, begin, begin + lasts, outcome, status, value, final)


def create(item: str = "i", begin: float = 1.0, max_opens: int = 1) -> Operation:
    return make(Kind.CREATE, item, begin, status=201, max_opens=max_opens)


def opening(begin: float, *, opens_left: int = 0, item: str = "i", right: bool = True, **options: Any) -> Operation:
    return make(Kind.OPEN, item, begin, opens_left=opens_left, right=right, **options)


def held(begin: float, *, opens_left: int = 0, reader: str = "r", until: str = "noon", **options: Any) -> Operation:
    return opening(begin, opens_left=opens_left, reader=reader, held_until=until, **options)


def received(begin: float, status: int | None = 204, reader: str = "r") -> Operation:
    return make(Kind.RECEIVED, "i", begin, status=status, reader=reader)


def failed(begin: float, status: int | None, **options: Any) -> Operation:
    return make(Kind.OPEN, "i", begin, status=status, **options)


def the_end(begin: float = 9.0) -> Operation:
    """The final opening, which finds no item."""
    return failed(begin, 404, final=True)


def receipt(begin: float, state: str, opens_left: int, **options: Any) -> Operation:
    return make(Kind.RECEIPT, "i", begin, state=state, opens_left=opens_left, **options)


def burn(begin: float, status: int | None = 204) -> Operation:
    return make(Kind.BURN, "i", begin, status=status)


def react(begin: float, reaction: str | None, *, user: str = "ann", status: int | None = 200) -> Operation:
    return make(Kind.REACT, "p", begin, status=status, user=user, reaction=reaction)


def tally(mine: str | None, likes: int, dislikes: int = 0, *, user: str = "ann") -> Operation:
    return make(Kind.TALLY, "p", 9, final=True, user=user, mine=mine, likes=likes, dislikes=dislikes)


def batch(begin: float, name: str, *, first: int = 1, count: int = 2, status: int | None = 201) -> Operation:
    messages = [f"{name}-{number}" for number in range(count)]
    return make(Kind.BATCH, "s", begin, status=status, batch=name, messages=messages, first_sequence=first)


def gathered(*texts: str, first: int = 1) -> Operation:
    return make(Kind.GATHERED, "s", 9, final=True, messages=[list(pair) for pair in enumerate(texts, start=first)])


def logout(status: int | None = 204) -> Operation:
    return make(Kind.LOGOUT, "session", 1, status=status)


def use(begin: float, status: int | None = 200) -> Operation:
    return make(Kind.USE, "session", begin, status=status)


RIGHT: dict[str, History] = {
    "opened once": [create(), opening(2), the_end()],
    "opened three times at once": [
        create(max_opens=3),
        *(opening(2, opens_left=left, lasts=1) for left in (0, 2, 1)),
        the_end(),
    ],
    "never acknowledged": [make(Kind.CREATE, "i", 1, status=503)],
    "an opening without an answer may have been the last one": [create(), failed(2, None), the_end()],
    "an opening that was answered 503 was given back": [create(), failed(2, 503), opening(5), the_end()],
    "a claim that was given back": [
        create(),
        failed(2, 503, lasts=3),
        receipt(3, "opened", 0),
        receipt(6, "waiting", 1),
        opening(7),
        the_end(),
    ],
    "burned after its last opening was given back": [
        create(),
        failed(2, 503, lasts=3),
        receipt(3, "opened", 0),
        burn(4, 404),
        receipt(6, "burned", 0),
    ],
    "opened while it was burned": [create(), opening(2, lasts=1), burn(2.5, 404), receipt(4, "opened", 0)],
    "burned": [create(), receipt(1.5, "waiting", 1), burn(2), failed(3, 404), receipt(4, "burned", 0)],
    "told at once": [create(), opening(2, lasts=1), receipt(2.5, "waiting", 1), the_end()],
    "a reader with a key asks again": [
        create(),
        held(2),
        held(3, host="app2"),
        received(4),
        received(5),
        failed(6, 404, reader="r"),
        failed(6, 404, reader="other"),
        receipt(7, "opened", 0),
        the_end(),
    ],
    "a reader with a key learns the outcome": [
        create(max_opens=2),
        failed(2, None, reader="r"),
        failed(3, 503, reader="r"),
        opening(4, opens_left=0),
        receipt(5, "opened", 0),
        held(6, opens_left=1),
        the_end(),
    ],
    "a reader with a key learns that it has not opened": [
        create(),
        failed(2, 503, reader="r"),
        opening(3),
        failed(4, 404, reader="r"),
        the_end(),
    ],
    "a reader with a key that has never learned the outcome": [create(), failed(2, 503, reader="r"), the_end()],
    "a burn ends a hold": [
        create(),
        held(2),
        burn(3),
        failed(4, 404, reader="r"),
        received(5, 404),
        receipt(6, "opened", 0),
    ],
    "an opening by a key and a burn at once": [
        create(),
        held(2, lasts=2),
        burn(3),
        failed(5, 404, reader="r"),
        receipt(6, "opened", 0),
    ],
    "wrong passwords end no hold": [
        create(max_opens=2),
        held(2, opens_left=1),
        make(Kind.GUESS, "i", 3, status=403, attempts_left=0),
        held(4, opens_left=1, lasts=0.2),
        failed(5, 404, reader="other"),
    ],
    "a burn between two openings by keys": [
        create(max_opens=2),
        held(2, opens_left=1),
        burn(3),
        failed(5, 404, reader="other"),
        receipt(6, "burned", 0),
    ],
    "the last of two reactions": [react(1, "like"), react(2, "dislike"), tally("dislike", 0, 1)],
    "a reaction that was taken back": [react(1, "like"), react(2, None), tally(None, 0)],
    "a reaction of unknown outcome did happen": [react(1, "like"), react(2, None, status=503), tally(None, 0)],
    "a reaction of unknown outcome did not happen": [react(1, "like"), react(2, None, status=None), tally("like", 1)],
    "reactions of two users": [
        react(1, "like"),
        react(1, "like", user="ben"),
        tally("like", 2),
        tally("like", 2, user="ben"),
    ],
    "a token just after its logout": [logout(), use(3), use(3.2, 401), use(9, 503)],
    "a logout that failed": [logout(503), use(9)],
    "a batch sent again": [
        batch(1, "a", status=None),
        batch(2, "a"),
        batch(3, "b", first=3),
        gathered("a-0", "a-1", "b-0", "b-1"),
    ],
    "a batch that was never acknowledged": [
        batch(1, "a"),
        batch(2, "b", status=503),
        batch(3, "c", status=503),
        gathered("a-0", "a-1", "c-0", "c-1"),
    ],
}

WRONG: dict[str, tuple[set[str], History]] = {
    "two readers of one opening": ({"too many readers"}, [create(), opening(2), opening(2, host="app2"), the_end()]),
    "four readers of three openings": (
        {"too many readers"},
        [create(max_opens=3), *(opening(2, opens_left=left, lasts=1) for left in (2, 1, 0, 0)), the_end()],
    ),
    "two readers with keys": ({"too many readers"}, [create(), held(2), held(3, reader="other"), the_end()]),
    "a reader with a key and one without": ({"too many readers"}, [create(), held(2), opening(3), the_end()]),
    "a reader with a key gets another response": (
        {"another response"},
        [create(max_opens=2), held(2, opens_left=1), held(3, opens_left=0), opening(4), the_end()],
    ),
    "a hold that is prolonged": ({"another response"}, [create(), held(2), held(3, until="one"), the_end()]),
    "a hold that is forgotten": ({"not held"}, [create(), held(2), failed(3, 404, reader="r"), received(4), the_end()]),
    "a confirmation that is refused": ({"not held"}, [create(), held(2), received(3, 404), the_end()]),
    "a text that is sent after its confirmation": (
        {"opened after received"},
        [create(), held(2), received(3), held(4), the_end()],
    ),
    "a held text that is sent after a burn": (
        {"opened after its end"},
        [create(), held(2), burn(3), held(4)],
    ),
    "a key that comes after the lock": (
        {"opened after its end", "went back"},
        [create(max_opens=2), make(Kind.GUESS, "i", 3, status=403, attempts_left=0), held(4, opens_left=1)],
    ),
    "an opening that a key has lost": (
        {"lost"},
        [create(), failed(2, 503, reader="r"), failed(3, 404, reader="r"), the_end()],
    ),
    "a burned item that is waiting after a hold": (
        {"went back"},
        [create(max_opens=2), held(2, opens_left=1), burn(3), receipt(4, "waiting", 0)],
    ),
    "gone unread": ({"lost"}, [create(), the_end()]),
    "one of three openings gone": (
        {"lost"},
        [create(max_opens=3), opening(2, opens_left=2), opening(3, opens_left=1), the_end()],
    ),
    "an opening that was answered 503 was used up": ({"lost"}, [create(), failed(2, 503), the_end()]),
    "never answered whether it waits": ({"not opened to the end"}, [create(), failed(8, 429, final=True)]),
    "nobody looked": ({"not opened to the end"}, [create(), failed(2, 503)]),
    "opened after it was burned": ({"opened after its end", "went back"}, [create(), burn(2), opening(3)]),
    "opened after a second burning": ({"opened after its end"}, [create(), burn(2, None), burn(3, 404), opening(4)]),
    "opened after it was locked": (
        {"opened after its end", "went back"},
        [create(), make(Kind.GUESS, "i", 2, status=403, attempts_left=0), opening(3)],
    ),
    "another text": ({"wrong text"}, [create(), opening(2, right=False), the_end()]),
    "burned, and waiting again": (
        {"went back"},
        [create(), burn(2, 503), receipt(3, "burned", 0), receipt(4, "waiting", 1, host="app2")],
    ),
    "burned, and waiting again after an opening without an answer": (
        {"went back"},
        [create(), failed(1.5, 503), burn(2, 503), receipt(3, "burned", 0), receipt(4, "waiting", 1)],
    ),
    "locked, and opened": (
        {"went back"},
        [create(), receipt(3, "locked", 0), receipt(4, "opened", 0), opening(5), the_end()],
    ),
    "openings that came back": (
        {"went back"},
        [create(max_opens=3), receipt(2, "waiting", 1), receipt(3, "waiting", 2), burn(4)],
    ),
    "more openings came back than have failed": (
        {"went back"},
        [create(max_opens=3), failed(1.5, 503), receipt(2, "waiting", 1), receipt(3, "waiting", 3), burn(4)],
    ),
    "opened, and waiting": ({"went back"}, [create(), opening(2), receipt(3, "waiting", 1), the_end()]),
    "openings that a look tells": (
        {"went back"},
        [create(max_opens=3), opening(2, opens_left=2), make(Kind.LOOK, "i", 3, opens_left=3), burn(4)],
    ),
    "a reaction that went away": ({"wrong reaction"}, [react(1, "like"), tally(None, 0)]),
    "an earlier reaction": ({"wrong reaction"}, [react(1, "like"), react(2, "dislike"), tally("like", 1)]),
    "a reaction counted twice": ({"wrong count"}, [react(1, "like"), tally("like", 2)]),
    "a reaction not counted": ({"wrong count"}, [react(1, "dislike"), tally("dislike", 0)]),
    "an unread reaction": ({"unread"}, [react(1, "like")]),
    "a token 3 s after its logout": ({"accepted after logout"}, [logout(), use(4.2)]),
    "a batch that went away": ({"lost"}, [batch(1, "a"), gathered()]),
    "half a batch": ({"lost"}, [batch(1, "a", status=503), gathered("a-0")]),
    "a batch stored twice": ({"stored twice"}, [batch(1, "a"), gathered("a-0", "a-1", "a-0", "a-1")]),
    "batches out of order": (
        {"out of order"},
        [batch(1, "a", first=3), batch(2, "b", first=1), gathered("b-0", "b-1", "a-0", "a-1")],
    ),
    "messages out of order": ({"out of order"}, [batch(1, "a", first=2), gathered("a-1", "a-0")]),
    "another place than was told": ({"wrong sequence"}, [batch(1, "a", first=2), gathered("a-0", "a-1")]),
    "a gap": ({"wrong sequence"}, [batch(1, "a", first=2), gathered("a-0", "a-1", first=2)]),
    "unread messages": ({"unread"}, [batch(1, "a")]),
    "damaged": ({"unexpected status"}, [create(), failed(2, 410), opening(3), the_end()]),
    "an error of the server's own": ({"unexpected status"}, [use(1, 500)]),
}


@pytest.mark.parametrize("history", RIGHT.values(), ids=RIGHT)
def test_valid_histories(history: History) -> None:
    """A history that keeps every promise has no violation, in any recording order."""
    assert [] == check(history)
    assert [] == check(history[::-1])


@pytest.mark.parametrize(("rules", "history"), WRONG.values(), ids=WRONG)
def test_violations(rules: set[str], history: History) -> None:
    """A broken promise is detected, and nothing else, among valid histories."""
    others = [replace(one, subject=f"{name} {one.subject}") for name, right in RIGHT.items() for one in right]

    assert rules == {violation.rule for violation in check([*others, *history])}


def test_longest_gap() -> None:
    """The longest time without an acknowledged creation starts with the last one before the fault."""
    history = [create(begin=moment) for moment in (0.9, 2.9, 9.9, 10.9, 30.9)]
    history.append(make(Kind.CREATE, "i", 5, status=503))
    history.append(replace(create(begin=4.9), host="app2"))

    assert (5.0, 7.0) == (longest_gap(history, 3.5, 11), longest_gap(history, 3.5, 11, "app1"))
    assert 20.0 == longest_gap(history, 10.9, 12)
    assert 6.0 == longest_gap([], 1, 7)


def test_history_file(tmp_path: Path) -> None:
    """A written history is read back unchanged."""
    history = [one for right in RIGHT.values() for one in right]
    write_history(tmp_path / "history.jsonl", history)

    assert history == read_history(tmp_path / "history.jsonl")


def test_documented_faults() -> None:
    """`docs/faults.md` describes each fault."""
    section = (ROOT / "docs" / "faults.md").read_text().split("\n## The faults\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]

    assert ["fault", "---", *map(name_of, FAULTS)] == rows


def test_every_rule_has_a_history() -> None:
    """A history here violates each rule of the checker."""
    source = (Path(__file__).parent / "hosts" / "checker.py").read_text()
    named = {part.split('"')[1] for part in source.split("Violation(")[1:] if part.startswith('"')}

    assert named == {rule for rules, _ in WRONG.values() for rule in rules}
