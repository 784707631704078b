"""Pages to read, without scripts: the reference of the API, and what Sealpost promises."""

from collections.abc import Awaitable, Callable
from functools import cache
from html import escape
from typing import Any

from aiohttp import hdrs, web

from .. import __version__
from ..api.openapi import Document
from ..api.origin import Origin
from ..api.pages import CONTENT_TYPE
from ..api.routing import Route
from .assets import Assets
from .examples import ORIGIN
from .languages import Language, language_of, remember_language
from .reference import Labels, Reference
from .templates import HEADERS, Templates

REFERENCE = "docs"
"""The URL of the reference, relative to the root of the service."""
CACHE_CONTROL = "private, max-age=300, no-transform"
"""5 minutes: the reference is large, and changes only when the service restarts."""
_CHECKSUM = "sha256sum * | sort | sha256sum"
_LABELS = ("parameters", "body", "answer", "errors", "example", "required", "optional", "default")


class Documents:
    """Renders the pages, each once per language. The URL of the service is that of the request."""

    def __init__(
        self,
        *,
        templates: Templates,
        languages: dict[str, Language],
        assets: Assets,
        origin: Origin,
        openapi: Callable[[], Document],
        tag: str,
    ) -> None:
        self._templates = templates
        self._languages = languages
        self._assets = assets
        self._origin = origin
        self._openapi = openapi
        self._tag = tag

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="GET",
                path=f"/{REFERENCE}",
                tag=self._tag,
                summary="Reference of the API",
                description="Made from the OpenAPI document, with a curl command for each request. Needs no scripts.",
                handler=self._handler(REFERENCE, self._reference, CACHE_CONTROL),
                text=CONTENT_TYPE,
                needs_database=False,
            ),
            Route(
                method="GET",
                path="/about",
                tag=self._tag,
                summary="Page about this service",
                description="Its guarantees, its version, and the checksum of the files of the page. Needs no scripts.",
                handler=self._handler("about", self._about),
                text=CONTENT_TYPE,
                needs_database=False,
            ),
        ]

    def _handler(
        self, view: str, values: Callable[[Language], dict[str, str]], caching: str = ""
    ) -> Callable[[web.Request, None], Awaitable[web.Response]]:
        headers = HEADERS | ({hdrs.CACHE_CONTROL: caching} if caching else {})

        @cache
        def parts(code: str) -> list[str]:
            language = self._languages[code]
            return self._templates.render(view, "./", language, origin=ORIGIN, **values(language)).split(ORIGIN)

        async def handler(request: web.Request, _: None) -> web.Response:
            url = escape(self._origin.link(request, ""))
            page = url.join(parts(language_of(request, self._languages)))
            response = web.Response(body=page.encode(), headers=headers)
            remember_language(request, response, self._languages)
            return response

        return handler

    def _reference(self, language: Language) -> dict[str, str]:
        document = self._openapi()
        labels = Labels(**{name: language.html[f"docs_{name}"] for name in _LABELS}, language=language.code)
        reference = Reference(document.model_dump(), labels)
        return {
            "openapi": document.openapi,
            "contents": reference.contents(),
            "authentication": reference.authentication(),
            "errors": reference.errors(),
            "reference": reference.operations(),
        }

    def _about(self, _: Language) -> dict[str, str]:
        names = ",".join(self._assets.files)
        return {
            "version": __version__,
            "checksum": self._assets.checksum,
            "source_command": escape(f"cd src/pages/static\n{_CHECKSUM}"),
            "served_command": escape(
                f'mkdir page && cd page\ncurl -sO "{ORIGIN}/{self._assets.path}{{{names}}}"\n{_CHECKSUM}'
            ),
        }
