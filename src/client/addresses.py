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
_HOST_AND_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}(?:/.*)?")
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
class ParsedLink:
    """What was given to open: ``url`` and ``kind`` are None where it was a key alone.

    ``fragment_key`` is there where the text was encrypted before it was sent.
    """

    url: str | None
    kind: Kind | None
    key: str
    fragment_key: bytes | None = None

    def __repr__(self) -> str:
        return f"ParsedLink({self.url!r}, {self.kind!r})"


def parse_server_url(text: str) -> str:
    """Return a server's address in the one form under which it is known here. Raises `WrongUsage`.

    ``host:port`` is http on this machine and https on others.
    """
    text = _trim(text)
    if not has_scheme(text):
        local = is_loopback(text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0].lower())
        text = f"{'http' if local else 'https'}://{text}"
    parts = _split(text)
    if parts.query or parts.fragment:
        raise WrongUsage("the server's URL must not have a ? or a # in it")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def has_scheme(text: str) -> bool:
    """Tell whether a server's address is more than ``host:port``."""
    return not _HOST_AND_PORT.fullmatch(_trim(text))


def parse_link(text: str) -> ParsedLink:
    """Read a link to a secret or a message, or the key alone. Raises `WrongUsage`."""
    text = _trim(text)
    if _LINK_KEY.fullmatch(text):
        return ParsedLink(None, None, text)
    if _RECEIPT_KEY.fullmatch(text):
        raise WrongUsage("this is a receipt key, which opens nothing: see `sealpost receipt` and `sealpost burn`")
    if "://" in text and (page := _PAGE_LINK.fullmatch(text)):
        return _parse_page_link(page["base"], page["page"], page["fragment"] or "")
    found = _LINK.fullmatch(text.partition("#")[0].partition("?")[0])
    if "://" not in text or not found or not _LINK_KEY.fullmatch(found["key"]):
        raise WrongUsage("this is no link to a secret or a message, and no key of one: is all of it there?")
    return ParsedLink(parse_server_url(found["base"]), Kind(found["kind"]), found["key"])


def write_link(server: str, answered: str, kind: Kind, fragment_key: bytes | None) -> str:
    """Return the link of a new item: to the page where there is a fragment key, and to the API otherwise.

    It begins as the server answered, unless that is worse than the ``server``'s URL by which the item was created.
    Raises `NotSealpost`.
    """
    base, _, key = answered.rpartition(f"/{kind}/")
    try:
        link_key = read_base64(key)
    except NotOpened:
        link_key = b""
    if not link_key or not _LINK_KEY.fullmatch(key):
        raise NotSealpost("the answer is not one of Sealpost: url is no link")
    if not _may_stand_for(base, server):
        base = server
    if fragment_key is None:
        return f"{base}/{kind}/{key}"
    return f"{base}/{kind.page}#{write_fragment(LinkKeys(link_key, fragment_key))}"


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
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _may_stand_for(base: str, server: str) -> bool:
    """Tell whether a server's own address is as safe as the URL by which it was reached, and leads there as well.

    A server behind a proxy may know itself as plain http, without the proxy's path, or by its own loopback.
    """
    try:
        ours, theirs = urlsplit(server), urlsplit(parse_server_url(base))
    except WrongUsage:
        return False
    return (
        has_scheme(base)
        and (theirs.scheme == "https" or ours.scheme == "http")
        and (theirs.path == ours.path or not ours.path)
        and (is_loopback(ours.hostname or "") or not is_loopback(theirs.hostname or ""))
    )


def _trim(text: str) -> str:
    """Return a text without the byte order mark and white space around it that a file may have."""
    return text.removeprefix(BYTE_ORDER_MARK).strip()


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by its name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_page_link(base: str, page: str, fragment: str) -> ParsedLink:
    try:
        keys = read_fragment(fragment)
    except NotOpened:
        raise WrongUsage("not all of this link is there, or it was changed on its way: ask its sender for it") from None
    kind = next(kind for kind in Kind if kind.page == page)
    return ParsedLink(parse_server_url(base), kind, write_base64(keys.link_key), keys.fragment_key)


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
