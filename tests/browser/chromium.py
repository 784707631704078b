"""Debian's Chromium, headless, driven by Playwright."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which

from playwright.sync_api import Browser, sync_playwright

PATIENCE = 60_000
"""Timeout in milliseconds: key derivation is slow on a busy machine."""
_ARGUMENTS = (
    # Requests to other hosts fail.
    "--host-resolver-rules=MAP plain.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    # Chromium refuses to run its sandbox as root.
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run Chromium for the duration of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=_ARGUMENTS, timeout=PATIENCE)
        yield browser
        browser.close()
