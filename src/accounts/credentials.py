"""Authentication by username and password, within rate limits."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.database.failure_limits import FailureLimit, failures_counted
from ..core.database.limits import Limit
from ..core.metrics import Metrics, Stopwatch
from ..errors import FieldError, Malformed
from .passwords import Passwords
from .problems import AccountDisabled, IncorrectCredentials, RegistrationClosed
from .users import User, UserStore


@dataclass(frozen=True, kw_only=True)
class CredentialLimits:
    """The rate limits on credentials. Usernames count in lower case, and addresses as client networks.

    ``login_account`` counts wrong passwords for an account from one network, ``login_account_total`` from all networks.
    ``sign_in_codes`` counts the codes that each account issues.
    ``own_password`` counts, for each session, wrong passwords that logged-in users give for their own account.
    """

    register: Limit
    identify: Limit
    login_address: FailureLimit
    login_account: FailureLimit
    login_account_total: FailureLimit
    own_password: FailureLimit
    sign_in_codes: Limit

    async def forgive(self, username: str) -> None:
        """Forget all failed logins of an account. Raises `Unavailable`."""
        await self.login_account.forget(username.lower())
        await self.login_account_total.forget(username.lower())


class PasswordAuthenticator:
    """Verifies passwords, within the limits.

    A ``stopwatch`` is paused while a password is hashed.
    """

    def __init__(
        self, *, users: UserStore, passwords: Passwords, limits: CredentialLimits, metrics: Metrics, audit: Audit
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._limits = limits
        self._audit = audit
        self._times = metrics.authentication.child("password")

    def timed(self) -> Stopwatch:
        """Return a stopwatch for an authentication by password."""
        return Stopwatch(self._times)

    def login_failures_counted(self, username: str, network: str) -> AbstractAsyncContextManager[None]:
        """Count the block as a failed login to an account from a network, if a password was tried and it raises."""
        limits, name = self._limits, username.lower()
        # From the single network to the whole account: an attempt that one limit refuses holds no place in the next.
        return failures_counted(
            limits.login_address.of(network),
            limits.login_account.of(name, network),
            limits.login_account_total.of(name),
        )

    def own_failures_counted(self, session_id: bytes) -> AbstractAsyncContextManager[None]:
        """Count the block as a wrong password that a session gave for its own account, if one was tried and it raises.

        Failed logins do not count, so an attacker cannot prevent a logged-in user from changing the password.
        """
        return failures_counted(self._limits.own_password.of(session_id.hex()))

    async def verify(self, username: str, password: str, network: str, stopwatch: Stopwatch) -> User:
        """Return the user with this name and password.

        Raises `IncorrectCredentials`, `AccountDisabled`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        async with self.login_failures_counted(username, network):
            user = await self._matching(username, password, network, stopwatch)
        return await self._admitted(user, password, network, stopwatch)

    async def verify_or_begin(
        self, username: str, password: str, network: str, stopwatch: Stopwatch, *, may_begin: bool, shortest: int
    ) -> tuple[User, bool]:
        """Return the user with this name and password, and True if it is the first password of a reserved name.

        Raises `RegistrationClosed` for a reserved name unless ``may_begin``, `Malformed` for a first password shorter
        than ``shortest`` characters, and the errors of `verify`.
        """
        user = await self._users.find_by_name(username)
        if user is not None and user.is_reserved and not may_begin:
            # Reserved before registration was closed.
            raise RegistrationClosed
        if user is not None and user.is_reserved and len(password) < shortest:
            characters = f"{shortest} character{'' if shortest == 1 else 's'}"
            raise Malformed(errors=(FieldError("password", f"must have at least {characters}"),))
        if user is not None and user.is_reserved:
            await self._limits.register.spend(network)
        async with self.login_failures_counted(username, network):
            while user is not None and user.is_reserved and may_begin:
                with stopwatch.paused():
                    password_hash = await self._passwords.hash(password)
                if begun := await self._users.set_first_password(user, password_hash):
                    self._audit.record(AuditEvent(kind=AuditKind.REGISTERED, user_id=begun.user_id, network=network))
                    return begun, True
                # Another request was first, or the reservation has lapsed.
                user = await self._users.find_by_name(username)
            user = await self._matching(username, password, network, stopwatch)
        return await self._admitted(user, password, network, stopwatch), False

    def record_failure(self, user: User, network: str) -> None:
        """Record a failed attempt to sign in to an account by password."""
        self._audit.record(
            AuditEvent(kind=AuditKind.SIGN_IN_FAILED, user_id=user.user_id, method="password", network=network)
        )

    async def _matching(self, username: str, password: str, network: str, stopwatch: Stopwatch) -> User:
        user = await self._users.find_by_name(username)
        password_hash = user.content.password_hash if user else None
        with stopwatch.paused():
            is_right = await self._passwords.check(password, password_hash)
        if not is_right or user is None:
            # A reserved name is no account, and a name without an account must not be recorded.
            if user is not None and not user.is_reserved:
                self.record_failure(user, network)
            raise IncorrectCredentials
        return user

    async def _admitted(self, user: User, password: str, network: str, stopwatch: Stopwatch) -> User:
        if user.content.disabled:
            self.record_failure(user, network)
            raise AccountDisabled
        if self._passwords.is_outdated(user.content.password_hash or ""):
            with stopwatch.paused():
                password_hash = await self._passwords.hash(password)
            return await self._users.change(user, password_hash=password_hash) or user
        return user
