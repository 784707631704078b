"""Checks a recorded history against the guarantees of the service.

An opening without a reader's key that failed with 503 uses up no opening, but MongoDB may have counted it for a while.
So a receipt may go back by the number of such openings without response or with a 503. All other state only moves
forward.

A reader with a key may get the same response any number of times, and counts as one reader.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .history import Kind, Operation, Outcome

LOGOUT_SECONDS = 2.0
"""Seconds for which an access token may still be accepted after an acknowledged logout."""
NOT_FOUND = 404
_DAMAGED, _INTERNAL_ERROR, _UNAVAILABLE = 410, 500, 503
_WAITING, _OPENED, _BURNED = "waiting", "opened", "burned"
_NOT_WAITING = "opened or burned"
"""What a burn tells if a reader with a key may have opened the item before."""

Operations = Sequence[Operation]


@dataclass(frozen=True)
class Violation:
    """A guarantee that the history violates."""

    rule: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.detail}"


def check(history: Operations) -> list[Violation]:
    """Return all violations."""
    return [violation for rule in _RULES for violation in rule(history)]


def longest_gap(history: Operations, begin: float, end: float, host: str | None = None) -> float:
    """Return the longest gap in seconds between acknowledged creations that overlaps an interval.

    ``host`` limits it to the creations of that host.
    """
    moments = [one.end for one in history if one.kind is Kind.CREATE and one.is_ok and host in {None, one.host}]
    before = max((moment for moment in moments if moment <= begin), default=begin)
    after = min((moment for moment in moments if moment >= end), default=end)
    points = [before, *sorted(moment for moment in moments if begin < moment < end), after]
    return max(later - earlier for earlier, later in pairwise(points))


def _check_statuses(history: Operations) -> Iterator[Violation]:
    """No item is damaged, and no request causes an internal error."""
    for one in history:
        if one.status in {_DAMAGED, _INTERNAL_ERROR}:
            yield Violation("unexpected status", one.subject, f"{one.kind} was answered {one.status} by {one.host}")


def _check_texts(history: Operations) -> Iterator[Violation]:
    """An opening returns the text of the item."""
    for one in history:
        if one.kind is Kind.OPEN and one.is_ok and not one.value["right"]:
            yield Violation("wrong text", one.subject, f"{one.host} returned another text")


def _check_openings(history: Operations) -> Iterator[Violation]:
    """An item is opened as often as allowed: never more often, and in the end not less."""
    for item, operations in _by_subject(history, _OF_ITEMS):
        created = next((one for one in operations if one.kind is Kind.CREATE and one.is_ok), None)
        if created is None:
            continue
        allowed = int(created.value["max_opens"])
        openings = [one for one in operations if one.kind is Kind.OPEN]
        keyed = _by_reader(openings)
        without_key = [one for one in openings if "reader" not in one.value]
        acknowledged = sum(one.is_ok for one in without_key)
        acknowledged += sum(any(one.is_ok for one in asked) for asked in keyed.values())
        if acknowledged > allowed:
            yield Violation("too many readers", item, f"{acknowledged} openings, {allowed} allowed")
        if any(one.kind in {Kind.BURN, Kind.GUESS} for one in operations):
            continue
        # Without a key, a 503 promises that no opening was used up. With one, the next response tells the outcome.
        unknown = sum(one.outcome is Outcome.UNKNOWN and one.status != _UNAVAILABLE for one in without_key)
        unknown += sum(_never_learned(asked) for asked in keyed.values())
        if not any(one.final and one.status == NOT_FOUND for one in openings):
            yield Violation("not opened to the end", item, "it was created, and no final opening returned 404")
        elif acknowledged + unknown < allowed:
            yield Violation(
                "lost", item, f"{acknowledged} openings and {unknown} of unknown outcome, {allowed} allowed"
            )


def _check_holds(history: Operations) -> Iterator[Violation]:
    """A reader with a key gets the same response again until it confirms the text or the sender burns the item."""
    for item, operations in _by_subject(history, _OF_ITEMS | {Kind.RECEIVED}):
        burns = [one.begin for one in operations if one.kind is Kind.BURN]
        confirmations = [one for one in operations if one.kind is Kind.RECEIVED]
        for reader, asked in _by_reader([one for one in operations if one.kind is Kind.OPEN]).items():
            told = [one for one in asked if one.is_ok]
            if not told:
                continue
            if len({(one.value["opens_left"], one.value["held_until"]) for one in told}) > 1:
                yield Violation("another response", item, f"{reader} got several responses")
            confirmed = [one for one in confirmations if one.value["reader"] == reader]
            ended = min([*burns, *(one.begin for one in confirmed)], default=float("inf"))
            won = min(one.end for one in told)
            for one in asked:
                if one.status == NOT_FOUND and won < one.begin and one.end < ended:
                    yield Violation("not held", item, f"{one.host} did not know the opening of {reader}")
                    break
            acknowledged = min((one.end for one in confirmed if one.is_ok), default=float("inf"))
            if any(one.begin > acknowledged for one in told):
                yield Violation("opened after received", item, f"{reader} got the text again")
            if any(
                one.status == NOT_FOUND and one.begin > won and one.end < min(burns, default=1e9) for one in confirmed
            ):
                yield Violation("not held", item, f"the confirmation of {reader} was refused")


def _by_reader(openings: Operations) -> dict[str, list[Operation]]:
    readers: dict[str, list[Operation]] = defaultdict(list)
    for one in sorted(openings, key=lambda one: one.begin):
        if "reader" in one.value:
            readers[one.value["reader"]].append(one)
    return readers


def _never_learned(asked: Operations) -> bool:
    """Return whether a reader may have opened the item without getting a response."""
    return not any(one.is_ok for one in asked) and asked[-1].outcome is Outcome.UNKNOWN


def _check_ends(history: Operations) -> Iterator[Violation]:
    """A burned or locked item is never opened again. Locking does not end the hold of an earlier opening."""
    for item, operations in _by_subject(history, _OF_ITEMS):
        endings = [one for one in operations if _ends_item(one)]
        readers = _by_reader([one for one in operations if one.kind is Kind.OPEN])
        for one in operations:
            if one.kind is not Kind.OPEN or not one.is_ok:
                continue
            asked_first = readers[one.value["reader"]][0].begin if "reader" in one.value else one.begin
            ends = [end.end for end in endings if end.kind is Kind.BURN or asked_first > end.end]
            if ends and one.begin > min(ends):
                late = one.begin - min(ends)
                yield Violation("opened after its end", item, f"{one.host} opened it {late:.3f} s after it was burned")
                break


def _ends_item(one: Operation) -> bool:
    if one.kind is Kind.BURN:
        # A 404 also means that the item is no longer available.
        return one.outcome is not Outcome.UNKNOWN
    return one.kind is Kind.GUESS and one.is_ok and one.value["attempts_left"] == 0


@dataclass(frozen=True)
class _Observation:
    """The state of an item in a response, with its operation."""

    one: Operation
    state: str
    opens_left: int

    def __str__(self) -> str:
        return f"{self.state} with {self.opens_left} left ({self.one.kind} by {self.one.host})"


def _check_receipts(history: Operations) -> Iterator[Violation]:
    """The state of an item only moves forward, except for openings that were given back."""
    for item, operations in _by_subject(history, _OF_ITEMS):
        unanswered = [
            one
            for one in operations
            if one.kind is Kind.OPEN and one.outcome is Outcome.UNKNOWN and "reader" not in one.value
        ]
        observations = sorted(_observations(operations), key=lambda observation: observation.one.begin)
        for later in observations:
            given_back = sum(one.begin < later.one.end for one in unanswered)
            backward = next((one for one in observations if _contradict(one, later, given_back)), None)
            if backward:
                seconds = later.one.begin - backward.one.end
                detail = f"{backward}, and {seconds:.3f} s later {later}; {given_back} openings without response"
                yield Violation("went back", item, detail)
                break


def _observations(operations: Operations) -> Iterator[_Observation]:
    keyed = _by_reader([one for one in operations if one.kind is Kind.OPEN])
    # A repeated response tells the state at the first one, which may have been lost.
    repeated = {id(one) for asked in keyed.values() for one in asked[1:]}
    for one in operations:
        if not one.is_ok:
            continue
        match one.kind:
            case Kind.CREATE:
                yield _Observation(one, _WAITING, one.value["max_opens"])
            case Kind.RECEIPT:
                yield _Observation(one, one.value["state"], one.value["opens_left"])
            case Kind.LOOK:
                yield _Observation(one, _WAITING, one.value["opens_left"])
            case Kind.OPEN if id(one) not in repeated:
                yield _Observation(one, _WAITING if one.value["opens_left"] else _OPENED, one.value["opens_left"])
            case Kind.BURN:
                may_be_held = any(asked[0].begin < one.end for asked in keyed.values())
                yield _Observation(one, _NOT_WAITING if may_be_held else _BURNED, 0)
            case Kind.GUESS if one.value["attempts_left"] == 0:
                yield _Observation(one, "locked", 0)


def _contradict(earlier: _Observation, later: _Observation, given_back: int) -> bool:
    if earlier.one.end >= later.one.begin:
        return False
    if later.opens_left - earlier.opens_left > given_back:
        return True
    if earlier.state in {_WAITING, later.state}:
        return False
    if _NOT_WAITING in {earlier.state, later.state}:
        return not {earlier.state, later.state} <= {_NOT_WAITING, _OPENED, _BURNED}
    # An opened item is available again, or burned, once its last opening was given back.
    return not (earlier.state == _OPENED and given_back and later.state in {_WAITING, _BURNED})


def _check_reactions(history: Operations) -> Iterator[Violation]:
    """A user's reaction is the last acknowledged one, or a later one of unknown outcome; the counts match."""
    tallies = dict(_by_subject(history, {Kind.TALLY}))
    for post, operations in _by_subject(history, {Kind.REACT}):
        found = {one.value["user"]: one for one in tallies.get(post, []) if one.is_ok}
        mine = {user: one.value["mine"] for user, one in found.items()}
        by_user: dict[str, list[Operation]] = defaultdict(list)
        for one in operations:
            by_user[one.value["user"]].append(one)
        for user, sent in by_user.items():
            if user not in found:
                yield Violation("unread", post, f"the reaction of {user} was not read at the end")
            elif mine[user] not in (possible := _possible_reactions(sent)):
                yield Violation("wrong reaction", post, f"{user} has {mine[user]}, not one of {possible}")
        counted = Counter(mine.values())
        for one in found.values():
            counts = (one.value["likes"], one.value["dislikes"])
            if counts != (counted["like"], counted["dislike"]):
                yield Violation("wrong count", post, f"{counts} returned, {counted['like'], counted['dislike']} stored")
                break


def _possible_reactions(sent: Operations) -> list[str | None]:
    """Return the possible reactions of a user, who sends one request at a time."""
    possible: list[str | None] = [None]
    for one in sorted(sent, key=lambda one: one.begin):
        if one.is_ok:
            possible = [one.value["reaction"]]
        elif one.outcome is Outcome.UNKNOWN:
            possible.append(one.value["reaction"])
    return possible


def _check_logouts(history: Operations) -> Iterator[Violation]:
    """No access token is accepted 2 s after its logout was acknowledged."""
    for session, operations in _by_subject(history, {Kind.LOGOUT, Kind.USE}):
        ended = min((one.end for one in operations if one.kind is Kind.LOGOUT and one.is_ok), default=None)
        for one in operations:
            if ended and one.kind is Kind.USE and one.is_ok and one.begin > ended + LOGOUT_SECONDS:
                late = one.begin - ended
                yield Violation("accepted after logout", session, f"{one.host} accepted it {late:.3f} s later")
                break


def _check_batches(history: Operations) -> Iterator[Violation]:
    """An acknowledged batch is stored once, no batch is stored twice, and batches are in the sender's order."""
    read = {one.subject: one for one in history if one.kind is Kind.GATHERED and one.is_ok}
    for sender, operations in _by_subject(history, {Kind.BATCH}):
        if sender not in read:
            yield Violation("unread", sender, "the messages were not read at the end")
            continue
        stored: list[tuple[int, str]] = [(number, text) for number, text in read[sender].value["messages"]]
        if [number for number, _ in stored] != list(range(1, len(stored) + 1)):
            yield Violation("wrong sequence", sender, "the messages are not numbered from 1 without gaps")
        batches: dict[str, list[str]] = {}
        acknowledged: dict[str, Operation] = {}
        for one in sorted(operations, key=lambda one: one.begin):
            batches.setdefault(one.value["batch"], one.value["messages"])
            if one.is_ok:
                acknowledged.setdefault(one.value["batch"], one)
        counted = Counter(text for _, text in stored)
        place = {text: number for number, text in reversed(stored)}
        for batch, texts in batches.items():
            if any(counted[text] > 1 for text in texts):
                yield Violation("stored twice", sender, f"batch {batch}")
            missing = [text for text in texts if text not in counted]
            if missing and (batch in acknowledged or len(missing) < len(texts)):
                yield Violation("lost", sender, f"{len(missing)} of {len(texts)} messages of batch {batch}")
            elif not missing and batch in acknowledged:
                returned, found = acknowledged[batch].value["first_sequence"], place[texts[0]]
                if returned != found:
                    yield Violation(
                        "wrong sequence", sender, f"batch {batch} is at {found}, but {returned} was returned"
                    )
        sent = [text for texts in batches.values() for text in texts if text in place]
        if [place[text] for text in sent] != sorted(place[text] for text in sent):
            yield Violation("out of order", sender, "messages are not in the order in which they were sent")


_OF_ITEMS = {Kind.CREATE, Kind.OPEN, Kind.GUESS, Kind.BURN, Kind.LOOK, Kind.RECEIPT}


def _by_subject(history: Operations, kinds: Collection[Kind]) -> Iterable[tuple[str, list[Operation]]]:
    subjects: dict[str, list[Operation]] = defaultdict(list)
    for one in history:
        if one.kind in kinds:
            subjects[one.subject].append(one)
    return subjects.items()


_RULES: Sequence[Callable[[Operations], Iterable[Violation]]] = (
    _check_statuses,
    _check_texts,
    _check_openings,
    _check_holds,
    _check_ends,
    _check_receipts,
    _check_reactions,
    _check_logouts,
    _check_batches,
)
