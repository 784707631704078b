"""Sealed tokens: only the server reads them, unmodified, and until they expire."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from src.core.clock import DatabaseClock, utc_now
from src.core.crypto.keys import KeyRing, new_key
from src.core.crypto.records import Content
from src.core.crypto.sealed_tokens import SealedTokens

LIFE = timedelta(minutes=10)


class Note(Content):
    """What the tests seal."""

    text: str


class SetClock(DatabaseClock):
    """A clock that shows the time that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = utc_now()

    def now(self) -> datetime:
        """Return the set time."""
        return self.moment


RING, CLOCK = KeyRing.parse(new_key()), SetClock()
TOKENS = SealedTokens(RING, "note", Note, CLOCK, life=LIFE)


@given(st.text(max_size=100))
def test_a_token_has_its_content_until_it_expires(text: str) -> None:
    """The content comes back just before the end of its life, and no longer at its end."""
    token, began = TOKENS.write(Note(text=text)), CLOCK.moment
    try:
        CLOCK.moment = began + LIFE - timedelta(milliseconds=1)
        before = TOKENS.read(token)
        CLOCK.moment = began + LIFE
        after = TOKENS.read(token)
    finally:
        CLOCK.moment = began

    assert (Note(text=text), None) == (before, after)


@given(st.data())
def test_a_modified_token_is_refused(data: st.DataObject) -> None:
    """Another character anywhere, the key's id and the time of expiry included, makes the token unreadable."""
    token = TOKENS.write(Note(text="a"))
    position = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[position]))

    assert TOKENS.read(token[:position] + other + token[position + 1 :]) is None


@given(st.text(max_size=200) | st.text("ab.-_", max_size=200) | st.just("." * 5000))
def test_other_texts_are_refused(text: str) -> None:
    """A text that no server has written is no token, and no error."""
    assert TOKENS.read(text) is None


def test_a_token_belongs_to_its_kind_and_key_ring() -> None:
    """A token of another kind, or sealed with a key that the ring lacks, is unreadable."""
    token = TOKENS.write(Note(text="a"))
    of_another_kind = SealedTokens(RING, "other", Note, CLOCK, life=LIFE)
    of_another_ring = SealedTokens(KeyRing.parse(new_key()), "note", Note, CLOCK, life=LIFE)

    assert [None, None] == [of_another_kind.read(token), of_another_ring.read(token)]
