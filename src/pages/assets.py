"""The page's own files, under a path that changes with what is in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

STATIC = Path(__file__).parent / "static"
CACHE_CONTROL = "public, max-age=31536000, immutable, no-transform"
"""A year: what is in a file under one path never changes."""
MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Assets:
    """The files by name, and the digest of all of them: scripts name one another, so they change path together."""

    files: Mapping[str, bytes]
    digest: str

    @property
    def path(self) -> str:
        """Where they are below the root, with a slash at its end."""
        return f"pages/{self.digest}/"


def read_assets() -> Assets:
    """Read the files."""
    files = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir())}
    digest = sha256(b"".join(name.encode() + b"\0" + sha256(body).digest() for name, body in files.items()))
    return Assets(files, digest.hexdigest()[:_DIGEST_CHARACTERS])


def media_type(name: str) -> str:
    """Return what a file is, by its name."""
    return MEDIA_TYPES[Path(name).suffix]
