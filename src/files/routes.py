"""Uploads over HTTP: the tus protocol 1.0.0 with the extensions creation, expiration, termination and checksum."""

from datetime import UTC
from email.utils import format_datetime
from typing import Any

from aiohttp import hdrs, web

from ..accounts.guards import CALLER
from ..api.origin import Origin
from ..api.routing import Guard, Header, Route, json_response
from ..api.streamed_bodies import StreamedBody
from ..core.crypto.keys import KEY_BYTES
from ..core.crypto.sealing import decode, encode
from ..errors import Damaged, Malformed, TooLarge
from .headers import (
    ALGORITHMS,
    CHECKSUM,
    EXPIRES,
    LENGTH,
    METADATA,
    OFFSET,
    RESUMABLE,
    VERSION,
    check_metadata,
    check_version,
    parse_checksum,
    parse_number,
)
from .problems import ChecksumMismatch, OffsetConflict, UnsupportedChecksum, UnsupportedVersion, UploadNotFound
from .schemas import UploadCreated
from .uploading import LEAST_CHARGE, UploadService
from .uploads import Upload

FILES = "files"
FILES_MAX = "Sealpost-Files-Max"
PATH = "/files"
MEDIA_TYPE = "application/offset+octet-stream"
EXTENSIONS = ("creation", "expiration", "termination", "checksum")
_ONE = PATH + "/{upload_key}"
_KEY = {"upload_key": "The `upload` in the response to POST /files."}
_NUMBER = "^[0-9]{1,15}$"
_RESUMABLE = {RESUMABLE: Header("The version of the protocol. Any other than 1.0.0 is rejected.", pattern=r"^1\.0\.0$")}


class UploadRoutes:
    """The routes of uploads."""

    def __init__(self, service: UploadService, origin: Origin, create_guard: Guard | None, files_max: int) -> None:
        self._service = service
        self._origin = origin
        self._create_guard = create_guard
        self._files_max = files_max

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="OPTIONS",
                path=PATH,
                tag=FILES,
                summary="Get the limits and extensions of uploads",
                description="The response has the headers Tus-Version, Tus-Extension, Tus-Max-Size,"
                " Tus-Checksum-Algorithm and Sealpost-Files-Max, the maximum number of files of a secret.",
                handler=self.describe,
                status=204,
                needs_database=False,
            ),
            Route(
                method="POST",
                path=PATH,
                tag=FILES,
                summary="Create an upload",
                description="The file is then sent with PATCH to the URL in Location. The body is ignored.",
                headers={
                    LENGTH: Header("Size of the file in bytes.", example="11", pattern=_NUMBER, is_required=True),
                    METADATA: Header("Pairs of a key and a value in base64. They are not stored."),
                },
                guard=self._create_guard,
                handler=self.create,
                stores=True,
                overhead=LEAST_CHARGE,
                answer=UploadCreated,
                status=201,
                problems=(Malformed, TooLarge, UnsupportedVersion),
            ),
            Route(
                method="OPTIONS",
                path=_ONE,
                path_parameters=_KEY,
                tag=FILES,
                summary="Get the limits and extensions of uploads",
                description="The same as OPTIONS /files.",
                handler=self.describe,
                status=204,
                needs_database=False,
            ),
            Route(
                method="HEAD",
                path=_ONE,
                path_parameters=_KEY,
                tag=FILES,
                summary="Get the offset of an upload",
                description="The response has the headers Upload-Offset, Upload-Length and Upload-Expires.",
                handler=self.status,
                problems=(UploadNotFound, Damaged, UnsupportedVersion),
            ),
            Route(
                method="PATCH",
                path=_ONE,
                path_parameters=_KEY,
                tag=FILES,
                summary="Continue an upload",
                description="Everything that arrives is stored, even if the connection breaks; with a checksum, all or"
                " nothing of the body is.",
                headers={
                    OFFSET: Header("The current offset.", example="0", pattern=_NUMBER, is_required=True),
                    CHECKSUM: Header("`sha1` or `sha256`, a space, and the digest of the body in base64."),
                },
                handler=self.append,
                streamed_body=MEDIA_TYPE,
                stores=True,
                status=204,
                problems=(
                    *(UploadNotFound, OffsetConflict, Damaged),
                    *(UnsupportedChecksum, ChecksumMismatch, UnsupportedVersion),
                ),
            ),
            Route(
                method="DELETE",
                path=_ONE,
                path_parameters=_KEY,
                tag=FILES,
                summary="Delete an upload",
                handler=self.delete,
                status=204,
                problems=(UploadNotFound, UnsupportedVersion),
            ),
        ]

    async def describe(self, _: web.Request, __: None) -> web.Response:
        """Return the capabilities of the server."""
        return web.Response(
            status=204,
            headers={
                "Tus-Version": VERSION,
                "Tus-Extension": ",".join(EXTENSIONS),
                "Tus-Max-Size": str(self._service.largest),
                FILES_MAX: str(self._files_max),
                "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
            },
        )

    async def create(self, request: web.Request, _: None) -> web.Response:
        """Create an upload."""
        check_version(request.headers)
        check_metadata(request.headers)
        upload_key, upload = await self._service.create(
            parse_number(request.headers, LENGTH), caller.user_id if (caller := request.get(CALLER)) else None
        )
        created = UploadCreated(upload=encode(upload_key), expires_at=upload.delete_at)
        response = json_response(created.model_dump_json().encode(), status=201)
        response.headers[hdrs.LOCATION] = self._origin.link(request, f"{PATH}/{created.upload}")
        response.headers.update(_expiry(upload))
        return response

    async def status(self, request: web.Request, _: None) -> web.Response:
        """Return the offset and length of an upload."""
        check_version(request.headers)
        upload = await self._service.find(_key_of(request))
        return web.Response(headers={OFFSET: str(upload.offset), LENGTH: str(upload.size)} | _expiry(upload))

    async def append(self, request: web.Request, body: StreamedBody) -> web.Response:
        """Store the body at the offset of an upload."""
        check_version(request.headers)
        offset, checksum = parse_number(request.headers, OFFSET), parse_checksum(request.headers)
        upload = await self._service.append(_key_of(request), offset, body, checksum)
        return web.Response(status=204, headers={OFFSET: str(upload.offset)} | _expiry(upload))

    async def delete(self, request: web.Request, _: None) -> None:
        """Delete an upload."""
        check_version(request.headers)
        await self._service.delete(_key_of(request))


def add_version(request: web.Request, response: web.StreamResponse) -> None:
    """Add the protocol's version to each response below the path of uploads, whatever its status."""
    if request.path == PATH or request.path.startswith(PATH + "/"):
        response.headers[RESUMABLE] = VERSION


def _key_of(request: web.Request) -> bytes:
    """Return the key of an upload. Raises `UploadNotFound`."""
    key = decode(request.match_info["upload_key"].rstrip("/"))
    if key is None or len(key) != KEY_BYTES:
        raise UploadNotFound
    return key


def _expiry(upload: Upload) -> dict[str, str]:
    return {EXPIRES: format_datetime(upload.delete_at.astimezone(UTC), usegmt=True)}
