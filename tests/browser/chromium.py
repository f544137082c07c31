"""Which browser do the tests and the pictures use, and how is it started?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS: Final = (
    "--no-sandbox",  # root in a container has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def program() -> str:
    """The path of a Chromium. Raises FileNotFoundError that says what to do."""
    named = os.environ.get("TEST_BROWSER")
    for name in (named,) if named else NAMES:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("there is no Chromium on the PATH: run `bash scripts/browser`")


@contextmanager
def running() -> Iterator[Browser]:
    """A headless browser until the end of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()
