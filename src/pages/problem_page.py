"""Errors as pages, for people who open an address in a browser. nginx has the same pages for its own errors."""

import html

from ..api.pages import Page
from .branding import Brand
from .languages import Language
from .message_page import notice_page

_KINDS = {
    401: "unauthorized",
    404: "not_found",
    405: "method",
    410: "damaged",
    413: "too_large",
    421: "misdirected",
    429: "busy",
    503: "starting",
    507: "full",
}
"""Keys of the texts by HTTP status. Other server errors are failures; of other errors, the page shows the detail."""
SIGN_IN_KINDS = {
    "invalid_sign_in": "sign_in_expired",
    "sign_in_refused": "sign_in_refused",
    "not_admitted": "not_admitted",
    "account_disabled": "disabled",
    "provider_unavailable": "provider_down",
    "provider_faulty": "provider_faulty",
}
"""Keys of the texts by the code of an error that a browser meets on its way to the identity provider and back."""
_SIGN_IN = "../signin"
"""The page to sign in, from the addresses of these errors."""
_SERVER_ERROR = 500


def problem_page(language: Language, brand: Brand, status: int, detail: str, code: str = "") -> Page:
    """Return a page that explains an error and the next step."""
    if kind := SIGN_IN_KINDS.get(code):
        link = f'<p><a href="{_SIGN_IN}">{html.escape(language.problems["sign_in_page"])}</a></p>'
        return notice_page(language, brand, language.problems, kind, detail, more=link)
    kind = _KINDS.get(status, "failed" if status >= _SERVER_ERROR else "refused")
    texts = language.problems if f"{kind}_title" in language.problems else language.script
    return notice_page(language, brand, texts, kind, detail)
