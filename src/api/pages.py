"""Pages for browsers, without scripts or external resources; the Content-Security-Policy allows only their style."""

import base64
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from aiohttp import hdrs, web

from ..errors import Problem
from ..settings import DEFAULT_NAME

CONTENT_TYPE = "text/html; charset=utf-8"
VARY = f"{hdrs.ACCEPT}, {hdrs.ACCEPT_LANGUAGE}, {hdrs.COOKIE}"


@dataclass(frozen=True)
class Page:
    """A page; ``title``, ``body`` and ``service``, the name of the service, are HTML with all client input escaped."""

    title: str
    body: str
    style: str
    language: str = "en"
    service: str = DEFAULT_NAME


class PageMaker(Protocol):
    """Renders pages for browsers, in the language of the request."""

    def answered(self, request: web.Request, answer: Any) -> Page:
        """Return the page that replaces the JSON of an answer."""

    def refused(self, request: web.Request, problem: Problem) -> Page:
        """Return the page that replaces the JSON of a problem."""


class BrowserPages(Protocol):
    """Answers browsers where no route does."""

    def find(self, request: web.Request) -> web.Response | None:
        """Return the page that an altered link was meant for; None for any other path."""

    def refused(self, request: web.Request, problem: Problem) -> Page:
        """Return the page that replaces the JSON of a problem."""


def page_response(page: Page, *, status: int = 200) -> web.Response:
    """Return a response with the page and a Content-Security-Policy that allows only its style."""
    headers = {
        hdrs.CONTENT_TYPE: CONTENT_TYPE,
        "Content-Security-Policy": policy_of(page.style),
        hdrs.VARY: VARY,
    }
    return web.Response(body=html_of(page).encode(), status=status, headers=headers)


def html_of(page: Page) -> str:
    """Return a page as an HTML document."""
    return (
        f'<!doctype html>\n<html lang="{page.language}">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{page.title} · {page.service}</title>\n"
        f'<meta name="viewport" content="width=device-width">\n<style>{page.style}</style>\n</head>\n'
        f"<body>\n{page.body}\n</body>\n</html>\n"
    )


def policy_of(style: str) -> str:
    """Return a Content-Security-Policy that allows only a style."""
    style_hash = base64.b64encode(sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )


def prefers_page(accept: str) -> bool:
    """Tell whether an ``Accept`` header includes HTML with at least the weight of JSON (RFC 9110, section 12.5.1)."""
    kinds = weights(accept)
    page = kinds.get("text/html", 0.0)
    data = next((kinds[kind] for kind in ("application/json", "application/*", "*/*") if kind in kinds), 0.0)
    return page > 0 and page >= data


def weights(header: str) -> dict[str, float]:
    """Return the values of a preference header in lower case, with their weights (RFC 9110, section 12.4.2)."""
    return dict(_weight(part) for part in header.split(","))


def _weight(preference: str) -> tuple[str, float]:
    kind, *parameters = (part.strip().lower() for part in preference.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return kind, float(value)
            except ValueError:
                return kind, 0.0
    return kind, 1.0
