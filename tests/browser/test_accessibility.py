"""The page for everybody: by keyboard, on narrow screens, with assistive technology, in the reader's language."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from .conftest import PHRASE, TEXT, Visitors, created

pytestmark = pytest.mark.browser


# By how much what was shown has moved, as a share of the window.
SHIFT = """() => new Promise(done => {
  let shift = 0;
  new PerformanceObserver(list => {
    for (const one of list.getEntries()) shift += one.value;
  }).observe({type: "layout-shift", buffered: true});
  setTimeout(() => done(shift), 300);
})"""


def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong with what is shown."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(base: str, visitors: Visitors, scheme: str) -> None:
    """axe-core finds nothing in any state; nothing is wider than 320 pixels; nothing moves about while it loads."""
    visitor = visitors.new(color_scheme=scheme, viewport={"width": 320, "height": 640}, reduced_motion="reduce")
    found: list[str] = []

    def check(state: str) -> None:
        found.extend(f"{state}: {one}" for one in violations(visitor.page))
        width = visitor.page.evaluate("document.documentElement.scrollWidth")
        found.extend([f"{state} is {width} wide"] if width > 320 else [])

    visitor.page.goto(f"{base}/")
    assert visitor.page.evaluate(SHIFT) < 0.01
    check("create")
    visitor.page.click("#create")
    assert "true" == visitor.page.get_attribute("#text", "aria-invalid")
    check("create, refused")
    link, receipt_link = visitor.share(base, "x" * 500, phrase=PHRASE)
    check("result")
    visitor.page.goto(link)
    visitor.sees("waiting")
    assert visitor.page.evaluate(SHIFT) < 0.01
    visitor.page.click("#open")
    check("waiting, without the phrase")
    visitor.page.fill("#phrase", PHRASE)
    visitor.page.click("#open")
    visitor.sees("shown")
    check("shown")
    visitor.page.goto(link)
    visitor.sees("notice")
    check("opened")
    visitor.page.goto(receipt_link)
    visitor.sees("receipt")
    assert visitor.page.evaluate(SHIFT) < 0.01
    check("receipt")
    visitor.page.goto(visitor.share(base, TEXT)[1])
    visitor.sees("receipt")
    visitor.page.click("#burn")
    check("burn")

    assert [] == found


def test_it_is_done_by_keyboard_alone(base: str, visitors: Visitors) -> None:
    """From the text to the link, and from the link to the text; what is new has the focus."""
    visitor = visitors.new()
    visitor.page.goto(f"{base}/")
    visitor.page.focus("#text")
    visitor.page.keyboard.type("by keyboard")
    for _ in range(20):
        visitor.page.keyboard.press("Tab")
        if visitor.page.evaluate("document.activeElement.id") == "create":
            break
    visitor.page.keyboard.press("Enter")
    visitor.sees("result")
    assert "result" == visitor.page.evaluate("document.activeElement.id")
    visitor.page.goto(visitor.page.input_value("#link"))
    visitor.sees("waiting")
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Enter")
    visitor.sees("shown")
    assert "shown" == visitor.page.evaluate("document.activeElement.id")


@pytest.mark.parametrize(("locale", "title"), [("de-AT", "Schon geöffnet"), ("zh-CN", "已经打开过")])
def test_it_speaks_the_language_of_its_reader(base: str, visitors: Visitors, locale: str, title: str) -> None:
    """From the first word to the last."""
    visitor = visitors.new(locale=locale)
    link = created(f"{base}/generate", secret="a text")["url"]
    visitor.open(link)
    other = visitors.new(locale=locale)
    other.page.goto(link)
    other.sees("notice")

    assert title == other.text("#notice-title")
    assert locale.partition("-")[0] == other.page.get_attribute("html", "lang")


def test_without_javascript_it_says_what_it_needs(base: str, visitors: Visitors) -> None:
    """And a message of the API can be read all the same."""
    visitor = visitors.new(java_script_enabled=False)
    for path in ("/", "/s", "/m", "/r"):
        visitor.page.goto(base + path)
        assert "needs JavaScript" in visitor.text("main")
        assert 0 == visitor.page.locator("main > section:visible").count()
    visitor.page.goto(created(f"{base}/", message="Lunch is at noon.")["url"])
    assert "Lunch is at noon." in visitor.text("pre")
