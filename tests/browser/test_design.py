"""The design: the first view, what opens on demand, states by icon and word, and the user's colors and motion."""

import re

import pytest
from playwright.sync_api import Route, expect

from src.pages.languages import read_languages

from .chromium import PATIENCE
from .conftest import PHRASE, TEXT, Visitors, created

pytestmark = pytest.mark.browser

FIRST_VIEW = ("h1", ".lead", "#text", "#ttl", "#opens", "#create")
HEBREW = "\u05e9\u05dc\u05d5\u05dd, the code is 4711.\nline 2"


@pytest.mark.parametrize("window", [{"width": 1280, "height": 800}, {"width": 390, "height": 844}])
@pytest.mark.parametrize("code", sorted(read_languages()))
def test_the_first_view_has_what_most_need(base: str, visitors: Visitors, code: str, window: dict[str, int]) -> None:
    """In each language, heading, sentence, text, expiry, views and button are on the screen without scrolling."""
    page = visitors.new(locale=code, viewport=window).page
    page.goto(base)
    boxes = [page.locator(f"#write {selector}").first.bounding_box() for selector in FIRST_VIEW]

    assert code == page.get_attribute("html", "lang")
    assert [] == [box for box in boxes if box is None or box["y"] + box["height"] > window["height"]]
    assert page.is_hidden("#phrase")


@pytest.mark.parametrize("keys", ["Control+Enter", "Meta+Enter"])
def test_a_shortcut_sends(base: str, visitors: Visitors, keys: str) -> None:
    """From the text, as the button does; it also reports what is missing."""
    visitor = visitors.new()
    visitor.page.goto(base)
    expect(visitor.page.locator("#create")).to_be_enabled(timeout=PATIENCE)
    visitor.page.focus("#text")
    visitor.page.keyboard.press(keys)
    assert "Enter a text, attach a file or generate a password." == visitor.text("#text-problem")
    visitor.page.keyboard.type("a text")
    visitor.page.keyboard.press(keys)
    visitor.sees("result")


def test_the_form_is_shown_before_its_script(base: str, visitors: Visitors) -> None:
    """A text can be entered; the button waits for the script."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page = visitors.new().page
    page.route("**/create.js", hold)
    page.goto(base, wait_until="commit")
    page.fill("#text", "a text")
    assert page.is_disabled("#create")
    held[0].continue_()
    page.click("#create")
    page.wait_for_selector("#result:not([hidden])")


def test_an_error_among_the_options_opens_them(base: str, visitors: Visitors) -> None:
    """The password gets the focus, and the error is visible."""
    visitor = visitors.new()
    visitor.page.goto(base)
    visitor.page.fill("#text", TEXT)
    visitor.show_options()
    visitor.page.fill("#phrase", "x" * 1025)
    visitor.page.click("#options > summary")
    visitor.page.click("#create")

    expect(visitor.page.locator("#phrase-problem")).to_be_visible(timeout=PATIENCE)
    assert "phrase" == visitor.page.evaluate("document.activeElement.id")


def test_the_result_offers_more_on_demand(base: str, visitors: Visitors) -> None:
    """The QR code appears and disappears with its button; the share sheet gets the link, where there is one."""
    plain, phone = visitors.new(), visitors.new()
    plain.page.add_init_script("delete Navigator.prototype.share")
    phone.page.add_init_script("navigator.share = async data => { globalThis.shared = data; }")
    plain.share(base, TEXT)
    assert plain.page.is_hidden("#share-link")
    for shown in (True, False):
        plain.page.click("#show-qr")
        assert shown == plain.page.is_visible("#qr")
        assert str(shown).lower() == plain.page.get_attribute("#show-qr", "aria-expanded")
    link, _ = phone.share(base, TEXT)
    phone.page.click("#share-link")

    assert {"url": link} == phone.page.evaluate("shared")


@pytest.mark.parametrize("kind", ["secret", "message", "of the API"])
def test_a_stranger_is_told_what_this_is(base: str, visitors: Visitors, kind: str) -> None:
    """On request; that the browser encrypted the text is said only where it did."""
    sender, reader = visitors.new(), visitors.new()
    if kind == "of the API":
        link = created(f"{base}/generate", secret=TEXT)["url"]
    else:
        link, _ = sender.share(base, TEXT, kind=kind)
    reader.goes(link, "shown" if kind == "message" else "waiting")
    assert reader.page.is_hidden("#about p")
    reader.page.click("#about > summary")

    assert "This service passes on passwords, private notes and files." in reader.text("#about")
    assert ("encrypted in the sender" in reader.text("#about")) == (kind != "of the API")
    assert reader.page.is_hidden("header nav")


def test_each_state_has_an_icon_a_color_and_a_word(base: str, visitors: Visitors) -> None:
    """In the list of the kept receipts, which are all different, and on each receipt."""
    sender, reader = visitors.new(), visitors.new()
    receipts = {}
    for state in ("Available", "Opened", "Deleted", "Locked"):
        link, receipts[state] = sender.share(base, TEXT, phrase=PHRASE if state == "Locked" else "")
        sender.page.check("#keep-receipt")
        if state == "Opened":
            reader.open(link)
        if state == "Locked":
            reader.goes(link, "waiting")
            for _ in range(5):
                reader.page.fill("#phrase", "wrong")
                reader.page.click("#open")
                expect(reader.page.locator("#open")).to_be_enabled(timeout=PATIENCE)
            reader.sees("notice")
    sender.goes(receipts["Deleted"], "receipt")
    sender.page.click("#burn")
    sender.page.click("#burn-now")
    expect(sender.page.locator("#state h2")).to_have_text("Deleted", timeout=PATIENCE)
    sender.page.click("header nav a[href$='/r']")
    links = sender.page.locator("#kept-list a")
    expect(links).to_have_text(list(reversed(receipts)), timeout=PATIENCE)
    drawn = sender.page.eval_on_selector_all(
        "#kept-list .icon",
        "all => all.map(one => [one.lastElementChild.getAttribute('d'), getComputedStyle(one).color])",
    )

    assert [4, 4] == [len({icon for icon, _ in drawn}), len({color for _, color in drawn})]
    for state, receipt in receipts.items():
        sender.goes(receipt, "receipt")
        assert state == sender.text("#state h2")
        assert sender.page.get_attribute("#state path", "d") in {icon for icon, _ in drawn}


def test_without_colors_borders_carry_the_states(base: str, visitors: Visitors) -> None:
    """With forced colors, icons and buttons have a border, and the main button a thicker one."""
    visitor = visitors.new(forced_colors="active")
    visitor.goes(created(f"{base}/generate", secret=TEXT)["url"], "waiting")
    width = "one => parseFloat(getComputedStyle(one).borderTopWidth)"

    assert [1, 3] == [visitor.page.eval_on_selector(f"#waiting {one}", width) for one in (".icon", "#open")]
    visitor.page.click("#open")
    visitor.sees("shown")
    assert [1, 3, 1] == [visitor.page.eval_on_selector(one, width) for one in ("#shown .icon", "#copy", "#hide")]


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves_where_that_is_asked(base: str, visitors: Visitors, motion: str) -> None:
    """A fade of 120 ms at most, and none with reduced motion."""
    visitor = visitors.new(reduced_motion=motion)
    visitor.goes(created(f"{base}/generate", secret=TEXT)["url"], "waiting")
    spans = visitor.page.evaluate(
        """() => [...document.querySelectorAll("*")].map(one => getComputedStyle(one)).flatMap(
            one => [one.transitionDuration, one.animationDuration])"""
    )

    assert ({"0s"} if motion == "reduce" else {"0s", "0.12s"}) == set(spans)


def test_text_from_right_to_left_is_shown_so(base: str, visitors: Visitors) -> None:
    """When it is entered and when it is read, on the page and on the page of an API message."""
    sender, reader = visitors.new(), visitors.new()
    direction = "one => getComputedStyle(one).direction"
    link, _ = sender.share(base, HEBREW)
    sender.page.goto(base)
    sender.page.fill("#text", HEBREW)
    assert "rtl" == sender.page.eval_on_selector("#text", direction)
    sender.page.fill("#text", TEXT)
    assert "ltr" == sender.page.eval_on_selector("#text", direction)
    assert HEBREW == reader.open(link)
    assert "rtl" == reader.page.eval_on_selector("#text", direction)
    reader.page.goto(created(f"{base}/", message=HEBREW)["url"])
    assert "rtl" == reader.page.eval_on_selector("pre", direction)


def test_times_are_short_and_say_what_is_left(base: str, visitors: Visitors) -> None:
    """Weekday, day, time and zone; the year only of another one; days, then hours."""
    visitor = visitors.new(timezone_id="UTC")
    visitor.goes(created(f"{base}/generate", secret=TEXT, ttl={"hours": 5})["url"], "waiting")

    assert re.fullmatch(r"\w{3}\D* \d+ \w+ at \d\d:\d\d UTC \(5 hours left\)", visitor.text("#waiting-until"))
