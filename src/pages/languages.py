"""The texts of the page in each language, and the choice of a language by `Accept-Language`."""

import json
from collections import ChainMap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

from ..api.pages import weights

MESSAGES = Path(__file__).parent / "messages"
DEFAULT = "en"
_PARTS = {
    "create": ("script", "create"),
    "secret": ("script", "notices", "open", "secret"),
    "message": ("script", "notices", "open", "message"),
    "receipt": ("script", "notices", "receipt"),
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


def read_languages() -> dict[str, Language]:
    """Read all languages, by their codes."""
    languages = {}
    for path in sorted(MESSAGES.glob("*.json")):
        texts = json.loads(path.read_text(encoding="utf-8"))
        views = {view: dict(ChainMap(*(texts[part] for part in parts))) for view, parts in _PARTS.items()}
        script = dict(ChainMap(*views.values()))
        languages[path.stem] = Language(path.stem, texts["html"], script, texts["problems"], views)
    return languages


def language_of(request: web.Request, codes: Iterable[str]) -> str:
    """Return the code of the language for a request."""
    return choose_language(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), codes)


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
