"""The rules of opening: secrets a limited number of times, messages any number of times until they expire."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from ..core.clock import DatabaseClock
from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing, is_key_id
from ..core.crypto.sealing import Link, Sealer, Unsealable, derive_phrase_key
from ..core.metrics import Counter, Metrics
from ..errors import Damaged, TooMany, Unavailable
from .attempts import Attempt, AttemptStore
from .claims import ClaimStore
from .holds import HoldStore, derive_claim_id
from .items import MESSAGE, SECRET, Item, ItemState
from .problems import IncorrectPhrase, KeyNotFound, PhraseRequired
from .store import DamageReporter, ItemStore


class Unsealer:
    """Opens the envelopes of items with the keys of a ring; ``damaged`` counts those that do not open."""

    def __init__(self, ring: KeyRing, damaged: Counter) -> None:
        self._sealer = Sealer(ring)
        self._damage = DamageReporter(damaged)

    def require_key(self, link: Link, item: Item) -> None:
        """Raise `Unavailable` if the ring lacks the item's key, and `Damaged` if the item names no valid key id."""
        if not is_key_id(item.key_id):
            raise self._damage.changed(link.item_id)
        if not self._sealer.holds(item.key_id):
            raise self._damage.without_key(link.item_id)

    def open(self, link: Link, item: Item, phrase_key: bytes = b"") -> bytes:
        """Return the plaintext.

        Raises `Damaged` for an item that was changed in the database. With a phrase key it raises `Unsealable` instead,
        because such an item cannot be told from a wrong phrase.
        """
        try:
            return self._sealer.open(
                item.envelope, key_id=item.key_id, link=link, terms=item.terms, phrase_key=phrase_key
            )
        except Unsealable:
            if phrase_key:
                raise
            raise self._damage.changed(link.item_id) from None


@dataclass(frozen=True, repr=False)
class OpenedSecret:
    """A secret, how many openings it has left, and until when its reader may ask for it again, if at all."""

    secret: str
    opens_left: int
    held_until: datetime | None = None


@dataclass(frozen=True, repr=False)
class _Opener:
    """A request to open a secret: its link and phrase, and the id of its claim if the opening is to be held."""

    link: Link
    phrase: str | None
    claim_id: bytes | None


class SecretService:
    """Opens secrets and tells their status."""

    def __init__(
        self,
        *,
        ring: KeyRing,
        unsealer: Unsealer,
        hashing: HashingPool,
        items: ItemStore,
        claims: ClaimStore,
        holds: HoldStore,
        attempts: AttemptStore,
        clock: DatabaseClock,
        metrics: Metrics,
    ) -> None:
        self._ring = ring
        self._unsealer = unsealer
        self._hashing = hashing
        self._items = items
        self._claims = claims
        self._holds = holds
        self._attempts = attempts
        self._clock = clock
        self._opened = metrics.items.child(SECRET, "opened")
        self._locked = metrics.items.child(SECRET, "locked")
        self._held, self._repeated, self._received = (
            metrics.held_openings.child(event) for event in ("held", "repeated", "received")
        )

    async def status(self, secret_key: str) -> Item:
        """Return a waiting secret without its content.

        Raises `KeyNotFound`, with the secret's final state if it is known.
        """
        link = _parsed(secret_key)
        item = await self._items.glance(link.item_id)
        if item is None:
            raise await self._not_waiting(link.item_id)
        if item.kind != SECRET:
            raise KeyNotFound
        return item

    async def open(self, secret_key: str, phrase: str | None, reader_key: bytes | None = None) -> OpenedSecret:
        """Open a secret, and erase it with its last opening.

        The same ``reader_key`` gets the same result again while the opening is held. Raises `KeyNotFound`,
        `PhraseRequired`, `IncorrectPhrase` with ``attempts_left``, `TooMany` while every attempt left is being checked,
        `Damaged` for an item that was changed in the database, and `Unavailable`. After `Unavailable`, the same
        ``reader_key`` learns the outcome.
        """
        link = _parsed(secret_key)
        claim_id = derive_claim_id(link, reader_key) if reader_key and self._holds.are_on else None
        opener = _Opener(link, phrase, claim_id)
        if phrase:
            attempt = await self._attempts.spend(link.item_id, self._ring.key_ids, claim_id)
            if attempt:
                return await self._open_with_phrase(opener, attempt, phrase)
        item = await self._items.find(link.item_id)
        if item is None or (claim_id and item.hold_of(claim_id)):
            return await self._open_again(opener)
        if item.kind != SECRET:
            raise KeyNotFound
        self._unsealer.require_key(link, item)
        if item.phrase is None:
            return await self._claim(opener, item, self._unsealer.open(link, item))
        if not phrase:
            raise PhraseRequired
        # An attempt is refused by the latest write, which a majority may not have acknowledged yet.
        if not await self._items.is_waiting(link.item_id):
            return await self._open_again(opener)
        raise TooMany(
            "Other attempts on this secret are in progress. Try again after the delay in Retry-After.", retry_after=1
        )

    async def receive(self, secret_key: str, reader_key: bytes) -> None:
        """End the hold of the reader's opening. Raises `KeyNotFound` if there was none, or the sender has burned it."""
        link = _parsed(secret_key)
        if not await self._holds.receive(link.item_id, derive_claim_id(link, reader_key)):
            raise KeyNotFound
        self._received.inc()

    async def _not_waiting(self, item_id: bytes) -> KeyNotFound:
        """Return the error for a secret that is no longer waiting; anyone with its link may know its final state."""
        try:
            item = await self._items.history(item_id)
        except Damaged:
            item = None
        if item is None or item.kind != SECRET or item.state is ItemState.WAITING:
            return KeyNotFound()
        if item.opened_at is None:
            return KeyNotFound(state=item.state.value)
        return KeyNotFound(state=item.state.value, opened_at=f"{item.opened_at:%Y-%m-%dT%H:%M:%S.%f}Z")

    async def _open_with_phrase(self, opener: _Opener, attempt: Attempt, phrase: str) -> OpenedSecret:
        try:
            plaintext = await self._hashing.run("phrase", self._unsealed_with_phrase, opener.link, attempt.item, phrase)
        except Unsealable:
            return await self._fail(attempt)
        except asyncio.CancelledError:
            self._attempts.give_back_soon(attempt)
            raise
        except BaseException:
            # The queue was full: the phrase was not tried, so the attempt is not spent.
            await self._attempts.give_back(attempt)
            raise
        try:
            return await self._claim(opener, attempt.item, plaintext, attempt)
        except (asyncio.CancelledError, Unavailable):
            # The claim may not have been made, so it may not have given the attempt back.
            self._attempts.give_back_soon(attempt)
            raise

    async def _claim(
        self, opener: _Opener, item: Item, plaintext: bytes, attempt: Attempt | None = None
    ) -> OpenedSecret:
        check_id = attempt.check_id if attempt else None
        held = await self._holds.keep(opener.claim_id, item) if opener.claim_id else None
        won = await self._claims.claim(item, check_id, held)
        if won is None and held is None and check_id and await self._items.glance(item.item_id):
            # The attempt has lapsed.
            raise Unavailable
        if won is None:
            return await self._open_again(opener)
        if attempt and won.leaves_check:
            await self._attempts.give_back(attempt)
        self._opened.inc()
        if won.held_until:
            self._held.inc()
        return OpenedSecret(plaintext.decode(), won.opens_left, won.held_until)

    async def _open_again(self, opener: _Opener) -> OpenedSecret:
        """Return the text to the reader who holds the opening; raise the errors of `open` for any other."""
        link, claim_id = opener.link, opener.claim_id
        await self._items.count_late(link.item_id, claim_id)
        if claim_id is None:
            raise KeyNotFound
        try:
            item = await self._items.history(link.item_id)
        except Damaged:
            raise KeyNotFound from None
        hold = item.hold_of(claim_id) if item else None
        now = self._clock.now()
        if item is None or item.kind != SECRET or not hold or not item.is_held(hold, now):
            if item and item.state is ItemState.WAITING and item.expires_at > now and not hold:
                # Not opened yet: the check of the phrase has lapsed, or the claim came too late for its hold.
                raise Unavailable
            if item:
                # This request, or an earlier one, may have stored a copy.
                await self._holds.release(claim_id)
            raise KeyNotFound
        copy = await self._holds.find(claim_id)
        if copy is None:
            # The hold has just ended.
            raise Unavailable
        text = await self._reopened(link, copy, opener.phrase, item.failed_attempts)
        self._repeated.inc()
        return OpenedSecret(text.decode(), hold.opens_left, hold.until)

    async def _reopened(self, link: Link, copy: Item, phrase: str | None, failed_attempts: int) -> bytes:
        self._unsealer.require_key(link, copy)
        if copy.phrase is None:
            return self._unsealer.open(link, copy)
        if not phrase:
            raise PhraseRequired
        try:
            return await self._hashing.run("phrase", self._unsealed_with_phrase, link, copy, phrase)
        except Unsealable:
            raise IncorrectPhrase(attempts_left=copy.phrase.max_attempts - failed_attempts) from None

    def _unsealed_with_phrase(self, link: Link, item: Item, phrase: str) -> bytes:
        assert item.phrase is not None  # noqa: S101 (only items with a phrase have attempts)
        return self._unsealer.open(link, item, derive_phrase_key(phrase, item.phrase.salt, item.phrase.cost))

    async def _fail(self, attempt: Attempt) -> NoReturn:
        try:
            attempts_left = await self._attempts.fail(attempt)
        except (asyncio.CancelledError, Unavailable):
            self._attempts.give_back_soon(attempt)
            raise
        if attempts_left is None:
            await self._raise_unless_waiting(attempt.item.item_id)
            raise Unavailable
        if not attempts_left:
            self._locked.inc()
        raise IncorrectPhrase(attempts_left=attempts_left)

    async def _raise_unless_waiting(self, item_id: bytes) -> None:
        if await self._items.glance(item_id) is None:
            raise KeyNotFound


@dataclass(frozen=True, repr=False)
class OpenedMessage:
    """A message and its times."""

    message: str
    created_at: datetime
    expires_at: datetime


class MessageService:
    """Reads messages."""

    def __init__(self, *, unsealer: Unsealer, items: ItemStore, metrics: Metrics) -> None:
        self._unsealer = unsealer
        self._items = items
        self._opened = metrics.items.child(MESSAGE, "opened")

    async def read(self, message_key: str) -> OpenedMessage:
        """Return a message.

        Raises `KeyNotFound`, `Damaged` for one that was changed in the database, and `Unavailable` without its key.
        """
        link = _parsed(message_key)
        item = await self._items.find(link.item_id)
        # A secret has a limit of openings, which only `SecretService.open` enforces.
        if item is None or item.kind != MESSAGE:
            raise KeyNotFound
        self._unsealer.require_key(link, item)
        text = self._unsealer.open(link, item)
        self._opened.inc()
        return OpenedMessage(text.decode(), item.created_at, item.expires_at)


def _parsed(key: str) -> Link:
    link = Link.parse(key)
    if link is None:
        raise KeyNotFound
    return link
