"""Receiving the files of an opened secret: where they are saved, and how an interrupted command is continued."""

import functools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..blocking_api import BlockingApi
from ..envelopes import KEY_BYTES, write_base64
from ..environment import state_directory
from ..errors import ClientError, NotSealpost, WrongUsage
from ..output import Output, say, write_bytes
from ..responses import JsonObject
from ..segments import sealed_size
from .downloads import Altered, Downloads, RemoteFile
from .manifest import Manifest
from .memory import InUse, Memory, has_memory
from .names import Places
from .progress import Report, show_progress
from .saving import PartFile
from .sizes import write_size

KIND = "openings"
STDOUT = "-"
SYNC_BYTES = 8 * 1024 * 1024
"""Bytes of a download after which the position is recorded, so that a later run can continue from there."""
_FILE_ID = re.compile(r"[0-9a-f]{32}")


class Destination:
    """Where files are saved: a directory, or stdout for a single file."""

    def __init__(self, directory: str | None, *, force: bool, output: Output) -> None:
        self.is_stdout = directory == STDOUT
        self.directory, self.force = Path(directory or "."), force
        self._output = output

    def check(self, files: int, size: int) -> None:
        """Raise `ClientError` if the files cannot be saved there; before they are opened."""
        if self.is_stdout:
            if files > 1:
                raise WrongUsage(
                    f"the secret has {files} files, but stdout can hold only one: give a directory with -o"
                )
            if self._output.as_json or self._output.is_terminal:
                raise WrongUsage("a file cannot be written to a terminal or as JSON: redirect stdout, or use -o DIR")
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.directory):
                pass
            free = shutil.disk_usage(self.directory).free
        except OSError as error:
            raise ClientError(f"cannot write to {self.directory}: {error.strerror}. Nothing was opened") from None
        if size > free:
            raise ClientError(
                f"the files need {write_size(size)}, but only {write_size(free)} are free in {self.directory}. Nothing"
                " was opened"
            )


class StdoutSink:
    """Writes a file to stdout."""

    position = 0

    def write(self, content: bytes) -> None:
        """Write content. Raises `PipeClosed`, and `ClientError` if stdout fails."""
        write_bytes(content)
        self.position += len(content)


class Receiver:
    """Downloads the files of an opened secret, and records in ``memory`` how far it is."""

    def __init__(
        self, server: BlockingApi, secret_key: str, memory: Memory, destination: Destination, *, no_color: bool
    ) -> None:
        self._server, self._memory, self._destination, self._no_color = server, memory, destination, no_color
        self._known = memory.read()
        self._downloads = Downloads(server.api.transport, secret_key, self._known["reader"], say)

    def receive(self, files: Sequence[RemoteFile]) -> list[Path]:
        """Save files, and return their paths, none for stdout. Raises `ClientError`.

        A file that cannot be decrypted does not keep the others from being saved.
        """
        total = sum(file.size for file in files)
        with show_progress("Downloading", total, no_color=self._no_color) as report:
            return self._server.run(self._receive(files, report))

    async def _receive(self, files: Sequence[RemoteFile], report: Report) -> list[Path]:
        paths, altered, before = [], 0, 0
        for file, words in zip(files, self._choose_places(files), strict=True):
            progress = functools.partial(report, file.name, before)
            progress(0)
            try:
                if self._destination.is_stdout:
                    await self._downloads.fetch(file, StdoutSink(), progress)
                else:
                    paths.append(await self._save(file, words, progress))
            except Altered as error:
                say(f"{file.name}: {error}")
                altered += 1
            before += file.size
        if altered:
            raise ClientError(f"{altered} of {len(files)} files could not be decrypted: ask the sender for them again")
        return paths

    async def _save(self, file: RemoteFile, words: tuple[str, ...], progress: Callable[[int], None]) -> Path:
        entry = self._known["files"][file.id]
        path = self._destination.directory.joinpath(*words)
        if entry["done"] and path.exists():
            return path
        force = self._destination.force
        with PartFile(self._destination.directory, words, kept=entry["position"], force=force) as part:

            def record(position: int) -> None:
                progress(position)
                if position - (entry["position"] or 0) >= SYNC_BYTES:
                    part.sync()
                    entry["position"] = position
                    self._remember()

            entry["position"] = part.position
            self._remember()
            try:
                await self._downloads.fetch(file, part, record)
            except Altered:
                part.discard()
                raise
            part.finish()
        entry["done"] = True
        self._remember()
        return path

    def _choose_places(self, files: Sequence[RemoteFile]) -> list[tuple[str, ...]]:
        """Return where each file is saved: as in an earlier run, if it had the same directory."""
        directory = str(self._destination.directory.resolve())
        known = self._known.get("files", {})
        if self._known.get("directory") != directory or set(known) != {file.id for file in files}:
            places = Places(self._destination.directory, force=self._destination.force)
            known = {file.id: {"path": places.choose(file.name), "position": None, "done": False} for file in files}
            self._known |= {"directory": directory, "files": known}
        return [tuple(known[file.id]["path"]) for file in files]

    def _remember(self) -> None:
        try:
            self._memory.write(self._known)
        except OSError as error:
            raise ClientError(f"cannot write to {state_directory()}: {error.strerror}") from None


def is_interrupted(server: BlockingApi, secret_key: str) -> bool:
    """Return whether an earlier command has opened the secret and not received all of it."""
    if not has_memory(KIND, server.url, secret_key):
        return False
    with recall(server, secret_key) as memory:
        return "reader" in memory.read()


def recall(server: BlockingApi, secret_key: str) -> Memory:
    """Return the memory of an opening. Raises `ClientError`."""
    try:
        return Memory(KIND, server.url, secret_key)
    except InUse:
        raise ClientError("another `sealpost open` is receiving this secret") from None
    except OSError as error:
        raise _unusable(error) from None


def begin(memory: Memory, *, phrase_required: bool) -> None:
    """Create the reader's key, with which an interrupted opening can be repeated. Raises `ClientError`."""
    try:
        memory.write({"reader": write_base64(os.urandom(KEY_BYTES)), "phrase_required": phrase_required})
    except OSError as error:
        raise _unusable(error) from None


def list_files(opened: JsonObject, manifest: Manifest | None) -> list[RemoteFile]:
    """Return the files of an opened secret, with the names and keys of the manifest if the sender encrypted them.

    Raises `ClientError` if the server's files are not those of the manifest.
    """
    records = opened.records("files")
    for record in records:
        if not _FILE_ID.fullmatch(record.text("id")):
            raise NotSealpost("the response is not from Sealpost: id is not an id")
    if manifest is None:
        return [
            RemoteFile(
                record.text("id"),
                record.text("name") if record.has("name") else f"file-{place}",
                record.number("size"),
                record.number("size"),
                None,
            )
            for place, record in enumerate(records, 1)
        ]
    if [record.number("size") for record in records] != [sealed_size(file.size) for file in manifest.files]:
        raise ClientError("the files on the server do not belong to this link")
    return [
        RemoteFile(record.text("id"), file.name, file.size, record.number("size"), file.key)
        for record, file in zip(records, manifest.files, strict=True)
    ]


def _unusable(error: OSError) -> ClientError:
    return ClientError(
        f"cannot write to {state_directory()}: {error.strerror}. It is needed to continue interrupted downloads; set"
        " XDG_STATE_HOME to use another directory. Nothing was opened"
    )
