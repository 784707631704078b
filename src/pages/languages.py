"""The texts of the page in each language, and the choice of a language: by the visitor, or by `Accept-Language`."""

import json
import re
from collections import ChainMap
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from aiohttp import hdrs, web

from ..api.pages import weights
from ..settings import DEFAULT_NAME

MESSAGES = Path(__file__).parent / "messages"
DEFAULT = "en"
PARAMETER = "lang"
"""The query parameter by which the menu selects a language, and the cookie that remembers it."""
REMEMBERED = timedelta(days=365)
_COOKIE = re.compile(rf"(?:^|; *){PARAMETER}=([^;]*)")
_PARTS = {
    "create": ("script", "create"),
    "secret": ("script", "notices", "open", "secret"),
    "message": ("script", "notices", "open", "message"),
    "receipt": ("script", "notices", "states", "receipt"),
    "signin": ("script", "accounts", "signin"),
    "account": ("script", "accounts", "account"),
    "mine": ("script", "lists", "states", "mine"),
    "board": ("script", "lists", "board"),
    "admin": ("script", "lists", "admin"),
}
"""The parts of a language that the script of each view needs."""


@dataclass(frozen=True)
class Language:
    """The texts of a language: ``html`` for templates, ``script`` for scripts, ``problems`` for error pages.

    ``views`` has the part of ``script`` that each view needs.
    """

    code: str
    html: dict[str, str]
    script: dict[str, str]
    problems: dict[str, str]
    views: dict[str, dict[str, str]]

    @property
    def name(self) -> str:
        """The language's own name."""
        return self.html["language"]


def read_languages(service: str = DEFAULT_NAME) -> dict[str, Language]:
    """Read all languages, by their codes; ``service`` is the name of the service in their texts."""

    def named(texts: dict[str, str]) -> dict[str, str]:
        return {key: text.replace("{service}", service) for key, text in texts.items()}

    languages = {}
    for path in sorted(MESSAGES.glob("*.json")):
        texts = {part: named(each) for part, each in json.loads(path.read_text(encoding="utf-8")).items()}
        views = {view: dict(ChainMap(*(texts[part] for part in parts))) for view, parts in _PARTS.items()}
        script = dict(ChainMap(*views.values()))
        languages[path.stem] = Language(path.stem, texts["html"], script, texts["problems"], views)
    return languages


def language_of(request: web.Request, codes: Iterable[str]) -> str:
    """Return the code of the language for a request: the selected one, or else the preferred one."""
    # Not request.cookies: of two cookies, the first is that of the longer path, which is the path of this service.
    cookie = _COOKIE.search(request.headers.get(hdrs.COOKIE, ""))
    remembered = cookie[1] if cookie and cookie[1] in codes else None
    preferred = choose_language(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), codes)
    return _selected(request, codes) or remembered or preferred


def remember_language(request: web.Request, response: web.Response, codes: Iterable[str]) -> None:
    """Remember the language that the URL selects, if it does, in a cookie.

    It has no `Path`, so it applies to the directory of the URL: of a page at the root of the service, that is the whole
    service, even behind a proxy that adds a prefix.
    """
    if code := _selected(request, codes):
        lifetime = int(REMEMBERED.total_seconds())
        response.headers.add(hdrs.SET_COOKIE, f"{PARAMETER}={code}; Max-Age={lifetime}; SameSite=Lax")


def _selected(request: web.Request, codes: Iterable[str]) -> str | None:
    code = request.query.get(PARAMETER, "")
    return code if code in codes else None


def choose_language(accept_language: str, codes: Iterable[str]) -> str:
    """Return the code of the language that an ``Accept-Language`` header prefers (RFC 9110, section 12.5.4).

    Region and script subtags are ignored: ``de-CH`` selects ``de``.
    """
    preferences = sorted(weights(accept_language).items(), key=lambda preference: -preference[1])
    for tag, weight in preferences:
        code = DEFAULT if tag == "*" else tag.partition("-")[0]
        if weight > 0 and code in codes:
            return code
    return DEFAULT
