"""The pure modules of the dashboard, called in the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.scene import Scene

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def page(browser: Browser, scene: Scene) -> Iterator[Page]:
    page = browser.new_page(timezone_id="America/New_York")
    page.goto(scene.url)
    yield page
    page.close()


@pytest.fixture
def call(page: Page) -> Call:
    """call("series", "jumps", ...): a function of a module, with JSON for arguments and answer."""

    def called(module: str, function: str, *arguments: Any) -> Any:
        return page.evaluate(
            """async ([module, name, values]) => {
                const home = document.querySelector("script[type=module]").src;
                const found = (await import(new URL(`./${module}.js`, home)))[name];
                return [found(...values), values];
            }""",
            [module, function, list(arguments)],
        )

    return called


def test_gaps(call: Call) -> None:
    time = [0, 60, 120, 240, 420, 480]
    (at, values), _ = call("series", "withGaps", time, [[1, 2, 3, 4, 5, 6]], 60)
    assert values == [1, 2, 3, 4, None, 5, 6], "one missed poll is no gap"
    assert at == [0, 60, 120, 240, 330, 420, 480]


def test_who_is_observed_seldom_has_no_gap_at_each_point(call: Call) -> None:
    three_hours = [10_800 * index for index in range(20)]
    assert call("series", "stepSeconds", {"step": "1h", "time": three_hours})[0] == 10_800
    hours = [3_600 * index for index in range(20)] + [3_600 * 40]
    assert call("series", "stepSeconds", {"step": "1h", "time": hours})[0] == 3_600
    assert call("series", "stepSeconds", {"step": "1d", "time": []})[0] == 86_400
    assert call("series", "stepSeconds", {"step": "raw", "time": [5]})[0] == 60


def test_jumps(call: Call) -> None:
    calm = [10_000 + (index * 7) % 11 for index in range(60)]
    time = [60 * index for index in range(60)]
    assert call("series", "jumps", time, calm, 60)[0] == []
    jumped = calm[:30] + [value + 500 for value in calm[30:]]
    (jump,), _ = call("series", "jumps", time, jumped, 60)
    assert (jump["index"], jump["change"]) == (30, jumped[30] - jumped[29])
    apart = time[:30] + [at + 600 for at in time[30:]]
    assert call("series", "jumps", apart, jumped, 60)[0] == [], "a step across a gap does not count"
    assert call("series", "jumps", time[:5], [1, 1, 900, 1, 1], 60)[0] == [], "too few to know what is usual"
    still = [10_000] * 30 + [10_050] * 30
    assert call("series", "jumps", time, still, 60)[0] == [], "less than 1% is none, however calm the rest"
    wild = [10_000 + (index * index * 7_919) % 9_001 for index in range(60)]
    assert call("series", "jumps", time, wild, 60)[0] == [], "nor is a step as wild as all others"
    once = [50] * 30 + [90] * 30
    (jump,), _ = call("series", "jumps", time, once, 60)
    assert jump["index"] == 30, "one step of a count that rests"
    moving = [50] * 40 + [50 + (index * 37) % 101 for index in range(1, 21)]
    assert call("series", "jumps", time, moving, 60)[0] == [], (
        "a count that rested and now moves does not jump"
    )


def test_a_series_goes_on(call: Call) -> None:
    raw = {
        "step": "raw",
        "time": [100],
        "at": [100],
        "followerCount": [1],
        "followingCount": [1],
        "followerRatio": [1],
    }
    new = {"at": 160, "followerCount": 7, "followingCount": 2, "followerRatio": 3.5}
    grown, (after, _) = call("series", "append", raw, new)
    assert grown
    assert (after["time"], after["followerCount"]) == ([100, 160], [1, 7])
    again, (same, _) = call("series", "append", after, new)
    assert not again
    assert same == after
    hour = raw | {"step": "1h", "time": [0], "at": [3_000]}
    hour |= {f"{name}{end}": [4] for name in ("followerCount", "followingCount") for end in ("Min", "Max")}
    _, (after, _) = call("series", "append", hour, new | {"at": 3_500})
    assert (after["time"], after["at"], after["followerCount"]) == ([0], [3_500], [7])
    assert (after["followerCountMin"], after["followerCountMax"], after["followingCountMin"]) == (
        [4],
        [7],
        [2],
    )
    _, (after, _) = call("series", "append", after, new | {"at": 3_700})
    assert (after["time"], after["at"], after["followerCountMax"]) == ([0, 3_600], [3_600, 3_700], [7, 7])


def test_numbers_and_times(call: Call) -> None:
    def written(name: str, *arguments: Any) -> Any:
        return call("format", name, *arguments)[0]

    assert [written("count", value) for value in (57_166, 0, None)] == ["57,166", "0", "\N{EN DASH}"]
    assert [written("ratio", value) for value in (43.046, 1_234.5)] == ["43.05", "1,234.50"]
    assert [written("signed", value) for value in (1_234, -56, 0)] == ["+1,234", "\N{MINUS SIGN}56", "0"]
    assert [written("share", value) for value in (1, 0.99999, 0.5)] == ["100%", "99.99%", "50.00%"]
    assert written("ticks", [80_000, 82_500], 2_500) == ["80.0K", "82.5K"]
    assert written("ticks", [57_160, 57_170], 10) == ["57.16K", "57.17K"]
    assert written("ticks", [57_166, 57_167], 1) == ["57,166", "57,167"]
    assert [written("ago", seconds) for seconds in (1, 12, 300, 7_200)] == [
        "just now",
        "12 seconds ago",
        "5 minutes ago",
        "2 hours ago",
    ]
    assert written("pointTime", 1_795_392_000, "1d") == "23 Nov 2026 (UTC)", "a day is one of UTC"
    assert written("pointTime", 1_795_392_000, "1h") == "22 Nov 2026, 19:00 to 20:00"
    set_back = [written("pointTime", at_s, "1m") for at_s in (1_793_510_940, 1_793_514_540)]
    assert set_back == ["1 Nov 2026, 01:29 GMT-4", "1 Nov 2026, 01:29 GMT-5"], "these are not the same"
    assert written("pointTime", 1_793_509_200, "1h") == "1 Nov 2026, 01:00 GMT-4 to 01:00 GMT-5"
    assert written("zone").startswith("America/New_York (GMT-")


def test_ranges(call: Call) -> None:
    range_ = {"preset": "24h", "from": None, "to": None}
    assert call("range", "asked", range_, 1_000_000)[0] == {"from": 1_000_000 - 86_400, "to": None}
    zoomed, _ = call("range", "zoomed", range_, [0, 1_000], 0.5, 1_000)
    assert (zoomed["from"], zoomed["to"]) == (500, 1_000)
    closest, _ = call("range", "between", range_, 1_000, 1_010)
    assert closest["to"] - closest["from"] == 60
    moved, _ = call("range", "moved", range_, [0, 1_000], 0.25, 1_100)
    assert (moved["from"], moved["to"]) == (100, 1_100), "not beyond now"


def test_a_range_that_nobody_asked_for_begins_with_the_first_point(call: Call) -> None:
    now_s = 1_000_000
    day = {"preset": "24h", "from": None, "to": None}
    unasked = day | {"unasked": True}
    assert call("range", "shown", day, now_s, now_s - 600)[0] == [now_s - 86_400, now_s]
    assert call("range", "shown", unasked, now_s, now_s - 600)[0] == [now_s - 600, now_s]
    assert call("range", "shown", unasked, now_s, now_s - 90_000)[0] == [now_s - 86_400, now_s]
    assert call("range", "shown", unasked, now_s)[0] == [now_s - 86_400, now_s], "nothing is there yet"
