"""A sealed item: the record, its document in MongoDB, and the expressions that queries on it share.

An item is one document in the collection ``items``. While its state is ``waiting`` it has an envelope. In every other
state it is a tombstone without content, kept for receipts until seven days after the item's expiry.

The content of an item's files is stored elsewhere, and may outlive the envelope by the holds of the openings. On a
tombstone, ``files_until`` is when the last of these holds ends; it is removed once the content is erased.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from bson import ObjectId
from pymongo import IndexModel

from ..core.clock import MILLISECOND, UNEXPIRED, milliseconds
from ..core.crypto.sealing import ID_BYTES, MEMORY_KIB, PASSES, SALT_BYTES, Argon2Cost
from ..core.database.mongo import Document, Indexes
from ..core.stored_files import StoredFile
from ..errors import Damaged

COLLECTION = "items"
INDEXES: Indexes = {
    COLLECTION: [
        # TTL index for cleanup; no query relies on it.
        IndexModel("delete_at", name="delete_at", expireAfterSeconds=0),
        # To find the tombstones whose files are to be erased.
        IndexModel("files_until", name="files_until", sparse=True),
    ]
}
TOMBSTONE_LIFE = timedelta(days=7)
SECRET, MESSAGE = "secret", "message"
"""The kinds of items: a secret has a limit of openings, a message has none."""
KINDS = (SECRET, MESSAGE)
UNLIMITED = 0
"""The ``max_opens`` of a message."""
_TYPES: dict[str, type] = {
    "_id": bytes,
    "kind": str,
    "state": str,
    "key_id": str,
    "envelope": bytes,
    "created_at": datetime,
    "expires_at": datetime,
    "delete_at": datetime,
    "max_opens": int,
    "failed_attempts": int,
    "claims": list,
    "checks": list,
    "holds": list,
    "late_attempts": int,
    "files": list,
}
_TYPES_OF_A_HOLD: dict[str, type] = {"id": bytes, "until": datetime, "opens_left": int}
_OPTIONAL: Document = {
    "envelope": b"",
    "phrase": None,
    "opened_at": None,
    "failed_attempts": 0,
    "claims": [],
    "checks": [],
    "holds": [],
    "late_attempts": 0,
    "last_late_at": None,
    "burned_at": None,
    "files": [],
}
WITHOUT_ENVELOPE = {"envelope": 0}
VOIDED_KEPT = 100
MOST_LATE = 1_000_000
"""Late attempts are counted up to this number, which fits in 32 bits."""
TERMS = struct.Struct(">QQII")
TERMS_OF_A_FILE = struct.Struct(f">{ID_BYTES}sQ")


class ItemState(StrEnum):
    """The state of an item."""

    WAITING = "waiting"
    OPENED = "opened"
    BURNED = "burned"
    LOCKED = "locked"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Phrase:
    """The parameters of the phrase key's derivation, and the number of wrong phrases that destroys the item."""

    salt: bytes = field(repr=False)
    cost: Argon2Cost
    max_attempts: int

    def to_document(self) -> Document:
        """Return the sub-document."""
        cost = {"memory_kib": self.cost.memory_kib, "passes": self.cost.passes}
        return {"salt": self.salt, **cost, "max_attempts": self.max_attempts}

    @classmethod
    def from_document(cls, document: Document) -> "Phrase":
        """Read a sub-document. Raises `ValueError` for parameters that no setting allows."""
        _check_types(document, {"salt": bytes, "memory_kib": int, "passes": int, "max_attempts": int})
        # A changed document must not make the server allocate all its memory.
        if not (document["memory_kib"] in MEMORY_KIB and document["passes"] in PASSES):
            raise ValueError
        if len(document["salt"]) != SALT_BYTES:
            raise ValueError
        cost = Argon2Cost(document["memory_kib"], document["passes"])
        return cls(document["salt"], cost, document["max_attempts"])


@dataclass(frozen=True)
class Hold:
    """An opening whose reader may ask for the text again until a time, or until the reader has confirmed it.

    ``opens_left`` is the number of openings left after this one.
    """

    claim_id: bytes
    until: datetime
    opens_left: int
    received_at: datetime | None = None

    @classmethod
    def from_document(cls, document: Document) -> "Hold":
        """Read a sub-document. Raises `KeyError` and `TypeError`."""
        _check_types(document, _TYPES_OF_A_HOLD)
        received_at = _optional_moment(document.get("received_at"))
        return cls(document["id"], document["until"], document["opens_left"], received_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A sealed item or its tombstone; a `Sealer` makes ``key_id`` and ``envelope`` from the content.

    ``opens_left`` is None for an item without a limit of openings. ``late_attempts`` is the number of openings after
    the last one that was allowed. ``is_burned`` is also True if the sender burned the item after its last opening.
    """

    item_id: bytes
    kind: str
    created_at: datetime
    expires_at: datetime
    max_opens: int
    opens_left: int | None
    key_id: str
    envelope: bytes = field(repr=False)
    phrase: Phrase | None
    state: ItemState = ItemState.WAITING
    opened_at: datetime | None = None
    failed_attempts: int = 0
    holds: tuple[Hold, ...] = ()
    late_attempts: int = 0
    last_late_at: datetime | None = None
    is_burned: bool = False
    files: tuple[StoredFile, ...] = ()

    def hold_of(self, claim_id: bytes) -> Hold | None:
        """Return the hold of an opening, which may have ended; None if there is no such opening."""
        return next((hold for hold in self.holds if hold.claim_id == claim_id), None)

    def is_held(self, hold: Hold, now: datetime) -> bool:
        """Tell whether the reader of an opening may ask for the text again."""
        return not self.is_burned and hold.received_at is None and now < hold.until

    @property
    def terms(self) -> bytes:
        """The item's terms, as `pack_terms` returns them."""
        return pack_terms(self.kind, self.created_at, self.expires_at, self.max_opens, self.phrase, files=self.files)


def pack_terms(
    kind: str,
    created_at: datetime,
    expires_at: datetime,
    max_opens: int,
    phrase: Phrase | None,
    *,
    files: Sequence[StoredFile] = (),
) -> bytes:
    """Return the terms that an envelope authenticates: an item whose terms are changed in the database does not open.

    Raises `struct.error` for numbers out of range.
    """
    max_attempts = phrase.max_attempts if phrase else 0
    terms = TERMS.pack(milliseconds(created_at), milliseconds(expires_at), max_opens, max_attempts) + kind.encode()
    # No kind contains a zero byte.
    return terms + b"\0" + pack_files(files) if files else terms


def pack_files(files: Sequence[StoredFile]) -> bytes:
    """Return the ids and sizes of files, 24 bytes each. Raises `struct.error`."""
    return b"".join(TERMS_OF_A_FILE.pack(file.upload_id, file.size) for file in files)


def to_document(item: Item) -> Document:
    """Return a new item's document."""
    document = {
        "_id": item.item_id,
        "kind": item.kind,
        "state": item.state.value,
        "key_id": item.key_id,
        "envelope": item.envelope,
        "created_at": item.created_at,
        "expires_at": item.expires_at,
        "delete_at": item.expires_at,
        "max_opens": item.max_opens,
    }
    if item.phrase:
        document["failed_attempts"] = 0
        document["checks"] = []
        document["phrase"] = item.phrase.to_document()
    if item.files:
        document["files"] = [{"upload": file.upload_id, "size": file.size} for file in item.files]
    return document


def from_document(document: Document) -> Item:
    """Read a document. Raises `Damaged` for one that this program cannot have written."""
    document = {**_OPTIONAL, **document}
    try:
        _check_types(document, _TYPES)
        phrase = document["phrase"]
        state = ItemState(document["state"])
        item = Item(
            item_id=document["_id"],
            kind=document["kind"],
            created_at=document["created_at"],
            expires_at=document["expires_at"],
            max_opens=document["max_opens"],
            opens_left=_opens_left(document, state),
            key_id=document["key_id"],
            envelope=document["envelope"],
            phrase=None if phrase is None else Phrase.from_document(phrase),
            state=state,
            opened_at=_optional_moment(document["opened_at"]),
            failed_attempts=document["failed_attempts"],
            holds=tuple(map(Hold.from_document, document["holds"])),
            late_attempts=document["late_attempts"],
            last_late_at=_optional_moment(document["last_late_at"]),
            is_burned=document["burned_at"] is not None,
            files=read_files(document["files"]),
        )
        used_up = item.opens_left is not None and item.opens_left < 1
        if state is ItemState.WAITING and (document["delete_at"] != item.expires_at or used_up):
            raise Damaged
        _ = item.terms
    except (KeyError, TypeError, ValueError, struct.error):
        raise Damaged from None
    return item


def read_files(documents: Sequence[Document]) -> tuple[StoredFile, ...]:
    """Read the files of a document. Raises `KeyError`, `TypeError` and `ValueError`."""
    files = []
    for document in documents:
        upload_id, size = document["upload"], document["size"]
        # The driver returns a number over 32 bits as a subclass of int.
        if type(upload_id) is not bytes or not isinstance(size, int) or isinstance(size, bool):
            raise TypeError
        if len(upload_id) != ID_BYTES or size < 0:
            raise ValueError
        files.append(StoredFile(upload_id, int(size)))
    return tuple(files)


def _opens_left(document: Document, state: ItemState) -> int | None:
    if state is not ItemState.WAITING:
        return 0
    return None if document["max_opens"] == UNLIMITED else document["max_opens"] - len(document["claims"])


def _optional_moment(value: Any) -> datetime | None:
    if value is not None and type(value) is not datetime:
        raise TypeError
    return value


def _check_types(document: Document, types: dict[str, type]) -> None:
    # Exact types: the driver returns the types that were written, and True is not 1.
    if any(type(document[name]) is not kind for name, kind in types.items()):
        raise TypeError


def without(array: str, value: str, unwanted: Sequence[Any]) -> Document:
    """Return the expression for an array without the elements (``$$one``) whose value is unwanted."""
    elements = {"$ifNull": [array, []]}
    return {"$filter": {"input": elements, "as": "one", "cond": {"$not": [{"$in": [value, list(unwanted)]}]}}}


def voiding(claim_or_check_id: ObjectId | bytes) -> Document:
    """Return the assignment of a pipeline update that keeps a late command with this id from taking effect."""
    voided = {"$concatArrays": [{"$ifNull": ["$voided_claims", []]}, [claim_or_check_id]]}
    return {"voided_claims": {"$slice": [voided, -VOIDED_KEPT]}}


def waiting(item_ids: list[bytes]) -> Document:
    """Return the filter for those of the items that are waiting and have not expired, by MongoDB's clock."""
    return {"_id": {"$in": item_ids}, "state": ItemState.WAITING.value, **UNEXPIRED}


def erased_when(condition: Any, state: ItemState) -> Document:
    """Return the assignments of a pipeline update that make an item a tombstone if the condition is true."""
    changes = {
        "state": (state.value, "$state"),
        "envelope": ("$$REMOVE", "$envelope"),
        "phrase": ("$$REMOVE", "$phrase"),
        "delete_at": ({"$add": ["$expires_at", TOMBSTONE_LIFE // MILLISECOND]}, "$delete_at"),
    }
    return {name: {"$cond": [condition, then, otherwise]} for name, (then, otherwise) in changes.items()}


def files_end_when(condition: Any) -> Document:
    """Return the assignment of a pipeline update that sets an item's ``files_until`` if the condition is true.

    Only items with files have it. It is the end of the last hold whose reader has not confirmed the files; if there is
    none, or after a burn, it is now.
    """
    unconfirmed = {"$not": [{"$gt": ["$$hold.received_at", None]}]}
    holds = {"$filter": {"input": {"$ifNull": ["$holds", []]}, "as": "hold", "cond": unconfirmed}}
    ends = {"$map": {"input": holds, "as": "hold", "in": "$$hold.until"}}
    until = {"$cond": [{"$gt": ["$burned_at", None]}, "$$NOW", {"$max": {"$concatArrays": [["$$NOW"], ends]}}]}
    return {"files_until": {"$cond": [{"$and": [{"$isArray": ["$files"]}, condition]}, until, "$files_until"]}}
