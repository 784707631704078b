"""Links as other programs change them: the API finds the key, and serves the page that a link was meant for."""

import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from src.core.crypto.keys import KeyRing, new_key
from src.core.crypto.sealing import Link
from src.sealed.receipts import read_receipt_key, write_receipt_key

from .altered_links import ALTERED, SEPARATORS, Altered, sent
from .conftest import Api
from .test_pages import BROWSER
from .test_receipt_key import RECEIPT

Client = TestClient[web.Request, web.Application]
NOISE = st.text(st.characters(exclude_categories=["L", "N", "Cs"], exclude_characters="-_"), max_size=30)
"""Anything without letters and digits, which keys consist of."""


def url_of(path: str, altered: Altered, key: str) -> URL:
    """Return the address that a browser requests for an altered link: without the fragment."""
    return URL(sent(path + altered.change(key)).partition("#")[0], encoded=True)


@pytest.mark.parametrize("altered", ALTERED, ids=str)
async def test_the_api_finds_a_key_in_a_path(client: Client, api: Api, altered: Altered) -> None:
    """To check, open and read, and for receipts; with a browser, too."""
    secret = await (await client.post("/generate", json={"secret": "a text"})).json()
    message = await (await client.post("/", json={"message": "a text"})).json()
    path = url_of("/secrets/", altered, secret["secret_key"])
    read = await client.get(url_of("/message/", altered, message["url"].rpartition("/")[2]))
    receipt = url_of("/receipts/", altered, message["receipt_key"])

    assert 1 == (await (await client.get(path)).json())["opens_left"]
    assert 200 == (await client.get(path, headers=BROWSER)).status
    assert "a text" == (await (await client.post(path)).json())["secret"]
    assert "a text" == (await read.json())["message"]
    assert "waiting" == (await (await client.get(receipt)).json())["state"]
    assert 204 == (await client.delete(receipt)).status


@pytest.mark.parametrize("separator", [separator for separator in SEPARATORS if separator[0] != "?"])
@pytest.mark.parametrize("view", ["s", "m", "r"])
async def test_a_browser_gets_the_page_of_an_altered_link(client: Client, view: str, separator: str) -> None:
    """Its files are found from there; programs get a 404 as for any unknown path."""
    page = await (await client.get(f"/{view}", headers=BROWSER)).text()
    path = URL(f"/{view}{separator}1{'A' * 91}".partition("#")[0], encoded=True)
    answer = await client.get(path, headers=BROWSER)
    root = "../" * (path.raw_path.count("/") - 1) or "./"

    assert (200, page.replace('"./', f'"{root}')) == (answer.status, await answer.text())
    assert (404 if path.raw_path != f"/{view}" else 200) == (await client.get(path)).status


@pytest.mark.parametrize("path", ["/s/x", "/sx", "/s%24", "/s/%23a/b", "/x/", "/x%23a", "/s//"])
async def test_other_paths_are_no_page(client: Client, path: str) -> None:
    """Only a slash and an encoded `#` may follow the path of a page."""
    assert 404 == (await client.get(URL(path, encoded=True), headers=BROWSER)).status


async def test_the_page_of_a_secret_finds_its_files_after_a_slash(client: Client) -> None:
    """Relative URLs on it begin one directory higher."""
    page = await (await client.get(f"/secrets/{'A' * 43}/", headers=BROWSER)).text()

    assert {"../../"} == set(re.findall(r'(?:src|href)="((?:\.\.?/)+)', page))


# Before a key that begins with hexadecimal digits, a percent sign would encode a character together with them.
@given(before=NOISE.filter(lambda noise: not noise.endswith("%")), after=NOISE)
def test_noise_around_a_key_is_ignored(before: str, after: str) -> None:
    """Punctuation, symbols, white space and invisible characters, in any number."""
    ring, link = KeyRing.parse(new_key()), Link.new()
    receipt_key = write_receipt_key(ring, RECEIPT)

    assert link == Link.parse(before + link.text + after)
    assert RECEIPT == read_receipt_key(ring, before + receipt_key + after)


@given(text=st.text(max_size=120))
def test_other_text_is_no_key(text: str) -> None:
    """A longer run of key characters is not searched for a key."""
    link = Link.new()

    assert None is Link.parse(f"{link.text}A{text}" if text[:1].isascii() else text)
    assert None is Link.parse(link.text[1:])
