from __future__ import annotations

import time

import pytest

from tidemark.errors import CallerError
from tidemark.population import Population
from tidemark.store.clickhouse import Store
from tidemark.store.retention import FOREVER, TIME_COLUMNS, Retention
from tidemark.store.rollups import Rollups

from .conftest import DAY_S, History, Open

WITHOUT = {table: f"CREATE TABLE {table} (x UInt8) ENGINE = MergeTree ORDER BY x" for table in TIME_COLUMNS}
WITH_30 = {table: f"{text} TTL {TIME_COLUMNS[table]} + toIntervalDay(30)" for table, text in WITHOUT.items()}


def test_nothing_is_run_when_all_is_as_wanted() -> None:
    assert Retention(30, 30, 30).statements(WITH_30) == []
    assert Retention(FOREVER, FOREVER, FOREVER).statements(WITHOUT) == []


def test_a_changed_setting_changes_the_tables_concerned() -> None:
    assert Retention(7, 30, 30).statements(WITH_30) == [
        "ALTER TABLE observations MODIFY TTL observed_at + INTERVAL 7 DAY"
    ]
    assert Retention(30, 30, FOREVER).statements(WITH_30) == [
        f"ALTER TABLE {table} REMOVE TTL"
        for table in TIME_COLUMNS
        if table not in ("observations", "hourly_rollups")
    ]


@pytest.mark.parametrize("days", [(30, 29, 400), (30, 400, 100), (FOREVER, 400, FOREVER)])
def test_what_would_lose_history_is_refused(days: tuple[int, int, int]) -> None:
    with pytest.raises(CallerError, match="days"):
        Retention(*days)


def test_old_days_go_when_the_retention_is_shortened(open_store: Open, history: History) -> None:
    today_s = int(time.time()) // DAY_S * DAY_S
    store = open_store()
    for days_ago in (40, 20, 5, 0):
        store.insert_observations(*history.add([1, 2], today_s - days_ago * DAY_S))
    assert store.row_count() == 8
    store = open_store(Retention(10, FOREVER, FOREVER))
    _merge(store)
    assert store.row_count() == 4
    assert store.kept().raw_since_s == pytest.approx(today_s - 10 * DAY_S, abs=DAY_S + 60)
    store = open_store()
    store.insert_observations(*history.add([1, 2], today_s - 40 * DAY_S))
    _merge(store)
    assert store.row_count() == 6


def test_what_was_dropped_while_less_was_kept_is_told_by_the_rollups(
    open_store: Open, history: History
) -> None:
    today_s = int(time.time()) // DAY_S * DAY_S
    old_s = today_s - 8 * DAY_S
    store = open_store()
    for days_ago in (8, 7, 1):
        store.insert_observations(*history.add([1, 2], today_s - days_ago * DAY_S))
    while Rollups(store, Population(0, 9)).run().hours_closed:
        pass
    assert store.series(1, old_s, old_s + 3_600).step == "raw"
    store = open_store(Retention(3, FOREVER, FOREVER))
    _merge(store)
    assert store.series(1, old_s, old_s + 3_600).step == "1h"
    store = open_store()
    found = store.series(1, old_s, old_s + 3_600)
    assert (found.step, len(found)) == ("1h", 1), "the setting alone says that there are observations"


def _merge(store: Store) -> None:
    """What ClickHouse does sooner or later by itself."""
    store._maintenance.command("OPTIMIZE TABLE observations FINAL")
