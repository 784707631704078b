"""Wiring of the page: its views, its static files and their routes."""

import re
from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web

from ..api.openapi import Document
from ..api.origin import Origin
from ..api.pages import CONTENT_TYPE, Page
from ..api.routing import Route, Shell
from ..errors import NotFound, Problem
from ..settings import Settings
from .assets import CACHE_CONTROL, media_type, read_assets
from .branding import LOGO_POLICY, read_brand
from .documents import REFERENCE, Documents
from .languages import language_of, read_languages
from .message_page import MessagePage
from .problem_page import problem_page
from .site_files import SiteFiles
from .templates import Templates

__all__ = ["REFERENCE", "PagesFeature"]

PAGES = "pages"
# A page with a slash after its path, or with an encoded `#`, after which another slash may follow.
_ALTERED = re.compile(r"/([smr])(?:/|/?%(?:25)*23[^/]*/?)")
_VIEWS = {"s": "secret", "m": "message", "r": "receipt"}
_OF_USERS = (
    (
        "/signin",
        "signin",
        "Page that signs in",
        "With `terminal`, `challenge` and `state`, it also signs in a terminal.",
    ),
    ("/join", "signin", "Page for invitations", "The invitation is in the URL fragment, which is not sent."),
    ("/account", "account", "Page of your account", "Its password, passkeys, sessions and API tokens."),
    ("/mine", "mine", "Page of your secrets and messages", "Those that your account keeps, with their states."),
    ("/board", "board", "Page of posts", "With `author`, those of one user."),
    ("/admin", "admin", "Page for operators", "Users, invitations, audit and health."),
)
"""Path, view, summary and description of the pages for users."""


class PagesFeature:
    """The page. Raises `SettingsError` for unusable branding.

    ``create``, ``secret`` and ``message`` are for routes of other features, which serve them to browsers and JSON to
    programs. ``openapi`` returns the document that describes the routes of all features.
    """

    def __init__(self, settings: Settings, origin: Origin, openapi: Callable[[], Document]) -> None:
        self._assets = read_assets()
        self._brand = brand = read_brand(settings)
        self._languages = languages = read_languages(brand.name)
        self._templates = Templates(settings, self._assets, languages, brand)
        self.create = self._templates.view("create")
        self._greets = settings.has("echo")
        self._letters = {letter: view for letter, view in _VIEWS.items() if letter != "m" or settings.has("messages")}
        roots = ("./", "../", "../../")
        self._views = {
            (view, depth): self._templates.view(view, root=root)
            for view in self._letters.values()
            for depth, root in enumerate(roots)
        }
        self._of_users = {
            view: self._templates.view(view)
            for _, view, _, _ in _OF_USERS
            if settings.has("posts" if view == "board" else "accounts")
        }
        self.message = MessagePage(languages, brand)
        self._documents = Documents(
            templates=self._templates,
            languages=languages,
            assets=self._assets,
            origin=origin,
            openapi=openapi,
            tag=PAGES,
        )
        self._site_files = SiteFiles(settings, self._assets, brand, PAGES)

    def secret(self, request: web.Request) -> web.Response:
        """Return the page of an API secret."""
        return self._respond(request, "secret")

    def find(self, request: web.Request) -> web.Response | None:
        """Return the page that an altered link was meant for; None for any other path."""
        found = _ALTERED.fullmatch(request.rel_url.raw_path)
        view = self._letters.get(found[1]) if found else None
        return self._respond(request, view) if view and request.method in {"GET", "HEAD"} else None

    def refused(self, request: web.Request, problem: Problem) -> Page:
        """Return a page that explains a problem, in the language of the browser."""
        language = self._languages[language_of(request, self._languages)]
        return problem_page(language, self._brand, problem.status, problem.detail, problem.code)

    def _respond(self, request: web.Request, view: str) -> web.Response:
        """Return a view whose relative URLs begin at the root of the service, however deep the path is."""
        depth = request.rel_url.raw_path.count("/") - 1
        return self._views[view, depth](request)

    def routes(self) -> list[Route[Any]]:
        """Declare the routes of the views and of the static files."""
        summaries = {
            "s": "Page that opens a secret",
            "m": "Page that shows a message",
            "r": "Page that shows a receipt",
        }
        return [
            *(() if self._greets else (self._root(),)),
            *self._documents.routes(),
            *self._site_files.routes(),
            *(
                Route(
                    method="GET",
                    path=f"/{letter}",
                    tag=PAGES,
                    summary=summaries[letter],
                    description="The same page for every link: the key is in the URL fragment, which is not sent.",
                    handler=_handler(self._views[view, 0]),
                    text=CONTENT_TYPE,
                    needs_database=False,
                )
                for letter, view in self._letters.items()
            ),
            *(
                Route(
                    method="GET",
                    path=path,
                    tag=PAGES,
                    summary=summary,
                    description=description,
                    handler=_handler(self._of_users[view]),
                    text=CONTENT_TYPE,
                    needs_database=False,
                )
                for path, view, summary, description in _OF_USERS
                if view in self._of_users
            ),
            Route(
                method="GET",
                path="/pages/{digest}/{file}",
                path_parameters={"digest": "The digest of all static files.", "file": "The name of a file."},
                tag=PAGES,
                summary="Static file of the page",
                handler=self.file,
                text="*/*",
                needs_database=False,
                problems=(NotFound,),
            ),
        ]

    def _root(self) -> Route[Any]:
        """Return the declaration of the page to share with, which the greeting serves to browsers if it is on."""
        return Route(
            method="GET",
            path="/",
            tag=PAGES,
            summary="Page to share with",
            handler=_handler(self.create),
            text=CONTENT_TYPE,
            needs_database=False,
        )

    async def file(self, request: web.Request, _: None) -> web.Response:
        """Return a static file. Raises `NotFound` for an unknown name or digest."""
        digest, name = request.match_info["digest"], request.match_info["file"]
        # The branding has a digest of its own, so that nginx, which knows only the static files, leaves it to a worker.
        assets = next((each for each in (self._assets, self._brand.assets) if each.digest == digest), None)
        if assets is None or name not in assets.files:
            raise NotFound
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: media_type(name), hdrs.CACHE_CONTROL: CACHE_CONTROL}
        if name == self._brand.logo:
            headers["Content-Security-Policy"] = LOGO_POLICY
        return web.Response(body=assets.files[name], headers=headers)


def _handler(shell: Shell) -> Callable[[web.Request, None], Any]:
    async def handler(request: web.Request, _: None) -> web.Response:
        return shell(request)

    return handler
