"""The HTML of the views: templates filled with the texts of a language, the same for every visitor."""

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
from .branding import Brand
from .languages import PARAMETER, Language, language_of, remember_language
from .markup import element, markup

HTML = Path(__file__).parent / "html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {hdrs.CONTENT_TYPE: CONTENT_TYPE, "Content-Security-Policy": POLICY, hdrs.VARY: VARY}
LIFETIMES = (300, 3600, 14_400, 86_400, 259_200, 604_800, 1_209_600, 2_592_000)
"""Lifetimes in seconds that the page offers, up to the server's limit."""
# The script of each view, and the templates of its body. A view without a script has a style sheet of its own.
_VIEWS = {
    "create": ("create.js", ("unsupported", "create")),
    "secret": ("open.js", ("unsupported", "status", "open", "waiting")),
    "message": ("open.js", ("unsupported", "status", "open")),
    "receipt": ("receipt.js", ("unsupported", "status", "receipt")),
    "signin": ("signin.js", ("unsupported", "status", "signin")),
    "account": ("account.js", ("unsupported", "status", "account")),
    "mine": ("mine.js", ("unsupported", "status", "mine", "question")),
    "board": ("board.js", ("unsupported", "status", "board", "question")),
    "admin": ("admin.js", ("unsupported", "status", "admin", "question")),
    "docs": ("", ("docs",)),
    "about": ("", ("about",)),
}
_OF_USERS = {"signin", "account", "mine", "board", "admin"}
# What the navigation of every view links to, and the names there of views that are called otherwise.
_LINKED = ("share", "receipts", "signin", "mine", "board", "account", "admin", "about", "docs")
_PAGES = {"create": "share", "receipt": "receipts"}
# A reader of a link is offered nothing but the link.
_OF_READERS = {"secret", "message"}
_CURRENT = ' aria-current="page"'
# A part of a template that is there only if a feature is on: {{#files}}…{{/files}}.
_OF_FEATURE = re.compile(r"\{\{#(\w+)\}\}\n?(.*?)\{\{/\1\}\}\n?", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{\{(\{)?(\w+)\}?\}\}")


class Templates:
    """Renders the views, each once per language."""

    def __init__(self, settings: Settings, assets: Assets, languages: dict[str, Language], brand: Brand) -> None:
        self._settings = settings
        self._assets = assets
        self._brand = brand
        self._languages = languages
        # Read at startup: an upgrade may replace the files while this process runs.
        self._sources = {
            path.stem: _OF_FEATURE.sub(self._select, path.read_text(encoding="utf-8")) for path in HTML.glob("*.html")
        }

    def _select(self, part: re.Match[str]) -> str:
        return "" if part[1] in self._settings.features_off else part[2]

    def view(self, name: str, *, root: str = "./") -> Shell:
        """Return the responder of a view; ``root`` is the relative URL from its address to the root of the service."""

        @cache
        def page(code: str) -> bytes:
            return self.render(name, root, self._languages[code]).encode()

        def respond(request: web.Request) -> web.Response:
            response = web.Response(body=page(language_of(request, self._languages)), headers=HEADERS)
            if root == "./":
                remember_language(request, response, self._languages)
            return response

        return respond

    def render(self, name: str, root: str, language: Language, **more: str) -> str:
        """Return the HTML of a view in a language; ``more`` has values of its template that are not in the language."""
        script, parts = _VIEWS[name]
        values = {
            **language.html,
            "title": language.html[f"title_{name}"],
            "loading": language.html["loading_account" if name in _OF_USERS else "loading"],
            "service": self._brand.name,
            "icon": self._brand.icon(root, self._assets),
            "icon_width": str(self._brand.icon_width),
            "brand_head": self._brand.head(root),
            "brand_footer": self._brand.footer_html(),
            # Until the script runs: the links alone would lose the key in the address.
            "unready": " unready" if script else "",
            "language_menu": _menu(language, self._languages),
            "lang": language.code,
            "root": root,
            "assets": root + self._assets.path,
            "script": script,
            "view": name,
            **{f"in_{page}": _CURRENT if page == _PAGES.get(name, name) else "" for page in _LINKED},
            # `</script` ends a script element, even inside a JSON string.
            "strings": json.dumps(language.views.get(name, {}), ensure_ascii=False, separators=(",", ":")).replace(
                "<", "\\u003c"
            ),
            "ttl_options": _options(language, self._settings),
            "file_max": str(self._settings.file_limit),
            "files_max": str(self._settings.files_max),
            "lead": language.html["create_lead_files" if self._settings.file_limit else "create_lead"],
            **more,
        }
        values["attach"] = _fill(self._sources["attach"], values) if self._settings.file_limit else ""
        values["locked"] = "" if self._settings.anonymous_create else _fill(self._sources["locked"], values)
        values["menu"] = _fill(self._sources["menu" if script else "account_link"], values)
        values["link_tools"] = _fill(self._sources["link_tools"], values)
        values["nav"] = "" if name in _OF_READERS else _fill(self._sources["nav"], values)
        values["body"] = "".join(_fill(self._sources[part], values) for part in parts)
        values["head"] = _fill(self._sources["head_script" if script else "head_style"], values)
        values["tail"] = _fill(self._sources["tail"], values) if script else ""
        return _fill(self._sources["layout"], values)


def _fill(template: str, values: dict[str, str]) -> str:
    """Replace placeholders: the value in double braces is escaped, in triple braces it is HTML."""
    return _PLACEHOLDER.sub(lambda match: values[match[2]] if match[1] else html.escape(values[match[2]]), template)


def _menu(current: Language, languages: dict[str, Language]) -> str:
    """Return links that select a language, by its own name."""
    state = {current.code: {"aria-current": "true"}}
    return markup(
        *(
            element("a", language.name, href=f"?{PARAMETER}={code}", lang=code, **state.get(code, {}))
            for code, language in languages.items()
        )
    )


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
