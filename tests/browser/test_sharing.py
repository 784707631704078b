"""Sharing, opening and receipts in a real browser, through the whole stack."""

import pytest
import zxingcpp
from playwright.sync_api import expect

from .chromium import PATIENCE
from .conftest import PHRASE, TEXT, Visitors, created

pytestmark = pytest.mark.browser


def test_a_secret_is_shared_and_opened_once(base: str, visitors: Visitors) -> None:
    """The reader gets the exact text; a second reader is told that and when it was opened."""
    sender, reader, late = visitors.new(), visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT)

    assert TEXT == reader.open(link)
    reader.deletes_now()
    assert link.startswith(f"{base}/s#1")
    assert f"{base}/s" == reader.page.evaluate("location.href")
    late.page.goto(link)
    late.sees("notice")
    assert "Already opened" == late.text("#notice-title")
    assert "was opened on" in late.text("#notice-text")


def test_reload_and_back_open_nothing(base: str, visitors: Visitors) -> None:
    """Neither before opening nor after the hold; the text does not reappear, and the page says when it was opened."""
    sender, reader = visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT)
    reader.page.goto(link)
    reader.sees("waiting")
    reader.page.reload()
    reader.sees("waiting")
    reader.page.goto(f"{base}/")
    reader.page.go_back()
    reader.sees("waiting")

    assert [] == [path for path in reader.paths() if path.startswith("POST")]
    reader.page.click("#open")
    reader.sees("shown")
    reader.deletes_now()
    reader.page.reload()
    reader.sees("notice")
    assert "You have already opened this note" == reader.text("#notice-title")
    reader.page.goto(f"{base}/")
    reader.page.go_back()
    reader.sees("notice")
    assert 2 == len([path for path in reader.paths() if path.startswith("POST")])
    assert TEXT.strip() not in reader.page.content()


def test_a_phrase_is_asked_for_and_counted(base: str, visitors: Visitors) -> None:
    """A wrong password costs an attempt, the right one opens, the last wrong one deletes; the page reports each."""
    sender, reader = visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT, phrase=PHRASE)
    reader.page.goto(link)
    reader.sees("waiting")
    reader.page.click("#open")

    assert "Enter the password." == reader.text("#problem")
    reader.page.fill("#phrase", "wrong")
    reader.page.click("#open")
    expect(reader.page.locator("#problem")).to_contain_text("4 attempts", timeout=PATIENCE)
    reader.page.fill("#phrase", PHRASE)
    reader.page.keyboard.press("Enter")
    reader.sees("shown")
    assert TEXT == reader.page.text_content("#text")

    of_the_api = created(f"{base}/generate", secret="a text", phrase="b", max_attempts=1)["url"]
    reader.page.goto(of_the_api)
    reader.sees("waiting")
    reader.page.fill("#phrase", "wrong")
    reader.page.click("#open")
    reader.sees("notice")
    assert "Locked and deleted" == reader.text("#notice-title")
    reader.page.reload()
    reader.sees("notice")
    assert "Locked and deleted" == reader.text("#notice-title")


def test_a_receipt_follows_and_burns(base: str, visitors: Visitors) -> None:
    """It shows the opening without a reload; deletion asks for confirmation, and the reader is told."""
    sender, reader = visitors.new(), visitors.new()
    link, receipt_link = sender.share(base, TEXT)
    sender.page.goto(receipt_link)
    sender.sees("receipt")
    assert "Available" in sender.text("#state")
    reader.open(link)
    expect(sender.page.locator("#state")).to_have_text("Opened It cannot be viewed again.", timeout=PATIENCE)
    assert sender.page.is_hidden("#burning")

    link, receipt_link = sender.share(base, TEXT)
    sender.page.goto(receipt_link)
    sender.sees("receipt")
    sender.page.click("#burn")
    sender.page.click("#keep")
    sender.page.click("#burn")
    sender.page.click("#burn-now")
    expect(sender.page.locator("#state")).to_contain_text("Deleted", timeout=PATIENCE)
    reader.page.goto(link)
    reader.sees("notice")
    assert "Deleted by the sender" == reader.text("#notice-title")


def test_a_receipt_says_whose_it_is(base: str, visitors: Visitors) -> None:
    """A reader who gets its link by mistake learns that it opens nothing, whether the text is available or not."""
    sender, reader = visitors.new(), visitors.new()
    link, receipt_link = sender.share(base, TEXT)
    for opened in (False, True):
        if opened:
            sender.open(link)
        reader.goes(receipt_link, "receipt")
        for words in ("is for the person who shared the note", "cannot open it", "ask for the link to the note"):
            assert words in reader.text("#receipt")


def test_links_are_copied_and_drawn(base: str, visitors: Visitors) -> None:
    """The buttons copy links and text to the clipboard, and the QR code contains the link."""
    visitor = visitors.new(permissions=["clipboard-read", "clipboard-write"])
    link, receipt_link = visitor.share(base, TEXT)
    clipboard = "navigator.clipboard.readText()"

    for button, copied in (("#copy-link", link), ("#copy-receipt", receipt_link)):
        visitor.page.click(button)
        expect(visitor.page.locator(button)).to_have_text("Copied", timeout=PATIENCE)
        assert copied == visitor.page.evaluate(clipboard)
    drawn = visitor.page.evaluate("""() => {
        const canvas = document.querySelector("#qr");
        const {width, height} = canvas, large = document.createElement("canvas");
        large.width = width * 4; large.height = height * 4;
        const context = large.getContext("2d");
        context.fillStyle = "white"; context.fillRect(0, 0, large.width, large.height);
        context.imageSmoothingEnabled = false;
        context.drawImage(canvas, 0, 0, large.width, large.height);
        const data = context.getImageData(0, 0, large.width, large.height).data;
        return {side: large.width, grey: Array.from({length: data.length / 4}, (_, at) => data[4 * at])};
    }""")
    side = drawn["side"]
    image = memoryview(bytes(drawn["grey"])).cast("B", (side, side))
    assert [link] == [one.text for one in zxingcpp.read_barcodes(image)]
    visitor.open(link)
    visitor.page.click("#copy")
    expect(visitor.page.locator("#copy")).to_have_text("Copied", timeout=PATIENCE)
    assert TEXT == visitor.page.evaluate(clipboard)
    visitor.page.click("#hide")
    assert "•" in visitor.text("#text")


def test_passwords_are_drawn_evenly(base: str, visitors: Visitors) -> None:
    """Characters are uniformly distributed, and passphrases do not repeat."""
    visitor = visitors.new()
    visitor.page.goto(f"{base}/")
    drawn = visitor.page.evaluate("""async () => {
        const assets = new URL(".", document.querySelector("script[src]").src);
        const {newPassword, newPassphrase} = await import(new URL("random.js", assets));
        return [Array.from({length: 5000}, newPassword).join(""), Array.from({length: 100}, newPassphrase)];
    }""")
    letters = {letter: drawn[0].count(letter) for letter in set(drawn[0])}
    expected = len(drawn[0]) / 63

    assert 63 == len(letters)
    # 5.5 standard deviations: a false alarm once in a million runs.
    assert all(abs(count - expected) < 5.5 * expected**0.5 for count in letters.values())
    assert 100 == len(set(drawn[1]))
    visitor.show_options()
    visitor.page.click("#new-phrase")
    assert 5 == visitor.page.input_value("#phrase").count("-")
    assert "Hide" == visitor.text("#show-phrase")
    visitor.page.check("input[value=message]")
    visitor.page.check("input[value=secret]")
    assert "text" == visitor.page.get_attribute("#phrase", "type")
    visitor.page.click("#generate")
    assert 20 == len(visitor.page.input_value("#text"))


def test_translators_leave_the_text_alone(base: str, visitors: Visitors) -> None:
    """What shows or takes a text or password is excluded from translation, and the rest of the page is not."""
    sender, reader = visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT)
    excluded = """[...document.querySelectorAll("body *")].filter(
        one => !one.translate && one.classList.contains("notranslate")).map(one => one.id || one.localName)"""
    reader.open(link)
    assert ["text", "phrase"] == reader.page.evaluate(excluded)
    assert reader.page.evaluate("document.documentElement.translate")
    reader.page.goto(created(f"{base}/", message=TEXT)["url"])
    assert ["pre"] == reader.page.evaluate(excluded)
