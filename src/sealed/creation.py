"""Creating a sealed item of either kind: its lifetime, its phrase key, its envelope, and the keys for its sender."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from ..accounts.auth import Authenticator
from ..accounts.problems import InvalidToken
from ..core.clock import DatabaseClock
from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing
from ..core.crypto.sealing import SALT_BYTES, Argon2Cost, Link, Sealer, derive_phrase_key
from ..core.lifetimes import checked_lifetime
from ..core.metrics import Metrics
from ..core.stored_files import TAKING_SECONDS, FileStorage, StoredFile, UnusableUpload
from ..errors import FieldError, Malformed
from ..settings import Settings
from .contents import Contents, FileEntry
from .items import KINDS, UNLIMITED, Item, Phrase, pack_terms
from .kept_items import KeptItemStore
from .receipts import Receipt, write_receipt_key
from .store import ItemStore


@dataclass(frozen=True, repr=False)
class CreatedItem:
    """A new item with its keys: the link key for the reader, the receipt key for the sender."""

    item_id: bytes
    link_key: str
    receipt_key: str
    expires_at: datetime


_REASONS = {
    "unknown or expired": "is unknown or has expired; upload the file again",
    "incomplete": "is incomplete; upload the rest first",
    "in use": "is in use by another request; try again in a minute",
}


class ItemCreator:
    """Seals and stores new items."""

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        clock: DatabaseClock,
        hashing: HashingPool,
        items: ItemStore,
        kept: KeptItemStore,
        authenticator: Authenticator | None,
        storage: FileStorage,
        metrics: Metrics,
    ) -> None:
        self._default_ttl = timedelta(seconds=settings.default_ttl)
        self._ttl_limit = settings.ttl_limit
        self._most_files = settings.files_max if settings.file_limit else 0
        self._cost = Argon2Cost(settings.argon2_memory_kib, settings.argon2_passes)
        self._clock = clock
        self._ring = ring
        self._sealer = Sealer(ring)
        self._hashing = hashing
        self._items = items
        self._kept = kept
        self._authenticator = authenticator
        self._storage = storage
        self._taken = metrics.uploads.child("taken")
        self._created = {kind: metrics.items.child(kind, "created") for kind in KINDS}

    async def create(
        self,
        kind: str,
        text: str,
        *,
        ttl: timedelta | None,
        phrase: str | None = None,
        max_opens: int = UNLIMITED,
        max_attempts: int = 0,
        files: Sequence[FileEntry] = (),
        keeper: bytes | None = None,
    ) -> CreatedItem:
        """Seal and store an item, which takes over the uploads of its files; the user ``keeper`` keeps its receipt.

        Raises `Malformed` for a time to live out of bounds, too many files and unusable uploads, `InvalidToken` if the
        keeper's account is gone, and `Unavailable`.
        """
        self._check_number(files)
        created_at = self._clock.now()
        expires_at = created_at + (self._default_ttl if ttl is None else checked_lifetime(ttl, self._ttl_limit))
        link = Link.new()
        sealed_phrase, phrase_key = None, b""
        if phrase is not None:
            sealed_phrase = Phrase(secrets.token_bytes(SALT_BYTES), self._cost, max_attempts)
            phrase_key = await self._hashing.run("phrase", derive_phrase_key, phrase, sealed_phrase.salt, self._cost)
        stored = await self._reserve(files, link.item_id, expires_at) if files else ()
        key_id, envelope = self._sealer.seal(
            Contents(text, tuple(files)).to_bytes(),
            link=link,
            terms=pack_terms(kind, created_at, expires_at, max_opens, sealed_phrase, files=stored),
            phrase_key=phrase_key,
        )
        item = Item(
            item_id=link.item_id,
            kind=kind,
            created_at=created_at,
            expires_at=expires_at,
            max_opens=max_opens,
            opens_left=max_opens or None,
            key_id=key_id,
            envelope=envelope,
            phrase=sealed_phrase,
            files=stored,
        )
        if stored or keeper:
            record = partial(self._kept.add, user_id=keeper, item=item) if keeper else None
            await self._items.create_with(item, self._storage, record)
            self._taken.inc(len(stored))
        else:
            await self._items.create(item)
        if keeper and self._authenticator:
            await self._confirm(self._authenticator, keeper)
        self._created[kind].inc()
        receipt = Receipt(link.item_id, created_at, expires_at)
        return CreatedItem(link.item_id, link.text, write_receipt_key(self._ring, receipt), expires_at)

    async def _confirm(self, authenticator: Authenticator, keeper: bytes) -> None:
        try:
            await authenticator.confirm(keeper)
        except InvalidToken:
            # The deletion of the account may have missed the new record.
            await self._kept.remove_all(keeper)
            raise

    def _check_number(self, files: Sequence[FileEntry]) -> None:
        if len(files) > self._most_files:
            limit = self._most_files
            reason = f"must be at most {limit} file{'s' * (limit != 1)}" if limit else "are not accepted by this server"
            raise Malformed(errors=(FieldError("files", reason),))

    async def _reserve(
        self, files: Sequence[FileEntry], item_id: bytes, expires_at: datetime
    ) -> tuple[StoredFile, ...]:
        try:
            # The time limit of requests may be longer. Once the reservations have ended, another item may take the
            # uploads, and this one must not change the expiry of their content.
            async with asyncio.timeout(TAKING_SECONDS):
                return tuple(await self._storage.reserve([file.key for file in files], item_id, expires_at))
        except UnusableUpload as error:
            raise Malformed(errors=(FieldError(f"files.{error.position}.upload", _REASONS[error.reason]),)) from None
