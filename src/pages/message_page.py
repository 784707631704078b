"""A message of the API as an HTML page without scripts; everything in the message is escaped."""

import html
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from aiohttp import web

from ..api.pages import Page
from ..errors import Problem
from .assets import STATIC
from .branding import Brand
from .languages import Language, language_of

_BASE = (STATIC / "page.css").read_text(encoding="utf-8").split("/*")[1].partition("*/")[2]
STYLE = re.sub(r" *([{};:,]) *", r"\1", " ".join(_BASE.split()))
"""The first part of `page.css`: the tokens of the design, and the elements that these pages use."""
_MARK = re.sub(r" xmlns=\S+|<style>.*</style>", "", (STATIC / "icon.svg").read_text(encoding="utf-8")).strip()
_ICON = (
    '<svg class="icon{}" viewBox="-10 -10 44 44" aria-hidden="true">'
    '<circle cx="12" cy="12" r="22"/><path d="{}"/></svg>'
)
_ENVELOPE = "", "M3 5h18v14H3zm0 2 9 6 9-6"
_ALERT = " warn", "M12 4 2.5 20h19zm0 6v4m0 3v.01"
# Keys of the texts by HTTP status; other problems are shown with their detail.
_NOTICES = {404: "gone_message", 410: "damaged", 429: "busy"}
_SERVER_ERROR = 500


class ReadMessage(Protocol):
    """The part of a message that the page shows."""

    @property
    def message(self) -> str:
        """The plaintext."""

    @property
    def expires_at(self) -> datetime:
        """When the message expires."""


class MessagePage:
    """Renders the response to a browser that opens the link of a message."""

    def __init__(self, languages: dict[str, Language], brand: Brand) -> None:
        self._languages = languages
        self._brand = brand

    def answered(self, request: web.Request, answer: ReadMessage) -> Page:
        """Return the page of a message."""
        return message_page(answer, self._language(request), self._brand)

    def refused(self, request: web.Request, problem: Problem) -> Page:
        """Return a page that explains the problem and the next step."""
        language = self._language(request)
        key = _NOTICES.get(problem.status, "busy" if problem.status >= _SERVER_ERROR else "refused")
        return notice_page(language, self._brand, language.script, key, problem.detail)

    def _language(self, request: web.Request) -> Language:
        return self._languages[language_of(request, self._languages)]


def message_page(answer: ReadMessage, language: Language, brand: Brand) -> Page:
    """Return the page of a message in a language."""
    # An HTML parser drops a line feed at the start of a <pre>, and turns an unescaped carriage return into a line feed.
    text = "\n" + html.escape(answer.message).replace("\r", "&#13;")
    # A translator in the browser would send the message to its own server.
    pre = f'<div dir="auto"><pre translate="no" class="notranslate">{text}</pre></div>'
    until = language.script["message_until"].replace("{time}", f"{answer.expires_at:%Y-%m-%d %H:%M:%S} UTC")
    content = f"{pre}\n<p>{html.escape(until)}</p>"
    return text_page(language, brand, language.html["title_message"], content, icon=_ENVELOPE)


def notice_page(
    language: Language, brand: Brand, texts: Mapping[str, str], key: str, detail: str, *, more: str = ""
) -> Page:
    """Return a page that explains a problem and the next step, with the texts of a key; ``more`` is HTML."""
    title, text, next_step = (texts[f"{key}_{part}"] for part in ("title", "text", "next"))
    text = text.replace("{detail}", detail)
    return text_page(language, brand, title, f"<p>{html.escape(text)}</p>\n<p>{html.escape(next_step)}</p>{more}")


def text_page(language: Language, brand: Brand, title: str, content: str, *, icon: tuple[str, str] = _ALERT) -> Page:
    """Return a page with an icon and a heading; ``content`` is HTML, ``title`` is text, ``icon`` its class and path."""
    title, service = html.escape(title), html.escape(brand.name)
    # The page loads nothing, and a logo would be too large for it.
    mark = "" if brand.logo else f"{_MARK} "
    footer = f"\n<footer>{brand.footer_html()}</footer>" if brand.footer_html() else ""
    body = (
        f'<header><div class="brand">{mark}{service}</div></header>\n<main>\n<div class="card">\n'
        f'<div class="state">{_ICON.format(*icon)}<h1>{title}</h1></div>\n{content}\n</div>\n</main>{footer}'
    )
    return Page(title=title, body=body, style=style_of(brand), language=language.code, service=service)


def style_of(brand: Brand) -> str:
    """Return the style of these pages."""
    return STYLE + brand.colors
