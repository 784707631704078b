"""Gathering over HTTP."""

from typing import Any

from aiohttp import hdrs, web

from ..accounts.auth import Authenticator, Scope, is_api_token
from ..accounts.directory import UserDirectory
from ..accounts.guards import BearerGuard, OperatorGuard, bearer_token
from ..accounts.problems import AccountDisabled, IncorrectPassword, RegistrationClosed, UsernameTaken
from ..api.origin import Origin
from ..api.routing import Route
from ..api.streaming import JSON_LINES, StreamedResponse
from ..api.times import parse_time
from ..core.database.limits import LimitReached
from ..errors import Damaged, FieldError, Malformed, Unauthorized
from .bundle_reader import Span
from .export import Export
from .problems import BatchReused, OtherAddress, OutOfOrder
from .schemas import (
    Authenticate,
    Authenticated,
    AuthenticationProblem,
    Gathered,
    GatheredMessage,
    GatheredQuery,
    Identify,
    Message,
    SenderAnswer,
    SenderProblem,
    outcome,
)
from .sender_states import TOKEN_LIFE
from .service import NOBODY, GathererService, InvalidSenderToken

GATHERER = "gatherer"
CREATED, ACCEPTED = 201, 202
_UNAUTHORIZED = (
    "This request requires a token from POST /authenticate (after POST /identify) or an API token with the scope"
    " gather. Send it in token or as Authorization: Bearer <token>."
)
_STORED = outcome(CREATED, "Stored.")
_LOGGED_OUT = outcome(ACCEPTED, "You are logged out. Identify to send again.")
# Common to the three requests of a sender.
_SENDING: dict[str, Any] = {
    "method": "POST",
    "tag": GATHERER,
    "status": CREATED,
    "other_statuses": (ACCEPTED,),
    "status_of": lambda answer: answer.status_code,
    "details": SenderProblem,
}


class GathererRoutes:
    """The handlers and their declarations."""

    def __init__(
        self,
        service: GathererService,
        export: Export,
        authenticator: Authenticator,
        directory: UserDirectory,
        origin: Origin,
    ) -> None:
        self._service = service
        self._export = export
        self._authenticator = authenticator
        self._directory = directory
        self._origin = origin

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                path="/identify",
                summary="Identify as a sender",
                description="201: the name was free and is now reserved. 202: it is taken or was already reserved.",
                handler=self.identify,
                body=Identify,
                stores=True,
                answer=SenderAnswer,
                problems=(UsernameTaken, RegistrationClosed, LimitReached, Damaged),
                **_SENDING,
            ),
            Route(
                path="/authenticate",
                summary="Authenticate as a sender",
                description="201: the password is set. 202: the password is correct.",
                handler=self.authenticate,
                body=Authenticate,
                answer=Authenticated,
                problems=(OutOfOrder, IncorrectPassword, AccountDisabled, RegistrationClosed, LimitReached, Damaged),
                **{**_SENDING, "details": AuthenticationProblem},
            ),
            Route(
                path="/message",
                summary="Send messages, or log out",
                description="Requires the token from POST /authenticate, or an API token with the scope `gather`. 201:"
                " all messages are stored. 202: logged out; identify to send again.",
                handler=self.message,
                body=Message,
                stores=True,
                answer=Gathered,
                optional_guard=BearerGuard(self._authenticator, Scope.GATHER),
                problems=(InvalidSenderToken, OutOfOrder, OtherAddress, BatchReused, Damaged),
                **_SENDING,
            ),
            Route(
                method="GET",
                path="/gathered",
                tag=GATHERER,
                summary="Export gathered messages",
                description="For operators. One JSON object per line, oldest first. A body that ends without the final"
                " chunk is incomplete.",
                guard=OperatorGuard(self._authenticator),
                handler=self.gathered,
                query=GatheredQuery,
                lines=GatheredMessage,
            ),
        ]

    async def identify(self, request: web.Request, body: Identify) -> SenderAnswer:
        """Identify as a sender."""
        if await self._service.identify(body.username, self._origin.network(request)):
            return SenderAnswer(**outcome(CREATED, "The name was free. Authenticate to set its password."))
        return SenderAnswer(**outcome(ACCEPTED, "The name is known. Authenticate with its password."))

    async def authenticate(self, request: web.Request, body: Authenticate) -> Authenticated:
        """Authenticate as a sender."""
        admitted = await self._service.authenticate(body.username, body.password, self._origin.network(request))
        status, words = (CREATED, "The password is set.") if admitted.is_new else (ACCEPTED, "The password is correct.")
        return Authenticated(
            **outcome(status, f"{words} Send messages with the token."),
            token=admitted.token,
            expires_in=int(TOKEN_LIFE.total_seconds()),
        )

    async def message(self, request: web.Request, body: Message) -> Gathered:
        """Send messages, or log out."""
        network = self._origin.network(request)
        token = body.token if body.token is not None else bearer_token(request.headers.get(hdrs.AUTHORIZATION, ""))
        if token is None:
            raise Unauthorized(_UNAUTHORIZED)
        # An API token has no login to end: with one, "" and "logout" are ordinary messages.
        if body.is_logout and not is_api_token(token):
            await self._service.end(token, network)
            return Gathered(**_LOGGED_OUT, first_sequence=None, last_sequence=None)
        first, last = await self._service.send(token, body.all_messages, body.batch, network)
        return Gathered(**_STORED, first_sequence=first, last_sequence=last)

    async def gathered(self, _: web.Request, query: GatheredQuery) -> StreamedResponse:
        """Export gathered messages."""
        since, until = (parse_time(text) if text else None for text in (query.since, query.until))
        if since and until and until < since:
            raise Malformed(errors=(FieldError("until", "must not be before since"),))
        user_id = None
        if query.username is not None:
            user_id = await self._directory.id_of(query.username) or NOBODY
        chunks = self._export.chunks(Span(since, until, user_id))
        return await StreamedResponse.begin(chunks, headers={hdrs.CONTENT_TYPE: JSON_LINES})
