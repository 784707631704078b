"""A reader of files in a browser: opens a secret, downloads its files, and answers dialogs."""

from dataclasses import dataclass, field

from playwright.sync_api import Dialog, Download, expect

from .chromium import PATIENCE
from .conftest import Visitor, Visitors
from .shared_files import PICKERS


@dataclass
class Dialogs:
    """Answers all dialogs of a visitor, and records their messages."""

    accepts: bool = True
    messages: list[str] = field(default_factory=list)

    def answer(self, dialog: Dialog) -> None:
        """Accept or dismiss a dialog."""
        self.messages.append(dialog.message or dialog.type)
        if self.accepts:
            dialog.accept()
        else:
            dialog.dismiss()


def reader_of(visitors: Visitors, pickers: str = PICKERS, dialogs: Dialogs | None = None) -> Visitor:
    """Return a visitor who can save files, and by default leaves a page with files without being asked."""
    reader = visitors.new()
    reader.page.add_init_script(pickers)
    reader.page.remove_listener("dialog", reader.dismiss)
    reader.page.on("dialog", (dialogs or Dialogs()).answer)
    return reader


def opens(reader: Visitor, link: str, phrase: str = "") -> None:
    """Open a link that may have a password."""
    reader.page.goto(link)
    reader.sees("waiting")
    if phrase:
        reader.page.fill("#phrase", phrase)
    reader.page.click("#open")
    reader.sees("shown")


def loaded_by(reader: Visitor) -> list[Download]:
    """Return the list of the files that the browser saves from now on, which grows."""
    loaded: list[Download] = []

    def load(download: Download) -> None:
        loaded.append(download)

    reader.page.on("download", load)
    return loaded


def says(reader: Visitor, number: int, text: str) -> None:
    """Wait until the row of a file says something."""
    expect(reader.page.locator(f"#files li:nth-child({number}) .hint")).to_contain_text(text, timeout=PATIENCE)


def downloads(reader: Visitor, number: int) -> None:
    """Download a file."""
    reader.page.click(f"#download-{number}")
    says(reader, number, "Downloaded")
