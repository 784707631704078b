"""The API for commands without an event loop, and how options choose server, TLS, proxy and credentials."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .addresses import DEFAULT_URL, has_scheme, parse_server_url
from .environment import TOKEN, config_directory, read_variable
from .errors import UNSURE, OutcomeUnknown, RequestRefused
from .options import Shared
from .output import say
from .policy import Auth, Resend
from .proxies import find_proxy
from .responses import NO_WORDS, JsonObject, Response, Words

if TYPE_CHECKING:
    import asyncio

    from .api import Api
    from .authentication import SessionTokens
    from .credentials import CredentialStore
    from .transport import Transport


NO_ROUTE = frozenset({"not_found", "method_not_allowed"})
FEATURES = {
    "": "messages",
    "message": "messages",
    "posts": "posts",
    "echo": "echo",
    **dict.fromkeys(("register", "login", "me", "sessions", "tokens"), "accounts"),
}
"""What a server that does not know a path lacks, by the path's first segment."""


class BlockingApi:
    """Blocking calls to one server; ``session`` is the stored sign-in there."""

    def __init__(self, api: "Api", session: "SessionTokens", runner: "asyncio.Runner") -> None:
        self.api, self.session = api, session
        self.url = api.transport.url
        self.run = runner.run

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        auth: Auth = Auth.NONE,
        query: Mapping[str, str] | None = None,
        resend: Resend = Resend.NEVER,
        extra_seconds: float = 0,
    ) -> Response:
        """Return the response, as `Api.call` does."""
        try:
            answer = self.run(
                self.api.call(method, path, body, auth=auth, query=query, resend=resend, extra_seconds=extra_seconds)
            )
        except KeyboardInterrupt:
            if resend < Resend.ALWAYS:
                say(f"interrupted{UNSURE}")
            raise
        if answer.code in NO_ROUTE and (feature := FEATURES.get(path.split("/")[1])):
            raise RequestRefused(f"{self.url} has no {feature}", status=answer.status, code=answer.code)
        return answer

    def get(
        self,
        path: str,
        *,
        auth: Auth = Auth.NONE,
        query: Mapping[str, str] | None = None,
        words: Words = NO_WORDS,
    ) -> JsonObject:
        """Return the body of a successful GET; for ``words``, see `Response.error`."""
        return self.call("GET", path, auth=auth, query=query, resend=Resend.ALWAYS).checked(words)

    def put(self, path: str, *, auth: Auth = Auth.NONE, words: Words = NO_WORDS) -> JsonObject:
        """Return the body of a successful PUT, which has to be idempotent."""
        return self.call("PUT", path, auth=auth, resend=Resend.ALWAYS).checked(words)

    def once(
        self, method: str, path: str, body: Mapping[str, Any], *, unsure: str, auth: Auth = Auth.REQUIRED
    ) -> JsonObject:
        """Return the body of a success, for a request that is not idempotent.

        ``unsure`` is added to an error after which the request may have been carried out: it says how to find out.
        """
        try:
            answer = self.call(method, path, body, auth=auth, resend=Resend.LIMITED)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(f"{error}; {unsure}") from None
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            said = str(answer.error()).rstrip(".")
            raise OutcomeUnknown(f"{said}{UNSURE}; {unsure}")
        return answer.checked()

    def delete(self, path: str, *, auth: Auth = Auth.NONE, words: Words = NO_WORDS) -> JsonObject:
        """Return the body of a successful DELETE. Deleted by an attempt whose response was lost counts as success."""
        answer = self.call("DELETE", path, auth=auth, resend=Resend.ALWAYS)
        if answer.after_loss and answer.status == HTTPStatus.NOT_FOUND:
            say("deleted, although the response to the first attempt was lost")
            return JsonObject()
        return answer.checked(words)


def server_url(shared: Shared) -> str:
    """Return the given server, or that of the last sign-in, or the default."""
    if shared.url is not None:
        return read_server_url(shared.url)
    return _store().read().default_url or DEFAULT_URL


def read_server_url(text: str) -> str:
    """Return a server's URL, and report the scheme if the text has none. Raises `WrongUsage`."""
    url = parse_server_url(text)
    if not has_scheme(text):
        say(f"no http:// or https:// given: using {url}")
    return url


def make_transport(shared: Shared, url: str, *, keep_alive: bool = False) -> "Transport":
    """Return a transport to a server, not yet entered."""
    from .tls import tls_context  # noqa: PLC0415 (aiohttp is slow to import)
    from .transport import Transport  # noqa: PLC0415

    remembered = _store().read().sessions.get(url)
    tls = None
    if url.startswith("https:"):
        # Only for https, because loading the system's CA certificates is slow.
        tls = tls_context(ca_file=shared.ca_file, insecure=shared.insecure)
        if shared.insecure:
            say("certificate verification is off: the connection may be intercepted")
    return Transport(
        url,
        tls=tls,
        timeout=shared.timeout,
        proxy=find_proxy(url, os.environ),
        allow_http=shared.allow_http or (remembered is not None and remembered.allow_http),
        keep_alive=keep_alive,
        notify=say,
    )


@contextmanager
def connect(shared: Shared, *, elsewhere: str | None = None) -> Iterator[BlockingApi]:
    """Prepare for calls to the server of the options, or to the server ``elsewhere``, which gets no credentials.

    Nothing is sent yet. Raises `WrongUsage` for unusable options, and for plain http to another machine.
    """
    import asyncio  # noqa: PLC0415

    from .api import Api  # noqa: PLC0415
    from .authentication import GivenToken, SessionTokens  # noqa: PLC0415

    transport = make_transport(shared, elsewhere or server_url(shared))
    session = SessionTokens(_store(), transport)
    given = read_variable(TOKEN)
    tokens = GivenToken(given) if given else session
    with asyncio.Runner() as runner:
        runner.run(transport.__aenter__())
        try:
            yield BlockingApi(Api(transport, None if elsewhere else tokens), session, runner)
        finally:
            runner.run(transport.__aexit__(None, None, None))


def _store() -> "CredentialStore":
    from .credentials import CredentialStore  # noqa: PLC0415

    return CredentialStore(config_directory())
