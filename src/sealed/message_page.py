"""A message as a page on which text is text, whatever it contains."""

import html

from ..api.pages import Page
from .schemas import MessageAnswer

STYLE = "body{margin:2rem;font-family:sans-serif}pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:1.1rem}"


def message_page(answer: MessageAnswer) -> Page:
    """Return the page that shows a message."""
    # A parser drops a line feed that begins a <pre>, and makes a carriage return a line feed unless it is written so.
    text = "\n" + html.escape(answer.message).replace("\r", "&#13;")
    expires_at = f"{answer.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    body = f"<pre>{text}</pre>\n<p>This message expires at {expires_at}.</p>"
    return Page(title="A message", body=body, style=STYLE)
