"""Transfers of files with curl, to and from the stack or a plain nginx, over TLS."""

import http.client
import json
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .connection import WrongAnswerError

MIB = 1024 * 1024


@dataclass(frozen=True)
class OpenedFiles:
    """The files of an opened secret: their URLs, and the header that a reader sends.

    ``seconds`` is the time that the secret took to create.
    """

    urls: list[str]
    header: str
    seconds: float


class FilesApi:
    """The requests around transfers, to a stack with TLS."""

    def __init__(self, url: str, certificate: Path) -> None:
        self._url = url
        self._context = ssl.create_default_context(cafile=certificate)

    def create_uploads(self, count: int, size: int) -> list[str]:
        """Create uploads and return their keys."""
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size)}
        return [str(self._ask("POST", "/files", headers=headers)["upload"]) for _ in range(count)]

    def open(self, uploads: Sequence[str]) -> OpenedFiles:
        """Create a secret with these uploads as its files, and open it."""
        body = json.dumps({"files": [{"upload": upload} for upload in uploads]})
        began = time.monotonic()
        key = self._ask("POST", "/generate", body)["secret_key"]
        seconds = time.monotonic() - began
        opened = self._ask("POST", f"/secrets/{key}")
        urls = [f"{self._url}/secrets/{key}/files/{file['id']}" for file in opened["files"]]
        return OpenedFiles(urls, f"Sealpost-Reader: {opened['reader']}", seconds)

    def _ask(self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> Any:
        # On a new connection, because nginx closes one that is idle during a transfer.
        connection = http.client.HTTPSConnection(urlsplit(self._url).netloc, timeout=60, context=self._context)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            raise WrongAnswerError(f"{method} {urlsplit(path).path.split('/')[1]}: {response.status} {text!r}")
        return json.loads(text)


def upload_to_nginx(url: str, certificate: Path, file: Path, count: int) -> float:
    """Upload a file ``count`` times at once, and return MiB per second of all together."""
    commands = [_curl(certificate, f"{url}/{number}", upload=file) for number in range(count)]
    return _run(commands, count * file.stat().st_size)


def upload_to_stack(url: str, certificate: Path, file: Path, uploads: Sequence[str]) -> float:
    """Upload a file to each of the uploads at once, and return MiB per second of all together."""
    headers = ["Tus-Resumable: 1.0.0", "Upload-Offset: 0", "Content-Type: application/offset+octet-stream"]
    commands = [
        [*_curl(certificate, f"{url}/files/{upload}", *headers, upload=file), "--request", "PATCH"]
        for upload in uploads
    ]
    return _run(commands, len(uploads) * file.stat().st_size)


def download(certificate: Path, urls: Sequence[str], outputs: Sequence[Path], *headers: str) -> float:
    """Download files at once, and return MiB per second of all together."""
    commands = [
        [*_curl(certificate, url, *headers), "--output", str(output)] for url, output in zip(urls, outputs, strict=True)
    ]
    return _run(commands, lambda: sum(output.stat().st_size for output in outputs))


def _curl(certificate: Path, url: str, *headers: str, upload: Path | None = None) -> list[str]:
    command = ["curl", "--silent", "--show-error", "--fail", "--cacert", str(certificate), url]
    for header in headers:
        command += ["--header", header]
    # Without Expect, because plain nginx and the stack should get the same requests.
    return [*command, "--header", "Expect:", "--upload-file", str(upload)] if upload else command


def _run(commands: Sequence[Sequence[str]], size: Any) -> float:
    began = time.monotonic()
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    codes = [process.wait() for process in processes]
    seconds = time.monotonic() - began
    if any(codes):
        raise WrongAnswerError(f"curl: exit codes {sorted(set(codes))}")
    return float(size() if callable(size) else size) / MIB / seconds
