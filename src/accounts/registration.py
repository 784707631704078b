"""Registration: who may create an account, and its creation."""

from functools import partial
from typing import Any, Literal

from ..core.audit import Audit, AuditEvent, AuditKind
from ..errors import Damaged
from .credentials import CredentialLimits
from .invitations import Invitation, InvitationStore, InvitationUsed
from .passwords import Passwords
from .problems import RegistrationClosed, UsernameTaken
from .users import User, UserContent, UserStore

Mode = Literal["open", "invite", "closed"]
"""Who may register: everyone, people with an invitation, or no one."""
_REQUIRED = "Registration requires an invitation. Ask the operator of this service for one."
_INVALID = "This invitation is incorrect, used, expired or withdrawn. Ask for a new one."


class Registration:
    """Creates accounts for people who register, within the limits."""

    def __init__(
        self,
        *,
        mode: Mode,
        users: UserStore,
        invitations: InvitationStore,
        passwords: Passwords,
        limits: CredentialLimits,
        audit: Audit,
    ) -> None:
        self._mode = mode
        self._users = users
        self._invitations = invitations
        self._passwords = passwords
        self._limits = limits
        self._audit = audit

    async def register(self, username: str, password: str, invitation: str | None, network: str) -> User:
        """Create an account, with the role of the invitation if there is one.

        Raises `RegistrationClosed`, `UsernameTaken`, `LimitReached`, `Unavailable`.
        """
        await self._limits.register.spend(network)
        # Before the password is hashed, which is what costs most.
        invited = await self._admitted(invitation)
        # Only to save the hashing: the unique index is what guarantees that a name is unique.
        if await self._users.is_taken(username):
            raise UsernameTaken
        password_hash = await self._passwords.hash(password)
        content = UserContent(
            username=username, password_hash=password_hash, operator=invited is not None and invited.content.operator
        )
        try:
            user = await self._users.claim(content, partial(self._use, invited) if invited else None)
        except InvitationUsed:
            raise RegistrationClosed(_INVALID) from None
        if user is None:
            raise UsernameTaken
        self._record(user, invited.content.created_by if invited else None, network)
        return user

    async def _admitted(self, text: str | None) -> Invitation | None:
        """Return the invitation that was given; None if none was given and none is required."""
        if self._mode == "closed":
            raise RegistrationClosed
        if text is None:
            if self._mode == "invite":
                raise RegistrationClosed(_REQUIRED)
            return None
        invitation = await self._invitations.find(text)
        if invitation is None or not await self._is_backed(invitation):
            raise RegistrationClosed(_INVALID)
        return invitation

    async def _is_backed(self, invitation: Invitation) -> bool:
        """Tell whether the creator is still an operator; otherwise, a former one could come back as another user."""
        if invitation.content.created_by is None:
            return True
        try:
            creator = await self._users.find(invitation.content.created_by)
        except Damaged:
            return False
        return creator is not None and creator.content.operator and not creator.content.disabled

    async def _use(self, invitation: Invitation, session: Any, _: bytes) -> None:
        await self._invitations.use(invitation, session)

    def _record(self, user: User, by: bytes | None, network: str) -> None:
        kinds = [AuditKind.REGISTERED, *([AuditKind.OPERATOR_GRANTED] if user.content.operator else [])]
        for kind in kinds:
            self._audit.record(AuditEvent(kind=kind, user_id=user.user_id, by=by, network=network))
