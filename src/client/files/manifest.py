"""The manifest: the text of a secret, and the name, type, size and key of each file, encrypted end to end."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..envelopes import KEY_BYTES, NotOpened, TextKeys, open_manifest, read_base64, seal_manifest, write_base64


@dataclass(frozen=True)
class SharedFile:
    """A file as its sender describes it; ``size`` is of its content, in bytes. A reader must not trust the name."""

    name: str
    type: str
    size: int
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Manifest:
    """A text, which may be empty, and files."""

    text: str = field(repr=False)
    files: Sequence[SharedFile]


def write_manifest(manifest: Manifest, keys: TextKeys, nonce: bytes | None = None) -> str:
    """Return the envelope of a manifest; give a ``nonce`` only for test vectors."""
    files = [
        {"name": file.name, "type": file.type, "size": file.size, "key": write_base64(file.key)}
        for file in manifest.files
    ]
    content = json.dumps({"text": manifest.text, "files": files}, ensure_ascii=False, separators=(",", ":"))
    return seal_manifest(content, keys, nonce)


def read_manifest(envelope: str, keys: TextKeys) -> Manifest:
    """Return the manifest in an envelope. Raises `NotOpened`."""
    try:
        content = json.loads(open_manifest(envelope, keys))
        text, files = content["text"], [_read_file(file) for file in content["files"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise NotOpened from None
    if not isinstance(text, str):
        raise NotOpened
    return Manifest(text, files)


def _read_file(file: Any) -> SharedFile:
    name, kind, size, key = file["name"], file["type"], file["size"], read_base64(file["key"])
    if type(size) is not int or size < 0 or len(key) != KEY_BYTES:
        raise NotOpened
    if not isinstance(name, str) or not isinstance(kind, str):
        raise NotOpened
    return SharedFile(name, kind, size, key)
