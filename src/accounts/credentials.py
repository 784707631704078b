"""Names and passwords: what everybody who registers, signs in or lets a program sign in has in common."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from ..core.limits import Limit, failures_counted
from ..core.metrics import Metrics, Stopwatch
from ..errors import FieldError, Malformed
from .passwords import SHORTEST_PASSWORD, Passwords
from .problems import AccountDisabled, IncorrectCredentials, UsernameTaken
from .users import User, UserContent, UserStore


@dataclass(frozen=True, kw_only=True)
class CredentialLimits:
    """How often credentials may be tried; what counts are names in lower case and client networks."""

    register: Limit
    login_account: Limit
    login_address: Limit


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

    def failures_counted(self, username: str, network: str) -> AbstractAsyncContextManager[None]:
        """Count what the block does as a wrong password, unless it ends well or could not try."""
        limits = self._limits
        # The address first: one without tries left does not even for a moment take them from an account.
        return failures_counted((limits.login_address, network), (limits.login_account, username.lower()))

    async def reserve(self, username: str, network: str) -> tuple[User, bool]:
        """Return the user of a name, and True where the name was free and is now kept for a while.

        Raises `UsernameTaken` while the account is being deleted, `LimitReached`, `Damaged`, `Unavailable`.
        """
        user = await self._users.find_by_name(username)
        if user is None or user.is_lapsed:
            await self._limits.register.spend(network)
        reserved = await self._users.reserve(username)
        if reserved is None:
            raise UsernameTaken
        return reserved

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
        async with self.failures_counted(username, network):
            user = await self._matching(username, password, stopwatch)
        return await self._admitted(user, password, stopwatch)

    async def verify_or_begin(
        self, username: str, password: str, network: str, stopwatch: Stopwatch
    ) -> tuple[User, bool]:
        """Return the user whose name and password these are, and True where it is the first password of the name.

        Raises `Malformed` for a first password that is too short, and what `verify` raises.
        """
        user = await self._users.find_by_name(username)
        if user is not None and user.is_reserved and len(password) < SHORTEST_PASSWORD:
            raise Malformed(errors=(FieldError("password", f"must have at least {SHORTEST_PASSWORD} characters"),))
        async with self.failures_counted(username, network):
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
