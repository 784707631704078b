"""Requests and answers of the secret, message and receipt routes."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from ..api.schema import DIGITS, WHOLE, Answer, QueryParameters, RequestBody, TimeToLive, example
from ..core.crypto.keys import KEY_BYTES
from ..core.crypto.sealing import decode
from .items import ItemState

MOST_OPENS = 100
MOST_ATTEMPTS = 100
LONGEST_PHRASE = 1024
LONGEST_FILE_NAME = 4096
LONGEST_FILE_TYPE = 255
LARGEST_PAGE = 100


KEY_PATTERN = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"
_NOT_SENT = object()


def _reader_key(text: str) -> str:
    if len(decode(text) or b"") != KEY_BYTES:
        raise ValueError("must be 32 random bytes in URL-safe base64: 43 characters")
    return text


def _upload_key(text: str) -> str:
    if len(decode(text) or b"") != KEY_BYTES:
        raise ValueError("must be the upload in the response to POST /files: 43 characters")
    return text


def _is_none(value: object) -> bool:
    return value is None


def _sent(value: object) -> object:
    if value is _NOT_SENT:
        raise PydanticCustomError("missing", "Field required")
    return value


ReaderKey = Annotated[
    str,
    AfterValidator(_reader_key),
    # The last character has 4 bits.
    Field(json_schema_extra={"pattern": KEY_PATTERN}),
]
UploadKey = Annotated[str, AfterValidator(_upload_key), Field(json_schema_extra={"pattern": KEY_PATTERN})]
_EXAMPLE_KEY = "mJ0gyHhbsHn8h8nXn1o7kUq0Tt2cX3mJw9gqkQZb1zA"
Keep = Annotated[
    bool,
    Field(description="Whether your account keeps the receipt, for GET /me/items. Requires a token."),
]
NewPhrase = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_PHRASE)]


class NewFile(RequestBody):
    """A file of a new secret."""

    upload: UploadKey = Field(repr=False, description="The `upload` in the response to POST /files.")
    name: Annotated[str, StringConstraints(max_length=LONGEST_FILE_NAME)] | None = Field(
        None, repr=False, description="Its name, which only the reader sees."
    )
    type: Annotated[str, StringConstraints(max_length=LONGEST_FILE_TYPE)] | None = Field(
        None, repr=False, description="Its media type, which only the reader sees."
    )


def _distinct(files: list[NewFile]) -> list[NewFile]:
    if len({file.upload for file in files}) != len(files):
        raise ValueError("must not repeat an upload")
    return files


class CreateSecret(RequestBody):
    """A new secret: a text, files, or both."""

    model_config = example(
        {"secret": "The door code is 4711.", "phrase": "old friend", "ttl": {"days": 1, "hours": 12}},
        anyOf=[{"required": ["secret"]}, {"required": ["files"], "properties": {"files": {"minItems": 1}}}],
    )

    secret: Annotated[str, StringConstraints(min_length=1), BeforeValidator(_sent)] = Field(
        "", description="The text; not required with files."
    )
    files: Annotated[list[NewFile], AfterValidator(_distinct)] = Field(
        [], description="Uploaded files. The setting `SEALPOST_FILES_MAX` limits their number."
    )
    phrase: NewPhrase | None = Field(None, description="A password that the reader needs in addition to the link.")
    ttl: TimeToLive | None = Field(
        None, description="Time until the secret expires, greater than zero and at most the server's limit."
    )
    max_opens: Annotated[int, WHOLE] = Field(
        1, ge=1, le=MOST_OPENS, description="Number of times that the secret can be opened."
    )
    max_attempts: Annotated[int, WHOLE] = Field(
        5, ge=1, le=MOST_ATTEMPTS, description="Number of wrong phrases that destroys the secret."
    )
    keep: Keep = False

    @model_validator(mode="before")
    @classmethod
    def _require_a_text_or_files(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        if not document.get("files"):
            return {"secret": _NOT_SENT, **document}
        return {name: value for name, value in document.items() if (name, value) != ("secret", "")}


class SecretCreated(Answer):
    """The created secret. Send ``url`` to the reader and keep ``receipt_key``."""

    secret_key: str = Field(
        description="43 characters that identify the secret and open it. The server does not store them."
    )
    receipt_key: str = Field(
        description="60 characters for the sender. They show the state of the secret and can burn it, but cannot open"
        " it."
    )
    expires_at: datetime = Field(description="When the secret expires.")
    url: str = Field(description="The link to the secret. It ends in `secret_key`.")


class OpenSecret(RequestBody):
    """The phrase, if the secret has one, and the reader's key; the body is optional."""

    model_config = example({"phrase": "old friend", "reader": _EXAMPLE_KEY})

    phrase: Annotated[str, StringConstraints(max_length=LONGEST_PHRASE)] | None = Field(
        None, description="The phrase, if the secret has one."
    )
    reader: ReaderKey | None = Field(
        None,
        repr=False,
        description="32 random bytes of the reader's own, with which it may open the same secret again for a while.",
    )


class OpenedFile(Answer):
    """A file of an opened secret."""

    id: str = Field(description="Its id, 32 hexadecimal digits.")
    size: int = Field(description="Its size in bytes.")
    name: str | None = Field(None, exclude_if=_is_none, description="The name that the sender gave, if any.")
    type: str | None = Field(None, exclude_if=_is_none, description="The media type that the sender gave, if any.")


class SecretOpened(Answer):
    """The opened secret."""

    secret: str = Field(description="The text.")
    opens_left: int = Field(description="How many times the secret can still be opened.")
    held_until: datetime | None = Field(
        None,
        exclude_if=_is_none,
        description="Until when the same reader's key gets this response again, and the files can be downloaded; absent"
        " without such a key.",
    )
    files: list[OpenedFile] | None = Field(None, exclude_if=_is_none, description="The files, if there are any.")
    reader: str | None = Field(
        None,
        exclude_if=_is_none,
        repr=False,
        description="The key for downloading the files, if the request had none.",
    )


class SecretReceived(RequestBody):
    """The key of the reader who has the text."""

    model_config = example({"reader": _EXAMPLE_KEY})

    reader: ReaderKey = Field(repr=False, description="The key that the reader sent when it opened the secret.")


class SecretStatus(Answer):
    """The status of a secret that can be opened, without its text."""

    phrase_required: bool = Field(description="Whether a phrase is required to open the secret.")
    opens_left: int = Field(description="How many times the secret can still be opened.")
    created_at: datetime = Field(description="When the secret was created.")
    expires_at: datetime = Field(description="When the secret expires.")
    files: int | None = Field(None, exclude_if=_is_none, description="Number of files; absent if there are none.")
    files_bytes: int | None = Field(
        None, exclude_if=_is_none, description="Total size of the files in bytes; absent if there are none."
    )


class ReceiptAnswer(Answer):
    """The state of an item."""

    state: ItemState = Field(
        description="`waiting`: it can be opened. `opened`: no openings are left. `locked`: wrong phrases have"
        " destroyed it. A message is never `opened` or `locked`."
    )
    created_at: datetime = Field(description="When the item was created.")
    expires_at: datetime = Field(description="When the item expires.")
    opened_at: datetime | None = Field(
        description="When it was last opened; null if it was not opened, and for messages."
    )
    received_at: datetime | None = Field(
        description="When a reader with a key last confirmed the text; otherwise null."
    )
    opens_left: int | None = Field(
        description="How many times it can still be opened; null for a message that can be read."
    )
    failed_attempts: int | None = Field(description="Number of wrong phrases; null once the record is deleted.")
    late_attempts: int | None = Field(
        description="How often another reader tried to open it after its last opening; null once the record is deleted."
    )
    last_late_at: datetime | None = Field(description="When the last of these attempts was; null if there was none.")
    files: int | None = Field(None, exclude_if=_is_none, description="Number of files; absent if there are none.")
    files_bytes: int | None = Field(
        None, exclude_if=_is_none, description="Total size of the files in bytes; absent if there are none."
    )


class MyItemsQuery(QueryParameters):
    """Selects the items to list."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE), DIGITS] = Field(
        50, description="Items per page.", examples=[10]
    )
    before: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="`next` of the previous page."
    )


class _Identified(Answer):
    id: str = Field(description="The id of the item, 32 hexadecimal digits. It opens nothing.")
    kind: Literal["secret", "message"] = Field(description="`secret` or `message`.")


class MyItemAnswer(ReceiptAnswer, _Identified):
    """The state of one of your items."""


class MyItemsAnswer(Answer):
    """A page of your items, newest first."""

    items: list[MyItemAnswer] = Field(description="The items of this page.")
    next: str | None = Field(description="The cursor of the next page; null on the last page.")


class MessageForm(RequestBody):
    """A new message, as a web form sends it."""

    model_config = example({"message": "The key is under the mat."})

    message: Annotated[str, StringConstraints(min_length=1)] = Field(description="The text.")


class CreateMessage(MessageForm):
    """A new message."""

    model_config = example({"message": "The key is under the mat.", "ttl": {"days": 2}})

    ttl: TimeToLive | None = Field(
        None, description="Time until the message expires, greater than zero and at most the server's limit."
    )
    keep: Keep = False


class MessageCreated(Answer):
    """The created message. Send ``url`` to the readers and keep ``receipt_key``."""

    url: str = Field(
        description="The link to the message. Its last 43 characters identify the message and open it; the server does"
        " not store them."
    )
    receipt_key: str = Field(description="60 characters for the sender, for the receipt of the message.")
    expires_at: datetime = Field(description="When the message expires.")


class MessageAnswer(Answer):
    """A message."""

    message: str = Field(description="The text.")
    created_at: datetime = Field(description="When the message was created.")
    expires_at: datetime = Field(description="When the message expires.")


class Deleted(Answer):
    """The number of secrets and messages deleted."""

    deleted: int = Field(description="Number of records deleted.")
