"""The rules of one-time secrets and their receipts."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

import structlog

from ..core.clock import utc_now
from ..core.hashing import HashingPool
from ..core.keys import KeyRing
from ..core.sealing import SALT_BYTES, Argon2Cost, Link, Sealer, Unsealable, derive_phrase_key
from ..errors import Damaged, FieldError, Forbidden, Malformed, NotFound, TooMany, Unavailable
from ..settings import Settings
from .attempts import Attempt, AttemptStore
from .claims import ClaimStore
from .items import TOMBSTONE_LIFE, Item, Phrase, State
from .receipt_key import Receipt, read_receipt_key, write_receipt_key
from .store import ItemStore

SECRET = "secret"  # noqa: S105 (a kind of item)

log = structlog.get_logger(__name__)


class KeyNotFound(NotFound):
    """No item waits under this key: there never was one, or it has been opened, burned, locked or has expired."""

    code, default = "key_not_found", "Key not found"


class PhraseRequired(Forbidden):
    """The item has a phrase and none was sent; costs no attempt."""

    code, default = "phrase_required", "A phrase is required. Send it as phrase; no attempt was spent."


class IncorrectPhrase(Forbidden):
    """The phrase is wrong; costs one attempt."""

    code, default = "incorrect_phrase", "Incorrect phrase"


@dataclass(frozen=True, repr=False)
class Created:
    """What the sender of a new item gets: the key for the reader, and the receipt key to keep."""

    secret_key: str
    receipt_key: str
    expires_at: datetime


@dataclass(frozen=True, repr=False)
class Opened:
    """What the reader of an item gets."""

    secret: str
    opens_left: int


@dataclass(frozen=True)
class Outcome:
    """What has become of an item; ``failed_attempts`` is None once its document is gone."""

    state: State
    created_at: datetime
    expires_at: datetime
    opens_left: int
    opened_at: datetime | None = None
    failed_attempts: int | None = None


class SecretService:
    """Creates, opens and burns secrets."""

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        hashing: HashingPool,
        items: ItemStore,
        claims: ClaimStore,
        attempts: AttemptStore,
    ) -> None:
        self._settings = settings
        self._ring = ring
        self._sealer = Sealer(ring)
        self._hashing = hashing
        self._items = items
        self._claims = claims
        self._attempts = attempts

    async def create(
        self, secret: str, *, phrase: str | None, ttl: timedelta | None, max_opens: int, max_attempts: int
    ) -> Created:
        """Seal and store a secret. Raises `Malformed` for a time to live out of bounds."""
        created_at = utc_now()
        expires_at = created_at + self._checked_ttl(ttl)
        link = Link.new()
        sealed_phrase, phrase_key = None, b""
        if phrase is not None:
            cost = Argon2Cost(self._settings.argon2_memory_kib, self._settings.argon2_passes)
            sealed_phrase = Phrase(secrets.token_bytes(SALT_BYTES), cost, max_attempts)
            phrase_key = await self._hashing.run(derive_phrase_key, phrase, sealed_phrase.salt, cost)
        item = Item(link.item_id, SECRET, created_at, expires_at, max_opens, max_opens, phrase=sealed_phrase)
        item.key_id, item.envelope = self._sealer.seal(
            secret.encode(), link=link, terms=item.terms, phrase_key=phrase_key
        )
        await self._items.create(item)
        receipt = Receipt(link.item_id, created_at, expires_at)
        return Created(link.text, write_receipt_key(self._ring, receipt), expires_at)

    async def status(self, secret_key: str) -> Item:
        """Return a waiting secret without its content. Raises `KeyNotFound`."""
        link = _parsed(secret_key)
        item = await self._items.glance(link.item_id)
        if item is None or item.kind != SECRET:
            raise KeyNotFound
        return item

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
            plaintext, check_id = self._unsealed(link, item), None
        opens_left = await self._claims.claim(item, check_id)
        if opens_left is None:
            if check_id:
                await self._raise_unless_waiting(link.item_id)
                raise Unavailable
            raise KeyNotFound
        return Opened(plaintext.decode(), opens_left)

    async def outcome(self, receipt_key: str) -> Outcome:
        """Return what has become of an item. Raises `KeyNotFound` for a foreign key, and once nothing is known."""
        receipt = read_receipt_key(self._ring, receipt_key)
        if receipt is None:
            raise KeyNotFound
        item = await self._items.history(receipt.item_id)
        now = utc_now()
        if item is None:
            # Only what expired unopened leaves no tombstone, and tombstones go seven days after the expiry.
            if receipt.expires_at <= now < receipt.expires_at + TOMBSTONE_LIFE:
                return Outcome(State.EXPIRED, receipt.created_at, receipt.expires_at, 0)
            raise KeyNotFound
        expired = item.state is State.WAITING and item.expires_at <= now
        return Outcome(
            state=State.EXPIRED if expired else item.state,
            created_at=item.created_at,
            expires_at=item.expires_at,
            opens_left=0 if expired else item.opens_left,
            opened_at=item.opened_at,
            failed_attempts=item.failed_attempts,
        )

    async def burn(self, receipt_key: str) -> None:
        """Destroy a waiting item unopened. Raises `KeyNotFound` where there is nothing to destroy any more."""
        receipt = read_receipt_key(self._ring, receipt_key)
        if receipt is None or not await self._items.burn(receipt.item_id):
            raise KeyNotFound

    async def close(self) -> None:
        """Wait for what is in flight."""
        await self._items.close()
        await self._claims.close()

    def _checked_ttl(self, ttl: timedelta | None) -> timedelta:
        if ttl is None:
            return timedelta(seconds=self._settings.default_ttl)
        if not timedelta(0) < ttl <= self._settings.ttl_limit:
            reason = f"must be more than zero and at most {in_words(self._settings.ttl_limit)}, no part of it negative"
            raise Malformed(errors=(FieldError("ttl", reason),))
        return ttl

    def _unsealed(self, link: Link, item: Item, phrase_key: bytes = b"") -> bytes:
        try:
            return self._sealer.open(
                item.envelope, key_id=item.key_id, link=link, terms=item.terms, phrase_key=phrase_key
            )
        except Unsealable:
            if phrase_key:
                raise
            log.error("an item does not open: it was changed in the database", item_id=link.item_id.hex())
            raise Damaged from None

    async def _openable(self, link: Link, phrase: str | None) -> Item:
        """Return a waiting item that needs no phrase; raise what `open` does for every other."""
        item = await self._items.find(link.item_id)
        if item is None or item.kind != SECRET:
            raise KeyNotFound
        if not self._sealer.holds(item.key_id):
            log.error("the key that an item was sealed with is not in the ring", item_id=link.item_id.hex())
            raise Damaged
        if item.phrase is None:
            return item
        if not phrase:
            raise PhraseRequired
        raise TooMany("Other attempts are being checked. Try again after the seconds in Retry-After.", retry_after=1)

    async def _try_phrase(self, link: Link, attempt: Attempt, phrase: str) -> bytes:
        try:
            return await self._hashing.run(self._unsealed_with_phrase, link, attempt.item, phrase)
        except Unsealable:
            return await self._fail(attempt)
        except BaseException:
            # Not tried, so not spent: the queue was full, or the requester is gone.
            await self._attempts.give_back(attempt)
            raise

    def _unsealed_with_phrase(self, link: Link, item: Item, phrase: str) -> bytes:
        assert item.phrase is not None  # noqa: S101 (only items with a phrase have attempts)
        return self._unsealed(link, item, derive_phrase_key(phrase, item.phrase.salt, item.phrase.cost))

    async def _fail(self, attempt: Attempt) -> NoReturn:
        attempts_left = await self._attempts.fail(attempt)
        if attempts_left is None:
            await self._raise_unless_waiting(attempt.item.item_id)
            raise Unavailable
        raise IncorrectPhrase(attempts_left=attempts_left)

    async def _raise_unless_waiting(self, item_id: bytes) -> None:
        if await self._items.glance(item_id) is None:
            raise KeyNotFound


def in_words(span: timedelta) -> str:
    """Return a span of whole seconds as people say it, such as ``7 days`` or ``1 hour, 30 minutes``."""
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = {"day": days, "hour": hours, "minute": minutes, "second": seconds}
    return ", ".join(f"{count} {unit}{'s' * (count != 1)}" for unit, count in parts.items() if count)


def _parsed(secret_key: str) -> Link:
    link = Link.parse(secret_key)
    if link is None:
        raise KeyNotFound
    return link
