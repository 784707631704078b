"""Links as other programs change them, through nginx."""

import pytest
from aiohttp import ClientSession
from yarl import URL

from bench.running_stack import RunningStack
from src.client.envelopes import LinkKeys, read_base64, write_fragment

from ..altered_links import ALTERED, sent
from .conftest import grep_logs

pytestmark = pytest.mark.stack

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_nginx_passes_altered_links_on_and_logs_no_key(stack: RunningStack, client: ClientSession) -> None:
    """Of the API and of the page, whatever encloses or breaks the key."""
    async with client.post("/generate", json={"secret": "a text"}) as answer:
        key = (await answer.json())["secret_key"]
    fragment = write_fragment(LinkKeys(read_base64(key), bytes(range(32))))
    paths = [sent(f"/secrets/{altered.change(key)}") for altered in ALTERED]
    paths += [f"/s{separator}{fragment}" for separator in ("%23", "/%23", "%2523")]

    for path in paths:
        async with client.get(URL(stack.url + path.partition("#")[0], encoded=True), headers=BROWSER) as answer:
            assert (path, 200) == (path, answer.status)
    assert [] == await grep_logs(stack, key[:20], key[20:], fragment[-40:])
