"""Password hashes: every character counts, and the work of a check discloses nothing."""

from collections.abc import Awaitable, Callable
from unittest.mock import AsyncMock

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.accounts.deletion import AccountDeletion
from src.accounts.passwords import _prehash, check_password, cost_of, hash_password, new_password

from .conftest import PASSWORD, Api
from .test_metrics import scrape

TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=200)


def test_the_pre_hash_is_unchanged() -> None:
    """A known answer: a changed pre-hash would lock out all users, and needs a new version."""
    assert b"F6VPgoemTgp0gSB/B3d8m2+unqnYrWgFVZM7FSnYXm8=" == _prehash("correct horse")


@settings(max_examples=30)
@given(TEXT, TEXT)
def test_a_hash_matches_only_its_password(password: str, other: str) -> None:
    """Any text is a valid password; only texts with the same NFC form match its hash."""
    password_hash = hash_password(password, 4)

    assert check_password(password, password_hash, 4)
    assert (_prehash(password) == _prehash(other)) == check_password(other, password_hash, 4)


@given(TEXT)
def test_bcrypt_sees_neither_a_nul_nor_more_than_72_bytes(password: str) -> None:
    """So it ignores nothing."""
    prehash = _prehash(password)

    assert 44 == len(prehash)
    assert b"\0" not in prehash


def test_a_hash_contains_its_version_and_cost() -> None:
    """Both are needed to replace it later."""
    password_hash = hash_password(PASSWORD, 5)

    assert password_hash.startswith("v1$$2b$05$")
    assert 5 == cost_of(password_hash)
    assert 0 == cost_of("v2$whatever")


@pytest.mark.parametrize("password_hash", [None, "", "v1$", "v0$$2b$04$" + "a" * 53, "v1$$2b$99$" + "a" * 53 + "\n"])
def test_an_invalid_hash_matches_nothing(password_hash: str | None) -> None:
    """A missing or unreadable hash is a mismatch, not an error."""
    assert False is check_password(PASSWORD, password_hash, 4)


def counted_rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of the bcrypt rounds of each hash from now on."""
    rounds: list[int] = []
    hash_with, check_with = bcrypt.hashpw, bcrypt.checkpw

    def hashpw(password: bytes, salt: bytes) -> bytes:
        rounds.append(2 ** int(salt[4:6]))
        return hash_with(password, salt)

    def checkpw(password: bytes, hashed: bytes) -> bool:
        rounds.append(2 ** int(hashed[4:6]))
        return check_with(password, hashed)

    monkeypatch.setattr(bcrypt, "hashpw", hashpw)
    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    return rounds


@pytest.mark.parametrize("made_at", [None, 4, 6, 9])
def test_a_check_has_the_current_cost(made_at: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts rounds instead of time: the same without an account, with an old hash and with a new one."""
    password_hash = hash_password(PASSWORD, made_at) if made_at else None
    rounds = counted_rounds(monkeypatch)

    check_password("wrong", password_hash, 9)

    assert 2**9 == sum(rounds)


async def test_the_work_for_an_answer_does_not_tell_whether_there_is_an_account(
    serve: Callable[..., Awaitable[Api]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password costs the same bcrypt rounds, hashing jobs and queries with and without an account.

    Work is counted instead of timed: the time would be that of the machine, too.
    """
    # It looks for users, too.
    monkeypatch.setattr(AccountDeletion, "watch", AsyncMock())
    api = await serve(bcrypt_cost=6)
    await api.register("ann")
    rounds = counted_rounds(monkeypatch)

    async def queries() -> int:
        top = await api.mongo.database.client.admin.command("top")
        return int(top["totals"][f"{api.settings.mongo_database}.users"]["queries"]["count"])

    async def work_for(username: str) -> tuple[float, ...]:
        rounds.clear()
        jobs, found = (await scrape(api)).total("sealpost_hashing_wait_seconds_count"), await queries()
        status, _ = await api.call("POST", "/login", {"username": username, "password": "wrong password"})

        assert 401 == status
        return (
            sum(rounds),
            (await scrape(api)).total("sealpost_hashing_wait_seconds_count") - jobs,
            await queries() - found,
        )

    works = [await work_for(username) for username in ("ann", "nobody") * 3]

    assert [(2**6, 1, 1)] * 6 == works


def test_a_generated_password_is_long_and_unique() -> None:
    """Registration accepts it, and it never repeats."""
    passwords = {new_password() for _ in range(100)}

    assert 100 == len(passwords)
    assert {24} == {len(password) for password in passwords}
