"""Downloads over HTTP."""

from typing import Any

from aiohttp import hdrs, web

from ..api.edge import CONTENT_POLICY
from ..api.routing import Header, Route, id_of
from ..api.streaming import StreamedResponse
from ..core.crypto.keys import KEY_BYTES
from ..core.crypto.sealing import decode
from ..errors import Damaged
from .downloads import Downloads
from .file_headers import Span, content_disposition, content_range, media_type, requested_span, safe_name
from .held_files import HeldFiles
from .problems import KeyNotFound, RangeNotSatisfiable
from .routes import SECRETS
from .schemas import KEY_PATTERN

READER = "Sealpost-Reader"
POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""For a browser that ignores that the file is to be saved."""


class DownloadRoutes:
    """The route of the files of secrets."""

    def __init__(self, held_files: HeldFiles, downloads: Downloads) -> None:
        self._held_files = held_files
        self._downloads = downloads

    def routes(self) -> list[Route[Any]]:
        """Return the declaration."""
        return [
            Route(
                method="GET",
                path="/secrets/{secret_key}/files/{file_id}",
                path_parameters={
                    "secret_key": "The `secret_key` in the response to POST /generate.",
                    "file_id": "The `id` of the file in the response to POST /secrets/{secret_key}.",
                },
                headers={
                    READER: Header(
                        "The reader's key: the `reader` that opened the secret, or the one in the response.",
                        "$READER",
                        KEY_PATTERN,
                        is_required=True,
                    ),
                    "Range": Header("The part to send, `bytes=<first>-<last>`. Several ranges are ignored."),
                    "If-Range": Header("The `ETag` of an earlier response: send the part only of the same file."),
                },
                tag=SECRETS,
                summary="Download a file of an opened secret",
                description="As often as the reader likes and in parts, until the opening is no longer held; each"
                " download prolongs that. A body that is shorter than Content-Length is incomplete.",
                handler=self.download,
                is_file=True,
                other_statuses=(206,),
                problems=(KeyNotFound, RangeNotSatisfiable, Damaged),
            )
        ]

    async def download(self, request: web.Request, _: None) -> web.StreamResponse:
        """Download a file of an opened secret."""
        reader_key = decode(request.headers.get(READER, ""))
        if reader_key is None or len(reader_key) != KEY_BYTES:
            raise KeyNotFound
        held = await self._held_files.find(request.match_info["secret_key"], reader_key, id_of(request, "file_id"))
        size, etag = held.file.size, f'"{held.file.upload_id.hex()}"'
        # RFC 9110, section 14.2: a range applies only to GET. Repeated header fields are one list.
        ranges = ", ".join(request.headers.getall(hdrs.RANGE, ())) if request.method == hdrs.METH_GET else ""
        part = requested_span(ranges, request.headers.get(hdrs.IF_RANGE), etag=etag, size=size)
        span = part or Span(0, size)
        headers = {
            hdrs.CONTENT_TYPE: media_type(held.media_type),
            hdrs.CONTENT_LENGTH: str(span.stop - span.start),
            hdrs.CONTENT_DISPOSITION: content_disposition(safe_name(held.name, held.index + 1)),
            hdrs.ACCEPT_RANGES: "bytes",
            hdrs.ETAG: etag,
            CONTENT_POLICY: POLICY,
        }
        if part:
            headers[hdrs.CONTENT_RANGE] = content_range(part, size)
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers=headers)
        content = self._downloads.content(held, span)
        return await StreamedResponse.begin(content, headers=headers, status=206 if part else 200)
