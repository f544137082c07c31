"""A small history, every number of which is checked against the raw rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tidemark.backfill import Plan, backfill
from tidemark.backfill.history import check_disk
from tidemark.board import Board
from tidemark.errors import CallerError, StoreError
from tidemark.population import Population
from tidemark.serve.gains import Gains
from tidemark.serve.role import restore
from tidemark.simulate.walk import is_suspicious
from tidemark.store.clickhouse import Store
from tidemark.store.rollups import Rollups, Run

POPULATION = Population(1_000, 1_027, shard_size=10)
INTERVAL_S = 540
DAY_S = 86_400


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"chdb://{tmp_path}/store")
    yield store
    store.close()


def raw(store: Store) -> dict[int, np.ndarray]:
    """By pk: rows of (time, followers, followings), ascending."""
    found = {}
    for pk in range(POPULATION.first, POPULATION.last + 1):
        series = store.series(pk, 0, 2**32 - 1, "raw")
        found[pk] = np.stack([series.time, series.follower_count, series.following_count], axis=1).astype(
            np.int64
        )
    return found


async def test_everything_that_the_pipeline_would_have_left_is_there(store: Store) -> None:
    now_s = int(time.time())
    plan = Plan.until(now_s, 2.3, INTERVAL_S, POPULATION)
    reports: list[int] = []
    filled = backfill(store, plan, threading.Event(), reports.append)
    assert filled.whole
    assert filled.rows == store.row_count() == reports[-1]
    rows = raw(store)
    for shard in range(POPULATION.shards):
        times = [at for span in plan.spans() for at in plan.times(shard, span).tolist()]
        first, last = POPULATION.shard_range(shard)
        for pk in range(first, last + 1):
            assert rows[pk][:, 0].tolist() == times
    assert now_s - INTERVAL_S < filled.to_s <= now_s

    # Rollups: closed as far as they can be, and equal to the raw rows.
    assert store.periods.closed_until_s("1h") == (now_s + 1) // 3_600 * 3_600
    assert store.periods.closed_until_s("1d") == now_s // DAY_S * DAY_S
    assert Rollups(store, POPULATION).run() == Run()
    for pk, values in rows.items():
        for step, step_s in (("1h", 3_600), ("1d", DAY_S)):
            series = store.series(pk, plan.from_s, plan.to_s, step)
            assert series.rolled is not None
            starts = values[:, 0] // step_s * step_s
            assert series.time.tolist() == np.unique(starts).tolist()
            for number, start in enumerate(series.time.tolist()):
                inside = values[starts == start]
                assert series.follower_count[number] == inside[-1, 1]
                assert series.following_count[number] == inside[-1, 2]
                assert series.rolled.observations[number] == len(inside)
                assert series.rolled.follower_min[number] == inside[:, 1].min()
                assert series.rolled.follower_max[number] == inside[:, 1].max()
                assert series.rolled.follower_average[number] == pytest.approx(inside[:, 1].mean())
                assert series.rolled.following_average[number] == pytest.approx(inside[:, 2].mean())
    assert store.sizes()["hourly_rollups"].rows == sum(
        len(np.unique(values[values[:, 0] < store.periods.closed_until_s("1h"), 0] // 3_600))
        for values in rows.values()
    )
    # Ranks at the end of each closed day, among those observed on it: at its edge the history begins shard by shard.
    days = {pk: set((values[:, 0] // DAY_S).tolist()) - {now_s // DAY_S} for pk, values in rows.items()}
    for pk in (POPULATION.first, POPULATION.last):
        ranked = store.query("rank_series", {"pk": pk, "from": plan.from_s, "to": plan.to_s}).to_pylist()
        assert len(ranked) == len(days[pk]) > 0
        for row, day in zip(ranked, sorted(days[pk]), strict=True):
            ends = {
                other: int(values[values[:, 0] // DAY_S == day][-1, 1])
                for other, values in rows.items()
                if day in days[other]
            }
            assert row["influencers"] == len(ends)
            assert row["follower_count"] == ends[pk]
            assert row["rank"] == 1 + sum(followers > ends[pk] for followers in ends.values())

    # The average at each full minute is over everybody's latest then.
    def then(at_s: int, since_s: int = 0) -> dict[int, int]:
        found = {}
        for pk, values in rows.items():
            number = int(np.searchsorted(values[:, 0], at_s, "right")) - 1
            if number >= 0 and values[number, 0] >= since_s:
                found[pk] = int(values[number, 1])
        return found

    averages = store.average_series(plan.from_s, plan.to_s, "raw")
    minutes = [at for at in range(plan.from_s, plan.to_s) if at % 60 == 0 and then(at)]
    assert averages.time.tolist() == minutes
    for number, at_s in list(enumerate(minutes))[::7]:
        assert averages.influencers[number] == len(then(at_s))
        assert averages.average_follower_count[number] == pytest.approx(np.mean(list(then(at_s).values())))

    # Snapshots of the last 25 hours, and gains from them as soon as `serve` starts.
    times = store.snapshot_times()
    assert times == [at for at in range(now_s + 1 - 25 * 3_600, now_s + 1) if at % 600 == 0]
    for taken_at in (times[0], times[77], times[-1]):
        pks, followers = store.load_snapshot(taken_at)
        assert dict(zip(pks.tolist(), followers.tolist(), strict=True)) == then(
            taken_at, taken_at - 2 * INTERVAL_S
        )
    board = Board(POPULATION)
    restore(board, store, 60, 86_400)
    latest = board.view.leaderboard(100)
    assert {one.pk: one.follower_count for one in latest} == then(now_s)
    assert [one.username for one in latest] == [f"influencer-{one.pk}" for one in latest]
    assert store.load_influencers()["pk"].to_pylist() == list(rows)
    assert {one.pk for one in latest if one.suspicious} == set(filter(is_suspicious, rows))
    assert all(now_s - DAY_S <= (one.suspicious_checked_at or 0) <= now_s for one in latest)
    assert store.query("verdict_history", {"pk": 1_000}).num_rows == 1
    gains = Gains(board, store, INTERVAL_S)
    gains.refresh()
    for window in ("1h", "24h"):
        assert (await gains.page(window, "up", 1, 0, None))[2].total == POPULATION.size

    with pytest.raises(StoreError, match="has observations already"):
        backfill(store, plan, threading.Event(), reports.append)


@pytest.mark.timeout(60, method="thread")  # closing all days since 1970 takes hours
def test_a_history_that_begins_too_late_in_a_day_for_an_observation(store: Store) -> None:
    midnight = int(time.time()) // DAY_S * DAY_S - DAY_S
    plan = Plan(POPULATION, INTERVAL_S, midnight - 1, midnight + 3 * INTERVAL_S)
    filled = backfill(store, plan, threading.Event(), lambda rows: None)
    assert filled.whole
    assert filled.rows == store.row_count() == 3 * POPULATION.size
    assert store.kept().first_s == midnight
    assert store.periods.closed_until_s("1h") == 0  # its one hour is not over


def test_stopped_early_it_leaves_a_history_that_ends_earlier(store: Store) -> None:
    plan = Plan.until(int(time.time()), 4, INTERVAL_S, POPULATION)
    stop = threading.Event()
    filled = backfill(store, plan, stop, lambda rows: stop.set())
    assert not filled.whole
    assert 0 < store.row_count() == filled.rows < plan.rows
    assert store.max_observed_at() == filled.to_s
    board = Board(POPULATION)
    restore(board, store, 60, 86_400)
    assert {one.pk: one.follower_count for one in board.view.leaderboard(100)} == {
        pk: values[-1, 1] for pk, values in raw(store).items() if len(values)
    }
    while Rollups(store, POPULATION).run() != Run():  # what `serve` does by and by
        pass
    assert store.periods.closed_until_s("1h") > plan.from_s


def test_a_history_of_which_an_insert_fails_has_no_values_beyond_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, inserts = store.insert_observations, 0

    def failing(*columns: np.ndarray) -> None:
        nonlocal inserts
        inserts += 1
        if inserts == 3:
            raise StoreError("the disk is full")
        insert(*columns)

    monkeypatch.setattr(store, "insert_observations", failing)
    plan = Plan.until(int(time.time()), 4, INTERVAL_S, POPULATION)
    with pytest.raises(StoreError, match="full"):
        backfill(store, plan, threading.Event(), lambda rows: None)
    assert store.load_influencers().num_rows == 0


def test_a_disk_that_is_too_small_is_told_before_anything_is_made(tmp_path: Path) -> None:
    plan = Plan.until(int(time.time()), 30, 1, Population(0, 99_999_999))
    with pytest.raises(CallerError, match="GB are free"):
        check_disk(f"chdb://{tmp_path}/a/b", plan)
    check_disk("clickhouse://host/", plan)
    assert list(tmp_path.iterdir()) == []
