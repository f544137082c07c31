"""Gains and changes, from the board and the store to the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tidemark.board import Board
from tidemark.board.gains import gainers
from tidemark.errors import StoreError
from tidemark.messages import Batch, string_array
from tidemark.population import Population
from tidemark.serve import gains
from tidemark.serve.app import create
from tidemark.serve.figures import Figures
from tidemark.serve.gains import Gains
from tidemark.serve.problems import Problem
from tidemark.serve.routes import Sources
from tidemark.store.clickhouse import Store
from tidemark.store.sink import Sink
from tidemark.times import rfc3339

POPULATION = Population(1_000, 1_009)
NOW_S = int(time.time()) // 600 * 600


class Served:
    """A board and its store, and the API over them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.board = Board(POPULATION)
        self.gains = Gains(self.board, store, 60)

    def observe(self, at_s: int, followers: dict[int, int], following: int = 1) -> None:
        pk = np.array(sorted(followers), np.uint32)
        counts = np.array([followers[number] for number in sorted(followers)], np.uint32)
        followings = np.full(len(pk), following, np.uint32)
        names = string_array([f"influencer-{number}" for number in pk])
        self.board.apply(
            Batch(f"{at_s}", pk, np.full(len(pk), at_s * 1_000, np.int64), counts, followings, names)
        )
        self.store.insert_observations(pk, np.full(len(pk), at_s, np.uint32), counts, followings)
        self.board.publish(at_s * 1_000)

    async def get(self, path: str) -> Any:
        figures = Figures(self.board, Sink(self.store, self.board, POPULATION.first), 60_000)
        app = create(Sources(self.board, self.store, figures, self.gains))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            return answer.json()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    store = Store.open(f"chdb://{tmp_path}/store")
    yield Served(store)
    store.close()


async def test_before_there_is_a_snapshot_there_are_no_gains(served: Served) -> None:
    served.observe(NOW_S, {1_000: 5})
    served.gains.refresh()
    assert await served.get("/v1/leaderboard/gains?window=1h") == {
        "window": "1h",
        "direction": "up",
        "since": None,
        "asOf": rfc3339(NOW_S),
        "total": 0,
        "items": [],
    }


def test_a_window_in_which_not_everybody_is_observed_has_no_gains(served: Served) -> None:
    served.observe(NOW_S - 3_600, {1_000: 5})
    served.gains.keep()
    served.observe(NOW_S, {1_000: 9})
    for interval_s, windows in ((3_600, ["1h"]), (3_601, [])):
        gains = Gains(served.board, served.store, interval_s)
        gains.refresh()
        assert list(gains._baselines) == windows


async def test_gains_and_losses_since_the_snapshot_nearest_to_the_window(served: Served) -> None:
    served.observe(NOW_S - 86_400, {1_001: 1})
    served.gains.keep()
    served.observe(NOW_S - 3_600 - 1_000, {1_006: 7})  # too old for the snapshot
    served.observe(NOW_S - 3_600, {1_000: 100, 1_001: 50, 1_002: 10, 1_003: 10, 1_004: 30})
    served.gains.keep()
    served.observe(NOW_S, {1_000: 90, 1_001: 60, 1_002: 20, 1_003: 10, 1_005: 1_000, 1_006: 8})
    served.board.apply_verdicts(
        np.array([1_001, 1_002], np.uint32), np.array([True, False]), np.array([NOW_S, NOW_S], np.uint32)
    )
    served.board.publish(NOW_S * 1_000)
    served.gains.keep()
    served.gains.refresh()

    def told(answer: dict[str, Any]) -> list[tuple[int, int, int]]:
        return [(item["pk"], item["followerGain"], item["followerCountBefore"]) for item in answer["items"]]

    up = await served.get("/v1/leaderboard/gains?window=1h")
    assert up["since"] == rfc3339(NOW_S - 3_600)
    assert (up["asOf"], up["total"]) == (rfc3339(NOW_S), 5)
    assert told(up) == [(1_001, 10, 50), (1_002, 10, 10), (1_003, 0, 10), (1_004, 0, 30), (1_000, -10, 100)]
    one = await served.get("/v1/influencers/1001")
    assert up["items"][0] == one | {"followerCountBefore": 50, "followerGain": 10}
    down = await served.get("/v1/leaderboard/gains?window=1h&direction=down&limit=3&offset=1")
    assert told(down) == [(1_003, 0, 10), (1_004, 0, 30), (1_001, 10, 50)]
    without = await served.get("/v1/leaderboard/gains?window=1h&suspicious=exclude")
    assert (without["total"], [item["pk"] for item in without["items"]]) == (4, [1_002, 1_003, 1_004, 1_000])
    only = await served.get("/v1/leaderboard/gains?window=1h&suspicious=only")
    assert told(only) == [(1_001, 10, 50)]
    deep = await served.get("/v1/leaderboard/gains?window=1h&offset=4&limit=1000")
    assert told(deep) == [(1_000, -10, 100)]
    day = await served.get("/v1/leaderboard/gains")
    assert (day["window"], told(day)) == ("24h", [(1_001, 59, 1)])


async def test_gains_are_of_when_the_newest_values_are(served: Served) -> None:
    for ago_s, followers in ((7_200, 10), (3_600, 15)):
        served.observe(NOW_S - ago_s, {1_000: followers})
        served.gains.keep()
    served.board.publish(NOW_S * 1_000)  # nothing came for an hour
    served.gains.refresh()
    answer = await served.get("/v1/leaderboard/gains?window=1h")
    assert (answer["since"], answer["asOf"]) == (rfc3339(NOW_S - 7_200), rfc3339(NOW_S - 3_600))
    assert [item["followerGain"] for item in answer["items"]] == [5]


async def test_a_snapshot_each_ten_minutes_survives_a_restart(served: Served) -> None:
    for minute in range(31):
        served.observe(NOW_S - 3_600 + 60 * minute, {1_000: minute})
        served.gains.keep()
    again = Gains(served.board, served.store, 60)
    again.keep()
    assert served.store.snapshot_times() == [NOW_S - 3_600 + 600 * number for number in range(4)]
    served.observe(NOW_S, {1_000: 30})
    again.refresh()
    _, baseline, found = await again.page("1h", "up", 1, 0, None)
    assert baseline is not None
    assert (baseline.taken_at, found.gains.tolist()) == (NOW_S - 3_600, [30])
    served.observe(NOW_S + 301, {1_000: 30})
    again.refresh()  # the next one is nearer now
    assert (await again.page("1h", "up", 1, 0, None))[2].gains.tolist() == [20]
    served.observe(NOW_S + 7_200, {1_000: 30})
    again.refresh()  # nothing was written for too long
    assert (await again.page("1h", "up", 1, 0, None))[1] is None


def test_a_snapshot_that_failed_is_taken_a_minute_later(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.observe(NOW_S - 60, {1_000: 1})
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise StoreError("no")

        patched.setattr(served.store, "insert_snapshot", fail)
        with pytest.raises(StoreError):
            served.gains.keep()
    served.observe(NOW_S, {1_000: 2})
    served.gains.keep()
    assert served.store.snapshot_times() == [NOW_S]


async def test_each_list_of_a_view_is_made_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.observe(NOW_S - 3_600, {1_000: 1, 1_001: 1})
    served.gains.keep()
    served.observe(NOW_S, {1_000: 5, 1_001: 9})
    served.gains.refresh()
    made = []

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return gainers(*arguments)

    monkeypatch.setattr("tidemark.serve.gains.gainers", counted)
    pages = [served.gains.page("1h", "up", 1, offset, None) for offset in (0, 1, 0, 1)]
    found = await asyncio.gather(*pages)
    assert [page.gains.tolist() for _, _, page in found] == [[8], [4], [8], [4]]
    assert len(made) == 1
    served.observe(NOW_S + 1, {1_000: 50})
    assert (await served.gains.page("1h", "up", 1, 0, None))[2].gains.tolist() == [49]
    assert len(made) == 2
    made.clear()  # it holds the views
    del found
    assert len(served.gains._lists) == 1  # that of the old view went with it


async def test_changes_of_one_influencer(served: Served) -> None:
    served.observe(NOW_S - 86_400, {1_000: 100}, following=0)
    served.observe(NOW_S - 3_600 - 60, {1_000: 120}, following=40)
    served.observe(NOW_S, {1_000: 90}, following=30)
    nothing = {"followerCount": None, "followingCount": None, "followerRatio": None}
    assert await served.get("/v1/influencers/1000/changes") == {
        "pk": 1_000,
        "asOf": rfc3339(NOW_S),
        "changes": [
            {
                "window": "1h",
                "since": rfc3339(NOW_S - 3_660),
                "followerCount": -30,
                "followingCount": -10,
                "followerRatio": 0.0,
            },
            {
                "window": "24h",
                "since": rfc3339(NOW_S - 86_400),
                "followerCount": -10,
                "followingCount": 30,
                "followerRatio": None,
            },
            {"window": "7d", "since": None} | nothing,
        ],
    }


async def test_who_waits_too_long_for_gains_is_told_to_come_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gains, "WAIT_S", 0.05)
    async with served.gains._turn():
        with pytest.raises(Problem) as raised:
            await served.gains.page("1h", "up", 10, 0, None)
    assert raised.value.status == 503
    assert (await served.gains.page("1h", "up", 10, 0, None))[2].total == 0
