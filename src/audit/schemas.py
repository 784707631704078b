"""The query and the lines of the audit route."""

from datetime import datetime

from pydantic import Field

from ..accounts.schemas import GivenUsername
from ..api.schema import Answer, QueryParameters
from ..api.times import TimeText
from ..core.audit import AuditKind


class AuditQuery(QueryParameters):
    """Selects the events to export."""

    since: TimeText | None = Field(
        None, description="A date or a time: events at or after it.", examples=["2026-03-01"]
    )
    until: TimeText | None = Field(None, description="A date or a time: events before it.")
    kind: AuditKind | None = Field(None, description="Only events of this kind.")
    user: GivenUsername | None = Field(
        None, description="Only events of this user, by username, ignoring case, or by id: also as the acting operator."
    )


class AuditRecord(Answer):
    """An event. Members that do not apply to it are absent."""

    at: datetime = Field(description="When it happened.")
    kind: AuditKind = Field(description="The kind of event.")
    user_id: str | None = Field(None, description="The id of the account concerned.")
    username: str | None = Field(None, description="Its username; null if the account was deleted.")
    by: str | None = Field(None, description="The id of the operator who acted over HTTP.")
    by_username: str | None = Field(None, description="The operator's username; null if the account was deleted.")
    item_id: str | None = Field(None, description="The id of the secret or message. It opens nothing.")
    method: str | None = Field(None, description="How a user signed in: `password`, `passkey`, `oidc` or `code`.")
    address: str | None = Field(
        None, description="The client's address, or its IPv6 network; only if SEALPOST_AUDIT_ADDRESSES is set."
    )
