"""Users and invitations over HTTP, for operators."""

from datetime import timedelta
from typing import Any

from aiohttp import web

from ..api.origin import Origin
from ..api.routing import Route, id_of
from ..errors import Damaged
from .administration import AccountAdministration, Actor, InvitationAdministration, UnknownUser, UnreadableUser
from .administration_schemas import (
    ChangeUser,
    CreateInvitation,
    InvitationAnswer,
    InvitationCreated,
    Invitations,
    Role,
    UserAnswer,
    UserQuery,
    Users,
)
from .directory import UserDirectory
from .guards import CALLER, OperatorGuard
from .invitations import Invitation
from .problems import InvitationNotFound, InvitationsOff, OwnAccount, TooManyInvitations, UserNotFound
from .users import User, UserStore

ADMINISTRATION = "administration"


class AdministrationRoutes:
    """The routes for operators."""

    def __init__(
        self,
        *,
        accounts: AccountAdministration,
        invitations: InvitationAdministration,
        users: UserStore,
        directory: UserDirectory,
        guard: OperatorGuard,
        origin: Origin,
    ) -> None:
        self._accounts = accounts
        self._invitations = invitations
        self._users = users
        self._directory = directory
        self._guard = guard
        self._origin = origin

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="GET",
                path="/users",
                tag=ADMINISTRATION,
                summary="List users",
                description="For operators. Oldest first, without accounts that cannot be read.",
                guard=self._guard,
                handler=self.list_users,
                query=UserQuery,
                answer=Users,
                problems=(UserNotFound,),
            ),
            Route(
                method="PATCH",
                path="/users/{user_id}",
                path_parameters={"user_id": "The `user_id` of a user from GET /users."},
                tag=ADMINISTRATION,
                summary="Disable or enable a user, or change its role",
                description="For operators. Disabling ends all sessions of the user.",
                guard=self._guard,
                handler=self.change_user,
                body=ChangeUser,
                answer=UserAnswer,
                problems=(UserNotFound, OwnAccount, Damaged),
            ),
            Route(
                method="POST",
                path="/invitations",
                tag=ADMINISTRATION,
                summary="Create an invitation",
                description="For operators. The response contains the only copy of the invitation.",
                guard=self._guard,
                handler=self.invite,
                body=CreateInvitation,
                stores=True,
                answer=InvitationCreated,
                status=201,
                problems=(InvitationsOff, TooManyInvitations),
            ),
            Route(
                method="GET",
                path="/invitations",
                tag=ADMINISTRATION,
                summary="List invitations",
                description="For operators.",
                guard=self._guard,
                handler=self.list_invitations,
                answer=Invitations,
            ),
            Route(
                method="DELETE",
                path="/invitations/{invitation_id}",
                path_parameters={"invitation_id": "The `id` of an invitation from GET /invitations."},
                tag=ADMINISTRATION,
                summary="Delete an invitation",
                description="For operators. Accounts that were created with it stay.",
                guard=self._guard,
                handler=self.delete_invitation,
                status=204,
                problems=(InvitationNotFound,),
            ),
        ]

    async def list_users(self, _: web.Request, query: UserQuery) -> Users:
        """List users."""
        page = await self._users.page(bytes.fromhex(query.after) if query.after else None, query.limit)
        if page is None:
            raise UserNotFound
        users, following = page
        return Users(users=[_user(user) for user in users], next=following.hex() if following else None)

    async def change_user(self, request: web.Request, body: ChangeUser) -> UserAnswer:
        """Change a user."""
        try:
            user = await self._accounts.change(
                id_of(request, "user_id"), disabled=body.disabled, operator=body.operator, actor=self._actor(request)
            )
        except UnknownUser:
            raise UserNotFound from None
        except UnreadableUser:
            raise Damaged("This account cannot be read: modified in the database, or its key is missing.") from None
        return _user(user)

    async def invite(self, request: web.Request, body: CreateInvitation) -> InvitationCreated:
        """Create an invitation."""
        invitation, text = await self._invitations.create(
            operator=body.role == "operator",
            uses=body.uses,
            life=timedelta(days=body.expires_in_days),
            actor=self._actor(request),
        )
        return InvitationCreated(
            id=invitation.invitation_id.hex(),
            invitation=text,
            url=self._origin.link(request, f"/join#{text}"),
            role=body.role,
            expires_at=invitation.content.expires_at,
            uses_left=invitation.uses_left,
        )

    async def list_invitations(self, _: web.Request, __: None) -> Invitations:
        """List invitations."""
        invitations = await self._invitations.all()
        creators = {one.content.created_by for one in invitations if one.content.created_by}
        names = await self._directory.names(creators)
        return Invitations(
            invitations=[
                InvitationAnswer(
                    id=one.invitation_id.hex(),
                    role=_role(one),
                    created_at=one.created_at,
                    created_by=names.get(one.content.created_by) if one.content.created_by else None,
                    expires_at=one.content.expires_at,
                    uses_left=one.uses_left,
                )
                for one in invitations
            ]
        )

    async def delete_invitation(self, request: web.Request, _: None) -> None:
        """Delete an invitation."""
        await self._invitations.delete(id_of(request, "invitation_id"), self._actor(request))

    def _actor(self, request: web.Request) -> Actor:
        return Actor(request[CALLER].user_id, self._origin.network(request))


def _user(user: User) -> UserAnswer:
    return UserAnswer(
        user_id=user.user_id.hex(),
        username=user.name,
        created_at=user.created_at,
        last_login_at=user.last_login_at,
        last_request_at=user.last_request_at,
        operator=user.content.operator,
        disabled=user.content.disabled,
    )


def _role(invitation: Invitation) -> Role:
    return "operator" if invitation.content.operator else "member"
