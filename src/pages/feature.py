"""Wiring of the page: its views, its static files and their routes."""

from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web

from ..api.pages import CONTENT_TYPE
from ..api.routing import Route, Shell
from ..errors import NotFound
from ..settings import Settings
from .assets import CACHE_CONTROL, media_type, read_assets
from .languages import read_languages
from .message_page import MessagePage
from .templates import Templates

PAGES = "pages"


class PagesFeature:
    """The page.

    ``create``, ``secret`` and ``message`` are for routes of other features, which serve them to browsers and JSON to
    programs.
    """

    def __init__(self, settings: Settings) -> None:
        self._assets = read_assets()
        languages = read_languages()
        self._templates = Templates(settings, self._assets, languages)
        self.create = self._templates.view("create")
        self.secret = self._templates.view("secret", root="../")
        self.message = MessagePage(languages)

    def routes(self) -> list[Route[Any]]:
        """Declare the routes of the views and of the static files."""
        views = {
            "/s": ("secret", "Page that opens a secret"),
            "/m": ("message", "Page that shows a message"),
            "/r": ("receipt", "Page that shows a receipt"),
        }
        return [
            *(
                Route(
                    method="GET",
                    path=path,
                    tag=PAGES,
                    summary=summary,
                    description="The same page for every link: the key is in the URL fragment, which is not sent.",
                    handler=_handler(self._templates.view(view)),
                    text=CONTENT_TYPE,
                    needs_database=False,
                )
                for path, (view, summary) in views.items()
            ),
            Route(
                method="GET",
                path="/pages/{digest}/{file}",
                tag=PAGES,
                summary="Static file of the page",
                handler=self.file,
                text="*/*",
                needs_database=False,
                problems=(NotFound,),
            ),
        ]

    async def file(self, request: web.Request, _: None) -> web.Response:
        """Return a static file. Raises `NotFound` for an unknown name or digest."""
        name = request.match_info["file"]
        if request.match_info["digest"] != self._assets.digest or name not in self._assets.files:
            raise NotFound
        headers = {hdrs.CONTENT_TYPE: media_type(name), hdrs.CACHE_CONTROL: CACHE_CONTROL}
        return web.Response(body=self._assets.files[name], headers=headers)


def _handler(shell: Shell) -> Callable[[web.Request, None], Any]:
    async def handler(request: web.Request, _: None) -> web.Response:
        return shell(request)

    return handler
