"""What the audit records: who signed in, who may, and what became of an item; never a link, a text or a token."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class AuditKind(StrEnum):
    """What happened."""

    REGISTERED = "registered"
    SIGNED_IN = "signed_in"
    SIGN_IN_FAILED = "sign_in_failed"
    SIGNED_OUT = "signed_out"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (a name)
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_DELETED = "passkey_deleted"
    API_TOKEN_CREATED = "api_token_created"  # noqa: S105
    API_TOKEN_DELETED = "api_token_deleted"  # noqa: S105
    ACCOUNT_DELETED = "account_deleted"
    INVITED = "invited"
    INVITATION_DELETED = "invitation_deleted"
    USER_DISABLED = "user_disabled"
    USER_ENABLED = "user_enabled"
    OPERATOR_GRANTED = "operator_granted"
    OPERATOR_REVOKED = "operator_revoked"
    ITEM_CREATED = "item_created"
    ITEM_BURNED = "item_burned"
    ITEM_OPENED = "item_opened"
    ITEM_OPENING_FAILED = "item_opening_failed"


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """One event. ``user_id`` is the account concerned, ``by`` the operator who acted on it over HTTP.

    ``method`` is how a user signed in: ``password``, ``passkey``, ``oidc`` or ``code``. ``network`` is the client's.
    """

    kind: AuditKind
    user_id: bytes | None = None
    by: bytes | None = None
    item_id: bytes | None = None
    method: str | None = None
    network: str | None = None


class Audit(Protocol):
    """Receives events."""

    def record(self, event: AuditEvent) -> None:
        """Record an event soon; never raises and never waits."""


class NoAudit:
    """Records nothing."""

    def record(self, event: AuditEvent) -> None:
        """Forget the event."""


NOT_RECORDED = NoAudit()
