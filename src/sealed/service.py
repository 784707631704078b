"""The rules of opening: secrets a limited number of times, messages any number of times until they expire."""

from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing, is_key_id
from ..core.crypto.sealing import Link, Sealer, Unsealable, derive_phrase_key
from ..core.metrics import Counter, Metrics
from ..errors import Damaged, TooMany, Unavailable
from .attempts import Attempt, AttemptStore
from .claims import ClaimStore
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
    """A secret, and how many openings it has left."""

    secret: str
    opens_left: int


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
        attempts: AttemptStore,
        metrics: Metrics,
    ) -> None:
        self._ring = ring
        self._unsealer = unsealer
        self._hashing = hashing
        self._items = items
        self._claims = claims
        self._attempts = attempts
        self._opened = metrics.items.child(SECRET, "opened")
        self._locked = metrics.items.child(SECRET, "locked")

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

    async def open(self, secret_key: str, phrase: str | None) -> OpenedSecret:
        """Open a secret, and erase it with its last opening.

        Raises `KeyNotFound`, `PhraseRequired`, `IncorrectPhrase` with ``attempts_left``, `TooMany` while every attempt
        left is being checked, `Damaged` for an item that was changed in the database, and `Unavailable`.
        """
        link = _parsed(secret_key)
        attempt = await self._attempts.spend(link.item_id, self._ring.key_ids) if phrase else None
        if phrase and attempt:
            item, check_id = attempt.item, attempt.check_id
            plaintext = await self._try_phrase(link, attempt, phrase)
        else:
            item = await self._openable(link, phrase)
            plaintext, check_id = self._unsealer.open(link, item), None
        opens_left = await self._claims.claim(item, check_id)
        if opens_left is None:
            if check_id:
                await self._raise_unless_waiting(link.item_id)
                raise Unavailable
            raise KeyNotFound
        self._opened.inc()
        return OpenedSecret(plaintext.decode(), opens_left)

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

    async def _openable(self, link: Link, phrase: str | None) -> Item:
        """Return a waiting secret that has no phrase; raise the errors of `open` for any other."""
        item = await self._items.find(link.item_id)
        if item is None or item.kind != SECRET:
            raise KeyNotFound
        self._unsealer.require_key(link, item)
        if item.phrase is None:
            return item
        if not phrase:
            raise PhraseRequired
        # An attempt is refused by the latest write, which a majority may not have acknowledged yet.
        if not await self._items.is_waiting(link.item_id):
            raise KeyNotFound
        raise TooMany(
            "Other attempts on this secret are in progress. Try again after the delay in Retry-After.", retry_after=1
        )

    async def _try_phrase(self, link: Link, attempt: Attempt, phrase: str) -> bytes:
        try:
            return await self._hashing.run("phrase", self._unsealed_with_phrase, link, attempt.item, phrase)
        except Unsealable:
            return await self._fail(attempt)
        except BaseException:
            # The queue was full or the request was cancelled: the phrase was not tried, so the attempt is not spent.
            await self._attempts.give_back(attempt)
            raise

    def _unsealed_with_phrase(self, link: Link, item: Item, phrase: str) -> bytes:
        assert item.phrase is not None  # noqa: S101 (only items with a phrase have attempts)
        return self._unsealer.open(link, item, derive_phrase_key(phrase, item.phrase.salt, item.phrase.cost))

    async def _fail(self, attempt: Attempt) -> NoReturn:
        attempts_left = await self._attempts.fail(attempt)
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
