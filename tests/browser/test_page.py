"""The page in a real browser, through the whole stack: what a sender and a reader do, and what may go wrong."""

import asyncio
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bson
import pytest
import zxingcpp
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect
from pymongo import MongoClient

from src.client.envelopes import read_fragment, write_base64
from src.pages.assets import CACHE_CONTROL, media_type, read_assets
from src.stack.running import RunningStack

from ..stack.conftest import grep_logs
from ..stack.mongod import Mongod
from .conftest import PATIENCE, Visitors

pytestmark = pytest.mark.browser

TEXT, PHRASE = "  Grüße ☕ <b>zwei</b>\n\tZeilen\n", "Ein Löwe — im Zelt"
ROOT = Path(__file__).parents[2]
# By how much what was shown has moved, as a share of the window.
SHIFT = """() => new Promise(done => {
  let shift = 0;
  new PerformanceObserver(list => {
    for (const one of list.getEntries()) shift += one.value;
  }).observe({type: "layout-shift", buffered: true});
  setTimeout(() => done(shift), 300);
})"""


def created(url: str, **body: Any) -> Any:
    """Create a secret or a message by the API."""
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=60) as answer:  # noqa: S310 (our own stack)
        return json.load(answer)


def client(base: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the terminal client."""
    environment = {"PATH": "/usr/bin:/bin", "SEALPOST_URL": base, **variables}
    return subprocess.run(
        [sys.executable, "-m", "src.client", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong with what is shown."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


def test_a_secret_is_shared_and_opened_once(base: str, visitors: Visitors) -> None:
    """Another browser gets the text, to the character; a second one is told that it was opened, and when."""
    sender, reader, late = visitors.new(), visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT)

    assert TEXT == reader.open(link)
    assert link.startswith(f"{base}/s#1")
    assert f"{base}/s" == reader.page.url
    late.page.goto(link)
    late.sees("notice")
    assert "Already opened" == late.text("#notice-title")
    assert "was opened on" in late.text("#notice-text")


def test_reload_and_back_open_nothing(base: str, visitors: Visitors) -> None:
    """Neither before nor after; what was opened stays away, and the page says when it was."""
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
    reader.page.reload()
    reader.sees("notice")
    assert "You have opened it already" == reader.text("#notice-title")
    reader.page.goto(f"{base}/")
    reader.page.go_back()
    reader.sees("notice")
    assert 1 == len([path for path in reader.paths() if path.startswith("POST")])
    assert TEXT.strip() not in reader.page.content()


def test_a_phrase_is_asked_for_and_counted(base: str, visitors: Visitors) -> None:
    """A wrong one costs an attempt; the right one opens; the last wrong one destroys, and each says so."""
    sender, reader = visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT, phrase=PHRASE)
    reader.page.goto(link)
    reader.sees("waiting")
    reader.page.click("#open")

    assert "Enter the phrase." == reader.text("#problem")
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
    assert "Destroyed" == reader.text("#notice-title")
    reader.page.reload()
    reader.sees("notice")
    assert "Destroyed" == reader.text("#notice-title")


def test_neither_text_nor_key_nor_phrase_is_sent(
    base: str, stack: RunningStack, mongod: Mongod, visitors: Visitors
) -> None:
    """Not in any request of sender or reader, not in a log, and not in the database."""
    text, phrase = "unmistakable-text-4711", "unmistakable-phrase-0815"
    sender, reader = visitors.new(), visitors.new()
    link, receipt_link = sender.share(base, text, phrase=phrase, opens=2)
    reader.page.goto(link)
    reader.sees("waiting")
    reader.page.fill("#phrase", phrase)
    reader.page.click("#open")
    reader.sees("shown")
    sender.page.goto(receipt_link)
    sender.sees("receipt")

    fragment = link.partition("#")[2]
    key = read_fragment(fragment).fragment_key
    hidden = ["unmistakable", fragment, fragment[46:85], write_base64(key), key.hex()]
    sent = "\n".join(sender.sent + reader.sent)
    with MongoClient[dict[str, Any]](mongod.url) as database:
        stored = b"".join(
            bson.encode(document)
            for name in database["sealpost"].list_collection_names()
            for document in database["sealpost"][name].find()
        )
    assert "sealpost-text-1." in sent
    assert "envelope" in stored.decode("latin-1")
    assert [] == [word for word in hidden if word in sent]
    assert [] == [word for word in [*map(str.encode, hidden), key] if word in stored]
    # Playwright runs an event loop in this thread.
    with ThreadPoolExecutor() as threads:
        assert [] == threads.submit(asyncio.run, grep_logs(stack, *hidden)).result()


def test_a_receipt_follows_and_burns(base: str, visitors: Visitors) -> None:
    """It tells of the opening by itself; burning asks first, and the reader is told."""
    sender, reader = visitors.new(), visitors.new()
    link, receipt_link = sender.share(base, TEXT)
    sender.page.goto(receipt_link)
    sender.sees("receipt")
    assert "It waits" in sender.text("#state")
    reader.open(link)
    expect(sender.page.locator("#state")).to_have_text("It was opened.", timeout=PATIENCE)
    assert sender.page.is_hidden("#burning")

    link, receipt_link = sender.share(base, TEXT)
    sender.page.goto(receipt_link)
    sender.sees("receipt")
    sender.page.click("#burn")
    sender.page.click("#keep")
    sender.page.click("#burn")
    sender.page.click("#burn-now")
    expect(sender.page.locator("#state")).to_contain_text("It was burned", timeout=PATIENCE)
    reader.page.goto(link)
    reader.sees("notice")
    assert "Burned by its sender" == reader.text("#notice-title")


def test_what_expires_while_it_is_looked_at_says_so(base: str, visitors: Visitors) -> None:
    """Without a click, and afterwards the server knows no more of it."""
    reader = visitors.new()
    link = created(f"{base}/generate", secret="a text", ttl={"seconds": 20})["url"]
    reader.page.goto(link)
    reader.sees("waiting")
    reader.sees("notice")

    assert "Expired" == reader.text("#notice-title")
    reader.page.reload()
    reader.sees("notice")
    assert "Nothing waits here" == reader.text("#notice-title")


def test_page_and_terminal_speak_the_same_format(base: str, visitors: Visitors) -> None:
    """What one encrypts the other opens, with a phrase and without, secrets and messages."""
    visitor = visitors.new()
    link, _ = visitor.share(base, TEXT)
    with_phrase, _ = visitor.share(base, TEXT, phrase=PHRASE)
    message, _ = visitor.share(base, TEXT, kind="message")

    assert [TEXT] * 3 == [
        client(base, "open", link).stdout,
        client(base, "open", with_phrase, SEALPOST_PHRASE=PHRASE).stdout,
        client(base, "message", "show", message).stdout,
    ]
    assert TEXT == visitor.open(client(base, "share", TEXT).stdout.strip())
    visitor.page.goto(client(base, "share", TEXT, SEALPOST_PHRASE=PHRASE).stdout.strip())
    visitor.sees("waiting")
    visitor.page.fill("#phrase", PHRASE)
    visitor.page.click("#open")
    visitor.sees("shown")
    assert TEXT == visitor.page.text_content("#text")
    visitor.page.goto(client(base, "message", TEXT).stdout.strip())
    visitor.sees("shown")
    assert TEXT == visitor.page.text_content("#text")


def test_links_are_copied_and_drawn(base: str, visitors: Visitors) -> None:
    """The buttons put link and text on the clipboard, and the QR code is the link."""
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


def test_the_format_is_that_of_the_test_vectors(base: str, visitors: Visitors) -> None:
    """Fragment, envelopes and verifier are those of `docs/security.md`, to the character."""
    security = (ROOT / "docs" / "security.md").read_text()
    section = security.partition("### The envelope of the two ends\n")[2].partition("\n### ")[0]
    visitor = visitors.new()
    visitor.page.goto(f"{base}/")

    made = visitor.page.evaluate("""async () => {
        const assets = new URL(".", document.querySelector("script[src]").src);
        const {deriveKeys, openText, sealText, writeFragment} = await import(new URL("envelope.js", assets));
        const {writeBase64} = await import(new URL("bytes.js", assets));
        const bytes = (begin, length) => Uint8Array.from({length}, (_, at) => begin + at);
        const [fragmentKey, nonce, text] = [bytes(0, 32), bytes(0x40, 12), "the door code is 4711"];
        const [plain, locked] = [await deriveKeys(fragmentKey), await deriveKeys(fragmentKey, "Grüße")];
        const [first, second] = [await sealText(text, plain, nonce), await sealText(text, locked, nonce)];
        const opened = [await openText(first, plain), await openText(second, locked)];
        if (opened.some(one => one !== text)) throw new Error("not opened");
        return [await writeFragment(writeBase64(bytes(0x20, 32)), fragmentKey), first, locked.verifier, second];
    }""")
    assert re.findall(r"(?m)^    (\S{43,})$", section) == made


def test_nginx_serves_the_files(base: str, stack: RunningStack) -> None:
    """As they are, for a year, with the headers of every answer; of all else under their path there is nothing."""
    assets = read_assets()
    for name, body in assets.files.items():
        with urllib.request.urlopen(f"{base}/{assets.path}{name}", timeout=60) as answer:  # noqa: S310 (our own stack)
            assert (body, CACHE_CONTROL) == (answer.read(), answer.headers["Cache-Control"])
            assert media_type(name).partition(";")[0] == answer.headers.get_content_type()
            assert {"nosniff", "no-referrer"} == {
                answer.headers[header] for header in ("X-Content-Type-Options", "Referrer-Policy")
            }
            # A worker names itself.
            assert "Sealpost" != answer.headers["Server"]
    for path in ("", "x.js", "../html/open.html", "%2e%2e/feature.py", "page.js/"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{base}/{assets.path}{path}", timeout=60)  # noqa: S310

        assert (404, "no-store") == (refused.value.code, refused.value.headers["Cache-Control"])
        refused.value.close()


PAYLOADS = (
    "<script>document.title='ran'</script>",
    "<img src=x onerror=\"document.title='ran'\">",
    "</pre></script><svg onload=\"document.title='ran'\">",
    "javascript:document.title='ran'",
    "{{{strings}}} ${document.title='ran'}",
)


def test_payloads_stay_text(base: str, visitors: Visitors) -> None:
    """In a secret, in the address and in a translation; no violation of the policy, and nothing is asked for."""
    visitor = visitors.new()
    link, _ = visitor.share(base, "\n".join(PAYLOADS))
    assert "\n".join(PAYLOADS) == visitor.open(link)
    for path in ("/s#", "/m#", "/r#", "/s?x=", "/r?x="):
        for payload in PAYLOADS[:3]:
            visitor.page.goto(base + path + payload)
            visitor.sees("notice")
            assert visitor.page.title() in {"A secret for you", "A message for you", "Receipt"}

    def translate(route: Route) -> None:
        answer = route.fetch()
        body = answer.text().replace(
            '"opened_here_title": "', '"opened_here_title": "' + r"\u003cimg src=x onerror=alert(1)>"
        )
        route.fulfill(response=answer, body=body)

    visitor.page.route("**/s", translate)
    visitor.open(visitor.share(base, TEXT)[0])
    visitor.page.reload()
    visitor.sees("notice")
    assert "<img src=x onerror=alert(1)>" in visitor.text("#notice-title")
    assert 0 == visitor.page.locator("main img").count()


@pytest.mark.parametrize("url", ["/s", "/s#1" + "A" * 91, "/s#2" + "A" * 91, "/m#x"])
def test_a_link_that_is_not_whole_is_noticed(base: str, visitors: Visitors, url: str) -> None:
    """Before anything is asked of the server."""
    visitor = visitors.new()
    visitor.page.goto(base + url)
    visitor.sees("notice")

    assert "The link is not whole" == visitor.text("#notice-title")
    assert [f"GET {url.partition('#')[0]}"] == [path for path in visitor.paths() if not path.endswith("icon.svg")]


def test_a_missing_connection_is_told_and_mended(base: str, visitors: Visitors) -> None:
    """Nothing is opened while there is none, and the button goes on where it stopped; a busy server is told of too."""
    sender, reader = visitors.new(), visitors.new()
    link, _ = sender.share(base, TEXT)
    reader.page.route("**/secrets/*", lambda route: route.abort())
    reader.page.goto(link)
    reader.sees("notice")
    assert "No connection" == reader.text("#notice-title")
    reader.page.unroute("**/secrets/*")
    busy = {"status": 429, "content_type": "application/problem+json", "body": '{"code": "too_many"}'}
    reader.page.route("**/secrets/*", lambda route: route.fulfill(**busy))
    reader.page.click("#retry")
    expect(reader.page.locator("#notice-title")).to_have_text("The server is busy", timeout=PATIENCE)
    reader.page.unroute("**/secrets/*")
    reader.page.click("#retry")
    reader.sees("waiting")
    reader.page.route("**/secrets/*", lambda route: route.abort())
    reader.page.click("#open")
    reader.sees("notice")
    assert "The connection broke" == reader.text("#notice-title")
    reader.page.unroute("**/secrets/*")
    reader.page.click("#retry")
    reader.sees("waiting")


def test_over_plain_http_nothing_is_sent_unasked(base: str, visitors: Visitors) -> None:
    """The page says that it cannot encrypt, and lets the server do it once its user has ticked that."""
    plain = base.replace("127.0.0.1", "plain.test")
    visitor = visitors.new()
    visitor.page.goto(plain)
    visitor.page.fill("#text", TEXT)
    visitor.page.click("#create")

    assert visitor.page.is_visible("#plain")
    assert "Nothing was sent" in visitor.text("#problem")
    assert [] == [path for path in visitor.paths() if path.startswith("POST")]
    visitor.page.check("#server-side")
    visitor.page.click("#create")
    visitor.sees("result")
    assert visitor.page.is_visible("#result-plain")
    link = visitor.page.input_value("#link")
    assert "/secrets/" in link
    assert TEXT == visitor.open(link)
    encrypted = client(base, "share", TEXT).stdout.strip().replace("127.0.0.1", "plain.test")
    visitor.page.goto(encrypted)
    visitor.sees("notice")
    assert "Not over this connection" == visitor.text("#notice-title")


def test_passwords_are_drawn_evenly(base: str, visitors: Visitors) -> None:
    """Each character as often as the other, as far as chance goes; two passphrases are never the same."""
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
    # Five and a half standard deviations: once in a million runs.
    assert all(abs(count - expected) < 5.5 * expected**0.5 for count in letters.values())
    assert 100 == len(set(drawn[1]))
    visitor.page.click("#new-phrase")
    assert 5 == visitor.page.input_value("#phrase").count("-")
    assert "Hide" == visitor.text("#show-phrase")
    visitor.page.check("input[value=message]")
    visitor.page.check("input[value=secret]")
    assert "text" == visitor.page.get_attribute("#phrase", "type")
    visitor.page.click("#generate")
    assert 20 == len(visitor.page.input_value("#text"))


def test_without_javascript_it_says_what_it_needs(base: str, visitors: Visitors) -> None:
    """And a message of the API can be read all the same."""
    visitor = visitors.new(java_script_enabled=False)
    for path in ("/", "/s", "/m", "/r"):
        visitor.page.goto(base + path)
        assert "needs JavaScript" in visitor.text("main")
        assert 0 == visitor.page.locator("main > section:visible").count()
    visitor.page.goto(created(f"{base}/", message="Lunch is at noon.")["url"])
    assert "Lunch is at noon." in visitor.text("pre")


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
