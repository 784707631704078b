"""The page's texts in each language, and which of them a browser asks for."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

from ..api.pages import weights

MESSAGES = Path(__file__).parent / "messages"
DEFAULT = "en"


@dataclass(frozen=True)
class Language:
    """The texts of a language: ``html`` stand in the page from the start, ``script`` are shown by its scripts."""

    code: str
    html: dict[str, str]
    script: dict[str, str]


def read_languages() -> dict[str, Language]:
    """Read every language by its code."""
    languages = {}
    for path in sorted(MESSAGES.glob("*.json")):
        texts = json.loads(path.read_text(encoding="utf-8"))
        languages[path.stem] = Language(path.stem, texts["html"], texts["script"])
    return languages


def language_of(request: web.Request, codes: Iterable[str]) -> str:
    """Return the code of the language that a request asks for."""
    return choose_language(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), codes)


def choose_language(accept_language: str, codes: Iterable[str]) -> str:
    """Return the code of the language that an ``Accept-Language`` header wants most (RFC 9110, section 12.5.4).

    A region or a script is passed over: there is one German for all who read German.
    """
    wanted = sorted(weights(accept_language).items(), key=lambda one: -one[1])
    for tag, weight in wanted:
        code = DEFAULT if tag == "*" else tag.partition("-")[0]
        if weight > 0 and code in codes:
            return code
    return DEFAULT
