"""What an influencer had some time ago, from raw rows and, where they are gone, from rollups."""

from __future__ import annotations

import time

import numpy as np

from tidemark.population import Population
from tidemark.store.changes import WINDOWS, Before, before
from tidemark.store.clickhouse import Store
from tidemark.store.retention import FOREVER, Retention
from tidemark.store.rollups import Rollups

from .conftest import DAY_S, MONDAY_S, Open

AT_S = MONDAY_S + 8 * DAY_S + 100


def insert(store: Store, pk: int, *rows: tuple[int, int, int]) -> None:
    at, followers, followings = (np.array(column, np.uint32) for column in zip(*rows, strict=True))
    store.insert_observations(np.full(len(at), pk, np.uint32), at, followers, followings)


def test_the_observation_nearest_to_the_window_and_none_that_is_too_old(store: Store) -> None:
    hour, day, week = (AT_S - window.seconds for window in WINDOWS)
    insert(
        store,
        7,
        (AT_S, 1, 1),
        (hour + 31, 2, 2),
        (hour + 30, 3, 3),
        (hour - 30, 4, 4),
        (day - 7_200, 5, 0),
        (week - 43_201, 6, 6),
    )
    insert(store, 8, (hour, 9, 9), (day, 9, 9), (week, 9, 9))
    assert before(store, 7, AT_S, 60) == [Before(hour + 30, 3, 3), Before(day - 7_200, 5, 0), None]
    assert before(store, 9, AT_S, 60) == [None, None, None]
    assert before(store, 7, 30, 60) == [None, None, None]


def test_who_is_observed_seldom_is_compared_with_two_intervals_ago_at_most(store: Store) -> None:
    for hours_ago in (0, 2, 4):  # each a moment late, as answers are
        insert(store, 7, (AT_S - hours_ago * 3_600 + hours_ago, hours_ago, hours_ago))
    assert before(store, 7, AT_S, 2 * 3_600)[0] is None, "there is no hour in it"
    assert before(store, 7, AT_S, 3_600)[0] == Before(AT_S - 2 * 3_600 + 2, 2, 2)
    assert before(store, 7, AT_S, 60)[0] is None
    insert(store, 8, (AT_S, 1, 1), (AT_S - 86_399, 2, 2), (AT_S - 2 * 86_400, 3, 3))
    assert before(store, 8, AT_S, 86_400)[1] == Before(AT_S - 86_399, 2, 2), (
        "it came a second sooner in its turn"
    )
    insert(store, 9, (AT_S, 1, 1), (AT_S - 2 * 86_400, 3, 3))
    assert before(store, 9, AT_S, 86_400) == [None, Before(AT_S - 2 * 86_400, 3, 3), None]


def test_a_week_ago_is_told_by_the_rollups_when_the_raw_rows_are_gone(open_store: Open) -> None:
    now_s = int(time.time()) // 3_600 * 3_600 - 1_800
    week_s = now_s - 7 * DAY_S
    hour_s = week_s // 3_600 * 3_600
    store = open_store()
    insert(store, 7, *((hour_s - 3_600 * back + 60, 100 + back, back) for back in (3, 2, 1)))
    insert(store, 7, (hour_s + 3_599, 1, 1), (now_s - 600, 1, 1))
    while Rollups(store, Population(0, 9)).run().hours_closed:
        pass
    expected = before(store, 7, now_s, 60)
    assert expected[2] == Before(hour_s - 3_600 + 60, 101, 1)
    store = open_store(Retention(3, FOREVER, FOREVER))
    store._maintenance.command("OPTIMIZE TABLE observations FINAL")
    assert store.row_count() == 1
    assert before(store, 7, now_s, 60) == expected
