"""What can go wrong with sealed items."""

from ..errors import Forbidden, NotFound


class KeyNotFound(NotFound):
    """No item waits under this key: there never was one, or it has been opened, burned, locked or has expired."""

    code, default = "key_not_found", "Key not found"


class PhraseRequired(Forbidden):
    """The item has a phrase and none was sent; costs no attempt."""

    code, default = "phrase_required", "A phrase is required. Send it as phrase; no attempt was spent."


class IncorrectPhrase(Forbidden):
    """The phrase is wrong; costs one attempt."""

    code, default = "incorrect_phrase", "Incorrect phrase"
