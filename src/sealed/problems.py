"""Errors of secrets and messages."""

from ..errors import Forbidden, NotFound, Problem


class KeyNotFound(NotFound):
    """No item can be opened with this key: it never existed, or was opened, burned or locked, or has expired."""

    code, default = "key_not_found", "Key not found"


class ItemNotFound(NotFound):
    """The user keeps no such item, or it was opened, burned or locked, or has expired."""

    code = "item_not_found"
    default = "You keep no item with this id that could still be opened."


class PhraseRequired(Forbidden):
    """The item has a phrase and none was sent. Costs no attempt."""

    code, default = (
        "phrase_required",
        "A phrase is required. Send it in the field phrase. This request did not count as an attempt.",
    )


class IncorrectPhrase(Forbidden):
    """The phrase is wrong. Costs one attempt."""

    code, default = "incorrect_phrase", "Incorrect phrase"


class RangeNotSatisfiable(Problem):
    """No byte of the requested range exists; the header Content-Range has the size."""

    status, code, title = 416, "range_not_satisfiable", "Range not satisfiable"
    default = "The file is shorter than the start of the requested range. The header Content-Range has its size."
