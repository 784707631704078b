"""HTML elements whose text is escaped unless it is markup already."""

import html
import re

_CODE = re.compile(r"(`+)(.+?)\1")


class Markup(str):
    """Text that is HTML, with all other text in it escaped."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str) -> Markup:
    """Return an element. Underscores at the end of an attribute's name are dropped: ``class_``."""
    named = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{named}>{markup(*children)}</{name}>")


def markup(*children: str) -> Markup:
    """Return texts and markup in a row."""
    return Markup("".join(one if isinstance(one, Markup) else html.escape(one) for one in children))


def prose(text: str) -> Markup:
    """Return a text in which words in backticks are code."""
    parts, end = list[str](), 0
    for code in _CODE.finditer(text):
        parts += (text[end : code.start()], element("code", code[2]))
        end = code.end()
    return markup(*parts, text[end:])
