"""The static files of the page, served under a path that contains their digest."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

STATIC = Path(__file__).parent / "static"
CACHE_CONTROL = "public, max-age=31536000, immutable, no-transform"
"""1 year: the content under a path never changes."""
MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Assets:
    """The files by name, and one digest of them all: scripts import each other, so their paths change together."""

    files: Mapping[str, bytes]
    digest: str

    @property
    def path(self) -> str:
        """The URL path below the root, with a trailing slash."""
        return f"pages/{self.digest}/"


def read_assets() -> Assets:
    """Read the files and compute their digest."""
    files = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir())}
    digest = sha256(b"".join(name.encode() + b"\0" + sha256(body).digest() for name, body in files.items()))
    return Assets(files, digest.hexdigest()[:_DIGEST_CHARACTERS])


def media_type(name: str) -> str:
    """Return the media type of a file by its suffix."""
    return MEDIA_TYPES[Path(name).suffix]
