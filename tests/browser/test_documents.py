"""The reference of the API and the page about the service in a browser: accessibility, width, and no scripts."""

import pytest
from playwright.sync_api import ViewportSize

from .conftest import Visitors
from .test_states import examination

pytestmark = pytest.mark.browser

PHONE: ViewportSize = {"width": 320, "height": 640}
WIDE: ViewportSize = {"width": 1280, "height": 800}


@pytest.mark.parametrize(("scheme", "size"), [("light", PHONE), ("dark", WIDE)])
@pytest.mark.parametrize("path", ["docs", "about"])
def test_a_document_excludes_no_reader(
    base: str, visitors: Visitors, scheme: str, size: ViewportSize, path: str
) -> None:
    """No axe-core violation, horizontal scrolling or layout shift, on a phone of 320 px and on a desktop."""
    of = examination(visitors, scheme)
    of.page.set_viewport_size(size)
    of.width = size["width"]
    of.page.goto(f"{base}/{path}")
    of.check(path)

    assert [] == of.found


def test_a_document_is_readable_without_scripts(base: str, visitors: Visitors) -> None:
    """The whole text is visible, and links of the contents lead to their section."""
    visitor = visitors.new(java_script_enabled=False, viewport=WIDE)
    visitor.page.goto(f"{base}/about")
    assert 10 == visitor.page.locator(".promises li:visible").count()
    visitor.page.click("footer a:has-text('API')")
    visitor.page.click(".contents a:has-text('/posts/analytics')")

    assert f"{base}/docs#get-posts-analytics" == visitor.page.url
    assert visitor.page.locator("#get-posts-analytics h3:visible").count()
    assert 0 == visitor.page.locator("main .operation:not(:visible)").count()


def test_the_document_of_programs_leads_people_to_the_reference(base: str, visitors: Visitors) -> None:
    """A browser that opens /openapi.json shows the reference, with examples for the address of the service."""
    visitor = visitors.new()
    visitor.page.goto(f"{base}/openapi.json")

    assert f"{base}/docs" == visitor.page.url
    assert f'curl "{base}/hello"' == visitor.text("#get-hello pre")
