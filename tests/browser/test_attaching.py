"""Files that are attached to a secret: choosing, dropping and pasting them, uploading them, and interruptions."""

import json
import os
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FilePayload, Page, Route, expect

from src.client.envelopes import derive_keys, read_fragment, write_base64
from src.client.files.manifest import read_manifest
from src.client.segments import SEALED_SEGMENT_BYTES, SegmentCipher

from .chromium import PATIENCE
from .conftest import BROWSER, PHRASE, TEXT, Visitor, Visitors, needs_request_bodies

pytestmark = pytest.mark.browser

BINARY = "application/octet-stream"
MOST_BYTES, MOST_FILES = 100 * 1024 * 1024, 20
# Several requests, of which the last ends in the middle of a segment.
LARGE = os.urandom(2_500_000)
NOTE: FilePayload = {
    "name": "Zugänge <b>.txt",
    "mimeType": "text/x-unmistakable",
    "buffer": b"unmistakable-content-0815",
}
BEGUN = re.compile(r"[1-9]\d?% of 2.4 MB uploaded")
# Makes a DataTransfer of files, each a name and a text.
TRANSFER = """files => {
    const transfer = new DataTransfer();
    for (const [name, text] of files) transfer.items.add(new File([text], name));
    return transfer;
}"""
PASTE = """([files, types]) => {
    const clipboardData = new DataTransfer();
    for (const [name, text] of files) clipboardData.items.add(new File([text], name, {type: "image/png"}));
    for (const type of types) clipboardData.setData(type, "a text");
    const event = new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true});
    document.querySelector("#text").dispatchEvent(event);
    return event.defaultPrevented;
}"""


def payload(name: str, content: bytes) -> FilePayload:
    """Return a file as a browser gets it."""
    return {"name": name, "mimeType": BINARY, "buffer": content}


def fail(route: Route, status: int, problem: dict[str, str], wait: str = "1") -> None:
    """Answer a request with an error."""
    headers = {"Content-Type": "application/problem+json", "Retry-After": wait}
    route.fulfill(status=status, headers=headers, body=json.dumps(problem))


def names(page: Page) -> list[str]:
    """Return the names in the list of files."""
    return page.locator("#files bdi").all_inner_texts()


def attach(page: Page, *files: FilePayload | Path) -> None:
    """Choose files, and wait until they are listed."""
    count = page.locator("#files li").count()
    page.set_input_files("#chosen", list(files))  # type: ignore[arg-type]
    expect(page.locator("#files li")).to_have_count(count + len(files), timeout=PATIENCE)


def create(visitor: Visitor) -> str:
    """Create the link, and return it."""
    visitor.page.click("#create")
    visitor.sees("result")
    return visitor.page.input_value("#link")


def receive(base: str, link: str, phrase: str | None = None) -> tuple[str, dict[str, tuple[str, bytes]]]:
    """Open a link, and return its text, and the type and content of its files by their names."""
    fragment = read_fragment(link.partition("#")[2])
    keys = derive_keys(fragment.fragment_key, phrase)
    url = f"{base}/secrets/{write_base64(fragment.link_key)}"
    reader = write_base64(os.urandom(32))
    body = {"reader": reader} | ({"phrase": keys.verifier} if phrase else {})
    opened = json.loads(fetch(url, data=json.dumps(body).encode()))
    manifest = read_manifest(opened["secret"], keys)
    received = {}
    for file, stored in zip(manifest.files, opened["files"], strict=True):
        sealed = fetch(f"{url}/files/{stored['id']}", headers={"Sealpost-Reader": reader})
        cipher = SegmentCipher(file.key, file.size)
        starts = range(0, len(sealed), SEALED_SEGMENT_BYTES)
        parts = [cipher.open(at, sealed[start : start + SEALED_SEGMENT_BYTES]) for at, start in enumerate(starts)]
        received[file.name] = (file.type, b"".join(parts))
    return manifest.text, received


def fetch(url: str, **options: Any) -> bytes:
    """Send a request to the stack; return the body of its response."""
    with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=60) as answer:  # noqa: S310
        body: bytes = answer.read()
    return body


def uploads(visitor: Visitor, method: str) -> list[str]:
    """Return the paths of the requests about uploads with a method."""
    return [path for path in visitor.paths() if re.match(f"{method} /files", path)]


def interrupt(page: Page, after: int, act: Callable[[Route], object]) -> None:
    """Let the PATCH after some others fail in a way."""
    seen = 0

    def handle(route: Route) -> None:
        nonlocal seen
        seen += route.request.method == "PATCH"
        if route.request.method == "PATCH" and seen == after + 1:
            act(route)
        else:
            route.continue_()

    page.route("**/files/*", handle)


def stall(page: Page) -> None:
    """Let uploads stall after their first part."""

    def handle(route: Route) -> None:
        if route.request.headers.get("upload-offset", "0") == "0":
            route.continue_()

    page.route("**/files/*", handle)


@needs_request_bodies
def test_a_text_and_files_are_shared(base: str, visitors: Visitors) -> None:
    """The reader gets the same names, types and contents, also of an empty file; the server gets none of them."""
    visitor = visitors.new()
    visitor.page.goto(base)
    attach(visitor.page, NOTE, payload("empty", b""))
    attach(visitor.page, payload("large.bin", LARGE))
    visitor.page.fill("#text", TEXT)
    visitor.show_options()
    visitor.page.fill("#phrase", PHRASE)
    link = create(visitor)

    text, files = receive(base, link, PHRASE)
    assert TEXT == text
    assert {
        NOTE["name"]: (NOTE["mimeType"], NOTE["buffer"]),
        "empty": (BINARY, b""),
        "large.bin": (BINARY, LARGE),
    } == files
    sent = "\n".join(visitor.sent)
    assert [] == [word for word in ("Zugänge", "large.bin", "unmistakable", TEXT) if word in sent]
    assert "{}" == visitor.page.evaluate("JSON.stringify(sessionStorage)")
    visitor.page.click("#copy-receipt")
    visitor.page.click("#again")
    assert [] == names(visitor.page)
    assert visitor.page.is_hidden("#files")


def test_a_file_needs_no_text(base: str, visitors: Visitors) -> None:
    """A file alone is enough; without it, the form asks for either."""
    visitor = visitors.new()
    visitor.page.goto(base)
    visitor.page.click("#create")
    assert "Enter a text, attach a file or generate a password." == visitor.text("#text-problem")
    attach(visitor.page, NOTE)

    assert ("", {NOTE["name"]: (NOTE["mimeType"], NOTE["buffer"])}) == receive(base, create(visitor))


def test_files_are_dropped_or_pasted(base: str, visitors: Visitors) -> None:
    """Anywhere on the form; a text that was also copied as a picture is pasted as a text."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    transfer = page.evaluate_handle(TRANSFER, [["a.txt", "1"], ["b.txt", "2"]])
    for event in ("dragenter", "dragover"):
        page.dispatch_event("#options", event, {"dataTransfer": transfer})
    assert page.locator("#form.target").count()
    page.dispatch_event("#options", "drop", {"dataTransfer": transfer})
    expect(page.locator("#files li")).to_have_count(2, timeout=PATIENCE)
    assert not page.locator("#form.target").count()
    assert page.evaluate(PASTE, [[["image.png", "3"]], ["text/html"]])
    expect(page.locator("#files li")).to_have_count(3, timeout=PATIENCE)

    assert not page.evaluate(PASTE, [[["picture.png", "4"]], ["text/plain", "text/html"]])
    assert ["a.txt", "b.txt", "image.png"] == names(page)
    assert {"a.txt": ("", b"1"), "b.txt": ("", b"2"), "image.png": ("image/png", b"3")} == receive(
        base, create(visitor)
    )[1]


@pytest.mark.skipif(BROWSER == "firefox", reason="only Chromium's protocol can drop a folder")
def test_a_dropped_folder_keeps_its_paths(base: str, visitors: Visitors, tmp_path: Path) -> None:
    """Each file in a folder is attached with its path."""
    inner = tmp_path / "plans" / "office"
    inner.mkdir(parents=True)
    (inner / "first.txt").write_text("1")
    (tmp_path / "plans" / "second.txt").write_text("2")
    visitor = visitors.new()
    visitor.page.goto(base)
    protocol = visitor.context.new_cdp_session(visitor.page)
    box = visitor.page.locator("#create").bounding_box()
    assert box
    data = {"items": [], "files": [str(tmp_path / "plans")], "dragOperationsMask": 1}
    for event in ("dragEnter", "dragOver", "drop"):
        protocol.send("Input.dispatchDragEvent", {"type": event, "x": box["x"], "y": box["y"], "data": data})
    expect(visitor.page.locator("#files li")).to_have_count(2, timeout=PATIENCE)

    assert {"plans/office/first.txt": b"1", "plans/second.txt": b"2"} == {
        name: content for name, (_, content) in receive(base, create(visitor))[1].items()
    }


def test_limits_are_named_before_anything_is_sent(base: str, visitors: Visitors, tmp_path: Path) -> None:
    """A file that is too large, or one too many, is not attached; the page says what the limit is."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    huge = tmp_path / "huge.img"
    huge.touch()
    os.truncate(huge, MOST_BYTES + 1)
    page.set_input_files("#chosen", huge)
    problem = page.locator("#attach-problem")
    expect(problem).to_have_text("huge.img is too large: the limit is 100 MB per file.", timeout=PATIENCE)
    assert "attach" == page.evaluate("document.activeElement.id")
    os.truncate(huge, MOST_BYTES)
    attach(page, huge)
    expect(problem).to_be_empty()
    page.set_input_files("#chosen", [payload(str(number), b"") for number in range(20)])

    expect(problem).to_have_text("Too many files: a link can contain up to 20.", timeout=PATIENCE)
    assert MOST_FILES == len(names(page))
    page.click("#files li:first-child button:last-child")
    visitor.show_options()
    page.check("input[value=message]")
    page.click("#create")
    assert visitor.text("#attach-problem").startswith("Files cannot be shared with everyone")
    assert [] == [path for path in visitor.paths() if "/files" in path or path.startswith("POST")]


def test_the_list_is_used_by_keyboard(base: str, visitors: Visitors) -> None:
    """Enter opens the dialog; removing a file moves the focus to the next one, and then to the button."""
    visitor = visitors.new(viewport={"width": 320, "height": 640})
    page = visitor.page
    page.goto(base)
    with page.expect_file_chooser() as chooser:
        page.focus("#attach")
        page.keyboard.press("Enter")
    assert chooser.value.is_multiple()
    chooser.value.set_files([payload("x" * 100, b""), NOTE])
    expect(page.locator("#files li")).to_have_count(2, timeout=PATIENCE)
    assert "x" * 100 in visitor.page.text_content("#said")  # type: ignore[operator]
    assert [] == Axe().run(page).response["violations"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    remove = page.get_by_role("button", name="Remove " + "x" * 100)
    for _ in range(2):
        page.keyboard.press("Shift+Tab")
    expect(remove).to_be_focused()
    page.keyboard.press("Enter")
    assert [NOTE["name"]] == names(page)
    page.keyboard.press("Enter")

    assert [] == names(page)
    assert "attach" == page.evaluate("document.activeElement.id")


def test_a_file_is_removed_while_it_is_uploaded(base: str, visitors: Visitors) -> None:
    """The server deletes what it has, and the others are shared."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    attach(page, payload("large.bin", LARGE), NOTE)
    stall(page)
    page.click("#create")
    expect(page.locator("#files li").first).to_contain_text(BEGUN, timeout=PATIENCE)
    page.click("#files li:first-child button:last-child")
    visitor.sees("result")

    assert [NOTE["name"]] == list(receive(base, page.input_value("#link"))[1])
    assert 1 == len(uploads(visitor, "DELETE"))


def test_a_lost_connection_costs_nothing_that_has_arrived(base: str, visitors: Visitors) -> None:
    """The page says that it waits, asks for the offset and continues there, also in the middle of a segment."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    attach(page, payload("large.bin", LARGE))
    offsets = []

    def cut(route: Route) -> None:
        body = route.request.post_data_buffer or b""
        answer = route.fetch(post_data=body[: len(body) // 2 + 5])
        offsets.append(answer.headers["upload-offset"])
        route.abort()

    interrupt(page, 1, cut)
    page.click("#create")
    page.locator("#files .paused").get_by_text("No connection.").wait_for()
    visitor.sees("result")

    assert {"large.bin": (BINARY, LARGE)} == receive(base, page.input_value("#link"))[1]
    assert 1 == len(uploads(visitor, "HEAD"))
    resumed = [one for one in visitor.sent if f"'upload-offset': '{offsets[0]}'" in one]
    assert 1 == len(resumed)


def test_an_upload_continues_after_a_reload(base: str, visitors: Visitors, tmp_path: Path) -> None:
    """The page asks for the same file, refuses another or a changed one, and sends only what is missing."""
    visitor = visitors.new()
    page = visitor.page
    large, other = tmp_path / "large.bin", tmp_path / "other.bin"
    large.write_bytes(LARGE)
    other.write_bytes(LARGE)
    page.goto(base)
    attach(page, large)
    stall(page)
    page.click("#create")
    expect(page.locator("#files")).to_contain_text(BEGUN, timeout=PATIENCE)
    page.reload()
    page.unroute("**/files/*")
    page.locator("#files", has_text="Choose the same file again").wait_for()
    assert [] == Axe().run(page).response["violations"]
    page.click("#create")
    assert "Choose large.bin again, or remove it." == visitor.text("#attach-problem")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose file large.bin").click()
    chooser.value.set_files(other)
    page.locator("#attach-problem", has_text="This is not large.bin").wait_for()
    started = len(visitor.sent)
    page.set_input_files("#chosen", large)
    expect(page.locator("#files li")).to_contain_text("2.4 MB", timeout=PATIENCE)
    link = create(visitor)

    assert {"large.bin": (BINARY, LARGE)} == receive(base, link)[1]
    assert 1 == len(uploads(visitor, "POST"))
    resumed = [one.partition("\n")[0].partition(" ")[0] for one in visitor.sent[started:]]
    assert "HEAD" == resumed[0]
    assert "'upload-offset': '0'" not in "".join(visitor.sent[started:])


def test_a_changed_file_begins_anew(base: str, visitors: Visitors, tmp_path: Path) -> None:
    """After a reload, a file that was changed since is another one; the key is not used for it."""
    visitor = visitors.new()
    page = visitor.page
    file = tmp_path / "large.bin"
    file.write_bytes(LARGE)
    page.goto(base)
    attach(page, file)
    stall(page)
    page.click("#create")
    expect(page.locator("#files")).to_contain_text(BEGUN, timeout=PATIENCE)
    page.reload()
    page.unroute("**/files/*")
    page.locator("#files", has_text="Choose the same file again").wait_for()
    file.write_bytes(LARGE[::-1])
    os.utime(file, (0, 0))
    attach(page, file)
    page.click("#files li:first-child button:last-child")

    assert {"large.bin": (BINARY, LARGE[::-1])} == receive(base, create(visitor))[1]
    assert 2 == len(uploads(visitor, "POST"))
    assert 1 == len(uploads(visitor, "DELETE"))


def test_an_expired_upload_begins_anew(base: str, visitors: Visitors) -> None:
    """The server no longer knows the upload: the page uploads the file from the start, under a new key."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    attach(page, payload("large.bin", LARGE))

    def expire(route: Route) -> None:
        fetch(route.request.url, method="DELETE")
        route.continue_()

    interrupt(page, 1, expire)
    link = create(visitor)

    assert {"large.bin": (BINARY, LARGE)} == receive(base, link)[1]
    assert 2 == len(uploads(visitor, "POST"))


def test_a_busy_server_is_waited_for(base: str, visitors: Visitors) -> None:
    """The page says how long, and continues by itself."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    attach(page, NOTE)
    interrupt(page, 0, lambda route: fail(route, 429, {"code": "too_many"}, wait="2"))
    page.click("#create")
    page.locator("#files", has_text="The upload continues in 2 seconds.").wait_for()
    visitor.sees("result")

    assert [NOTE["name"]] == list(receive(base, page.input_value("#link"))[1])


def test_a_full_server_keeps_what_it_has(base: str, visitors: Visitors) -> None:
    """The page shows the words of the server; the next attempt continues where this one ended."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    attach(page, payload("large.bin", LARGE))
    interrupt(page, 1, lambda route: fail(route, 507, {"code": "storage_full", "detail": "It is full."}))
    page.click("#create")
    expect(page.locator("#problem")).to_have_text("The server rejected the request: It is full.", timeout=PATIENCE)
    link = create(visitor)

    assert {"large.bin": (BINARY, LARGE)} == receive(base, link)[1]
    assert [1, 1] == [len(uploads(visitor, method)) for method in ("POST", "HEAD")]


def test_uploads_that_the_server_no_longer_has_are_sent_again(base: str, visitors: Visitors) -> None:
    """If the link cannot be created of them, the page says so, and the next attempt uploads the files anew."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    attach(page, NOTE)

    def expire(route: Route) -> None:
        for file in json.loads(route.request.post_data or "")["files"]:
            fetch(f"{base}/files/{file['upload']}", method="DELETE")
        route.continue_()

    page.route("**/generate", expire, times=1)
    page.click("#create")
    page.locator("#attach-problem", has_text="The server no longer has the uploaded files.").wait_for()
    link = create(visitor)

    assert [NOTE["name"]] == list(receive(base, link)[1])
    assert 2 == len(uploads(visitor, "POST"))


def test_a_file_that_cannot_be_read_is_named(base: str, visitors: Visitors, tmp_path: Path) -> None:
    """A file that was deleted after it was attached is removed from the list; nothing is shared."""
    visitor = visitors.new()
    page = visitor.page
    page.goto(base)
    file = tmp_path / "moved.txt"
    file.write_text("a text")
    attach(page, file)
    file.unlink()
    page.click("#create")
    page.locator("#attach-problem", has_text="moved.txt could not be read").wait_for()

    assert [] == names(page)
    assert [] == [path for path in visitor.paths() if path.endswith("/generate")]


def test_over_plain_http_there_are_no_files(base: str, visitors: Visitors) -> None:
    """The browser could not encrypt them: the page has no button for them."""
    visitor = visitors.new()
    visitor.page.goto(base.replace("127.0.0.1", "plain.test"))
    visitor.page.wait_for_selector("#plain:not([hidden])")

    assert visitor.page.is_hidden("#attach")
