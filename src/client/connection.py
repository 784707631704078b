"""From options to a connection: which server, with which credentials, how checked; for commands without a loop."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .addresses import DEFAULT_URL, parse_server_url
from .answers import Answer, Record
from .api import Api, Auth
from .authentication import GivenToken, SessionTokens
from .credentials import CredentialStore
from .environment import TOKEN, config_directory, read_variable
from .options import Shared
from .output import say
from .tls import tls_context
from .transport import Resend, Transport


class Connection:
    """Calls of one command to one server, each of which ends before the next line."""

    def __init__(self, api: Api, session: SessionTokens, runner: asyncio.Runner) -> None:
        self.api, self.session, self._runner = api, session, runner
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
    ) -> Answer:
        """Return the answer, as `Api.call`."""
        return self.run(self.api.call(method, path, body, auth=auth, query=query, resend=resend))

    def get(self, path: str, *, auth: Auth = Auth.NONE, query: Mapping[str, str] | None = None) -> Record:
        """Return the body of a successful GET."""
        return self.call("GET", path, auth=auth, query=query, resend=Resend.ALWAYS).checked()


def make_transport(shared: Shared, url: str, *, keep_alive: bool = False) -> Transport:
    """Return a transport, not entered yet, to a server as the options say."""
    remembered = CredentialStore(config_directory()).read().sessions.get(url)
    if shared.insecure:
        say("the server's certificate is not checked: anybody could listen in")
    return Transport(
        url,
        tls=tls_context(ca_file=shared.ca_file, insecure=shared.insecure),
        timeout=shared.timeout,
        allow_http=shared.allow_http or (remembered is not None and remembered.allow_http),
        keep_alive=keep_alive,
        notify=say,
    )


def server_url(shared: Shared) -> str:
    """Return the server to talk to: the given one, the one that was signed in to last, or the one on this machine."""
    if shared.url:
        return parse_server_url(shared.url)
    return CredentialStore(config_directory()).read().default_url or DEFAULT_URL


@contextmanager
def connect(shared: Shared, *, elsewhere: str | None = None) -> Iterator[Connection]:
    """Connect to the server of the options, or to the one of a link ``elsewhere``, which gets no credentials."""
    url = elsewhere or server_url(shared)
    store = CredentialStore(config_directory())
    with asyncio.Runner() as runner:
        transport = make_transport(shared, url)
        runner.run(transport.__aenter__())
        try:
            session = SessionTokens(store, transport)
            given = read_variable(TOKEN)
            tokens = GivenToken(given) if given else session
            yield Connection(Api(transport, None if elsewhere else tokens), session, runner)
        finally:
            runner.run(transport.__aexit__(None, None, None))
