"""Where a server is, and what a link names."""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from .encodings import BYTE_ORDER_MARK
from .envelopes import LinkKeys, NotOpened, read_base64, read_fragment, write_base64, write_fragment
from .errors import NotSealpost, WrongUsage

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_PORTS = {"http": 80, "https": 443}

_LINK_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
_RECEIPT_KEY = re.compile(r"[A-Za-z0-9_-]{60}")
_USERNAME = re.compile(r"[A-Za-z0-9_.-]{3,32}")
_LINK = re.compile(r"(?P<base>.*)/(?P<kind>secrets|message)/(?P<key>[^/]+)/?")
_PAGE_LINK = re.compile(r"(?P<base>[^?#]*)/(?P<page>[sm])/?(?:\?[^#]*)?(?:#(?P<fragment>.*))?")


class Kind(StrEnum):
    """What a link leads to, by its part in the path."""

    SECRET = "secrets"  # noqa: S105 (a path)
    MESSAGE = "message"

    @property
    def page(self) -> str:
        """The page on which a text of this kind is decrypted, by its part in the path."""
        return self.value[0]


@dataclass(frozen=True)
class Link:
    """What was given to open: ``url`` and ``kind`` are None where it was a key alone.

    ``fragment_key`` is there where the text was encrypted before it was sent.
    """

    url: str | None
    kind: Kind | None
    key: str
    fragment_key: bytes | None = None

    def __repr__(self) -> str:
        return f"Link({self.url!r}, {self.kind!r})"


def parse_server_url(text: str) -> str:
    """Return a server's address in the one form under which it is known here. Raises `WrongUsage`."""
    parts = _split(_trim(text))
    if parts.query or parts.fragment:
        raise WrongUsage("the server's URL must not have a ? or a # in it")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def parse_link(text: str) -> Link:
    """Read a link to a secret or a message, or the key alone. Raises `WrongUsage`."""
    text = _trim(text)
    if _LINK_KEY.fullmatch(text):
        return Link(None, None, text)
    if _RECEIPT_KEY.fullmatch(text):
        raise WrongUsage("this is a receipt key, which opens nothing: see `sealpost receipt` and `sealpost burn`")
    if "://" in text and (page := _PAGE_LINK.fullmatch(text)):
        return _parse_page_link(page["base"], page["page"], page["fragment"] or "")
    found = _LINK.fullmatch(text.partition("#")[0].partition("?")[0])
    if "://" not in text or not found or not _LINK_KEY.fullmatch(found["key"]):
        raise WrongUsage("this is no link to a secret or a message, and no key of one: is all of it there?")
    return Link(parse_server_url(found["base"]), Kind(found["kind"]), found["key"])


def write_page_link(url: str, kind: Kind, fragment_key: bytes) -> str:
    """Return the link to the page for the address that a server gave an item. Raises `NotSealpost`."""
    base, _, key = url.rpartition(f"/{kind}/")
    try:
        keys = LinkKeys(read_base64(key), fragment_key)
    except NotOpened:
        keys = None
    if not keys or not _LINK_KEY.fullmatch(key):
        raise NotSealpost("the answer is not one of Sealpost: url is no link")
    return f"{base}/{kind.page}#{write_fragment(keys)}"


def is_key(text: str) -> bool:
    """Tell whether this can be the key of a link or of a receipt."""
    return bool(_LINK_KEY.fullmatch(text) or _RECEIPT_KEY.fullmatch(text))


def parse_receipt_key(text: str) -> str:
    """Return a receipt key. Raises `WrongUsage` for what cannot be one."""
    text = _trim(text)
    if not _RECEIPT_KEY.fullmatch(text):
        raise WrongUsage("a receipt key has 60 characters; it is shown when a secret or a message is created")
    return text


def parse_id(text: str) -> str:
    """Return an id of a post, a token or a session. Raises `WrongUsage` for what cannot be one."""
    text = text.strip().lower().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise WrongUsage("an id has 32 hexadecimal digits")
    return text


def parse_username(text: str) -> str:
    """Return a user's name. Raises `WrongUsage` for what cannot be one."""
    if not _USERNAME.fullmatch(text):
        raise WrongUsage("a username has 3 to 32 characters: letters, digits, dots, dashes and underscores")
    return text


def is_plain(url: str) -> bool:
    """Tell whether what is sent there crosses a network in the clear."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def _trim(text: str) -> str:
    """Return a text without the byte order mark and white space around it that a file may have."""
    return text.removeprefix(BYTE_ORDER_MARK).strip()


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_page_link(base: str, page: str, fragment: str) -> Link:
    try:
        keys = read_fragment(fragment)
    except NotOpened:
        raise WrongUsage("not all of this link is there, or it was changed on its way: ask its sender for it") from None
    kind = next(kind for kind in Kind if kind.page == page)
    return Link(parse_server_url(base), kind, write_base64(keys.link_key), keys.fragment_key)


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        # They are checked when they are asked for; an address in brackets is no name.
        usable = parts.scheme in DEFAULT_PORTS and parts.hostname and parts.port != 0
        if ":" not in (parts.hostname or ""):
            (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f\x7f\\%]", text):
        raise WrongUsage("the server's URL must look like https://secrets.example.org or http://127.0.0.1:8080")
    if parts.username is not None or parts.password is not None:
        raise WrongUsage("the server's URL must not have a user name or a password in it")
    return parts
