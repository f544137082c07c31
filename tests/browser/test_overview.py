"""The overview and what both pages have: search, themes, keys, a phone, no barriers, a server that goes away."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.browser.scene import GAP_PK, TOLD, Scene

AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"
PAGES = ("/", f"/influencers/{GAP_PK}?compare={TOLD[1]}")


def field(page: Page, name: str) -> str:
    return page.locator(f"[data-field={name}]").inner_text()


def test_the_figures_are_those_of_the_api(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open("/")
    expect(page.locator("[data-field=average]")).not_to_have_text("\N{EN DASH}")
    told = visitor.get("/v1/stats")
    assert field(page, "average") == f"{told['averageFollowerCount']:,.0f}"
    assert field(page, "average-over") == f"across {told['observed']:,} influencers"
    assert field(page, "influencers") == f"{told['influencers']:,}"
    assert field(page, "suspicious") == f"{told['suspicious']['suspicious']:,}"
    assert re.fullmatch(r"[\d.]+%", field(page, "coverage"))
    assert re.fullmatch(r"[\d.]+ (s|min)", field(page, "freshness"))
    page.get_by_role("button", name="7d").click()
    expect(page.locator("[data-field=plots]")).to_have_attribute("data-range", "7d")
    average = visitor.get(f"/v1/stats/series?from={int(time.time()) - 604_800}")["averageFollowerCount"][-1]
    expect(page.locator(".readout b")).to_have_text(f"{average:,.0f}")


def test_the_leaderboards_are_those_of_the_api_and_lead_to_influencers(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open("/")
    for who, query in (("Everybody", ""), ("Without suspicious", "&suspicious=exclude")):
        page.get_by_role("button", name=who).click()
        for name, path, number in (
            ("most", "/v1/leaderboard?limit=10", "followerCount"),
            ("up", "/v1/leaderboard/gains?window=1h&direction=up&limit=10", "followerGain"),
            ("down", "/v1/leaderboard/gains?window=1h&direction=down&limit=10", "followerGain"),
        ):
            items = visitor.get(path + query)["items"]
            assert items
            rows = page.locator(f"[data-list={name}] tbody tr")
            expect(rows).to_have_count(len(items))
            expect(rows.locator("a")).to_have_text([item["username"] for item in items])
            expect(rows.locator(".flag svg")).to_have_count(sum(item["suspicious"] is True for item in items))
            expect(rows.first).to_contain_text(f"{abs(items[0][number]):,}")
    assert "suspicious=exclude" in page.url
    first = page.locator("[data-list=most] tbody a").first
    name = first.inner_text()
    first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_searching_answers_while_one_types(visit: Visit) -> None:
    page = visit().open("/")
    page.keyboard.press("/")
    box = page.get_by_role("combobox", name="Search")
    expect(box).to_be_focused()
    box.fill("INFLUENCER-10000")  # in one piece: each that is searched for begins anew at the first answer
    options = page.get_by_role("option")
    expect(options).to_have_count(8)
    expect(options.first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    assert box.get_attribute("aria-activedescendant") == options.nth(1).get_attribute("id")
    page.keyboard.press("Escape")
    expect(options.first).to_be_hidden()
    box.fill("nobody-of-this-name")
    expect(page.locator(".search-hint")).to_contain_text("Nobody observed begins with")
    box.fill(str(TOLD[2]))
    expect(options).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"influencer-{TOLD[2]}")


def test_enter_takes_whom_the_whole_text_means(visit: Visit) -> None:
    page = visit().open("/")
    page.keyboard.press("/")
    pk = str(TOLD[2])
    page.get_by_role("combobox", name="Search").press_sequentially(pk[:-1])
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press(pk[-1])
    page.keyboard.press("Enter")  # while what is listed answers a shorter text
    expect(page.get_by_role("heading", level=1)).to_have_text(f"influencer-{pk}")


def test_everything_works_by_keyboard(visit: Visit) -> None:
    page = visit().open(f"/influencers/{GAP_PK}?range=6h")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "plot":
            break
    plots = page.locator("[data-field=plots]")
    readout = page.locator(".readout").first
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(readout).not_to_contain_text("latest")
    spoken = page.locator("[aria-live=polite]")
    expect(spoken).to_contain_text(readout.locator("b").inner_text())
    page.keyboard.press("+")
    expect(plots).to_have_attribute("data-range", "zoomed")
    url = page.url
    page.keyboard.press("Shift+ArrowLeft")
    expect(page).not_to_have_url(url)
    page.keyboard.press("-")
    page.keyboard.press("0")
    expect(plots).to_have_attribute("data-range", "6h")


def test_the_theme_is_the_systems_until_one_is_chosen(visit: Visit) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(243, 246, 248)", "rgb(12, 19, 24)"
    assert visit().open("/").evaluate(ground) == light
    page = visit(dark=True).open("/")
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Switch to the light theme").click()
    assert page.evaluate(ground) == light
    page.reload()
    assert page.evaluate(ground) == light
    page.get_by_role("button", name="Switch to the dark theme").click()
    assert page.evaluate(ground) == dark


@pytest.mark.parametrize("path", PAGES)
def test_it_fits_on_a_phone_and_is_light(visit: Visit, path: str) -> None:
    page = visit(phone=True).open(path)
    entries = "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
    assert page.evaluate(f"{entries}.reduce((sum, one) => sum + one.transferSize, 0)") < 150_000
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    beyond = page.locator("main *, header *").evaluate_all(
        """all => all.filter(one => !one.closest('.hidden, [hidden]') && one.getBoundingClientRect().right > 391)
                     .map(one => one.outerHTML.slice(0, 99))"""
    )
    assert beyond == []
    small = page.locator("button:visible, a.button:visible").evaluate_all(
        "all => all.filter(one => one.getBoundingClientRect().height < 24).map(one => one.textContent)"
    )
    assert small == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("path", PAGES)
def test_there_are_no_barriers(visit: Visit, path: str, dark: bool) -> None:
    page = visit(dark=dark).open(path)
    page.locator("details.table summary").evaluate_all("all => all.forEach(one => one.click())")
    box = page.get_by_role("combobox", name="Search")
    box.fill("influencer")
    page.get_by_role("option").first.wait_for()
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    assert [(one["id"], [node["html"][:150] for node in one["nodes"]]) for one in found["violations"]] == []


def test_the_http_api_has_a_page_that_needs_no_other_host(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    page.goto(f"{visitor.url}/docs")
    stats = page.locator("[id$=stats_v1_stats_get]")
    stats.get_by_role("button").first.click()
    stats.get_by_role("button", name="Try it out").click()
    stats.get_by_role("button", name="Execute").click()
    expect(stats.locator(".live-responses-table")).to_contain_text("averageFollowerCount")


def test_long_names_hide_nothing(visit: Visit, scene: Scene) -> None:
    """Not the flag of who is suspicious, and the page does not grow wider than the window."""
    visitor = visit(phone=True)
    visitor.expected = ("Failed to load resource", "net::ERR")
    name = "W" * 64

    def renamed(route: Route) -> None:
        answer = route.fetch().json()
        for item in answer.get("items", [answer]):
            item["username"] = name
            item["suspicious"] = True
        route.fulfill(json=answer)

    visitor.page.route("**/v1/live*", lambda route: route.abort())  # it has the other names
    visitor.page.route("**/v1/leaderboard*", renamed)
    visitor.page.route(re.compile(r"/v1/leaderboard/gains"), renamed)
    visitor.page.route(re.compile(r"/v1/influencers/\d+$"), renamed)
    page = visitor.open("/")
    flags = page.locator("[data-list=most] .flag")
    expect(flags).to_have_count(10)
    inside = flags.evaluate_all(
        "all => all.every(one => one.getBoundingClientRect().right <= one.closest('td').getBoundingClientRect().right)"
    )
    assert inside
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page = visitor.open(f"/influencers/{GAP_PK}?compare={GAP_PK + 1}")
    expect(page.locator(".chip")).to_contain_text(name)
    expect(page.locator(".readout").first).to_contain_text(name)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_back_lists_what_the_url_says(visit: Visit) -> None:
    page = visit().open("/?window=24h")
    page.get_by_role("group", name="Range").get_by_role("button", name="6h").click()
    page.wait_for_url("**range=6h**")
    page.get_by_role("button", name="Without suspicious").click()
    page.wait_for_url("**suspicious=exclude**")
    page.go_back()
    expect(page.get_by_role("button", name="Everybody")).to_have_attribute("aria-pressed", "true")


def test_what_is_shown_stays_while_the_server_is_away(visit: Visit, scene: Scene) -> None:
    visitor = visit()
    visitor.expected = ("Failed to load resource", "net::ERR")
    visitor.page.clock.install()
    page = visitor.open("/")
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")
    scene.stop()
    try:
        expect(page.locator("[data-live]")).to_have_attribute("data-live", "gone")
        with page.expect_event("requestfailed", lambda request: "/v1/stats/series" in request.url):
            page.clock.run_for(61_000)
        expect(page.locator("[data-field=notice]")).to_contain_text(
            "The server does not answer. What is shown is of"
        )
        expect(page.locator(".plot-empty")).to_be_hidden()
    finally:
        scene.start()
    # An answer to anything says that it is back, however long the stream would have waited.
    page.clock.run_for(16_000)
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")


def test_the_server_goes_and_comes_back(visit: Visit, scene: Scene) -> None:
    visitor = visit()
    visitor.expected = ("Failed to load resource", "net::ERR")
    page = visitor.open(f"/influencers/{GAP_PK}?range=1h")
    state = page.locator("[data-live]")
    expect(state).to_have_attribute("data-live", "live")
    scene.stop()
    try:
        expect(state).to_have_attribute("data-live", "gone")
        expect(state).to_have_text(re.compile(r"Server gone since \d\d:\d\d:\d\d"))
    finally:
        scene.start()
    followers = 60_000 + int(time.time()) % 1_000
    scene.observe(GAP_PK, followers, 1_400)
    expect(state).to_have_attribute("data-live", "live")
    expect(page.locator("[data-field=followerCount]")).to_have_text(f"{followers:,}")
    expect(page.locator(".readout b").first).to_have_text(f"{followers:,}")
