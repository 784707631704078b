"""Sharing files: how they are encrypted and uploaded, and how an interrupted command is continued."""

import functools
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import BinaryIO, Self

from ..blocking_api import BlockingApi
from ..envelopes import KEY_BYTES, NotOpened, read_base64, write_base64
from ..errors import RequestRefused, Unreachable, WrongUsage
from ..output import say
from ..segments import largest_content
from .manifest import SharedFile
from .memory import InUse, Memory
from .progress import Report, show_progress
from .sources import FileContent, LocalFile, SpooledContent, guess_type, too_large
from .uploads import Body, Progress, Uploads

KIND = "uploads"


@dataclass(frozen=True)
class Stream:
    """A stream that is shared as a file."""

    name: str
    content: SpooledContent

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.content.size


@dataclass(frozen=True)
class Uploaded:
    """A file on the server; its key is empty if the server encrypts it."""

    upload: str = field(repr=False)
    file: SharedFile


class Sender:
    """Uploads the files of one secret; a context manager. ``sealed`` files are encrypted end to end."""

    def __init__(self, server: BlockingApi, *, sealed: bool, no_color: bool) -> None:
        self._server, self._sealed, self._no_color = server, sealed, no_color
        self._uploads = Uploads(server.api, say)
        self._stack = ExitStack()
        self._memories: list[Memory] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self, files: Sequence[LocalFile], number: int) -> int:
        """Return the size of the largest file that the server accepts.

        Raises `ClientError` if a file is larger, or if ``number`` files are too many.
        """
        accepted, most = self._server.run(self._uploads.limits())
        if number > most:
            raise WrongUsage(f"{number} files are too many: the server accepts {most}. Share an archive of them")
        largest = largest_content(accepted) if self._sealed else accepted
        for file in files:
            if file.size > largest:
                raise too_large(file.name, largest)
        return largest

    def spool(self, name: str, stream: BinaryIO, largest: int) -> Stream:
        """Read a stream that is to be shared as a file. Raises `ClientError`."""
        return Stream(name, self._stack.enter_context(SpooledContent(stream, largest)))

    def send(self, files: Sequence[LocalFile | Stream]) -> list[Uploaded]:
        """Upload files. Raises `ClientError`; the same command then continues the upload."""
        total = sum(file.size for file in files)
        try:
            with show_progress("Uploading", total, no_color=self._no_color) as report:
                return self._server.run(self._send_all(files, report))
        except KeyboardInterrupt:
            self._say_how_to_continue("interrupted. ")
            raise
        except (Unreachable, RequestRefused):
            self._say_how_to_continue("")
            raise

    def forget(self) -> None:
        """Forget the uploads, which are now files of a secret."""
        for memory in self._memories:
            memory.forget()

    async def _send_all(self, files: Sequence[LocalFile | Stream], report: Report) -> list[Uploaded]:
        sent, before = [], 0
        for file in files:
            progress = functools.partial(report, file.name, before)
            if isinstance(file, Stream):
                upload, key = await self._send(file.content, None, progress)
            else:
                with file.open() as content:
                    upload, key = await self._send(content, self._recall(file), progress)
            sent.append(Uploaded(upload, SharedFile(file.name, guess_type(file.name), file.size, key or b"")))
            before += file.size
        return sent

    async def _send(
        self, content: FileContent | SpooledContent, memory: Memory | None, progress: Progress
    ) -> tuple[str, bytes | None]:
        """Return the upload, and the key of its content."""
        found = await self._find(content, memory) if memory and isinstance(content, FileContent) else None
        if found:
            upload, key, offset = found
            body = Body(content, key)
        else:
            key = os.urandom(KEY_BYTES) if self._sealed else None
            body = Body(content, key)
            upload, offset = await self._uploads.create(body.size), 0
            if memory and isinstance(content, FileContent):
                written = write_base64(key) if key else None
                memory.write({"fingerprint": content.fingerprint, "upload": upload, "key": written})
        await self._uploads.send(upload, body, offset, progress)
        return upload, key

    async def _find(self, content: FileContent, memory: Memory) -> tuple[str, bytes | None, int] | None:
        """Return upload, key and offset of an earlier run; None unless the file is unchanged and the server has it."""
        known = memory.read()
        if known.get("fingerprint") != content.fingerprint:
            return None
        try:
            upload, key = str(known["upload"]), read_base64(known["key"]) if self._sealed else None
        except (KeyError, TypeError, NotOpened):
            return None
        offset = await self._uploads.find(upload, Body(content, key).size)
        return None if offset is None else (upload, key, offset)

    def _recall(self, file: LocalFile) -> Memory | None:
        """Return the memory of a file; None if another process is sending the same one, or it cannot be kept."""
        kind = "sealed" if self._sealed else "plain"
        try:
            memory = Memory(KIND, self._server.url, str(file.path.resolve()), kind)
        except (InUse, OSError):
            return None
        self._memories.append(self._stack.enter_context(memory))
        return memory

    def _say_how_to_continue(self, why: str) -> None:
        if any(memory.read() for memory in self._memories):
            say(f"{why}The server keeps what it has for a day. Repeat the command to continue the upload")
