"""The files of the page, served under a path that contains their digest."""

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
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Assets:
    """The files by name, and one digest of them all: scripts import each other, so their paths change together.

    ``checksum`` is the SHA-256 of the sorted lines that `sha256sum` prints for the files: a shell can compute it.
    """

    files: Mapping[str, bytes]
    checksum: str

    @property
    def digest(self) -> str:
        """The beginning of the checksum, for paths."""
        return self.checksum[:_DIGEST_CHARACTERS]

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> "Assets":
        """Compute the checksum of files."""
        lines = sorted(f"{sha256(body).hexdigest()}  {name}\n" for name, body in files.items())
        return cls(files, sha256("".join(lines).encode()).hexdigest())

    @property
    def path(self) -> str:
        """The URL path below the root, with a trailing slash."""
        return f"pages/{self.digest}/"


def read_assets() -> Assets:
    """Read the static files."""
    return Assets.of({path.name: path.read_bytes() for path in sorted(STATIC.iterdir())})


def media_type(name: str) -> str:
    """Return the media type of a file by its suffix."""
    return MEDIA_TYPES[Path(name).suffix]
