"""Links as other programs change them: the client reads the link that was meant, and no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.client.addresses import Kind, ParsedLink, parse_link, parse_receipt_key, write_link
from src.client.errors import WrongUsage

from ..altered_links import ALTERED, SEPARATORS, Altered

SERVER = "https://example.org/a"
KEY, RECEIPT_KEY, FRAGMENT_KEY = "A-_z" * 10 + "abc", "A-_z" * 15, bytes(range(32))
FRAGMENT = write_link(SERVER, f"{SERVER}/secrets/{KEY}", Kind.SECRET, FRAGMENT_KEY).partition("#")[2]
NOISE = st.text(st.characters(exclude_categories=["L", "N", "Cs"], exclude_characters="-_"), max_size=30).filter(
    lambda noise: "://" not in noise
)
"""Anything without letters and digits, which keys consist of, and without what makes a key the scheme of a link."""


@pytest.mark.parametrize("altered", ALTERED, ids=str)
def test_a_key_is_found_in_a_link(altered: Altered) -> None:
    """In the path of the API, in a fragment, and alone; the server is the one in the link."""
    for kind in Kind:
        assert ParsedLink(SERVER, kind, KEY) == parse_link(f"{SERVER}/{kind}/{altered.change(KEY)}")
        page = f"{SERVER}/{kind.page}#{altered.change(FRAGMENT)}"
        assert ParsedLink(SERVER, kind, KEY, FRAGMENT_KEY) == parse_link(page)
    assert ParsedLink(None, None, KEY) == parse_link(altered.change(KEY))
    assert RECEIPT_KEY == parse_receipt_key(altered.change(RECEIPT_KEY))


@pytest.mark.parametrize("separator", SEPARATORS)
def test_the_start_of_a_fragment_is_found(separator: str) -> None:
    """Encoded, after a slash, and after parameters."""
    assert ParsedLink(SERVER, Kind.SECRET, KEY, FRAGMENT_KEY) == parse_link(f"{SERVER}/s{separator}{FRAGMENT}")


@given(before=NOISE, after=NOISE)
def test_noise_around_a_link_is_ignored(before: str, after: str) -> None:
    """Punctuation, symbols, white space and invisible characters, in any number."""
    assert ParsedLink(SERVER, Kind.MESSAGE, KEY) == parse_link(f"{before} {SERVER}/message/{KEY}{after}")
    assert KEY == parse_link(f"{before}{KEY}{after}").key
    assert FRAGMENT_KEY == parse_link(f"{before} {SERVER}/s#{FRAGMENT}{after}").fragment_key
    assert RECEIPT_KEY == parse_receipt_key(f"{before}{RECEIPT_KEY}{after}")


@given(after=st.text(max_size=200))
def test_text_after_a_fragment_is_ignored(after: str) -> None:
    """Even letters right after it, because a fragment contains a check."""
    assert FRAGMENT_KEY == parse_link(f"{SERVER}/s#{FRAGMENT}{after}").fragment_key


@pytest.mark.parametrize(
    "text",
    [
        *(
            KEY[1:],
            f"{KEY}x",
            f"{SERVER}/secrets/{KEY}x",
            f"{SERVER}/secrets/{KEY[1:]}.",
            f"{SERVER}/s#{FRAGMENT[:-1]}.",
        ),
        *(f"{SERVER}/s#{FRAGMENT[:-1]}{'B' if FRAGMENT[-1] == 'A' else 'A'}", f"{SERVER}/s/{KEY}", f"{SERVER}/{KEY}"),
        *(f"{SERVER}/r#{RECEIPT_KEY}", RECEIPT_KEY, f"https://a b/secrets/{KEY}", f"https://a%20b/secrets/{KEY}"),
        *(f"ftp://example.org/secrets/{KEY}", f"x{SERVER}?/secrets/{KEY}", f"{KEY}://", f"{KEY}.://"),
    ],
)
def test_incomplete_and_other_links_are_refused(text: str) -> None:
    """A key that is too short or too long, a failed check, a receipt, and a server that is not clearly named."""
    with pytest.raises(WrongUsage):
        parse_link(text)


def test_a_receipt_link_is_no_receipt_key() -> None:
    """It may name another server than the one in use."""
    with pytest.raises(WrongUsage, match="60 characters"):
        parse_receipt_key(f"{SERVER}/r#{RECEIPT_KEY}")
