"""Names of received files, which may come from an attacker: where a file is saved, and never outside a directory."""

import itertools
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from .saving import PART, part_of

LONGEST_NAME = 200
"""Bytes of UTF-8; file systems allow 255, and a number and `.part` are added."""
LONGEST_PATH = 1000
"""Bytes of UTF-8; systems allow 1024 to 4096, including the directory."""
UNNAMED = "file"
_RESERVED = frozenset('\\:*?"<>|')
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, bidirectional and other invisible characters, surrogates, line separators."""
_JOINERS = "\u200c\u200d"
"""Invisible, but part of the spelling of Persian and of emoji."""
# Windows reserves these, with any extension.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9¹²³]) *(?:\.|$)", re.IGNORECASE)
_LONGEST_SUFFIX = 20


def make_safe(name: str) -> tuple[str, ...]:
    """Return the components of a harmless relative path, at least one.

    Characters that control terminals, reorder text or mean something to a file system become ``_``. The first component
    has no leading dot, because a file such as `.bashrc` could configure programs.
    """
    words = [word for word in map(_make_component, name.split("/")) if word]
    if not words:
        return (UNNAMED,)
    if words[0].startswith("."):
        words[0] = "_" + words[0].lstrip(".")
    if len("/".join(words).encode()) > LONGEST_PATH:
        words = words[-1:]
    return tuple(words)


def _make_component(word: str) -> str:
    """Return a harmless component; empty if nothing is left."""
    word = "".join("_" if _is_unusable(character) else character for character in word)
    # Windows ignores trailing dots and spaces.
    word = word.strip(" ").rstrip(". ")
    if _DEVICE.match(word):
        word = "_" + word
    if len(word.encode()) <= LONGEST_NAME:
        return word
    stem, suffix = _split(word)
    kept = stem.encode()[: LONGEST_NAME - len(suffix.encode())].decode(errors="ignore")
    # The rest of a long name may be that of a device.
    return _make_component(f"{kept.rstrip('. ')}{suffix}")


def _is_unusable(character: str) -> bool:
    return character in _RESERVED or (unicodedata.category(character) in _UNSEEN and character not in _JOINERS)


def _split(word: str) -> tuple[str, str]:
    """Return stem and suffix; a long suffix belongs to the stem."""
    stem, suffix = os.path.splitext(word)  # noqa: PTH122 (not a path)
    return (stem, suffix) if len(suffix.encode()) <= _LONGEST_SUFFIX else (word, "")


class Places:
    """Chooses where files are saved in a directory: a different path for each, and none that exists.

    With ``force``, existing files are replaced, and existing folders are used unless they are symbolic links.
    """

    def __init__(self, directory: Path, *, force: bool) -> None:
        self._directory, self._force = directory, force
        self._files: set[tuple[str, ...]] = set()
        self._folders: dict[tuple[str, ...], tuple[str, ...]] = {}

    def choose(self, name: str) -> tuple[str, ...]:
        """Return the components of a relative path for a file with this name."""
        *folders, last = make_safe(name)
        parent: tuple[str, ...] = ()
        for folder in folders:
            parent = next(found for place in _numbered(folder) if (found := self._folder((*parent, place))))
        return next(path for place in _numbered(last) if self._is_free(path := (*parent, place)))

    def _folder(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the path of a folder that is new or used already; None if the name is taken."""
        identity, on_disk = _identity(path), self._directory.joinpath(*path)
        if identity in self._folders:
            return self._folders[identity]
        usable = not os.path.lexists(on_disk) or (self._force and on_disk.is_dir() and not on_disk.is_symlink())
        if not usable or identity in self._files:
            return None
        self._folders[identity] = path
        return path

    def _is_free(self, path: tuple[str, ...]) -> bool:
        """Return whether a file can be saved there, and remember it."""
        on_disk = self._directory.joinpath(*path)
        usable = not os.path.lexists(on_disk) or (self._force and not on_disk.is_dir())
        needed = {_identity(path), _identity((*path[:-1], path[-1] + PART))}
        if not usable or os.path.lexists(part_of(on_disk)) or needed & (self._files | self._folders.keys()):
            return False
        self._files |= needed
        return True


def _numbered(word: str) -> Iterator[str]:
    """Yield a name, and then the same one with numbers."""
    yield word
    stem, suffix = _split(word)
    for number in itertools.count(2):
        yield f"{stem} ({number}){suffix}"


def _identity(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a path has in common with those that are the same on some file system."""
    return tuple(unicodedata.normalize("NFC", word).casefold() for word in path)
