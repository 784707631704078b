"""The rules of one-time secrets."""

from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing
from ..core.crypto.sealing import Link, Unsealable, derive_phrase_key
from ..core.metrics import Metrics
from ..errors import Damaged, TooMany, Unavailable
from .attempts import Attempt, AttemptStore
from .claims import ClaimStore
from .creation import Created, ItemCreator
from .items import SECRET, Item, State
from .problems import IncorrectPhrase, KeyNotFound, PhraseRequired
from .store import ItemStore
from .unsealing import Unsealer


@dataclass(frozen=True, repr=False)
class Opened:
    """What the reader of an item gets."""

    secret: str
    opens_left: int


class SecretService:
    """Creates, opens and burns secrets."""

    def __init__(
        self,
        *,
        ring: KeyRing,
        hashing: HashingPool,
        creator: ItemCreator,
        items: ItemStore,
        claims: ClaimStore,
        attempts: AttemptStore,
        metrics: Metrics,
    ) -> None:
        self._ring = ring
        self._creator = creator
        self._unsealer = Unsealer(ring, metrics.damaged)
        self._hashing = hashing
        self._items = items
        self._claims = claims
        self._attempts = attempts
        self._opened = metrics.items.child(SECRET, "opened")
        self._locked = metrics.items.child(SECRET, "locked")

    async def create(
        self, secret: str, *, phrase: str | None, ttl: timedelta | None, max_opens: int, max_attempts: int
    ) -> Created:
        """Seal and store a secret. Raises `Malformed` for a time to live out of bounds."""
        return await self._creator.create(
            SECRET, secret, phrase=phrase, ttl=ttl, max_opens=max_opens, max_attempts=max_attempts
        )

    async def status(self, secret_key: str) -> Item:
        """Return a waiting secret without its content.

        Raises `KeyNotFound`, with what became of it where that is known.
        """
        link = _parsed(secret_key)
        item = await self._items.glance(link.item_id)
        if item is None:
            raise await self._outcome(link.item_id)
        if item.kind != SECRET:
            raise KeyNotFound
        return item

    async def _outcome(self, item_id: bytes) -> KeyNotFound:
        """Say what became of a secret that waits no more: whoever has its link may know."""
        try:
            item = await self._items.history(item_id)
        except Damaged:
            item = None
        if item is None or item.kind != SECRET or item.state is State.WAITING:
            return KeyNotFound()
        if item.opened_at is None:
            return KeyNotFound(state=item.state.value)
        return KeyNotFound(state=item.state.value, opened_at=f"{item.opened_at:%Y-%m-%dT%H:%M:%S.%f}Z")

    async def open(self, secret_key: str, phrase: str | None) -> Opened:
        """Open a secret, for the last time if it has no other opening left.

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
        return Opened(plaintext.decode(), opens_left)

    async def _openable(self, link: Link, phrase: str | None) -> Item:
        """Return a waiting item that needs no phrase; raise what `open` does for every other."""
        item = await self._items.find(link.item_id)
        if item is None or item.kind != SECRET:
            raise KeyNotFound
        self._unsealer.require_key(link, item)
        if item.phrase is None:
            return item
        if not phrase:
            raise PhraseRequired
        raise TooMany(
            "Other attempts on this secret are in progress. Try again after the delay in Retry-After.", retry_after=1
        )

    async def _try_phrase(self, link: Link, attempt: Attempt, phrase: str) -> bytes:
        try:
            return await self._hashing.run("phrase", self._unsealed_with_phrase, link, attempt.item, phrase)
        except Unsealable:
            return await self._fail(attempt)
        except BaseException:
            # Not tried, so not spent: the queue was full, or the requester is gone.
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


def _parsed(secret_key: str) -> Link:
    link = Link.parse(secret_key)
    if link is None:
        raise KeyNotFound
    return link
