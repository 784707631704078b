"""The form and its result: errors, generated passwords, the links that it makes, and receipts that are kept."""

import base64
import json
from collections.abc import Callable

import pytest
import zxingcpp
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Dialog, Locator, Page, Route, expect

from .chromium import PATIENCE
from .conftest import TEXT, Visitors, created, needs_request_bodies

pytestmark = pytest.mark.browser

QUIET_MODULES, QR_LEAST_CONTRAST = 4, 15
# Decodes a PNG: its width, and the relative luminance of each pixel (WCAG 2.2), from 0 to 255.
LUMINANCE = """async png => {
    const image = new Image();
    image.src = "data:image/png;base64," + png;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const {data} = context.getImageData(0, 0, image.width, image.height);
    const linear = value => value <= 10.31 ? value / 255 / 12.92 : ((value / 255 + .055) / 1.055) ** 2.4;
    return [image.width, Array.from({length: data.length / 4}, (_, at) =>
        Math.round(255 * (.2126 * linear(data[4 * at]) + .7152 * linear(data[4 * at + 1])
            + .0722 * linear(data[4 * at + 2]))))];
}"""


def luminances(visitors: Visitors, element: Locator) -> list[list[int]]:
    """Return the relative luminance of each pixel of a screenshot of an element, row by row."""
    # The default for the caret is an inline style, which the page's policy blocks.
    png = base64.b64encode(element.screenshot(caret="initial")).decode()
    width, pixels = visitors.new().page.evaluate(LUMINANCE, png)
    rows = [pixels[at : at + width] for at in range(0, len(pixels), width)]
    # The element may begin in the middle of a pixel.
    return [row[1:-1] for row in rows[1:-1]]


@pytest.mark.parametrize(
    "options",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active", "color_scheme": "dark"}],
)
def test_a_camera_can_read_the_code(base: str, visitors: Visitors, options: dict[str, str]) -> None:
    """Black modules on a white tile with a quiet zone, as rendered, in each color scheme."""
    sender = visitors.new(viewport={"width": 1100, "height": 1600}, **options)
    link, _ = sender.share(base, TEXT)
    sender.page.click("#show-qr")
    code = sender.page.locator("#qr")
    modules = int(code.get_attribute("width") or 0)
    rows = luminances(visitors, code)
    side = len(rows)
    # Whole modules without the blurred edge of the outermost dark ones.
    quiet = int(side / modules * (QUIET_MODULES - 0.5))
    zone = [value for row in rows[:quiet] + rows[-quiet:] for value in row]
    zone += [value for row in rows for value in row[:quiet] + row[-quiet:]]
    darkest = min(value for row in rows for value in row)

    assert (min(zone) + 0.05 * 255) / (darkest + 0.05 * 255) > QR_LEAST_CONTRAST
    image = memoryview(bytes(value for row in rows for value in row)).cast("B", (side, len(rows[0])))
    assert [link] == [one.text for one in zxingcpp.read_barcodes(image)]


# The problem that belongs to the focused field: its text, its distance from the field, and whether it is on the screen.
PROBLEM = """() => {
    const field = document.activeElement;
    const problem = document.getElementById(field.getAttribute("aria-describedby")?.split(" ").at(-1) ?? "problem");
    const {top, bottom} = problem.getBoundingClientRect();
    const seen = top >= 0 && bottom <= innerHeight && bottom > top;
    const distance = top - (field.closest(".row, label") ?? field).getBoundingClientRect().bottom;
    return [field.id, field.getAttribute("aria-invalid"), problem.innerText, seen, distance >= 0 && distance < 24];
}"""


def refused(page: Page) -> tuple[str, str]:
    """Send the form; return the focused field and its problem, which must be on the screen under the field."""
    page.click("#create")
    field, invalid, problem, seen, close = page.evaluate(PROBLEM)

    assert (True, True) == (seen, close), (field, problem)
    assert ("true" if field != "create" else None) == invalid
    return field, problem


@pytest.mark.parametrize("window", [{"width": 390, "height": 844}, {"width": 320, "height": 256}])
def test_an_error_is_seen_at_its_field(base: str, visitors: Visitors, window: dict[str, int]) -> None:
    """On a phone and at 400 %: the field gets the focus, and the error is on the screen right under it."""
    visitor = visitors.new(viewport=window)
    visitor.page.goto(base.replace("127.0.0.1", "plain.test"))
    field, problem = refused(visitor.page)
    assert ("server-side", True) == (field, problem.startswith("Nothing was sent."))
    visitor.page.goto(base)
    field, problem = refused(visitor.page)
    assert ("text", True) == (field, problem.startswith("Enter a text"))
    visitor.page.fill("#text", "x" * 780_001)
    field, problem = refused(visitor.page)
    assert ("text", True) == (field, problem.startswith("The text is too long"))
    visitor.page.fill("#text", TEXT)
    visitor.set_views("101")
    assert ("opens", "Enter a number of views from 1 to 100.") == refused(visitor.page)
    visitor.set_views("1")
    visitor.page.route("**/generate", lambda route: route.abort())
    visitor.page.click("#create")
    visitor.page.wait_for_selector("#problem:not(:empty)")
    field, _, problem, seen, close = visitor.page.evaluate(PROBLEM)
    assert ("create", True, True) == (field, seen, close)
    assert "" == visitor.text("#opens-problem")


@pytest.mark.parametrize(
    ("button", "undo", "field"), [("#generate", "#undo-text", "#text"), ("#new-phrase", "#undo-phrase", "#phrase")]
)
def test_the_generator_replaces_and_undo_brings_back(
    base: str, visitors: Visitors, button: str, undo: str, field: str
) -> None:
    """Two clicks leave one password; undo, by button or by key, brings back each earlier content."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    visitor.show_options()
    page.fill(field, "mine")
    page.click(button)
    first = page.input_value(field)
    page.click(button)
    second = page.input_value(field)

    assert (len(first), True, True) == (len(second), "mine" not in first, first not in second)
    page.click(undo)
    assert first == page.input_value(field)
    page.keyboard.press("Enter")
    assert "mine" == page.input_value(field)
    assert page.is_hidden(undo)
    page.click("#generate")
    page.focus("#text")
    page.keyboard.press("Control+z")
    assert ("mine" if field == "#text" else "") == page.input_value("#text")
    page.click("#new-phrase")
    page.fill("#text", TEXT)
    page.click("#create")
    page.wait_for_selector("#result:not([hidden])")
    page.click("#copy-receipt")
    page.click("#again")
    assert ["", ""] == [page.input_value(filled) for filled in ("#text", "#phrase")]
    assert ["undo-text", "undo-phrase"] == page.eval_on_selector_all(
        "#form [id^=undo][hidden]", "all => all.map(one => one.id)"
    )


def test_a_password_is_neither_edited_nor_cut(base: str, visitors: Visitors) -> None:
    """The fields turn off all edits by the browser; a password over the limit is refused and stays as it is."""
    visitor = visitors.new()
    page = visitor.page
    link, long = created(f"{base}/generate", secret=TEXT, phrase="b")["url"], "x" * 1025
    for url, section, button in ((base, "write", "#create"), (link, "waiting", "#open")):
        visitor.goes(url, section)
        if section == "write":
            visitor.show_options()
        field = page.locator("#phrase")
        names = ("autocapitalize", "autocorrect", "spellcheck", "maxlength")
        assert ["none", "off", "false", None] == [field.get_attribute(name) for name in names]
        page.fill(f"#{section} textarea, #{section} #phrase", TEXT)
        field.fill(long)
        page.click(button)
        problem = page.locator("[role=alert]:not(:empty):visible")
        assert "The password is too long: at most 1024 characters." == problem.inner_text()
        assert ("phrase", long) == (page.evaluate("document.activeElement.id"), field.input_value())
    assert [] == [path for path in visitor.paths() if path.startswith("POST")]


def test_a_slip_in_a_password_is_questioned_once(base: str, visitors: Visitors) -> None:
    """An outer space when it is set, or a capital first letter when it is entered, costs no attempt."""
    sender, reader = visitors.new(), visitors.new()
    sender.page.goto(base)
    sender.page.fill("#text", TEXT)
    sender.show_options()
    sender.page.fill("#phrase", " bumir kopad\xa0")
    assert ("phrase", True) == (refused(sender.page)[0], sender.page.is_visible("#correct"))
    sender.page.click("#correct")
    assert "bumir kopad" == sender.page.input_value("#phrase")
    sender.page.click("#create")
    sender.sees("result")
    reader.page.goto(sender.page.input_value("#link"))
    reader.sees("waiting")
    for entered in ("Bumir kopad", "bumir kopad ", " Bumir kopad"):
        reader.page.fill("#phrase", entered)
        reader.page.click("#open")
        reader.page.click("#correct")
        assert "bumir kopad" == reader.page.input_value("#phrase")
    assert [] == [path for path in reader.paths() if path.startswith("POST")]
    reader.page.fill("#phrase", "Bumir kopad")
    reader.page.click("#open")
    assert reader.text("#problem").startswith("The password begins with a capital letter")
    reader.page.click("#open")
    reader.page.get_by_text("4 attempts left").wait_for()
    assert reader.page.is_hidden("#correct")
    reader.page.fill("#phrase", "bumir kopad")
    reader.page.click("#open")
    reader.sees("shown")
    assert TEXT == reader.page.text_content("#text")


@needs_request_bodies
@pytest.mark.parametrize("kind", ["secret", "message"])
@pytest.mark.parametrize("prefix", ["", "/tools/sealpost"])
def test_links_lead_to_where_the_page_was_reached(base: str, visitors: Visitors, prefix: str, kind: str) -> None:
    """Whatever URL the server reports: the page's own origin, and its path behind a proxy."""
    visitor = visitors.new()

    def pass_on(route: Route) -> None:
        answer = route.fetch(url=route.request.url.replace(prefix, "", 1))
        if route.request.method != "POST":
            return route.fulfill(response=answer)
        key = answer.json()["url"].rpartition("/")[2]
        url = f"http://sealpost.internal:8080/elsewhere/{'message' if kind == 'message' else 'secrets'}/{key}"
        return route.fulfill(response=answer, json={**answer.json(), "url": url})

    visitor.page.route(f"{base}{prefix}/**", pass_on)
    link, receipt_link = visitor.share(base + prefix, TEXT, kind=kind)

    assert link.startswith(f"{base}{prefix}/{kind[0]}#1")
    assert receipt_link.startswith(f"{base}{prefix}/r#")
    assert receipt_link == visitor.page.get_attribute("#to-receipt", "href")
    visitor.goes(link, "waiting" if kind == "secret" else "shown")


def test_translators_are_told_to_leave_it_alone(base: str, visitors: Visitors) -> None:
    """Each element that takes or shows a text, a password, a link or a receipt is excluded from translation."""
    page = visitors.new().page
    page.goto(base)
    excluded = """(selector) => [...document.querySelectorAll(selector)].filter(
        one => one.translate === false && one.classList.contains("notranslate")).map(one => one.id)"""

    assert ["text", "phrase"] == page.evaluate(excluded, "#write *")
    assert ["link", "receipt-link"] == page.evaluate(excluded, "#result *")
    assert page.evaluate("document.documentElement.translate")


def dialogs(page: Page, act: Callable[[], object]) -> list[str]:
    """Return the types of the dialogs that an act opens; each is dismissed."""
    asked: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", dismiss)
    act()
    page.wait_for_function("true")
    page.remove_listener("dialog", dismiss)
    return asked


@pytest.mark.parametrize("saved", ["#copy-receipt", "#to-receipt", "#keep-receipt"])
def test_a_receipt_is_not_left_behind_unasked(base: str, visitors: Visitors, saved: str) -> None:
    """The page asks before it shares another or is left, until the receipt is copied, opened or kept."""
    visitor = visitors.new()
    page = visitor.page
    page.remove_listener("dialog", visitor.dismiss)
    link, _ = visitor.share(base, TEXT)
    leave = "document.querySelector('header a').click()"

    assert ["confirm"] == dialogs(page, lambda: page.click("#again"))
    assert ["beforeunload"] == dialogs(page, lambda: page.evaluate(leave))
    assert link == page.input_value("#link")
    page.click(saved)
    assert [] == dialogs(page, lambda: page.click("#again"))
    visitor.sees("write")


def test_receipts_are_kept_only_on_request(base: str, visitors: Visitors) -> None:
    """Only receipt keys and times are stored; the page lists them, opens them and removes them."""
    visitor = visitors.new()
    page = visitor.page
    stored = "JSON.stringify(localStorage)"
    items = page.locator("#kept-list li")
    visitor.share(base, TEXT)
    assert "{}" == page.evaluate(stored)
    shared = [visitor.share(base, TEXT, phrase="unmistakable")]
    page.check("#keep-receipt")
    shared.append(visitor.share(base, TEXT, kind="message"))
    assert not page.is_checked("#keep-receipt")
    page.check("#keep-receipt")

    kept = json.loads(page.evaluate("Object.values(localStorage)[0]"))
    assert 1 == page.evaluate("localStorage.length")
    assert [{"key", "created", "expires"}] * 2 == [set(one) for one in kept]
    receipts = [receipt for _, receipt in reversed(shared)]
    assert receipts == [f"{base}/r#{one['key']}" for one in kept]
    assert "unmistakable" not in page.evaluate(stored)
    assert [] == [link for link, _ in shared if link.partition("#")[2][1:40] in page.evaluate(stored)]
    page.uncheck("#keep-receipt")
    page.check("#keep-receipt")
    page.click("header nav a[href$='/r']")
    expect(items).to_have_count(2, timeout=PATIENCE)
    assert receipts == [one.get_attribute("href") for one in items.locator("a").all()]
    assert [] == Axe().run(page).response["violations"]
    items.first.locator("a").click()
    visitor.sees("receipt")
    page.go_back()
    items.first.locator("button").click()
    expect(items).to_have_count(1, timeout=PATIENCE)
    page.evaluate("""() => {
        const [name, kept] = Object.entries(localStorage)[0];
        localStorage.setItem(name, kept.replace(/"expires":"[^"]+"/, '"expires":"2020-01-01T00:00:00Z"'));
    }""")
    page.reload()
    visitor.sees("receipts")
    expect(items).to_have_count(0)
    assert page.is_visible("#kept-none")
    visitor.share(base, TEXT)
    page.check("#keep-receipt")
    page.uncheck("#keep-receipt")
    assert "{}" == page.evaluate(stored)


def test_where_nothing_can_be_stored_the_page_works(base: str, visitors: Visitors) -> None:
    """A browser that blocks storage shares as before, and the box does not stay ticked."""
    visitor = visitors.new()
    visitor.page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('', 'SecurityError'); }})"
    )
    visitor.share(base, TEXT)
    visitor.page.click("#keep-receipt")

    assert not visitor.page.is_checked("#keep-receipt")
