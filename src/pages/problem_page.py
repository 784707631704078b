"""Errors as pages, for people who open an address in a browser. nginx has the same pages for its own errors."""

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
_SERVER_ERROR = 500


def problem_page(language: Language, brand: Brand, status: int, detail: str) -> Page:
    """Return a page that explains an error and the next step."""
    kind = _KINDS.get(status, "failed" if status >= _SERVER_ERROR else "refused")
    texts = language.problems if f"{kind}_title" in language.problems else language.script
    return notice_page(language, brand, texts, kind, detail)
