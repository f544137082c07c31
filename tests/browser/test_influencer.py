"""An influencer's page, as people use it."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.browser.scene import GAP_PK, QUIET, TOLD, UNOBSERVED, Scene

PAGE = f"/influencers/{GAP_PK}"


def field(page: Page, name: str) -> str:
    return page.locator(f"[data-field={name}]").inner_text()


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def press(page: Page, label: str) -> None:
    page.get_by_role("button", name=label, exact=True).click()


def drag(page: Page, start: float, end: float) -> None:
    """Over the first chart, from and to a share of its width."""
    box = page.locator(".u-over").first.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * start, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (start + end) / 2, y, steps=3)
    page.mouse.move(box["x"] + box["width"] * end, y, steps=3)
    page.mouse.up()


def test_the_numbers_are_those_of_the_api(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open(PAGE)
    expect(page.locator("[data-field=total]")).to_contain_text("of ")
    told = visitor.get(f"/v1{PAGE}")
    assert field(page, "name") == told["username"] == page.title().split(" · ")[0]
    assert field(page, "pk") == f"pk {GAP_PK}"
    assert field(page, "followerCount") == f"{told['followerCount']:,}"
    assert field(page, "followingCount") == f"{told['followingCount']:,}"
    assert field(page, "followerRatio") == f"{told['followerRatio']:,.2f}"
    assert field(page, "rank") == f"{told['rank']:,}"
    assert field(page, "total") == f"of {visitor.get('/v1/stats')['observed']:,}"
    assert field(page, "percentile") == f"above {int(told['percentile'] * 100) / 100:.2f}% of the others"
    assert "Not suspicious · decided" in field(page, "verdict")
    assert re.search(
        r"Last observed .* · \d+ \w+ 2\d{3}, \d\d:\d\d:\d\d (CET|CEST|GMT\+[12])", field(page, "observed")
    )
    assert "Europe/Berlin" in page.locator("footer").inner_text()


def test_changes_count_from_the_observation_they_were_told_of(visit: Visit, scene: Scene) -> None:
    visitor = visit()
    held: list[Route] = []

    def hold(route: Route) -> None:  # not held.append: Playwright sets an attribute on what it is given
        held.append(route)

    visitor.page.route("**/changes", hold)
    page = visitor.open(f"/influencers/{TOLD[1]}?range=1h")
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")
    told = held[0].fetch()
    gain = told.json()["changes"][0]["followerCount"] + 5_000
    followers = visitor.get(f"/v1/influencers/{TOLD[1]}")["followerCount"] + 5_000
    scene.observe(TOLD[1], followers, 1_400)  # newer than what the answer is about, and here before it
    expect(page.locator("[data-field=followerCount]")).to_have_text(f"{followers:,}")
    held[0].fulfill(response=told)
    expect(page.locator("[data-changes=followerCount] dd").first).to_have_text(
        f"{'+' if gain > 0 else chr(0x2212)}{abs(gain):,}"
    )


def test_ranges_stand_in_the_url_and_the_back_button_works(visit: Visit) -> None:
    visitor = visit()
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url.removeprefix(visitor.url)))
    page = visitor.open(PAGE)
    plots = page.locator("[data-field=plots]")
    for label, preset, step in (
        ("7d", "7d", "by the hour"),
        ("30d", "30d", "by the hour"),
        ("1h", "1h", "each observation"),
    ):
        press(page, label)
        expect(plots).to_have_attribute("data-range", preset)
        assert query(page)["range"] == [preset]
        expect(page.locator("[data-field=range-text]")).to_contain_text(step)
    series = visitor.get([path for path in asked if path.startswith(f"/v1{PAGE}/series")][-1])
    expect(page.locator("[data-field=range-text]")).to_contain_text(f"{len(series['time'])} points")
    page.go_back()
    expect(plots).to_have_attribute("data-range", "30d")
    page.reload()
    expect(plots).to_have_attribute("data-range", "30d")
    press(page, "All")
    expect(plots).to_have_attribute("data-range", "all")


def test_dragging_zooms_and_there_are_three_ways_back(visit: Visit) -> None:
    page = visit().open(f"{PAGE}?range=24h")
    plots = page.locator("[data-field=plots]")
    for back in ("button", "double click", "history"):
        drag(page, 0.4, 0.6)
        expect(plots).to_have_attribute("data-range", "zoomed")
        assert {"from", "to", "range"} <= set(query(page))
        if back == "button":
            press(page, "Reset the zoom")
        elif back == "double click":
            page.locator(".u-over").first.dblclick()
        else:
            page.go_back()
        expect(plots).to_have_attribute("data-range", "24h")
        assert "from" not in query(page)


def test_the_crosshair_is_shared_and_tells_the_values(visit: Visit, scene: Scene) -> None:
    visitor = visit()
    page = visitor.open(f"{PAGE}?range=6h")
    box = page.locator(".u-over").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    readouts = page.locator(".readout")
    expect(readouts.first).not_to_contain_text("latest")
    times = {readouts.nth(index).locator("time").inner_text() for index in range(3)}
    assert len(times) == 1
    shown = readouts.first.locator("b").inner_text()
    assert int(shown.replace(",", "")) in scene.history[GAP_PK]["followerCount"]
    lines = page.locator(".u-cursor-x").evaluate_all(
        "all => new Set(all.map(one => one.style.transform)).size"
    )
    assert lines == 1


def test_a_new_observation_arrives_by_itself(visit: Visit, scene: Scene) -> None:
    page = visit().open(f"{PAGE}?range=1h")
    expect(page.locator("[data-live]")).to_have_attribute("data-live", "live")
    scene.observe(GAP_PK, 58_123, 1_400)
    expect(page.locator("[data-field=followerCount]")).to_have_text("58,123")
    expect(page.locator("[data-field=followerRatio]")).to_have_text("41.52")
    expect(page.locator(".readout").first).to_contain_text("58,123")
    assert page.title().startswith("influencer-1000001")


def test_what_comes_while_the_points_are_asked_for_is_not_lost(visit: Visit, scene: Scene) -> None:
    """The store has it a second later than the board: it is not among the points."""
    visitor = visit()
    followers = 58_500

    def late(route: Route) -> None:
        answer = route.fetch()
        scene.observe(GAP_PK, followers, 1_400)
        expect(visitor.page.locator("[data-field=followerCount]")).to_have_text(f"{followers:,}")
        route.fulfill(response=answer)

    visitor.page.route("**/series?*", late, times=1)
    page = visitor.open(f"{PAGE}?range=1h")
    expect(page.locator(".readout b").first).to_have_text(f"{followers:,}")


def test_two_are_compared(visit: Visit) -> None:
    visitor = visit()
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url.removeprefix(visitor.url)))
    page = visitor.open(PAGE)
    box = page.get_by_role("combobox", name="Compare with")
    box.fill(f"{TOLD[1]}")
    page.get_by_role("option").first.wait_for()
    box.press("Enter")
    readout = page.locator(".readout").first
    expect(readout.locator(".value")).to_have_count(2)
    expect(readout).to_contain_text(f"influencer-{TOLD[1]}")
    assert query(page)["compare"] == [str(TOLD[1])]
    expect(readout).to_contain_text(f"{visitor.get(f'/v1/influencers/{TOLD[1]}')['followerCount']:,}")
    press(page, "Change %")
    expect(page.get_by_role("button", name="Change %")).to_have_attribute("aria-pressed", "true")
    for pk in (GAP_PK, TOLD[1]):
        path = [path for path in asked if path.startswith(f"/v1/influencers/{pk}/series")][-1]
        latest = visitor.get(f"/v1/influencers/{pk}")["followerCount"]
        percent = 100 * (latest / visitor.get(path)["followerCount"][0] - 1)
        sign = "+" if percent > 0 else "\N{MINUS SIGN}"
        expect(readout).to_contain_text(f"{sign}{abs(percent):,.2f}%{latest:,}")
    page.reload()
    expect(readout.locator(".value")).to_have_count(2)
    expect(page.get_by_role("link", name=f"CSV of influencer-{TOLD[1]}")).to_be_visible()
    press(page, f"Stop comparing with influencer-{TOLD[1]}")
    expect(readout.locator(".value")).to_have_count(1)
    assert "compare" not in query(page)


def test_what_is_seen_can_be_kept(visit: Visit, tmp_path: Path) -> None:
    visitor = visit()
    page = visitor.open(f"{PAGE}?range=6h")
    with page.expect_download() as started:
        page.get_by_role("link", name="Export CSV").click()
    rows = Path(started.value.path()).read_text().splitlines()
    assert started.value.suggested_filename == f"influencer-{GAP_PK}-raw.csv"
    assert rows[0] == "time,followerCount,followingCount,followerRatio"
    told = visitor.get(f"/v1{PAGE}")
    assert rows[-1].startswith(f"{told['observedAt']},{told['followerCount']},{told['followingCount']},")
    with page.expect_download() as started:
        page.get_by_role("button", name="PNG of Followers", exact=True).click()
    picture = Path(started.value.path()).read_bytes()
    assert started.value.suggested_filename == f"influencer-{GAP_PK}-followers.png"
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 5_000


def test_the_export_of_all_has_every_point(visit: Visit) -> None:
    page = visit().open(f"{PAGE}?range=all")
    expect(page.locator("[data-field=range-text]")).to_contain_text("by the hour")
    points = re.search(r"([0-9,]+) points", field(page, "range-text"))
    assert points
    with page.expect_download() as started:
        page.get_by_role("link", name="Export CSV").click()
    rows = Path(started.value.path()).read_text().splitlines()
    assert len(rows) == 1 + int(points[1].replace(",", ""))


def test_labels_of_large_counts_are_not_cut_off(visit: Visit, scene: Scene) -> None:
    visitor = visit()
    at = list(range(scene.now_s - 1_200, scene.now_s - 600, 60))
    told = {
        "pk": int(PAGE.rpartition("/")[2]),
        "step": "raw",
        "time": at,
        "followerCount": [123_456_000 + 60 * place for place in range(len(at))],
        "followingCount": [50] * len(at),
        "followerRatio": [2_469_120.0] * len(at),
    }
    visitor.page.route("**/series?*", lambda route: route.fulfill(json=told))
    first, last = (f"{datetime.fromtimestamp(one, UTC):%Y-%m-%dT%H:%M:%SZ}" for one in (at[0], at[-1]))
    page = visitor.open(f"{PAGE}?from={first}&to={last}")  # what is newer stays out
    widths = "charts => charts.map(chart => parseFloat(chart.style.left))"
    page.wait_for_function(f"""() => {{
        const left = ({widths})([...document.querySelectorAll(".u-over")]);
        return left.length === 3 && left.every(one => one === left[0]);
    }}""")  # the narrower ones follow the widest
    needed = page.evaluate("""() => {
        const context = document.createElement("canvas").getContext("2d");
        context.font = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
        return context.measureText("123,456,000").width;
    }""")
    left, *_ = page.eval_on_selector_all(".u-over", widths)
    assert left >= needed + 8, "the label and its gap"


def test_gaps_and_jumps_are_told(visit: Visit, scene: Scene) -> None:
    begin, end = (
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(scene.now_s - hours * 3_600)) for hours in (6, 1)
    )
    page = visit().open(f"{PAGE}?from={begin}&to={end}")
    summary = page.locator("#plot-followers-summary").text_content() or ""
    assert "1 gap, 1 unusual jump." in summary
    assert "1 gap, 0 unusual jumps." in (page.locator("#plot-followings-summary").text_content() or "")
    assert "1 gap, 1 unusual jump." in (page.locator("#plot-ratio-summary").text_content() or "")
    page.locator("summary").click()
    rows = page.locator("[data-field=table-body] tbody tr")
    expect(rows).to_have_count(50)
    expect(page.locator("caption")).to_contain_text("the newest 50 of")


def test_states_that_people_meet(visit: Visit, scene: Scene) -> None:
    visitor = visit()
    visitor.expected = ("status of 422", "status of 404")
    page = visitor.page
    for unknown in ("17", "nobody", "%20"):
        page.goto(f"{visitor.url}/influencers/{unknown}")
        expect(page.get_by_role("heading", level=1)).to_have_text("Nobody here")
        expect(page.locator("[data-field=notice]")).to_contain_text("is not among the watched influencers")
        expect(page.locator("[data-field=body]")).to_be_hidden()
    page.goto(f"{visitor.url}/influencer/17")
    expect(page.get_by_role("heading", level=1)).to_have_text("No such page")
    expect(page.locator("main")).to_contain_text("There is nothing at /influencer/17.")
    page.goto(f"{visitor.url}/influencers/{UNOBSERVED}")
    expect(page.locator("[data-field=notice]")).to_contain_text("Not observed yet")
    expect(page.locator(".plot-empty")).to_have_text(["Nothing has been observed yet."] * 3)
    scene.observe(UNOBSERVED, 1_234, 0)
    expect(page.locator("[data-field=followerCount]")).to_have_text("1,234")
    expect(page.locator("[data-field=followerRatio]")).to_have_text("\N{EN DASH}")
    expect(page.locator(".plot-empty")).to_have_text(["", "", "No ratio: nobody is followed."])
    expect(page.locator("[data-field=notice]")).to_be_hidden()
    page.goto(f"{visitor.url}{PAGE}?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z")
    expect(page.locator(".plot-empty").first).to_contain_text("Nothing was observed in this range")
    press(page, "Show all there is")
    expect(page.locator(".plot-empty").first).to_be_hidden()


def test_who_was_not_observed_for_long_is_marked(visit: Visit) -> None:
    page = visit().open(f"/influencers/{QUIET}")
    observed = page.locator("[data-field=observed]")
    expect(observed).to_have_class("observed late")
    expect(observed).to_contain_text(
        re.compile(r"Last observed \d+ minutes ago .* nothing newer has come since")
    )
