"""The files of a secret in a browser: shown, verified and decrypted, and continued after an interruption."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from .chromium import PATIENCE
from .conftest import PHRASE, TEXT, Visitor, Visitors
from .file_readers import Dialogs, downloads, loaded_by, opens, reader_of, says
from .shared_files import FILES, LARGE, NO_PICKERS, OF_FILES, PICKERS, Contents, saved, share_encrypted, share_plainly
from .test_attaching import attach, create, payload
from .test_encryption import client

pytestmark = pytest.mark.browser

SEALED_SEGMENT = 65_552


def test_text_and_files_are_opened(base: str, visitors: Visitors) -> None:
    """The page says what there is before it opens anything; afterwards it has the exact text, names and contents."""
    reader = reader_of(visitors)
    shared = share_encrypted(base, FILES, TEXT)
    reader.page.goto(shared.link)
    reader.sees("waiting")
    assert "3 files, 195 kB" == reader.text("#waiting-files")
    assert [] == [path for path in reader.paths() if path.startswith("POST")]
    reader.page.click("#open")
    reader.sees("shown")
    for number in (1, 2, 3):
        downloads(reader, number)

    assert TEXT == reader.page.text_content("#text")
    assert [name for name, _ in FILES] == reader.page.locator("#files bdi").all_inner_texts()
    assert {"Grundriß.pdf": LARGE, "leer.txt": b"", "notes.txt": FILES[2][1]} == saved(reader.page)
    assert [] == [line for line in reader.sent if "Grundriß" in line or "notes" in line]


def test_files_need_no_text(base: str, visitors: Visitors) -> None:
    """Without a text there is nothing to copy or hide."""
    reader = reader_of(visitors)
    opens(reader, share_encrypted(base, FILES).link)

    assert [True] * 3 == [reader.page.is_hidden(f"#{name}") for name in ("text", "copy", "hide")]
    assert reader.page.is_visible("#download-all")


@pytest.mark.parametrize("files", [FILES, [("only.txt", b"content")]])
def test_curl_can_share_files(base: str, visitors: Visitors, files: Contents) -> None:
    """The server decrypts such files and their names; the page needs no key."""
    reader = reader_of(visitors)
    opens(reader, share_plainly(base, files, TEXT).link)
    for number, _ in enumerate(files, 1):
        downloads(reader, number)

    assert {name.rpartition("/")[2]: content for name, content in files} == saved(reader.page)
    assert TEXT == reader.page.text_content("#text")


def test_a_browser_opens_what_another_shares(base: str, visitors: Visitors) -> None:
    """A text with a password and files, from one page to another."""
    sender, reader = visitors.new(), reader_of(visitors)
    files = [(name.rpartition("/")[2], content) for name, content in FILES]
    sender.page.goto(f"{base}/")
    sender.page.fill("#text", TEXT)
    sender.show_options()
    sender.page.fill("#phrase", PHRASE)
    attach(sender.page, *(payload(name, content) for name, content in files))
    opens(reader, create(sender), PHRASE)
    reader.page.click("#download-all")
    for number in (1, 2, 3):
        says(reader, number, "Downloaded")

    assert dict(files) == saved(reader.page)
    assert TEXT == reader.page.text_content("#text")


@pytest.mark.parametrize("phrase", ["", PHRASE], ids=["open", "password"])
def test_the_terminal_client_can_share_files(base: str, visitors: Visitors, tmp_path: Path, phrase: str) -> None:
    """The page opens a text with a folder: the names are paths, and each file is saved under the last part."""
    reader = reader_of(visitors)
    folder = tmp_path / "plans"
    folder.mkdir()
    for name, content in FILES:
        (folder / name.rpartition("/")[2]).write_bytes(content)
    variables = {"HOME": str(tmp_path), **({"SEALPOST_PHRASE": phrase} if phrase else {})}
    shared = client(base, "share", str(folder), "--text", TEXT, **variables)
    assert 0 == shared.returncode, shared.stderr
    opens(reader, shared.stdout.strip(), phrase)
    reader.page.click("#download-all")
    for number in (1, 2, 3):
        says(reader, number, "Downloaded")

    expected = {name.rpartition("/")[2]: content for name, content in FILES}
    assert {f"plans/{name}" for name in expected} == set(reader.page.locator("#files bdi").all_inner_texts())
    assert expected == saved(reader.page)
    assert TEXT == reader.page.text_content("#text")


def alter(content: bytes) -> bytes:
    """Change a bit of the second segment."""
    return content[:SEALED_SEGMENT] + bytes([content[SEALED_SEGMENT] ^ 1]) + content[SEALED_SEGMENT + 1 :]


def swap(content: bytes) -> bytes:
    """Exchange the first 2 segments."""
    return content[SEALED_SEGMENT : 2 * SEALED_SEGMENT] + content[:SEALED_SEGMENT] + content[2 * SEALED_SEGMENT :]


def lengthen(content: bytes) -> bytes:
    """Add a byte."""
    return content + b"x"


@pytest.mark.parametrize("change", [alter, swap, lengthen])
@pytest.mark.parametrize("pickers", [PICKERS, NO_PICKERS], ids=["file", "blob"])
def test_an_altered_file_is_not_saved(
    base: str, visitors: Visitors, change: Callable[[bytes], bytes], pickers: str
) -> None:
    """The page says so, and a later attempt saves the file that the sender shared."""
    reader = reader_of(visitors, pickers)
    opens(reader, share_encrypted(base, FILES).link)

    def answer(route: Route) -> None:
        answered = route.fetch()
        route.fulfill(status=answered.status, body=change(answered.body()))

    reader.page.route(OF_FILES, answer)
    loaded = loaded_by(reader)
    reader.page.click("#download-1")
    says(reader, 1, "Altered or damaged: not saved.")
    assert {} == saved(reader.page)
    assert [] == loaded
    reader.page.unroute(OF_FILES)
    downloads(reader, 1)

    assert pickers != PICKERS or {"Grundriß.pdf": LARGE} == saved(reader.page)


def test_a_damaged_file_is_reported(base: str, visitors: Visitors) -> None:
    """The server says so before it sends anything."""
    reader = reader_of(visitors)
    opens(reader, share_encrypted(base, FILES).link)
    reader.page.route(OF_FILES, lambda route: route.fulfill(status=410, json={"code": "damaged"}))
    reader.page.click("#download-1")
    says(reader, 1, "The data stored on the server is damaged")

    assert {} == saved(reader.page)


def test_a_page_that_cannot_show_files_opens_nothing(base: str, visitors: Visitors) -> None:
    """Its modules load before the button appears; after a reload it works."""
    reader = reader_of(visitors)
    shared = share_encrypted(base, FILES)
    reader.page.route("**/sinks.js", lambda route: route.abort(), times=1)
    reader.page.goto(shared.link)
    reader.sees("notice")
    assert "No connection" == reader.text("#notice-title")
    reader.page.click("#retry")
    reader.sees("waiting")

    assert [] == [path for path in reader.paths() if path.startswith("POST")]


def interrupt(reader: Visitor, lengths: list[int]) -> list[str | None]:
    """Cut the next responses off after some bytes, or lose them; return the list of the requested ranges."""
    ranges: list[str | None] = []

    def answer(route: Route) -> None:
        ranges.append(route.request.headers.get("range"))
        if not lengths:
            return route.continue_()
        answered = route.fetch()
        length = lengths.pop(0)
        return route.fulfill(status=answered.status, body=answered.body()[:length]) if length else route.abort()

    reader.page.route(OF_FILES, answer)
    return ranges


@pytest.mark.parametrize("pickers", [PICKERS, NO_PICKERS], ids=["file", "blob"])
def test_an_interrupted_download_continues(base: str, visitors: Visitors, pickers: str) -> None:
    """By itself, from the first segment that is missing."""
    reader = reader_of(visitors, pickers)
    opens(reader, share_encrypted(base, FILES).link)
    ranges = interrupt(reader, [SEALED_SEGMENT + 100, 0, SEALED_SEGMENT])
    loaded = loaded_by(reader)
    downloads(reader, 1)

    assert [None, *[f"bytes={SEALED_SEGMENT}-"] * 2, f"bytes={2 * SEALED_SEGMENT}-"] == ranges
    if pickers == PICKERS:
        assert {"Grundriß.pdf": LARGE} == saved(reader.page)
    else:
        assert [LARGE] == [one.path().read_bytes() for one in loaded]


def test_a_file_without_encryption_continues_as_well(base: str, visitors: Visitors) -> None:
    """From the first byte that is missing."""
    reader = reader_of(visitors)
    opens(reader, share_plainly(base, FILES).link)
    ranges = interrupt(reader, [1000])
    downloads(reader, 1)

    assert [None, "bytes=1000-"] == ranges
    assert {"Grundriß.pdf": LARGE} == saved(reader.page)


def test_a_download_continues_when_the_reader_asks(base: str, visitors: Visitors) -> None:
    """After several failures the page stops and keeps what it has."""
    reader = reader_of(visitors)
    opens(reader, share_encrypted(base, FILES).link)
    ranges = interrupt(reader, [SEALED_SEGMENT, 0, 0, 0, 0])
    reader.page.click("#download-1")
    says(reader, 1, "The download was interrupted.")
    assert "Continue" == reader.text("#download-1")
    assert b"" == saved(reader.page).get("Grundriß.pdf")
    downloads(reader, 1)

    assert f"bytes={SEALED_SEGMENT}-" == ranges[-1]
    assert {"Grundriß.pdf": LARGE} == saved(reader.page)


def test_a_download_can_be_cancelled(base: str, visitors: Visitors) -> None:
    """Nothing is saved, and the file can be downloaded later."""
    reader = reader_of(visitors)
    opens(reader, share_encrypted(base, FILES).link)
    reader.page.route(OF_FILES, lambda _: None)
    reader.page.click("#download-1")
    expect(reader.page.locator("#download-1")).to_have_text("Cancel", timeout=PATIENCE)
    assert reader.page.is_visible("#files progress >> nth=0")
    reader.page.click("#download-1")
    expect(reader.page.locator("#download-1")).to_have_text("Download", timeout=PATIENCE)
    assert reader.page.is_hidden("#files progress >> nth=0")
    assert {} == saved(reader.page)
    reader.page.unroute(OF_FILES)
    downloads(reader, 1)

    assert {"Grundriß.pdf": LARGE} == saved(reader.page)


@pytest.mark.parametrize("phrase", ["", PHRASE], ids=["open", "password"])
def test_a_reload_shows_the_files_again(base: str, visitors: Visitors, phrase: str) -> None:
    """While the secret is held, with a password after asking for it; other readers get nothing."""
    reader, other = reader_of(visitors), visitors.new()
    shared = share_encrypted(base, FILES, TEXT, phrase=phrase)
    opens(reader, shared.link, phrase)
    reader.page.reload()
    if phrase:
        reader.sees("waiting")
        reader.page.fill("#phrase", phrase)
        reader.page.click("#open")
    reader.sees("shown")
    downloads(reader, 1)
    other.goes(shared.link, "notice")

    assert {"Grundriß.pdf": LARGE} == saved(reader.page)
    assert "Already opened" == other.text("#notice-title")


def test_several_readers_download(base: str, visitors: Visitors) -> None:
    """As many as the sender allowed, each with a hold of their own."""
    shared = share_encrypted(base, FILES, opens=2)
    for _ in range(2):
        reader = reader_of(visitors)
        opens(reader, shared.link)
        downloads(reader, 3)

        assert {"notes.txt": FILES[2][1]} == saved(reader.page)


def test_leaving_files_behind_asks_first(base: str, visitors: Visitors) -> None:
    """As long as one of them has not been downloaded."""
    dialogs = Dialogs()
    reader = reader_of(visitors, dialogs=dialogs)
    opens(reader, share_encrypted(base, FILES[1:]).link)
    reader.page.reload()
    reader.sees("shown")
    reader.page.click("#download-all")
    for number in (1, 2):
        says(reader, number, "Downloaded")
    assert ["beforeunload"] == dialogs.messages
    reader.page.reload()
    reader.sees("shown")

    assert ["beforeunload"] == dialogs.messages


def test_delete_now_asks_first(base: str, visitors: Visitors) -> None:
    """Only for files that have not been downloaded; afterwards the sender sees that the secret was received."""
    dialogs = Dialogs(accepts=False)
    sender, reader = visitors.new(), reader_of(visitors, dialogs=dialogs)
    shared = share_encrypted(base, FILES[1:])
    opens(reader, shared.link)
    reader.page.click("#received")
    downloads(reader, 2)
    assert ["Not all files have been downloaded. Delete them from the server anyway?"] == dialogs.messages
    dialogs.accepts = True
    reader.deletes_now()
    says(reader, 1, "No longer available")
    says(reader, 2, "Downloaded")
    sender.goes(shared.receipt_link, "receipt")

    expect(sender.page.locator("#received-row")).to_be_visible(timeout=PATIENCE)
    assert [True] * 3 == [reader.page.is_hidden(f"#download-{name}") for name in ("1", "2", "all")]


def test_a_burned_secret_gives_no_file(base: str, visitors: Visitors) -> None:
    """The sender deletes it while a reader has it open."""
    sender, reader = visitors.new(), reader_of(visitors)
    shared = share_encrypted(base, FILES, opens=2)
    opens(reader, shared.link)
    sender.goes(shared.receipt_link, "receipt")
    sender.page.click("#burn")
    sender.page.click("#burn-now")
    sender.page.wait_for_selector("#burning", state="hidden")
    reader.page.click("#download-1")
    says(reader, 1, "No longer available")

    assert {} == saved(reader.page)
    assert reader.page.is_hidden("#download-2")


def test_the_end_of_the_hold_is_shown(base: str, visitors: Visitors) -> None:
    """Files that were not downloaded are no longer offered."""
    reader = reader_of(visitors)

    def end_soon(route: Route) -> None:
        if route.request.method != "POST":
            return route.continue_()
        answered = route.fetch()
        soon = datetime.now(UTC) + timedelta(seconds=2)
        return route.fulfill(response=answered, json={**answered.json(), "held_until": soon.isoformat()})

    reader.page.route(re.compile("/secrets/[^/]+$"), end_soon)
    opens(reader, share_encrypted(base, FILES).link)
    says(reader, 1, "No longer available")

    assert reader.page.is_hidden("#download-1")
    assert "has been deleted from the server" in reader.text("#shown-left")


def test_downloads_prolong_the_hold(base: str, visitors: Visitors) -> None:
    """The page shows the new end of a hold that was almost over, and keeps it for a reload."""
    reader = reader_of(visitors)
    opens(reader, share_encrypted(base, FILES).link)
    reader.page.evaluate("""async () => {
        const {keepUntil} = await import(new URL("hold.js", document.querySelector("script[src]").src));
        keepUntil(new Date(Date.now() + 30000).toISOString());
    }""")
    before = reader.text("#shown-left")
    downloads(reader, 1)

    expect(reader.page.locator("#shown-left")).not_to_have_text(before, timeout=PATIENCE)
    kept = reader.page.evaluate("Date.parse(JSON.parse(Object.values(sessionStorage)[0]).until) - Date.now()")
    assert 600_000 < kept < 900_000


def test_receipts_show_the_files(base: str, visitors: Visitors) -> None:
    """Their number and size, on the receipt and in the list of receipts; none for a secret without files."""
    sender = visitors.new()
    shared = share_encrypted(base, FILES)
    sender.goes(shared.receipt_link, "receipt")
    expect(sender.page.locator("#files")).to_have_text("3 files, 195 kB", timeout=PATIENCE)
    kept = [{"key": shared.receipt_link.partition("#")[2], "created": "2026-01-01T00:00:00Z", "expires": "2999-01-01"}]
    sender.page.evaluate("kept => localStorage.setItem('sealpost-receipts/', JSON.stringify(kept))", kept)
    sender.goes(f"{base}/r", "receipts")
    expect(sender.page.locator("#kept-list")).to_contain_text("3 files, 195 kB", timeout=PATIENCE)
    _, receipt_link = sender.share(base, TEXT)
    sender.goes(receipt_link, "receipt")

    assert sender.page.is_hidden("#files-row")
