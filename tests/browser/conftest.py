"""A real browser, and pages that may not complain."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, expect

from tests.browser.chromium import running
from tests.browser.scene import Scene

PATIENCE_MS = 20_000
"""For what takes a tenth of a second on an idle machine."""
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with running() as browser:
        yield browser


@pytest.fixture(scope="package")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("scene"))
    scene.start()
    yield scene
    scene.close()


class Visitor:
    """Somebody with a browser. What the page complains of fails the test, unless it is named in `expected`."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.expected: tuple[str, ...] = ()
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", self._failed)
        self.page.on("console", self._said)
        self.page.on("request", lambda request: self._asked(request.url))

    def _failed(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _said(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme.startswith("http") and f"{parts.scheme}://{parts.netloc}" != self.url:
            self.complaints.append(f"asks another host: {url}")

    def open(self, path: str) -> Page:
        """Go there and wait until the charts are drawn."""
        self.page.goto(self.url + path)
        self.page.wait_for_selector("[data-field=plots][data-range]")
        return self.page

    def get(self, path: str) -> Any:
        """What the API says."""
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            return json.load(answer)

    def unexpected(self) -> list[str]:
        return [said for said in self.complaints if not any(part in said for part in self.expected)]


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Browser, scene: Scene) -> Iterator[Visit]:
    """Makes a visitor with a browser of its own: visit(dark=True, phone=True)."""
    contexts = []
    visitors = []

    def make(*, dark: bool = False, phone: bool = False, url: str | None = None) -> Visitor:
        context = browser.new_context(
            viewport={"width": 390, "height": 844} if phone else {"width": 1280, "height": 900},
            has_touch=phone,
            color_scheme="dark" if dark else "light",
            timezone_id="Europe/Berlin",
            reduced_motion="reduce",
            accept_downloads=True,
        )
        contexts.append(context)
        visitors.append(Visitor(context, url or scene.url))
        return visitors[-1]

    yield make
    for context in contexts:
        context.close()
    for visitor in visitors:
        assert visitor.unexpected() == []
