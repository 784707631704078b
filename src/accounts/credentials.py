"""Names and passwords: what everybody who registers, signs in or lets a program sign in has in common."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from ..core.database.failure_limits import FailureLimit, failures_counted
from ..core.database.limits import Limit
from ..core.metrics import Metrics, Stopwatch
from ..errors import FieldError, Malformed
from .passwords import Passwords
from .problems import AccountDisabled, IncorrectCredentials, UsernameTaken
from .users import User, UserContent, UserStore


@dataclass(frozen=True, kw_only=True)
class CredentialLimits:
    """How often credentials may be tried. Usernames count in lower case, and addresses as client networks.

    ``login_account`` counts wrong passwords for an account from one network, ``login_account_total`` from all of them,
    and ``own_password`` those that a signed-in user gives for their own account, for each session.
    """

    register: Limit
    identify: Limit
    login_address: FailureLimit
    login_account: FailureLimit
    login_account_total: FailureLimit
    own_password: FailureLimit

    async def forgive(self, username: str) -> None:
        """Forget every failed login of an account. Raises `Unavailable`."""
        await self.login_account.forget(username.lower())
        await self.login_account_total.forget(username.lower())


class Credentials:
    """Makes accounts and checks passwords, within the limits.

    A ``stopwatch`` that a method is given is paused while a password is hashed.
    """

    def __init__(self, *, users: UserStore, passwords: Passwords, limits: CredentialLimits, metrics: Metrics) -> None:
        self._users = users
        self._passwords = passwords
        self._limits = limits
        self._times = metrics.authentication.child("password")

    def timed(self) -> Stopwatch:
        """Return what measures how long it takes to tell whose a name and a password are."""
        return Stopwatch(self._times)

    def login_failures_counted(self, username: str, network: str) -> AbstractAsyncContextManager[None]:
        """Count the block as a wrong password for an account from a network, if it raises and could try."""
        limits, name = self._limits, username.lower()
        # From the narrowest attacker to the account: a try that is refused earlier holds no place later.
        return failures_counted(
            limits.login_address.of(network),
            limits.login_account.of(name, network),
            limits.login_account_total.of(name),
        )

    def own_failures_counted(self, session_id: bytes) -> AbstractAsyncContextManager[None]:
        """Count the block as a wrong password that a session gave for its own account, if it raises and could try.

        Failures elsewhere do not count, so strangers cannot keep a signed-in user from changing the password.
        """
        return failures_counted(self._limits.own_password.of(session_id.hex()))

    async def reserve(self, username: str, network: str) -> tuple[User, bool, datetime]:
        """Return the user of a name, True where the name was free and is now kept for a while, and when its count ends.

        Raises `UsernameTaken` while the account is being deleted, `LimitReached`, `Damaged`, `Unavailable`.
        """
        # Counted for every name: once the limit is reached, the answer is the same whether or not a name is taken.
        counted_until = await self._limits.identify.spend(network)
        reserved = await self._users.reserve(username)
        if reserved is None:
            raise UsernameTaken
        return *reserved, counted_until

    async def take_back_identification(self, network: str, counted_until: datetime) -> None:
        """Take back what `reserve` has counted. Raises `Unavailable`."""
        await self._limits.identify.give_back(network, window=counted_until)

    async def register(self, username: str, password: str, network: str) -> User:
        """Make an account. Raises `UsernameTaken`, `LimitReached`, `Unavailable`."""
        await self._limits.register.spend(network)
        # Only to spare the hashing; what keeps a name unique is the index.
        if await self._users.is_taken(username):
            raise UsernameTaken
        password_hash = await self._passwords.hash(password)
        user = await self._users.claim(UserContent(username=username, password_hash=password_hash))
        if user is None:
            raise UsernameTaken
        return user

    async def verify(self, username: str, password: str, network: str, stopwatch: Stopwatch) -> User:
        """Return the user whose name and password these are.

        Raises `IncorrectCredentials`, `AccountDisabled`, `LimitReached`, `Unavailable`.
        """
        async with self.login_failures_counted(username, network):
            user = await self._matching(username, password, stopwatch)
        return await self._admitted(user, password, stopwatch)

    async def verify_or_begin(
        self, username: str, password: str, network: str, stopwatch: Stopwatch, *, shortest: int
    ) -> tuple[User, bool]:
        """Return the user whose name and password these are, and True where it is the first password of the name.

        Raises `Malformed` for a first password of less than ``shortest`` characters, and what `verify` raises.
        """
        user = await self._users.find_by_name(username)
        if user is not None and user.is_reserved and len(password) < shortest:
            characters = f"{shortest} character{'' if shortest == 1 else 's'}"
            raise Malformed(errors=(FieldError("password", f"must have at least {characters}"),))
        if user is not None and user.is_reserved:
            await self._limits.register.spend(network)
        async with self.login_failures_counted(username, network):
            while user is not None and user.is_reserved:
                with stopwatch.paused():
                    password_hash = await self._passwords.hash(password)
                if begun := await self._users.set_first_password(user, password_hash):
                    return begun, True
                # Somebody else was first, or the reservation has lapsed.
                user = await self._users.find_by_name(username)
            user = await self._matching(username, password, stopwatch)
        return await self._admitted(user, password, stopwatch), False

    async def fits(self, user: User, password: str) -> bool:
        """Tell whether a password is the user's, without counting. Raises `Unavailable`."""
        return await self._passwords.check(password, user.content.password_hash)

    async def hash(self, password: str) -> str:
        """Return a new hash. Raises `Unavailable`."""
        return await self._passwords.hash(password)

    async def _matching(self, username: str, password: str, stopwatch: Stopwatch) -> User:
        user = await self._users.find_by_name(username)
        password_hash = user.content.password_hash if user else None
        with stopwatch.paused():
            is_right = await self._passwords.check(password, password_hash)
        if not is_right or user is None:
            raise IncorrectCredentials
        return user

    async def _admitted(self, user: User, password: str, stopwatch: Stopwatch) -> User:
        if user.content.disabled:
            raise AccountDisabled
        if self._passwords.is_outdated(user.content.password_hash or ""):
            with stopwatch.paused():
                password_hash = await self._passwords.hash(password)
            return await self._users.change(user, password_hash=password_hash) or user
        return user
