"""Secrets with files that tests share without a browser, and the files that a browser saves."""

import json
import os
import re
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page

from src.client.envelopes import LinkKeys, derive_keys, new_fragment_key, read_base64, write_fragment
from src.client.files.manifest import Manifest, SharedFile, write_manifest
from src.client.segments import SEGMENT_BYTES, SegmentCipher

# The pickers of Chromium, with the browser's private file system in place of the user's disk. Some browsers lack them.
PICKERS = """
    if (navigator.storage?.getDirectory) {
        const root = navigator.storage.getDirectory();
        const create = async name => (await root).getFileHandle(name, {create: true});
        window.showSaveFilePicker = ({suggestedName}) => create(suggestedName);
        window.showDirectoryPicker = () => root;
        FileSystemFileHandle.prototype.remove ??= async function () { await (await root).removeEntry(this.name); };
    }
"""
NO_PICKERS = "delete window.showSaveFilePicker; delete window.showDirectoryPicker;"
# More than 2 segments, and not a whole number of them.
LARGE = os.urandom(200_000)
FILES = (("plans/Grundriß.pdf", LARGE), ("leer.txt", b""), ("notes.txt", b"the cat is called Grete"))
OF_FILES = re.compile(r"/secrets/[^/]+/files/")
_READ_SAVED = """async () => {
    const saved = {};
    for await (const [name, handle] of (await navigator.storage.getDirectory()).entries()) {
        const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
        saved[name] = Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
    }
    return saved;
}"""

Contents = Iterable[tuple[str, bytes]]


@dataclass(frozen=True)
class Shared:
    """The links to a secret and to its receipt."""

    link: str
    receipt_link: str


def share_encrypted(base: str, files: Contents, text: str = "", *, phrase: str = "", opens: int = 1) -> Shared:
    """Share files as the terminal client does: encrypted end to end, names included."""
    fragment_key = new_fragment_key()
    keys = derive_keys(fragment_key, phrase or None)
    shared, uploads = [], []
    for name, content in files:
        key = os.urandom(32)
        cipher = SegmentCipher(key, len(content))
        starts = enumerate(range(0, max(1, len(content)), SEGMENT_BYTES))
        sealed = b"".join(cipher.seal(index, content[start : start + SEGMENT_BYTES]) for index, start in starts)
        shared.append(SharedFile(name, "text/html", len(content), key))
        uploads.append({"upload": upload(base, sealed)})
    body = {"secret": write_manifest(Manifest(text, shared), keys), "files": uploads, "max_opens": opens}
    answer = _generate(base, {**body, **({"phrase": keys.verifier} if phrase else {})})
    fragment = write_fragment(LinkKeys(read_base64(answer["secret_key"]), fragment_key))
    return Shared(f"{base}/s#{fragment}", f"{base}/r#{answer['receipt_key']}")


def share_plainly(base: str, files: Contents, text: str = "") -> Shared:
    """Share files as curl does: the server encrypts them and their names; an empty name is not sent."""
    uploads = [{"upload": upload(base, content), **({"name": name} if name else {})} for name, content in files]
    answer = _generate(base, {"secret": text, "files": uploads})
    return Shared(answer["url"], f"{base}/r#{answer['receipt_key']}")


def upload(base: str, content: bytes) -> str:
    """Upload a content in one request; return its upload key."""
    created = _send("POST", f"{base}/files", headers={"Upload-Length": str(len(content))})
    key = str(json.loads(created)["upload"])
    if content:
        headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        _send("PATCH", f"{base}/files/{key}", content, headers)
    return key


def saved(page: Page) -> dict[str, bytes]:
    """Return the files that a page has saved with `PICKERS`, by name."""
    return {name: bytes.fromhex(content) for name, content in page.evaluate(_READ_SAVED).items()}


def _generate(base: str, body: dict[str, Any]) -> Any:
    return json.loads(_send("POST", f"{base}/generate", json.dumps(body).encode()))


def _send(method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    sent = urllib.request.Request(url, body, headers or {}, method=method)  # noqa: S310 (our own stack)
    with urllib.request.urlopen(sent, timeout=60) as answer:  # noqa: S310
        return bytes(answer.read())
