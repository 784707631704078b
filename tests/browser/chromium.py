"""Debian's Chromium, without a window, driven by Playwright."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which

from playwright.sync_api import Browser, sync_playwright

PATIENCE = 60_000
"""Milliseconds: deriving a key takes its time on a busy machine."""
_ARGUMENTS = (
    # What a page asks for elsewhere goes nowhere.
    "--host-resolver-rules=MAP plain.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # Chromium's sandbox is not for root.
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run it until the block ends."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=_ARGUMENTS, timeout=PATIENCE)
        yield browser
        browser.close()
