"""Where a browser saves the files of a secret, and under which names."""

import pytest

from .conftest import Visitors
from .file_readers import downloads, loaded_by, opens, reader_of, says
from .shared_files import FILES, LARGE, NO_PICKERS, OF_FILES, PICKERS, saved, share_encrypted, share_plainly

pytestmark = pytest.mark.browser


def test_a_browser_without_pickers_saves_a_blob(base: str, visitors: Visitors) -> None:
    """The file arrives in the folder for downloads, with its exact content."""
    reader = reader_of(visitors, NO_PICKERS)
    opens(reader, share_encrypted(base, FILES).link)
    with reader.page.expect_download() as downloading:
        downloads(reader, 1)

    assert "Grundriß.pdf" == downloading.value.suggested_filename
    assert LARGE == downloading.value.path().read_bytes()


def test_all_files_are_saved_in_a_folder(base: str, visitors: Visitors) -> None:
    """One after the other; of files with the same name, the later ones get a number."""
    files = [("a/x.txt", b"first"), ("b/x.txt", b"second"), ("x.txt", b"third"), ("README", LARGE)]
    reader = reader_of(visitors)
    opens(reader, share_encrypted(base, files).link)
    reader.page.click("#download-all")
    for number in range(1, 5):
        says(reader, number, "Downloaded")

    assert {"x.txt": b"first", "x (2).txt": b"second", "x (3).txt": b"third", "README": LARGE} == saved(reader.page)


def test_an_altered_file_does_not_stop_the_others(base: str, visitors: Visitors) -> None:
    """All others are downloaded."""
    reader = reader_of(visitors)
    opens(reader, share_encrypted(base, FILES).link)
    reader.page.route(OF_FILES, lambda route: route.fulfill(body=bytes(1_000_000)), times=1)
    reader.page.click("#download-all")
    says(reader, 3, "Downloaded")

    says(reader, 1, "Altered or damaged")
    assert {"leer.txt": b"", "notes.txt": FILES[2][1]} == saved(reader.page)


def test_a_file_may_have_no_name(base: str, visitors: Visitors) -> None:
    """It gets a number."""
    reader = reader_of(visitors)
    opens(reader, share_plainly(base, [("named.txt", b"first"), ("", b"second")]).link)
    downloads(reader, 2)

    assert ["named.txt", "file-2"] == reader.page.locator("#files bdi").all_inner_texts()
    assert {"file-2": b"second"} == saved(reader.page)


HOSTILE = (
    ("../../etc/passwd", "../../etc/passwd", "passwd"),
    ("<img src=x onerror=alert(1)>.html", "<img src=x onerror=alert(1)>.html", "_img src=x onerror=alert(1)_.html"),
    ("C:\\windows\\x.txt", "C:\\windows\\x.txt", "x.txt"),
    ("a\u202egpj.exe", "a\ufffdgpj.exe", "agpj.exe"),
    ("a\nb\x00\u200bc", "a\ufffdb\ufffd\ufffdc", "abc"),
    ("aux.txt", "aux.txt", "_aux.txt"),
    (" .. ", " .. ", "file-7"),
    ("", "file-8", "file-8"),
    ("קובץ.txt", "קובץ.txt", "קובץ.txt"),
    ("é" * 300 + ".tar.gz", "é" * 120 + "…" + "é" * 53 + ".tar.gz", "é" * 98 + ".gz"),
)


def test_hostile_names_are_text(base: str, visitors: Visitors) -> None:
    """A name is shown as it is, isolated from the text around it, and saved under a safe name."""
    reader = reader_of(visitors)
    opens(reader, share_encrypted(base, [(name, b"x") for name, _, _ in HOSTILE]).link)
    reader.page.click("#download-all")
    for number in range(1, len(HOSTILE) + 1):
        says(reader, number, "Downloaded")

    assert [shown for _, shown, _ in HOSTILE] == reader.page.locator("#files bdi").all_text_contents()
    assert {safe for _, _, safe in HOSTILE} == set(saved(reader.page))
    assert 0 == reader.page.locator("#files img").count()


def test_a_reader_may_choose_no_place(base: str, visitors: Visitors) -> None:
    """Then nothing happens, neither for a file nor for a folder."""
    dismissed = "() => Promise.reject(new DOMException('', 'AbortError'))"
    reader = reader_of(visitors, f"window.showSaveFilePicker = window.showDirectoryPicker = {dismissed};")
    opens(reader, share_encrypted(base, FILES).link)
    for button in ("1", "all", "1"):
        reader.page.click(f"#download-{button}")

    says(reader, 1, "195 kB")
    assert "Download" == reader.text("#download-1")
    assert [] == [path for path in reader.paths() if OF_FILES.search(path)]


def test_a_forbidden_picker_is_replaced(base: str, visitors: Visitors) -> None:
    """By the way of browsers that have none, for example where an administrator does not allow it."""
    forbidden = "() => Promise.reject(new DOMException('', 'SecurityError'))"
    reader = reader_of(visitors, f"window.showSaveFilePicker = window.showDirectoryPicker = {forbidden};")
    opens(reader, share_encrypted(base, FILES[1:]).link)
    loaded = loaded_by(reader)
    downloads(reader, 1)
    reader.page.click("#download-all")
    says(reader, 2, "Downloaded")

    assert [content for _, content in FILES[1:]] == [one.path().read_bytes() for one in loaded]


def test_a_full_disk_is_reported(base: str, visitors: Visitors) -> None:
    """Nothing of the file is left, and it can be downloaded again."""
    full = """
        const {write} = FileSystemWritableFileStream.prototype;
        FileSystemWritableFileStream.prototype.write = async function () {
            FileSystemWritableFileStream.prototype.write = write;
            throw new DOMException("", "QuotaExceededError");
        };
    """
    reader = reader_of(visitors, PICKERS + f"if (window.FileSystemWritableFileStream) {{ {full} }}")
    opens(reader, share_encrypted(base, FILES).link)
    reader.page.click("#download-1")
    says(reader, 1, "Saving failed.")
    assert {} == saved(reader.page)
    downloads(reader, 1)

    assert {"Grundriß.pdf": LARGE} == saved(reader.page)
