"""The rules of opening secrets: each a limited number of times."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NoReturn

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.clock import DatabaseClock
from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KEY_BYTES, KeyRing
from ..core.crypto.sealing import Link, Unsealable, derive_phrase_key
from ..core.metrics import Metrics
from ..core.stored_files import StoredFile
from ..errors import Damaged, TooMany, Unavailable
from .attempts import Attempt, AttemptStore
from .claims import ClaimStore, Won
from .contents import Contents, FileEntry
from .ended_files import EndedFiles
from .holds import HoldStore, derive_claim_id
from .items import SECRET, Item, ItemState
from .problems import IncorrectPhrase, KeyNotFound, PhraseRequired
from .store import ItemStore
from .unsealing import Unsealer, parse_link


@dataclass(frozen=True, repr=False)
class OpenedSecret:
    """A secret, how many openings it has left, and until when its reader may ask for it again, if at all.

    ``reader_key`` is the reader's key if the server has made it, because the secret has files and the reader sent none.
    """

    secret: str
    opens_left: int
    held_until: datetime | None = None
    files: Sequence[tuple[StoredFile, FileEntry]] = ()
    reader_key: bytes | None = None


@dataclass(frozen=True, repr=False)
class _Opener:
    """A request to open a secret: its link and phrase, the key of its reader, and whether the server has made it.

    ``network`` is the client's, for the audit.
    """

    link: Link
    phrase: str | None
    reader_key: bytes | None
    network: str | None = None
    has_new_key: bool = False

    @property
    def claim_id(self) -> bytes | None:
        """The id under which a reader with a key claims an opening."""
        return derive_claim_id(self.link, self.reader_key) if self.reader_key else None


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
        ended_files: EndedFiles,
        clock: DatabaseClock,
        metrics: Metrics,
        audit: Audit,
    ) -> None:
        self._ring = ring
        self._unsealer = unsealer
        self._hashing = hashing
        self._items = items
        self._claims = claims
        self._holds = holds
        self._attempts = attempts
        self._ended_files = ended_files
        self._clock = clock
        self._audit = audit
        self._opened = metrics.items.child(SECRET, "opened")
        self._locked = metrics.items.child(SECRET, "locked")
        self._held, self._repeated, self._received = (
            metrics.held_openings.child(event) for event in ("held", "repeated", "received")
        )

    async def status(self, secret_key: str) -> Item:
        """Return a waiting secret without its content.

        Raises `KeyNotFound`, with the secret's final state if it is known.
        """
        link = parse_link(secret_key)
        item = await self._items.glance(link.item_id)
        if item is None:
            raise await self._not_waiting(link.item_id)
        if item.kind != SECRET:
            raise KeyNotFound
        return item

    async def open(
        self, secret_key: str, phrase: str | None, reader_key: bytes | None = None, network: str | None = None
    ) -> OpenedSecret:
        """Open a secret, and erase it with its last opening; its files are kept until the holds end.

        The same ``reader_key`` gets the same result again while the opening is held. Raises `KeyNotFound`,
        `PhraseRequired`, `IncorrectPhrase` with ``attempts_left``, `TooMany` while every attempt left is being checked,
        `Damaged` for an item that was changed in the database, and `Unavailable`. After `Unavailable`, the same
        ``reader_key`` learns the outcome.
        """
        link = parse_link(secret_key)
        opener = _Opener(link, phrase, reader_key, network)
        claim_id = opener.claim_id
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
        link = parse_link(secret_key)
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
        return KeyNotFound(state=item.state.value, opened_at=item.opened_at.isoformat().replace("+00:00", "Z"))

    async def _open_with_phrase(self, opener: _Opener, attempt: Attempt, phrase: str) -> OpenedSecret:
        try:
            contents = await self._hashing.run("phrase", self._unsealed_with_phrase, opener.link, attempt.item, phrase)
        except Unsealable:
            return await self._fail(opener, attempt)
        except asyncio.CancelledError:
            self._attempts.give_back_soon(attempt)
            raise
        except BaseException:
            # The queue was full: the phrase was not tried, so the attempt is not spent.
            await self._attempts.give_back(attempt)
            raise
        try:
            return await self._claim(opener, attempt.item, contents, attempt)
        except (asyncio.CancelledError, Unavailable):
            # The claim may not have been made, so it may not have given the attempt back.
            self._attempts.give_back_soon(attempt)
            raise

    async def _claim(
        self, opener: _Opener, item: Item, contents: Contents, attempt: Attempt | None = None
    ) -> OpenedSecret:
        check_id = attempt.check_id if attempt else None
        if item.files and not opener.reader_key:
            opener = replace(opener, reader_key=secrets.token_bytes(KEY_BYTES), has_new_key=True)
        claim_id = opener.claim_id if self._holds.are_on_for(item) else None
        if claim_id is None:
            won = await self._claims.claim(item, check_id)
        else:
            won = await self._claim_and_hold(opener, claim_id, item, contents, attempt)
        if won is None and claim_id is None and check_id and await self._items.glance(item.item_id):
            # The attempt has lapsed.
            raise Unavailable
        if won is None:
            return await self._open_again(opener)
        if attempt and won.leaves_check:
            await self._attempts.give_back(attempt)
        self._opened.inc()
        self._record(AuditKind.ITEM_OPENED, opener)
        if won.held_until:
            self._held.inc()
        return _opened(
            contents, item, won.opens_left, won.held_until, opener.reader_key if opener.has_new_key else None
        )

    async def _claim_and_hold(
        self, opener: _Opener, claim_id: bytes, item: Item, contents: Contents, attempt: Attempt | None
    ) -> Won | None:
        manifest = b""
        if opener.reader_key and item.files:
            manifest = self._unsealer.seal_manifest(opener.link, item, contents.files, opener.reader_key)
        try:
            held = await self._holds.keep(claim_id, item, manifest, can_be_repeated=not opener.has_new_key)
            return await self._claims.claim(item, attempt.check_id if attempt else None, held)
        except (asyncio.CancelledError, Unavailable):
            if opener.has_new_key:
                self._holds.release_soon(claim_id)
            raise

    async def _open_again(self, opener: _Opener) -> OpenedSecret:
        """Return the text to the reader who holds the opening; raise the errors of `open` for any other."""
        link, claim_id = opener.link, opener.claim_id
        await self._items.count_late(link.item_id, claim_id)
        try:
            item = await self._items.history(link.item_id)
        except Damaged:
            raise KeyNotFound from None
        if claim_id is None or (item and not self._holds.are_on_for(item)):
            raise self._too_late(opener, item)
        hold = item.hold_of(claim_id) if item else None
        now = self._clock.now()
        if item is None or item.kind != SECRET or not hold or not item.is_held(hold, now):
            if item and item.state is ItemState.WAITING and item.expires_at > now and not hold:
                # Not opened yet: the check of the phrase has lapsed, or the claim came too late for its hold.
                raise Unavailable
            if item:
                # This request, or an earlier one, may have stored a copy.
                await self._holds.release(claim_id)
            raise self._too_late(opener, item)
        copy = await self._holds.find(claim_id)
        if copy is None:
            # The hold has just ended.
            raise Unavailable
        contents = await self._reopened(link, copy, opener.phrase, item.failed_attempts)
        self._repeated.inc()
        return _opened(contents, copy, hold.opens_left, hold.until)

    async def _reopened(self, link: Link, copy: Item, phrase: str | None, failed_attempts: int) -> Contents:
        self._unsealer.require_key(link, copy)
        if copy.phrase is None:
            return self._unsealer.open(link, copy)
        if not phrase:
            raise PhraseRequired
        try:
            return await self._hashing.run("phrase", self._unsealed_with_phrase, link, copy, phrase)
        except Unsealable:
            raise IncorrectPhrase(attempts_left=copy.phrase.max_attempts - failed_attempts) from None

    def _unsealed_with_phrase(self, link: Link, item: Item, phrase: str) -> Contents:
        assert item.phrase is not None  # noqa: S101 (only items with a phrase have attempts)
        return self._unsealer.open(link, item, derive_phrase_key(phrase, item.phrase.salt, item.phrase.cost))

    async def _fail(self, opener: _Opener, attempt: Attempt) -> NoReturn:
        try:
            attempts_left = await self._attempts.fail(attempt)
        except (asyncio.CancelledError, Unavailable):
            self._attempts.give_back_soon(attempt)
            raise
        if attempts_left is None:
            await self._raise_unless_waiting(attempt.item.item_id)
            raise Unavailable
        self._record(AuditKind.ITEM_OPENING_FAILED, opener)
        if not attempts_left:
            self._locked.inc()
            if attempt.item.files:
                await self._ended_files.erase(attempt.item.item_id)
        raise IncorrectPhrase(attempts_left=attempts_left)

    def _too_late(self, opener: _Opener, item: Item | None) -> KeyNotFound:
        """Return the error for a secret that cannot be opened any more, and record the attempt if there was one."""
        if item and item.kind == SECRET and item.state is not ItemState.WAITING:
            self._record(AuditKind.ITEM_OPENING_FAILED, opener)
        return KeyNotFound()

    def _record(self, kind: AuditKind, opener: _Opener) -> None:
        self._audit.record(AuditEvent(kind=kind, item_id=opener.link.item_id, network=opener.network))

    async def _raise_unless_waiting(self, item_id: bytes) -> None:
        if await self._items.glance(item_id) is None:
            raise KeyNotFound


def _opened(
    contents: Contents, item: Item, opens_left: int, held_until: datetime | None, new_key: bytes | None = None
) -> OpenedSecret:
    files = tuple(zip(item.files, contents.files, strict=True))
    return OpenedSecret(contents.text, opens_left, held_until, files, new_key)
