"""How each state is rendered: by keyboard, zoomed, with large text, in forced colors, from right to left, at first."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from bench.running_stack import RunningStack

from .chromium import PATIENCE
from .conftest import BROWSER, Visitors, created
from .screenshots import Sitter
from .signed_in import create_operator, new_name

pytestmark = pytest.mark.browser

EXAMINATION = (Path(__file__).parent / "examination.js").read_text()
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
# A window of 1280 by 1024 pixels at 400 %.
ZOOMED: ViewportSize = {"width": 320, "height": 256}
HALF: ViewportSize = {"width": 640, "height": 400}
# The first letter decides the direction.
MIXED = "קוד הדלת הוא 4711 (Sealpost)\nThe door code is 4711 (עברית)\nرمز الباب 4711\u202e unclosed"
# The cumulative layout shift since the last navigation, without shifts caused by input.
SHIFT = """() => new Promise(done => {
  let shift = 0;
  const moved = new Set();
  new PerformanceObserver(list => {
    for (const one of list.getEntries().filter(one => !one.hadRecentInput && one.startTime > (window.examined ?? 0))) {
      shift += one.value;
      for (const {node} of one.sources) moved.add(node?.id || node?.nodeName || "a removed node");
    }
  }).observe({type: "layout-shift", buffered: true});
  requestAnimationFrame(() => setTimeout(() => done([shift, [...moved].join(", ")]), 50));
})"""
MOST_SHIFT = 0.01
TIME_STOPS = 8
FONT_SIZES = "examination.readFontSizes()"
TWICE_THE_TEXT = "document.documentElement.style.fontSize = '200%'"


def check_shift(page: Page) -> list[str]:
    """Return what moved by itself on the way to this state."""
    shift, moved = page.evaluate(SHIFT)
    return [f"{moved} moved by {shift}"] if shift > MOST_SHIFT else []


def check_keyboard(page: Page) -> list[str]:
    """Press Tab as often as there are controls; return those that it reached in another order, and bad focus rings."""
    faults, reached = list[str](), ""
    for expected in page.evaluate("examination.startTabbing()"):
        before = reached
        # The parts of a time, and its calendar, are stops of their own.
        for _ in range(TIME_STOPS):
            page.keyboard.press("Tab")
            reached, fault = page.evaluate("examination.readFocus()")
            if reached != before:
                break
        faults += [fault] if fault else []
        faults += [f"Tab reached {reached} instead of {expected}"] if expected != reached else []
    return faults


def check_zoom(page: Page) -> list[str]:
    """Return what is cut off on a phone, and at 400 %."""
    faults = []
    for window in (PHONE, ZOOMED):
        page.set_viewport_size(window)
        faults += [f"{fault} at {window}" for fault in page.evaluate("examination.findCutOff()")]
    page.set_viewport_size(DESKTOP)
    return faults


def check_large_text(page: Page) -> list[str]:
    """Return what is cut off, or does not grow, where the text is twice as large."""
    before = page.evaluate(FONT_SIZES)
    page.evaluate(TWICE_THE_TEXT)
    faults = [
        f"{name} is {large} px instead of {2 * size} px"
        for (name, size), (_, large) in zip(before, page.evaluate(FONT_SIZES), strict=True)
        if large < 1.9 * size
    ]
    for window in (DESKTOP, HALF):
        page.set_viewport_size(window)
        faults += [f"{fault} at {window}" for fault in page.evaluate("examination.findCutOff()")]
    page.set_viewport_size(DESKTOP)
    page.evaluate("document.documentElement.style.fontSize = ''")
    return faults


def check_motion(page: Page) -> list[str]:
    """Return what moves where less motion is asked for."""
    page.emulate_media(reduced_motion="reduce")
    faults: list[str] = page.evaluate("examination.findMotion()")
    page.emulate_media(reduced_motion="no-preference")
    return faults


def check_forced_colors(page: Page) -> list[str]:
    """Return what has no border in forced colors."""
    page.emulate_media(forced_colors="active")
    faults: list[str] = page.evaluate("examination.findBorderless()")
    page.emulate_media(forced_colors="none")
    return faults


# The shift first: the others cause some.
CHECKS = {
    "layout shift": check_shift,
    "keyboard": check_keyboard,
    "zoom": check_zoom,
    "large text": check_large_text,
    "reduced motion": check_motion,
    "forced colors": check_forced_colors,
}
# The result is shorter than the form with its options. Only the script knows that there is no encryption; where there
# is no script, the view is replaced after a while. The list of files appears after the user has chosen them.
UNAVOIDABLE = {(state, "layout shift") for state in ("result", "no-web-crypto-create", "unsupported", "files")}
# In a modal dialog, Tab leads nowhere else.
UNAVOIDABLE.add(("account-delete", "keyboard"))


def states(page: Page, base: str, operator: str) -> Iterator[str]:
    """Bring the page into each state of the screenshots and some more; yield its name."""
    yield from Sitter(page, base, operator).states()
    page.goto(base)
    page.fill("#text", "")
    page.click("#create")
    yield "create, refused"
    page.goto(f"{base}/unknown")
    yield "error page"
    page.route("**/clock.js", lambda route: route.abort())
    page.goto(base)
    page.wait_for_selector("#unsupported", state="visible")
    yield "unsupported"


@pytest.fixture(scope="module")
def faults(browser: Browser, stack: RunningStack, environment: dict[str, str]) -> Iterator[dict[str, list[str]]]:
    """The faults that each check found, in all states: one walk, because the states need more time than the checks."""
    with browser.new_context(viewport=DESKTOP, locale="en-GB") as context:
        context.set_default_timeout(PATIENCE)
        context.add_init_script(EXAMINATION)
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        found: dict[str, list[str]] = defaultdict(list)
        create_operator(environment, operator := new_name("operator"))
        for state in states(page, stack.url, operator):
            for name, check in CHECKS.items():
                if (state, name) in UNAVOIDABLE:
                    continue
                found[name] += [f"{state}: {fault}" for fault in check(page)]
            page.evaluate("window.examined = performance.now()")
        yield found


@pytest.mark.parametrize("check", CHECKS)
def test_each_state_is_rendered_for_everyone(faults: dict[str, list[str]], check: str) -> None:
    """Nothing shifts, Tab reaches all with a visible ring, nothing is cut off, moves or lacks a border."""
    if BROWSER == "firefox" and check in {"layout shift", "reduced motion", "forced colors"}:
        pytest.skip("Firefox can neither measure nor emulate it")

    assert [] == faults[check]


# Where each line of a text begins: at the left or the right edge of its box; and the order of what follows.
LINES = """selector => {
    const box = document.querySelector(selector);
    const {left, right} = box.getBoundingClientRect();
    const text = box.firstChild;
    let at = 0;
    return text.data.split("\\n").map(line => {
        const range = document.createRange();
        range.setStart(text, at);
        range.setEnd(text, at + line.length);
        at += line.length + 1;
        const {left: from, right: to} = range.getBoundingClientRect();
        return from - left < right - to ? "left" : "right";
    });
}"""
PLACES = """() => [...document.querySelectorAll("main h1, main button, header *, footer *")].map(one => {
    const {left, width} = one.getBoundingClientRect();
    return [left, width];
})"""


def test_a_text_from_right_to_left_is_shown_so(base: str, visitors: Visitors) -> None:
    """In the field, in a secret and in a message; the page around the text stays as it is."""
    sender, reader = visitors.new(), visitors.new()
    places = []
    for text in (MIXED, "left\nto\nright"):
        reader.open(sender.share(base, text)[0])
        if text == MIXED:
            assert ["right"] * 3 == reader.page.evaluate(LINES, "pre")
        places.append(reader.page.evaluate(PLACES))
        reader.page.goto(created(f"{base}/", message=text)["url"])
        if text == MIXED:
            assert ["right"] * 3 == reader.page.evaluate(LINES, "pre")
        places.append(reader.page.evaluate(PLACES))
    sender.page.goto(base)
    direction = "getComputedStyle(document.querySelector('#text')).direction"
    sender.page.fill("#text", MIXED)

    assert "rtl" == sender.page.evaluate(direction)
    assert places[:2] == places[2:]


PAINTED = """() => new Promise(done => {
    const observer = new PerformanceObserver(list => list.getEntriesByName("first-contentful-paint").forEach(done));
    observer.observe({type: "paint", buffered: true});
})"""


@pytest.mark.parametrize("path", ["/", "/s", "/m", "/r", "/board"])
def test_the_first_paint_needs_no_script(base: str, visitors: Visitors, path: str) -> None:
    """While the scripts are on their way, the heading and a sentence are painted; also where scripts are disabled."""
    waiting, disabled = visitors.new(), visitors.new(java_script_enabled=False)
    # The scripts never arrive.
    waiting.page.route("**/*.js", lambda _: None)
    waiting.page.goto(base + path, wait_until="commit")
    waiting.page.evaluate(PAINTED)
    disabled.page.goto(base + path)

    for page in (waiting.page, disabled.page):
        assert page.locator("main h1:visible").first.inner_text()
        assert page.locator("main p:visible").first.inner_text()
