"""The page by keyboard, in the reader's language, and without JavaScript."""

import pytest

from .conftest import Visitors, created

pytestmark = pytest.mark.browser


def test_it_is_done_by_keyboard_alone(base: str, visitors: Visitors) -> None:
    """Sharing and opening need no mouse, and each new section gets the focus."""
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


@pytest.mark.parametrize(("locale", "title"), [("de-AT", "Bereits geöffnet"), ("zh-CN", "已被打开")])
def test_it_speaks_the_language_of_its_reader(base: str, visitors: Visitors, locale: str, title: str) -> None:
    """Texts and the `lang` attribute follow the locale of the browser."""
    visitor = visitors.new(locale=locale)
    link = created(f"{base}/generate", secret="a text")["url"]
    visitor.open(link)
    other = visitors.new(locale=locale)
    other.page.goto(link)
    other.sees("notice")

    assert title == other.text("#notice-title")
    assert locale.partition("-")[0] == other.page.get_attribute("html", "lang")


def test_without_javascript_it_says_what_it_needs(base: str, visitors: Visitors) -> None:
    """Each view names what it needs; a message of the API is readable anyway."""
    visitor = visitors.new(java_script_enabled=False)
    for path in ("/", "/s", "/m", "/r", "/mine", "/board", "/admin"):
        visitor.page.goto(base + path)
        assert "needs JavaScript" in visitor.text("main")
        assert 0 == visitor.page.locator("main > section:visible").count()
    visitor.page.goto(created(f"{base}/", message="Lunch is at noon.")["url"])
    assert "Lunch is at noon." in visitor.text("pre")
