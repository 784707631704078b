"""Render the configuration of nginx from its template."""

import json
import re
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from textwrap import indent

from ..api.edge import STRICT_TRANSPORT
from ..api.pages import CONTENT_TYPE, VARY, html_of, policy_of
from ..core.stored_files import TAKING_SECONDS
from ..core.tls.certificates import CIPHERS
from ..core.workers import WORKERS, worker_sockets
from ..errors import (
    Malformed,
    MethodNotAllowed,
    Misdirected,
    NotFound,
    Problem,
    TooLarge,
    TooMany,
    describe_status,
)
from ..pages.assets import CACHE_CONTROL, MEDIA_TYPES, STATIC, read_assets
from ..pages.branding import Brand, read_brand
from ..pages.languages import DEFAULT, PARAMETER, read_languages
from ..pages.message_page import style_of
from ..pages.problem_page import problem_page
from ..settings import Settings

TEMPLATE = Path(__file__).parents[2] / "confs" / "nginx" / "nginx.conf.template"
HTTPS_PORT = 443
_CONNECTIONS = 32_768  # per nginx process, to clients and to workers; Linux allows 28,232 from one address to a port
_SPARE_FILES = 64  # logs, listening sockets, and other files that nginx keeps open
_MARGIN = 5  # seconds: a worker reports its own timeout before nginx gives up
_UNKNOWN_OUTCOME = "The request may or may not have been carried out: check before you send it again."
# The errors that nginx itself returns, as (code, title, detail). Errors that workers return too share their wording.
_PROBLEMS: dict[int, tuple[str, str, str]] = {
    400: (Malformed.code, Malformed.title, "The request line or a header is malformed or too long."),
    404: (NotFound.code, NotFound.title, NotFound.default),
    405: (MethodNotAllowed.code, MethodNotAllowed.title, "This path does not support this method."),
    413: (TooLarge.code, TooLarge.title, TooLarge.default),
    414: ("address_too_long", "Address too long", "The URL is too long."),
    421: (
        Misdirected.code,
        Misdirected.title,
        "The proxy must connect over TLS, or SEALPOST_TLS must be off: this port does not serve plain HTTP.",
    ),
    429: (TooMany.code, TooMany.title, TooMany.default),
    500: (Problem.code, Problem.title, Problem.default),
    501: ("not_implemented", "Not implemented", "This transfer encoding is not supported."),
    502: ("worker_failed", "Worker failed", f"The worker that had this request failed. {_UNKNOWN_OUTCOME}"),
    503: (
        "starting",
        "Starting",
        "The service is starting. The request was not carried out: try again after the delay in Retry-After.",
    ),
    504: ("timeout", "Timed out", f"The worker took too long. {_UNKNOWN_OUTCOME}"),
    505: ("http_version", "HTTP version not supported", "Use HTTP/1.1."),
}
_JSON_POLICY = "default-src 'none'; frame-ancestors 'none'"
# The headers of workers' responses. A location that adds a header inherits none from its server.
_HEADERS = f"""\
add_header X-Request-ID $request_id always;
add_header Cache-Control "no-store, no-transform" always;
add_header X-Content-Type-Options nosniff always;
add_header Referrer-Policy no-referrer always;
add_header Content-Security-Policy "{_JSON_POLICY}" always;
add_header Strict-Transport-Security $strict_transport always;
"""
_PROBLEM_BODY = """\
'{"type":"about:blank","title":"$problem_title","status":$status,"detail":"$problem_detail",\
"code":"$problem_code","request_id":"$request_id","Error":"$problem_detail"$problem_outcome}'"""
_PROBLEM_HEADERS = """\
default_type application/problem+json;
add_header Retry-After $retry_after always;
"""
# nginx replaces the 500 of `return 500` by the status of the error.
_PROBLEM = f"{_HEADERS}{_PROBLEM_HEADERS}return 500 {_PROBLEM_BODY};"
_WORKER_PROBLEM = f"""\
{_HEADERS}{_PROBLEM_HEADERS}if ($reached_worker = "") {{
    return 503 {_PROBLEM_BODY};
}}
return 502 {_PROBLEM_BODY};"""
_WORKER_PROBLEM_PAGE = """\
{headers}if ($reached_worker = "") {{
    return 503 {page};
}}
return 502 {page};"""
_PART = 800
"""Characters of a part of a page: nginx accepts up to 4096 bytes between quotes."""
_WORKER_CHECKS = """\
# A worker's parser would reject these, and its error would quote the request line, which may contain a key.
if ($known_method = other) {
    return 400;
}
if ($request_uri ~ "[^\\x21-\\x7e]") {
    return 400;
}"""
_PROXY_CHECK = """\
# Behind a proxy that terminates TLS, the redirect would loop.
if ($client_scheme = https) {
    return 421;
}
"""
_REDIRECT_CHECKS = """\
if ($redirect_host = "") {
    return 400;
}
# A worker's parser would reject these.
if ($request_uri ~ "[^\\x21-\\x7e]") {
    return 400;
}"""


@dataclass(frozen=True)
class Tls:
    """The HTTPS listener: addresses, and the port that clients use. HTTP then only redirects.

    ``certificate`` is the path of one file with the certificate, its chain and its key.
    """

    listen: Sequence[str]
    certificate: Path
    port: int


def render(
    settings: Settings,
    *,
    listen: Sequence[str],
    metrics_listen: Sequence[str] = (),
    socket_dir: Path,
    log_dir: Path,
    temp_dir: Path,
    pid_file: Path,
    user: str | None = None,
    processes: str = "auto",
    tls: Tls | None = None,
    assets_dir: Path = STATIC,
    most_open_files: int | None = None,
) -> str:
    """Return the configuration.

    ``listen`` holds addresses in nginx's syntax (``127.0.0.1:8080``, ``80``, ``[::]:80``); on those in
    ``metrics_listen``, nginx serves `/metrics` only. If the master runs as root, its workers run as ``user``, who needs
    access to the sockets in ``socket_dir``. ``assets_dir`` is the directory of the page's files, as nginx sees it.
    ``most_open_files`` limits the connections of an nginx process; the default is the hard limit of this process.
    """
    text = TEMPLATE.read_text(encoding="utf-8")
    switched_off = {
        "limiters": settings.rate_limits == "off",
        "tls": tls is None,
        "metrics": not metrics_listen,
        "proxies": not settings.trusted_networks,
    }
    for part in (part for part, is_off in switched_off.items() if is_off):
        text = _without(text, part)
    brand = read_brand(settings)
    pages, whole_page = _page_maps(brand)
    served = _listen(tls.listen, "ssl backlog=4096") if tls else _listen(listen, "backlog=4096")
    assets = read_assets()
    open_files = _open_files() if most_open_files is None else most_open_files
    values = {
        "assets_path": assets.path,
        "asset_names": "|".join(map(re.escape, assets.files)),
        "asset_types": "\n".join(f"{kind.partition(';')[0]} {suffix[1:]};" for suffix, kind in MEDIA_TYPES.items()),
        "asset_caching": CACHE_CONTROL,
        "assets_dir": _checked(assets_dir),
        "user": f"user {user};" if user else "",
        "processes": processes,
        "open_files": str(min(open_files, _CONNECTIONS + _SPARE_FILES)),
        "connections": str(min(_CONNECTIONS, open_files - _SPARE_FILES)),
        "pid_file": _checked(pid_file),
        "log_dir": _checked(log_dir),
        "temp_dir": _checked(temp_dir),
        "listen": served,
        "metrics_listen": "\n".join(f"listen {address};" for address in metrics_listen),
        "servers": "\n".join(f'server "unix:{_checked(path)}" max_fails=0;' for path in worker_sockets(socket_dir)),
        "worker_numbers": "\n".join(
            f'"unix:{path}" {number};' for number, path in enumerate(worker_sockets(socket_dir), start=1)
        ),
        "gatherer_servers": "\n".join(_gatherer_servers(socket_dir)),
        "workers": str(WORKERS),
        "worker_checks": _WORKER_CHECKS,
        "answer_timeout": str(ceil(settings.request_timeout) + _MARGIN),
        "taking_timeout": str(ceil(max(settings.request_timeout, TAKING_SECONDS)) + _MARGIN),
        "rate_all": settings.rate_all,
        "rate_create": settings.rate_create,
        "rate_open": settings.rate_open,
        "problem_maps": "\n".join(
            [
                *(_problem_map(name, index) for index, name in enumerate(("code", "title", "words"))),
                # Descriptions from HTTPStatus, one of which contains quotation marks: escape them for JSON.
                _map("description", {status: json.dumps(describe_status(status))[1:-1] for status in _PROBLEMS}),
            ]
        ),
        "page_maps": pages,
        "problem_page": f"{_page_headers(brand)}return 500 {whole_page};",
        "worker_problem_page": _WORKER_PROBLEM_PAGE.format(headers=_page_headers(brand), page=whole_page),
        "problem": _PROBLEM,
        "worker_problem": _WORKER_PROBLEM,
        **_forwarded(settings, tls),
        # Some builds of nginx lack the module that defines this variable.
        "peer": "$realip_remote_addr" if settings.trusted_networks else "$remote_addr",
        "real_ip": "\n".join(f"set_real_ip_from {network};" for network in settings.trusted_networks),
        "proxies": "\n".join(f"{network} 1;" for network in settings.trusted_networks),
        "strict_transport": STRICT_TRANSPORT,
    }
    if tls:
        values |= {
            "redirect_listen": _listen(listen, "backlog=4096"),
            "redirect_checks": (_PROXY_CHECK if settings.trusted_networks else "") + _REDIRECT_CHECKS,
            "redirect": f'{_HEADERS}return 308 "{_redirect_target(settings, tls.port)}$request_uri";',
            "certificate": _checked(tls.certificate),
            "ciphers": ":".join(CIPHERS),
        }
    # Indent each line of a value like its placeholder.
    return re.sub(r"(?m)(^ *)?%\{(\w+)\}", lambda place: indent(values[place[2]], place[1] or ""), text)


def _open_files() -> int:
    """Return the number of files that nginx may open: it inherits the limits of this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _CONNECTIONS + _SPARE_FILES if hard == resource.RLIM_INFINITY else hard


def _without(text: str, part: str) -> str:
    """Remove every section between the markers of a part."""
    return re.sub(rf"^ *# {part}\n.*?^ *# end {part}\n", "", text, flags=re.MULTILINE | re.DOTALL)


def _gatherer_servers(socket_dir: Path) -> list[str]:
    first, *others = (f'server "unix:{_checked(path)}"' for path in worker_sockets(socket_dir))
    return [f"{first} max_fails=3 fail_timeout=5s;", *(f"{other} max_fails=0 backup;" for other in others)]


def _listen(addresses: Sequence[str], options: str) -> str:
    return "\n".join(f"listen {address} {options};" for address in addresses)


def _forwarded(settings: Settings, tls: Tls | None) -> dict[str, str]:
    """Return the values of the headers about the client's connection.

    Without a trusted proxy, a worker needs only the scheme, and takes that for http if the header is missing.
    """
    if settings.trusted_networks:
        return {name: f"${name}" for name in ("client_host", "client_scheme", "client_prefix")}
    return {"client_host": '""', "client_scheme": "https" if tls else '""', "client_prefix": '""'}


def _redirect_target(settings: Settings, port: int) -> str:
    """Return the prefix of a redirect's path: the public address, or else the host of the request."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    return "https://$redirect_host" + ("" if port == HTTPS_PORT else f":{port}")


def _checked(path: Path) -> str:
    """Return a path. Raises `ValueError` if nginx would read a variable or the end of a quoted string in it."""
    if re.search(r'[$"\\\n]', str(path)):
        raise ValueError(f"nginx cannot use a path with $, quotes, backslashes or line breaks: {path}")
    return str(path)


def _page_headers(brand: Brand) -> str:
    return f"""\
default_type "{CONTENT_TYPE}";
{_HEADERS.replace(_JSON_POLICY, policy_of(style_of(brand)))}\
add_header Vary "{VARY}" always;
add_header Retry-After $retry_after always;
"""


def _page_maps(brand: Brand) -> tuple[str, str]:
    """Return the maps from the visitor's language and the status to the parts of a page, and the page of them all.

    As in `language_of`, the language is the one that the URL or the cookie selects, or the browser's first supported
    one.
    """
    if re.search(r"[$'\\]", style_of(brand)):
        raise ValueError("the style of an error page must not contain $, ' or a backslash, which texts escape")
    languages = read_languages(brand.name)
    any_language = "|".join(languages)
    preferred = [
        f'    "~*^(?:(?!(?:{any_language})\\b)[^,]*, *)*{code}\\b" {code};' for code in languages if code != DEFAULT
    ]
    selectable = [f"    {code} {code};" for code in languages]
    pages = {
        f"{code} {status}": _parts(html_of(problem_page(language, brand, status, detail)))
        for code, language in languages.items()
        for status, (_, _, detail) in _PROBLEMS.items()
    }
    names = [f"$problem_page_{number}" for number in range(max(map(len, pages.values())))]
    maps = [
        *("map $http_accept_language $preferred_language {", f"    default {DEFAULT};", *preferred, "}"),
        *(f"map $cookie_{PARAMETER} $remembered_language {{", "    default $preferred_language;", *selectable, "}"),
        *(f"map $arg_{PARAMETER} $page_language {{", "    default $remembered_language;", *selectable, "}"),
    ]
    for number, name in enumerate(names):
        parts = [f"    \"{page}\" '{parts[number]}';" for page, parts in pages.items() if number < len(parts)]
        maps += [f'map "$page_language $status" {name} {{', '    default "";', *parts, "}"]
    return "\n".join(maps), f'"{"".join(names)}"'


def _parts(page: str) -> list[str]:
    """Return a page in parts for strings in single quotes, each on one line."""
    for character in "$'\\":
        page = page.replace(character, f"&#{ord(character)};")
    page = " ".join(page.split("\n"))
    return [page[start : start + _PART] for start in range(0, len(page), _PART)]


def _problem_map(name: str, index: int) -> str:
    return _map(name, {status: problem[index] for status, problem in _PROBLEMS.items()})


def _map(name: str, words: Mapping[int, str]) -> str:
    lines = [f"    {status} {json.dumps(text)};" for status, text in words.items()]
    return "\n".join([f"map $status $problem_{name} {{", *lines, "}"])
