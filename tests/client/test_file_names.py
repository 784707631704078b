"""Names of received files: whatever the sender wrote, nothing is saved elsewhere or over something else."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.client.files.names import LONGEST_NAME, LONGEST_PATH, Places, make_safe


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("report.pdf", "report.pdf"),
        ("plans/Grüße 2.txt", "plans/Grüße 2.txt"),
        ("folder/.gitignore", "folder/.gitignore"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a/../../b", "a/b"),
        ("a//./b", "a/b"),
        ("..\\..\\windows\\system.ini", "__.._windows_system.ini"),
        ("C:\\autoexec.bat", "C__autoexec.bat"),
        ("file.txt:stream", "file.txt_stream"),
        (".bashrc", "_bashrc"),
        (".ssh/authorized_keys", "_ssh/authorized_keys"),
        ("", "file"),
        ("/", "file"),
        ("..", "file"),
        (" . ", "file"),
        ("NUL", "_NUL"),
        ("con.txt", "_con.txt"),
        ("a/COM1 .tar.gz", "a/_COM1 .tar.gz"),
        ("lpt¹", "_lpt¹"),
        ("console.log", "console.log"),
        ("name. ", "name"),
        (" name", "name"),
        ("a\0b", "a_b"),
        ("a\x1b[31mb\nc\td\x7f", "a_[31mb_c_d_"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("a\ud800b", "a_b"),
        ("x" * 4000 + ".pdf", "x" * 196 + ".pdf"),
        ("é" * 4000 + ".pdf", "é" * 98 + ".pdf"),
        ("a." + "y" * 4000, "a." + "y" * 198),
        ("d/" * 2000 + "last", "last"),
        ("con" + " " * 4000 + "x", "_con"),
        ("con" + " " * 4000 + "x.pdf", "_con.pdf"),
    ],
)
def test_a_hostile_name_becomes_harmless(name: str, saved: str) -> None:
    """Its words remain as far as possible."""
    assert saved == "/".join(make_safe(name))


@given(st.text(st.sampled_from("./\\:~ \0\n\u202eaA.é") | st.characters(), max_size=80))
def test_every_name_is_harmless(name: str) -> None:
    """A relative path without special components, of a limited length."""
    words = make_safe(name)

    assert words
    assert words == PurePosixPath(*words).parts
    assert len("/".join(words).encode()) <= LONGEST_PATH
    for word in words:
        assert word not in ("", ".", "..")
        assert not set(word) & set("/\\:\0\n\u202e")
        assert len(word.encode()) <= LONGEST_NAME + 1
    assert not words[0].startswith(".")


def chosen(directory: Path, *names: str, force: bool = False) -> list[str]:
    """Return where files with these names are saved."""
    places = Places(directory, force=force)
    return ["/".join(places.choose(name)) for name in names]


def test_duplicates_get_numbers(tmp_path: Path) -> None:
    """Also names that are the same only on some file systems."""
    names = ["a.txt", "a.txt", "A.TXT", "n\u0303", "\u00f1", "d/a", "D/a", "d/A"]

    assert ["a.txt", "a (2).txt", "A (3).TXT", "n\u0303", "\u00f1 (2)", "d/a", "d/a (2)", "d/A (3)"] == chosen(
        tmp_path, *names
    )


def test_a_file_and_a_folder_do_not_collide(tmp_path: Path) -> None:
    """In either order."""
    assert ["x", "x (2)/y", "x (2)/z"] == chosen(tmp_path, "x", "x/y", "x/z")
    assert ["x/y", "x (2)"] == chosen(tmp_path, "x/y", "x")
    assert ["x", "x (2).part"] == chosen(tmp_path, "x", "x.part")


@pytest.mark.parametrize("force", [False, True])
def test_existing_files_are_kept(tmp_path: Path, *, force: bool) -> None:
    """They are replaced only with force; folders are then reused, but not links."""
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "d")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b.part").write_text("")
    found = chosen(tmp_path, "a.txt", "d/x", "d", "link/x", "dangling", "b", force=force)

    if force:
        assert ["a.txt", "d/x", "d (2)", "link (2)/x", "dangling", "b (2)"] == found
    else:
        assert ["a (2).txt", "d (2)/x", "d (3)", "link (2)/x", "dangling (2)", "b (2)"] == found
    assert {"a.txt", "d", "link", "dangling", "b.part"} == {path.name for path in tmp_path.iterdir()}
