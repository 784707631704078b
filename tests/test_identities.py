"""Names with which programs identify: reserved without a password, an account with the first one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from src.accounts.activity import Activity
from src.accounts.administration import AccountAdministration, UnknownUser
from src.accounts.api_tokens import ApiTokenStore
from src.accounts.credentials import PasswordAuthenticator
from src.accounts.feature import credential_limits
from src.accounts.identities import AuthenticatedUser, Identities
from src.accounts.passwords import Passwords
from src.accounts.problems import AccountDisabled, IncorrectCredentials, UsernameTaken
from src.accounts.sessions import SessionStore
from src.accounts.users import RESERVATION, UserStore
from src.core.audit import NOT_RECORDED
from src.core.clock import utc_now
from src.core.crypto.hashing import HashingPool
from src.core.crypto.keys import KeyRing
from src.core.database.group_commit import group_commit
from src.core.database.limits import LimitReached
from src.core.metrics import Metrics
from src.errors import Damaged, Malformed

from .conftest import PASSWORD, Api

Serve = Callable[..., Awaitable[Api]]
HERE = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """A server, and the identities and users as another process sees them."""

    api: Api
    identities: Identities
    users: UserStore
    administration: AccountAdministration

    async def register(self, username: str, password: str) -> int:
        """Register and return the status."""
        return (await self.api.call("POST", "/register", {"username": username, "password": password}))[0]

    async def login(self, username: str, password: str) -> int:
        """Sign in and return the status."""
        return (await self.api.call("POST", "/login", {"username": username, "password": password}))[0]

    async def lapse(self) -> None:
        """Let every reservation expire before MongoDB deletes it."""
        await self.api.mongo.collection("users").update_many(
            {"reserved_until": {"$ne": None}}, {"$set": {"reserved_until": utc_now() - timedelta(seconds=1)}}
        )


@pytest.fixture
async def make_place(serve: Serve) -> AsyncIterator[Callable[..., Awaitable[Place]]]:
    """Start a server with given settings."""
    pools = []

    async def make(**overrides: Any) -> Place:
        api = await serve(**overrides)
        assert api.settings.keys is not None
        ring = KeyRing.parse(api.settings.keys.get_secret_value())
        batching = group_commit(max_batch=10, max_queue=100)
        pools.append(pool := HashingPool(threads=4, queue=100, longest_wait=10))
        users = UserStore(api.mongo, ring, batching)
        limits = credential_limits(api.settings, api.mongo, ring)
        authenticator = PasswordAuthenticator(
            users=users, passwords=Passwords(pool, cost=4), limits=limits, audit=NOT_RECORDED, metrics=Metrics.off()
        )
        identities = Identities(
            users=users,
            authenticator=authenticator,
            limits=limits,
            activity=Activity(api.mongo, batching),
            audit=NOT_RECORDED,
            shortest_password=api.settings.gather_password_min,
            registration_is_open=api.settings.registration == "open",
        )
        administration = AccountAdministration(
            users=users,
            sessions=SessionStore(api.mongo, ring, life=timedelta(hours=1)),
            tokens=ApiTokenStore(api.mongo, ring, batching),
            limits=limits,
            bcrypt_cost=4,
            audit=NOT_RECORDED,
        )
        return Place(api, identities, users, administration)

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
async def place(make_place: Callable[..., Awaitable[Place]]) -> Place:
    """A server with the default settings."""
    return await make_place()


async def test_a_reserved_name_can_be_registered(place: Place) -> None:
    """It cannot sign in and is invisible to operators; registering it succeeds at once, in the new spelling."""
    reserved = await place.identities.identify("Web-1", HERE)
    known = await place.identities.identify("web-1", "192.0.2.2")

    assert (True, False) == (reserved.is_new, known.is_new)
    assert reserved.user_id == known.user_id == await place.identities.find("WEB-1")
    assert 401 == await place.login("web-1", PASSWORD)
    assert [] == [user async for user in place.users.all()]
    with pytest.raises(UnknownUser):
        await place.administration.change("web-1", operator=True)
    assert 201 == await place.register("WEB-1", PASSWORD)
    assert 409 == await place.register("web-1", PASSWORD)
    assert 200 == await place.login("web-1", PASSWORD)
    assert "WEB-1" == (await place.administration.show("web-1")).user.name


async def test_a_reservation_expires_without_a_password(place: Place) -> None:
    """MongoDB deletes expired reservations; until then the name counts as new; accounts never expire."""
    users = place.api.mongo.collection("users")
    await place.identities.identify("idle", HERE)
    indexes = await users.index_information()
    document = await users.find_one({})

    assert 0 == indexes["reserved_until"]["expireAfterSeconds"]
    assert RESERVATION - timedelta(minutes=1) < document["reserved_until"] - utc_now() <= RESERVATION
    await place.lapse()
    assert (await place.identities.identify("idle", HERE)).is_new
    assert not (await place.identities.identify("idle", HERE)).is_new
    assert (await place.identities.authenticate("idle", PASSWORD, HERE)).is_new
    await place.identities.identify("other", HERE)
    assert 201 == await place.register("other", PASSWORD)
    assert 2 == await users.count_documents({})
    assert 0 == await users.count_documents({"reserved_until": {"$exists": True}})


async def test_an_expired_name_can_be_registered_and_used(place: Place) -> None:
    """A document that MongoDB has not deleted yet does not prevent it."""
    for name in ("one", "two"):
        await place.identities.identify(name, HERE)
    await place.lapse()

    assert 201 == await place.register("one", PASSWORD)
    assert (await place.identities.identify("two", HERE)).is_new


async def authenticate(place: Place, username: str, password: str) -> AuthenticatedUser | None:
    """Authenticate; None for a wrong password."""
    try:
        return await place.identities.authenticate(username, password, HERE)
    except IncorrectCredentials:
        return None


async def test_of_two_first_passwords_one_wins(place: Place) -> None:
    """Of any number of parallel first passwords, one becomes the account's, and the others are wrong."""
    await place.identities.identify("web-1", HERE)
    passwords = [f"password {number}" for number in range(12)]

    outcomes = await asyncio.gather(*(authenticate(place, "web-1", password) for password in passwords))

    winners = [password for password, outcome in zip(passwords, outcomes, strict=True) if outcome]
    assert 1 == len(winners)
    assert [True] == [outcome.is_new for outcome in outcomes if outcome]
    assert [password == winners[0] for password in passwords] == [
        await place.login("web-1", password) == 200 for password in passwords
    ]


@pytest.mark.parametrize("attempt", range(4))
async def test_registering_and_authenticating_at_once_make_one_account(place: Place, attempt: int) -> None:
    """The first request gets the name, and the other is rejected."""
    await place.identities.identify("web-1", HERE)

    registered, authenticated = await asyncio.gather(
        place.register("web-1", "the registered one"), authenticate(place, "web-1", "the authenticated one")
    )

    assert (registered == 201) != (authenticated is not None)
    assert (200 if registered == 201 else 401) == await place.login("web-1", "the registered one")
    assert (401 if registered == 201 else 200) == await place.login("web-1", "the authenticated one")
    assert 1 == await place.api.mongo.collection("users").count_documents({})


async def test_identifying_and_registering_at_once_make_one_account(place: Place) -> None:
    """A name is a single document; among parallel identifications, one is the first."""
    identities, registered = await asyncio.gather(
        asyncio.gather(*(place.identities.identify("Web-1", HERE) for _ in range(8))),
        asyncio.gather(*(place.register("web-1", PASSWORD) for _ in range(4))),
    )

    assert [201, 409, 409, 409] == sorted(registered)
    assert 1 == len({identity.user_id for identity in identities})
    assert sum(identity.is_new for identity in identities) <= 1
    assert 200 == await place.login("web-1", PASSWORD)


async def test_the_same_identity_at_once_is_new_once(place: Place) -> None:
    """Of many parallel identifications with a free name, one gets 201."""
    identities = await asyncio.gather(*(place.identities.identify("web-1", HERE) for _ in range(12)))

    assert [False] * 11 + [True] == sorted(identity.is_new for identity in identities)


@pytest.mark.parametrize(("minimum", "words"), [(4, "4 characters"), (1, "1 character"), (30, "30 characters")])
async def test_a_first_password_has_the_length_of_the_setting(
    make_place: Callable[..., Awaitable[Place]], minimum: int, words: str
) -> None:
    """A shorter one is rejected and leaves the name unchanged; registration always requires 8 characters."""
    place = await make_place(gather_password_min=minimum)
    await place.identities.identify("web-1", HERE)
    await place.identities.identify("web-2", HERE)

    with pytest.raises(Malformed, match=f"password: must have at least {words}$|at least {words}\\."):
        await place.identities.authenticate("web-1", "x" * (minimum - 1), HERE)
    assert (await place.identities.authenticate("web-1", "x" * minimum, HERE)).is_new
    assert 400 == await place.register("web-2", "x" * 7)


async def test_a_short_password_of_an_account_is_merely_wrong(place: Place) -> None:
    """The minimum applies only to first passwords."""
    await place.identities.identify("web-1", HERE)

    with pytest.raises(Malformed, match="password: must have at least 4 characters"):
        await place.identities.authenticate("web-1", "abc", HERE)
    assert (await place.identities.authenticate("web-1", PASSWORD, HERE)).is_new
    with pytest.raises(IncorrectCredentials):
        await place.identities.authenticate("web-1", "abc", HERE)


async def test_every_name_counts_before_it_is_looked_up(make_place: Callable[..., Awaitable[Place]]) -> None:
    """Above the limit of an address, free and taken names get the same response."""
    place = await make_place(rate_limits="on", limit_identify="3 per 1 hour")
    await place.register("ann", PASSWORD)
    for name in ("one", "ann", "one"):
        await place.identities.identify(name, HERE)

    for name in ("ann", "one", "two"):
        with pytest.raises(LimitReached):
            await place.identities.identify(name, HERE)
    assert await place.identities.find("two") is None
    await place.identities.identify("two", "192.0.2.2")


async def test_a_first_password_counts_as_a_registration(make_place: Callable[..., Awaitable[Place]]) -> None:
    """A program cannot create more accounts from an address than a user."""
    place = await make_place(rate_limits="on", limit_register="2 per 1 hour")
    for name in ("one", "two", "three"):
        await place.identities.identify(name, HERE)
    for name in ("one", "two"):
        await place.identities.authenticate(name, PASSWORD, HERE)

    with pytest.raises(LimitReached):
        await place.identities.authenticate("three", PASSWORD, HERE)
    await place.identities.authenticate("one", PASSWORD, HERE)


async def test_wrong_passwords_share_the_count_of_the_login(make_place: Callable[..., Awaitable[Place]]) -> None:
    """Guesses at the gatherer count as guesses at the account."""
    place = await make_place(rate_limits="on", limit_login_account="3 per 1 hour")
    await place.register("ann", PASSWORD)
    assert 401 == await place.login("ann", "wrong")
    for _ in range(2):
        assert await authenticate(place, "ANN", "wrong") is None

    with pytest.raises(LimitReached):
        await place.identities.authenticate("ann", PASSWORD, HERE)
    assert 429 == await place.login("ann", PASSWORD)


async def test_enabling_an_account_forgives_wrong_passwords(make_place: Callable[..., Awaitable[Place]]) -> None:
    """From every address, but not those of other accounts."""
    place = await make_place(rate_limits="on", limit_login_account="1 per 1 hour")
    for name in ("ann", "bob"):
        await place.register(name, PASSWORD)
        assert 401 == await place.login(name, "wrong")
        assert 429 == await place.login(name, PASSWORD)

    await place.administration.change("Ann", disabled=False)

    assert [200, 429] == [await place.login(name, PASSWORD) for name in ("ann", "bob")]


async def test_a_proof_ends_with_the_password(place: Place) -> None:
    """It is void once the password changes, or the account is disabled or deleted."""
    await place.register("ann", PASSWORD)
    first = await place.identities.authenticate("ann", PASSWORD, HERE)

    assert await place.identities.are_good(first.user_id, first.proof)
    assert not await place.identities.are_good(first.user_id, bytes(16))
    assert not await place.identities.are_good(bytes(16), first.proof)
    await place.administration.change("ann", disabled=True)
    assert not await place.identities.are_good(first.user_id, first.proof)
    with pytest.raises(AccountDisabled):
        await place.identities.authenticate("ann", PASSWORD, HERE)
    await place.administration.change("ann", disabled=False)
    assert await place.identities.are_good(first.user_id, first.proof)
    await place.administration.reset_password("ann", "another password")
    assert not await place.identities.are_good(first.user_id, first.proof)


async def test_an_account_being_deleted_keeps_its_name(place: Place) -> None:
    """The name stays taken until it is deleted, and no reservation restores it."""
    user_id = bytes.fromhex((await place.api.register("ann"))["user_id"])
    await place.users.mark_deleting(user_id)

    with pytest.raises(UsernameTaken):
        await place.identities.identify("ann", HERE)
    assert 409 == await place.register("ann", PASSWORD)
    assert await place.identities.find("ann") is None


async def test_a_damaged_user_is_neither_reserved_nor_taken_over(place: Place) -> None:
    """Write access to the database cannot free an account by marking it as reserved."""
    user_id = bytes.fromhex((await place.api.register("ann"))["user_id"])
    users = place.api.mongo.collection("users")
    await users.update_one({}, {"$set": {"reserved_until": utc_now() + timedelta(hours=1)}})

    assert 409 == await place.register("ann", "another password")
    assert not (await place.identities.identify("ann", HERE)).is_new
    assert await authenticate(place, "ann", "another password") is None
    assert 200 == await place.login("ann", PASSWORD)
    await users.update_one({}, {"$set": {"envelope": b"nonsense"}})
    with pytest.raises(Damaged):
        await place.identities.identify("ann", HERE)
    assert 409 == await place.register("ann", "another password")
    assert not await place.identities.are_good(user_id, bytes(16))
