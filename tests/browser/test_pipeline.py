"""The dashboard of a real `tidemark up`: from no data at all to numbers that move, and to the server's end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.conftest import Api, running
from tests.browser.conftest import Visit

FIRST, LAST = 1_000_000, 1_000_299
PATIENCE_MS = 60_000


@pytest.fixture
def port() -> int:
    api = Api(FIRST, LAST)
    port = int(api.url.rpartition(":")[2])
    api.stop()
    return port


def test_from_nothing_to_live_numbers(visit: Visit, port: int, tmp_path: Path) -> None:
    flags = ("--influencers", f"{FIRST}-{LAST}", "--interval", "2", "--api", f"http://127.0.0.1:{port}")
    with running(tmp_path / "data", *flags) as tidemark:
        everybody, one = visit(url=tidemark.url), visit(url=tidemark.url)
        one.expected = everybody.expected = ("Failed to load resource", "net::ERR")
        everybody.page.goto(tidemark.url)
        expect(everybody.page.locator("[data-field=notice]")).to_contain_text("Nothing has been observed yet")
        expect(everybody.page.locator("[data-list=most]")).to_contain_text("Nobody has been observed yet")
        expect(everybody.page.locator("[data-list=up]")).to_contain_text("nothing to compare with yet")
        one.page.goto(f"{tidemark.url}/influencers/{FIRST}")
        expect(one.page.locator("[data-field=notice]")).to_contain_text("Not observed yet")
        api = Api(FIRST, LAST, port)
        try:
            name = one.page.get_by_role("heading", level=1)
            expect(name).to_have_text(f"influencer-{FIRST}", timeout=PATIENCE_MS)
            expect(everybody.page.locator("[data-field=notice]")).to_be_hidden(timeout=PATIENCE_MS)
            expect(everybody.page.locator("[data-field=observed]")).to_have_text(
                "all observed", timeout=PATIENCE_MS
            )
            before = one.page.locator("[data-field=followerCount]").inner_text()
            expect(one.page.locator("[data-field=followerCount]")).not_to_have_text(
                before, timeout=PATIENCE_MS
            )
            expect(one.page.locator("[data-field=range-text]")).to_contain_text(
                re.compile(r"[1-9]\d* points")
            )
        finally:
            api.stop()
        # What is shown was answered by the API: the record has each answer it gave.
        given = {followers for followers, _ in api.record.given[FIRST]}
        assert int(one.page.locator("[data-field=followerCount]").inner_text().replace(",", "")) in given
        assert tidemark.stop() == 0, tidemark.said()
        expect(one.page.locator("[data-live]")).to_have_attribute("data-live", "gone", timeout=PATIENCE_MS)
