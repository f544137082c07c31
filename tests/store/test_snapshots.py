"""When snapshots are due, which one is chosen, and what the store makes of them."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tidemark.store.clickhouse import Store
from tidemark.store.snapshots import KEPT_S, TOLERANCE_S, due, fresh_since, nearest

from .conftest import Open
from .test_clickhouse import everybody

NOW_S = int(time.time()) // 600 * 600


@pytest.mark.parametrize(
    ("at_s", "last_s", "wanted"),
    [
        (6_000, None, True),
        (6_000, 5_400, True),
        (5_980, 5_400, True),  # the view of the full minute is a moment older than it
        (5_900, 5_400, False),
        (6_540, 5_975, False),
        (6_570, 5_975, True),
        (5_000, 6_000, True),  # the clock was set back
        (9_999, 2_000, True),  # some were missed
    ],
)
def test_each_ten_minutes_of_the_clock_have_one(at_s: int, last_s: int | None, wanted: bool) -> None:
    assert due(at_s, last_s) is wanted


def test_the_nearest_within_the_tolerance_is_chosen() -> None:
    times = [1_000, 1_600, 2_200, 9_000]
    assert nearest(times, 1_700, 60) == 1_600
    assert nearest(times, 1_900, 60) == 1_600
    assert nearest(times, 1_901, 60) == 2_200
    assert nearest(times, 1_000 - TOLERANCE_S, 60) == 1_000
    assert nearest(times, 999 - TOLERANCE_S, 60) is None
    assert nearest(times, 5_000, 60) is None
    assert nearest([], 5_000, 60) is None
    assert nearest([10_000, 12_400], 11_200, 2_400) == 10_000, (
        "one shard, of which a view is made with each turn"
    )
    assert nearest([10_000, 12_500], 11_250, 2_400) is None


def test_who_was_not_observed_for_a_while_is_not_in_it() -> None:
    assert fresh_since(10_000, 60) == 9_100
    assert fresh_since(10_000, 600) == 8_800
    assert fresh_since(100, 0) == 0


def columns(*rows: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    pk, followers = zip(*rows, strict=True)
    return np.array(pk, np.uint32), np.array(followers, np.uint32)


def test_snapshots_are_kept_and_read_by_their_time(open_store: Open) -> None:
    store = open_store()
    assert store.snapshot_times() == []
    store.insert_snapshot(NOW_S - 600, *columns((5, 2**32 - 1), (7, 0)))
    for _ in range(2):  # a second time, as after an insert of unknown outcome
        store.insert_snapshot(NOW_S, *columns((5, 50), (8, 80)))
    store.insert_snapshot(NOW_S + 1, *columns((1, 1))[:1], np.array([1], np.uint32))
    store = open_store()
    assert store.snapshot_times() == [NOW_S - 600, NOW_S, NOW_S + 1]
    pk, followers = store.load_snapshot(NOW_S - 600)
    assert (pk.tolist(), followers.tolist()) == ([5, 7], [2**32 - 1, 0])
    pk, followers = store.load_snapshot(NOW_S)
    assert dict(zip(pk.tolist(), followers.tolist(), strict=True)) == {5: 50, 8: 80}
    assert len(store.load_snapshot(NOW_S - 1)[0]) == 0


def test_reading_one_snapshot_opens_no_other(store: Store) -> None:
    for number in range(4):
        store.insert_snapshot(NOW_S - number, *columns((5, 5)))
    assert "Parts: 1/4" in store.explain("snapshot", {"taken_at": NOW_S})


def test_old_snapshots_go_as_a_whole(store: Store) -> None:
    store.insert_snapshot(NOW_S - KEPT_S - 60, *columns((5, 5)))
    store.insert_snapshot(NOW_S - KEPT_S + 7_200, *columns((5, 5)))
    store._maintenance.command("OPTIMIZE TABLE follower_snapshots FINAL")
    assert store.snapshot_times() == [NOW_S - KEPT_S + 7_200]


def test_gains_in_plain_sql(store: Store) -> None:
    """The same order as the board's; a snapshot that was stored twice counts once."""
    store.replace_influencers([everybody(6, 5)])
    followers = dict(
        zip(
            *(column.to_pylist() for column in store.load_influencers().select(["pk", "follower_count"])),
            strict=True,
        )
    )
    first = min(followers)
    was = {first: 0, first + 1: followers[first + 1], first + 3: followers[first + 3], 99_999: 4}
    for _ in range(2):
        store.insert_snapshot(NOW_S, *columns(*was.items()))
    found = store.query("gains", {"taken_at": NOW_S, "limit": 10, "offset": 0}).to_pylist()
    gain = {pk: followers[pk] - was[pk] for pk in was if pk in followers}
    assert [(row["pk"], row["follower_gain"]) for row in found] == sorted(
        gain.items(), key=lambda item: (-item[1], item[0])
    )
