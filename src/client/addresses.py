"""Server URLs, links, keys and ids: parsing and checking."""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from ..lenient_keys import find_key
from .encodings import BYTE_ORDER_MARK
from .envelopes import LinkKeys, NotOpened, find_fragment, read_base64, write_base64, write_fragment
from .errors import NotSealpost, WrongUsage

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_PORTS = {"http": 80, "https": 443}

_LINK_KEY_LENGTH, _RECEIPT_KEY_LENGTH = 43, 60
_LINK_KEY = re.compile(rf"[A-Za-z0-9_-]{{{_LINK_KEY_LENGTH}}}")
_RECEIPT_KEY = re.compile(rf"[A-Za-z0-9_-]{{{_RECEIPT_KEY_LENGTH}}}")
_NO_LINK = "this is not a link to a secret or a message, nor a key. Is it complete?"
_USERNAME = re.compile(r"[A-Za-z0-9_.-]{3,32}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_KIND = re.compile(r"/(secrets|message|s|m)(?![A-Za-z0-9_-])")
_INVITATION = re.compile(r"si_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
_JOIN = re.compile(r"(https?://[^\s#?]+)/join/?[#%]")
_HOST_AND_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}(?:/.*)?")


class Kind(StrEnum):
    """The kind of item behind a link; the value is its path segment in the API."""

    SECRET = "secrets"  # noqa: S105 (a path)
    MESSAGE = "message"

    @property
    def page(self) -> str:
        """The path segment of the page that decrypts this kind."""
        return self.value[0]


@dataclass(frozen=True)
class ParsedLink:
    """A link or a bare key. ``url`` and ``kind`` are None for a bare key.

    ``fragment_key`` is set if the sender's client encrypted the text.
    """

    url: str | None
    kind: Kind | None
    key: str
    fragment_key: bytes | None = None

    def __repr__(self) -> str:
        return f"ParsedLink({self.url!r}, {self.kind!r})"


def parse_server_url(text: str) -> str:
    """Return a server's URL in normalized form. Raises `WrongUsage`.

    ``host:port`` means http for a loopback host and https for any other.
    """
    text = _trim(text)
    if not has_scheme(text):
        local = is_loopback(text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0].lower())
        text = f"{'http' if local else 'https'}://{text}"
    parts = _split(text)
    if parts.query or parts.fragment:
        raise WrongUsage("the server's URL must not contain ? or #")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def has_scheme(text: str) -> bool:
    """Return whether a server's URL is more than ``host:port``."""
    return not _HOST_AND_PORT.fullmatch(_trim(text))


def parse_link(text: str) -> ParsedLink:
    """Parse a link to a secret or a message, or a bare key. Raises `WrongUsage`.

    Ignores what other programs have added: punctuation, parameters, and white space and invisible characters.
    """
    scheme = _SCHEME.search(text)
    if not scheme:
        return _parse_key(text)
    text = text[scheme.start() :]
    has_page = False
    # From the end: the path prefix of a server may contain the same words.
    for found in reversed(list(_KIND.finditer(text))):
        base, rest = text[: found.start()], text[found.end() :]
        if re.search(r"[\s?#%]", base):
            continue
        kind = next(kind for kind in Kind if found[1] in (kind, kind.page))
        if found[1] == kind:
            if key := find_key(rest, _LINK_KEY_LENGTH, is_key):
                return ParsedLink(parse_server_url(base), kind, key)
        elif keys := find_fragment(rest):
            return ParsedLink(parse_server_url(base), kind, write_base64(keys.link_key), keys.fragment_key)
        else:
            has_page = True
    if has_page:
        raise WrongUsage("this link is incomplete or was altered: ask the sender for it again")
    raise WrongUsage(_NO_LINK)


def write_link(server: str, answered: str, kind: Kind, fragment_key: bytes | None) -> str:
    """Return the link to a new item: to the page if there is a fragment key, otherwise to the API.

    Its base is that of the ``answered`` URL, unless the ``server`` URL that the client used is safer. Raises
    `NotSealpost`.
    """
    base, _, key = answered.rpartition(f"/{kind}/")
    try:
        link_key = read_base64(key)
    except NotOpened:
        link_key = b""
    if not link_key or not _LINK_KEY.fullmatch(key):
        raise NotSealpost("the response is not from Sealpost: url is not a link")
    if not _is_as_safe(base, server):
        base = server
    if fragment_key is None:
        return f"{base}/{kind}/{key}"
    return f"{base}/{kind.page}#{write_fragment(LinkKeys(link_key, fragment_key))}"


def is_key(text: str) -> bool:
    """Return whether a text has the form of a link key or a receipt key."""
    return bool(_LINK_KEY.fullmatch(text) or _RECEIPT_KEY.fullmatch(text))


def parse_invitation(text: str) -> tuple[str, str | None]:
    """Return the invitation in a text or a link, and the server of the link. Raises `WrongUsage`."""
    found = _INVITATION.search(text)
    if not found:
        raise WrongUsage("this is not an invitation: it has 46 characters that begin with si_, or is a link with them")
    base = _JOIN.search(text)
    return found[0], parse_server_url(base[1]) if base else None


def parse_receipt_key(text: str) -> str:
    """Return the receipt key in a text, but not in a link, which may be to another server. Raises `WrongUsage`."""
    key = None if _SCHEME.search(text) else find_key(text, _RECEIPT_KEY_LENGTH, is_key)
    if not key:
        raise WrongUsage("a receipt key has 60 characters; it is shown when you create a secret or a message")
    return key


def parse_id(text: str) -> str:
    """Return the id of a post, a token or a session in normalized form. Raises `WrongUsage`."""
    text = text.strip().lower().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise WrongUsage("an id has 32 hexadecimal digits")
    return text


def parse_username(text: str) -> str:
    """Return a valid username. Raises `WrongUsage`."""
    if not _USERNAME.fullmatch(text):
        raise WrongUsage("a username has 3 to 32 characters: letters, digits, dots, dashes and underscores")
    return text


def is_plain(url: str) -> bool:
    """Return whether requests to a URL cross a network unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _is_as_safe(base: str, server: str) -> bool:
    """Return whether the base that a server answered is as safe as the URL the client used, and equivalent.

    Behind a proxy, a server may answer with plain http, without the proxy's path prefix, or with a loopback address.
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
    """Remove a byte order mark and surrounding white space."""
    return text.removeprefix(BYTE_ORDER_MARK).strip()


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is a loopback one."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_key(text: str) -> ParsedLink:
    if key := find_key(text, _LINK_KEY_LENGTH, is_key):
        return ParsedLink(None, None, key)
    if find_key(text, _RECEIPT_KEY_LENGTH, is_key):
        raise WrongUsage("this is a receipt key, which cannot open anything: use `sealpost receipt` or `sealpost burn`")
    raise WrongUsage(_NO_LINK)


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        # `hostname` and `port` may raise. A literal IPv6 address is not a name.
        usable = parts.scheme in DEFAULT_PORTS and parts.hostname and parts.port != 0
        if ":" not in (parts.hostname or ""):
            (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f\x7f\\%]", text):
        raise WrongUsage("the server's URL must look like https://secrets.example.org or http://127.0.0.1:8080")
    if parts.username is not None or parts.password is not None:
        raise WrongUsage("the server's URL must not contain a user name or a password")
    return parts
