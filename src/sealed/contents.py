"""The content of an item: a text and, for each of its files, the upload key, the name and the media type.

The plaintext of an item without files is the text. That of an item with files is the JSON object
``{"secret": text, "files": [{"key", "name"?, "type"?}]}``, in the order of the files in the item's terms.
"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


class FileEntry(BaseModel):
    """The confidential part of a file; ``key`` is the upload key, from which the keys of its content are derived."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, ser_json_bytes="base64", val_json_bytes="base64"
    )

    key: bytes = Field(repr=False)
    name: str | None = Field(None, repr=False)
    type: str | None = Field(None, repr=False)


class FileEntries(BaseModel):
    """The entries of an item's files."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    files: tuple[FileEntry, ...]


class _TextWithFiles(FileEntries):
    secret: str = Field(repr=False)


@dataclass(frozen=True, repr=False)
class Contents:
    """The content of an item."""

    text: str
    files: tuple[FileEntry, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the plaintext."""
        if not self.files:
            return self.text.encode()
        return _TextWithFiles(secret=self.text, files=self.files).model_dump_json(exclude_none=True).encode()

    @classmethod
    def from_bytes(cls, plaintext: bytes, *, has_files: bool) -> "Contents":
        """Read a plaintext."""
        if not has_files:
            return cls(plaintext.decode())
        read = _TextWithFiles.model_validate_json(plaintext)
        return cls(read.secret, read.files)
