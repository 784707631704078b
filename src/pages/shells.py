"""The page as it is before its scripts have run: the same for everybody who reads the same language."""

import html
import json
import re
from functools import cache
from pathlib import Path

from aiohttp import hdrs, web

from ..api.pages import CONTENT_TYPE, VARY
from ..api.routing import Shell
from ..settings import Settings
from .assets import Assets
from .languages import Language, language_of

HTML = Path(__file__).parent / "html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
LIFETIMES = (300, 3600, 14_400, 86_400, 259_200, 604_800, 1_209_600, 2_592_000)
"""Seconds that are offered, as far as the server allows them."""
# By the name of the view: the script, and the parts of its body.
_VIEWS = {
    "create": ("create.js", ("create",)),
    "secret": ("open.js", ("looking", "open", "notice")),
    "message": ("open.js", ("looking", "open", "notice")),
    "receipt": ("receipt.js", ("looking", "receipt", "notice")),
}
_PLACE = re.compile(r"\{\{(\{)?(\w+)\}?\}\}")


class Shells:
    """Makes the views, each once in every language in which it is asked for."""

    def __init__(self, settings: Settings, assets: Assets, languages: dict[str, Language]) -> None:
        self._settings = settings
        self._assets = assets
        self._languages = languages
        # Read at once: those of a newer version may stand there by the time that a page is asked for.
        self._templates = {path.stem: path.read_text(encoding="utf-8") for path in HTML.glob("*.html")}

    def shell(self, view: str, *, root: str = "./") -> Shell:
        """Return what answers a request with a view; ``root`` leads from its address to that of the service."""

        @cache
        def page(code: str) -> bytes:
            return self._render(view, root, self._languages[code]).encode()

        def respond(request: web.Request) -> web.Response:
            headers = {
                hdrs.CONTENT_TYPE: CONTENT_TYPE,
                "Content-Security-Policy": POLICY,
                hdrs.VARY: VARY,
            }
            return web.Response(body=page(language_of(request, self._languages)), headers=headers)

        return respond

    def _render(self, view: str, root: str, language: Language) -> str:
        script, parts = _VIEWS[view]
        texts = {
            **language.html,
            "title": language.html[f"title_{view}"],
            "lang": language.code,
            "root": root,
            "assets": root + self._assets.path,
            "script": script,
            "view": view,
            # A script ends at the first `</script`, whatever it is in.
            "strings": json.dumps(language.script, ensure_ascii=False).replace("<", "\\u003c"),
            "ttl_options": _options(language, self._settings),
        }
        texts["body"] = "".join(_fill(self._templates[part], texts) for part in parts)
        return _fill(self._templates["shell"], texts)


def _fill(template: str, texts: dict[str, str]) -> str:
    """Fill in the names in braces: text as text, and HTML of our own, in three braces, as it is."""
    return _PLACE.sub(lambda place: texts[place[2]] if place[1] else html.escape(texts[place[2]]), template)


def _options(language: Language, settings: Settings) -> str:
    offered = [seconds for seconds in LIFETIMES if seconds <= settings.ttl_max]
    options = [
        f'<option value="{seconds}"{" selected" if seconds == settings.default_ttl else ""}>'
        f"{html.escape(language.html[f'ttl_{seconds}'])}</option>"
        for seconds in offered
    ]
    if settings.default_ttl not in offered:
        options.append(f'<option value="" selected>{html.escape(language.html["ttl_default"])}</option>')
    return "".join(options)
