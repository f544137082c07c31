from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tidemark.errors import StoreError
from tidemark.population import PK_MAX, Population
from tidemark.store import rollups
from tidemark.store.clickhouse import Store
from tidemark.store.retention import Retention
from tidemark.store.rollups import Rollups, Run, days_due, over_until, pk_ranges

from .conftest import DAY_S, MONDAY_S, History, Open

HOUR_S = 3_600
POPULATION = Population(1, 100_000)


def close_all(work: Rollups) -> list[Run]:
    """Runs until there is nothing left to do."""
    runs = [work.run()]
    while runs[-1] != Run():
        runs.append(work.run())
    return runs


def stored(store: Store, view: str) -> list[dict[str, Any]]:
    """What readers of a view see, without the version."""
    rows: list[dict[str, Any]] = store._maintenance.ask(f"SELECT * FROM {view} ORDER BY ALL").to_pylist()
    return rows


def check_exact(store: Store, history: History, pks: list[int]) -> None:
    """The closed periods in the rollups, and the series, are what brute force says."""
    for step, step_s, view, column in (("1h", HOUR_S, "hourly", "hour"), ("1d", DAY_S, "daily", "day")):
        until_s = store.periods.closed_until_s(step)  # type: ignore[arg-type]
        start = f"toUnixTimestamp(toDateTime({column}, 'UTC'))"
        columns = ", ".join(
            f"{kind}_last, {kind}_min, {kind}_max, {kind}_average" for kind in ("follower", "following")
        )
        found = store._maintenance.ask(
            f"SELECT pk, {start}, observations, {columns} FROM {view} ORDER BY ALL"
        )
        rows = [tuple(row.values()) for row in found.to_pylist()]
        assert rows == [(pk, *row) for pk in pks for row in history.buckets(pk, 0, until_s, step_s)]
        for pk in pks:
            series = store.series(pk, MONDAY_S - 40 * DAY_S, MONDAY_S + 6 * DAY_S, step)
            wanted = history.buckets(pk, 0, 2**32, step_s)
            assert series.time.tolist() == [row[0] for row in wanted]
            assert series.follower_count.tolist() == [row[2] for row in wanted]


# ---------------------------------------------------------------- when (pure)


def test_an_hour_is_over_a_grace_after_its_end() -> None:
    assert over_until(MONDAY_S + HOUR_S + 179, 180) == MONDAY_S
    assert over_until(MONDAY_S + HOUR_S + 180, 180) == MONDAY_S + HOUR_S
    assert over_until(0) == 0


def test_a_day_is_due_when_all_of_its_hours_are_closed() -> None:
    assert days_due(MONDAY_S, MONDAY_S + DAY_S - HOUR_S) == []
    assert days_due(MONDAY_S, MONDAY_S + 2 * DAY_S + HOUR_S) == [MONDAY_S, MONDAY_S + DAY_S]


@pytest.mark.parametrize(
    "population", [Population(0, 0), Population(1_000_000, 1_999_999), Population(PK_MAX, PK_MAX)]
)
def test_the_ranges_hold_every_pk_once(population: Population) -> None:
    ranges = pk_ranges(population)
    assert (ranges[0][0], ranges[-1][1]) == (0, PK_MAX)
    assert all(before[1] + 1 == after[0] for before, after in pairwise(ranges))
    assert all(last - max(first, population.first) < rollups.RANGE_PKS for first, last in ranges[:-1])


# ---------------------------------------------------------------- in a real store


def test_an_empty_store_has_nothing_to_close(store: Store) -> None:
    assert Rollups(store, POPULATION).run() == Run()


def test_closed_periods_are_exact_and_repeating_changes_nothing(store: Store, history: History) -> None:
    pks = [1, 65_536, 65_537, 4_000_000_000]  # in each of the ranges, and one who is not watched
    store.insert_observations(*history.add(np.array(pks)[:, None], MONDAY_S + np.arange(0, 2 * DAY_S, 997)))
    work = Rollups(store, POPULATION)
    runs = close_all(work)
    assert sum(len(run.hours_closed) for run in runs) == 47
    assert [run.days_closed for run in runs if run.days_closed] == [(MONDAY_S,)]
    check_exact(store, history, pks)
    before = stored(store, "hourly"), stored(store, "daily"), stored(store, "ranks_daily FINAL")
    for hour_s in (MONDAY_S, MONDAY_S + 5 * HOUR_S):
        work._compute_hours(hour_s, hour_s + HOUR_S, pk_ranges(POPULATION))
    work._compute_day(MONDAY_S, pk_ranges(POPULATION))
    after = stored(store, "hourly"), stored(store, "daily"), stored(store, "ranks_daily FINAL")
    for row in before[2] + after[2]:
        del row["taken_at"]
    assert before == after


def test_a_run_is_bounded_and_gaps_are_skipped(store: Store, history: History) -> None:
    store.insert_observations(*history.add(1, MONDAY_S - 30 * DAY_S + np.arange(3) * HOUR_S))
    store.insert_observations(*history.add(1, MONDAY_S + np.arange(3) * HOUR_S))
    runs = close_all(Rollups(store, POPULATION))
    assert max(len(run.hours_closed) for run in runs) == rollups.HOURS_MAX
    assert sum(len(run.hours_closed) for run in runs) == 5
    check_exact(store, history, [1])


def test_history_that_came_whole_is_closed_a_day_at_a_time(store: Store, history: History) -> None:
    """With gaps, several parts a day and pks in several ranges; the same rows as hour by hour."""
    pks = [1, 2, 65_600, 70_000]
    for day in (0, 1, 3):
        at = MONDAY_S + day * DAY_S + np.arange(1_000, DAY_S, 2_500)
        store.insert_observations(*history.add(np.array(pks[:3])[:, None], at))
        store.insert_observations(*history.add(70_000, at + 1))
    work = Rollups(store, POPULATION)
    until_s = MONDAY_S + 3 * DAY_S + 22 * HOUR_S
    late = np.array([until_s - 1], np.uint32)
    with store.periods.inserting(late, late), pytest.raises(StoreError, match="being written to"):
        work.close(until_s)
    assert store.periods.closed_until_s("1h") == 0
    for _ in range(2):
        work.close(until_s)
        assert store.periods.closed_until_s("1h") == until_s
        assert store.periods.closed_until_s("1d") == MONDAY_S + 3 * DAY_S
        check_exact(store, history, pks)
    before = stored(store, "hourly")
    store.insert_observations(*history.add(2, MONDAY_S + 7))  # late now
    close_all(work)
    check_exact(store, history, pks)
    assert len(stored(store, "hourly")) > len(before)


def test_late_observations_are_taken_in(open_store: Open, history: History) -> None:
    store = open_store()
    seconds = MONDAY_S + history.random.permutation(2 * DAY_S)
    store.insert_observations(*history.add(np.array([[1], [2], [3]]), seconds[:200]))
    store.insert_observations(*history.add(1, MONDAY_S + 2 * DAY_S + 2 * HOUR_S))
    close_all(Rollups(store, POPULATION))

    store.insert_observations(*history.add(np.array([[1], [3]]), seconds[200:260]))
    store.insert_observations(*history.add(3, MONDAY_S - 35 * DAY_S))  # before all that was closed
    assert len(store.periods.settled_marks()) > 10
    for pk in (1, 2, 3):  # exact while the rollups are not
        series = store.series(pk, MONDAY_S, MONDAY_S + 2 * DAY_S, "1h")
        assert series.follower_count.tolist() == [
            row[2] for row in history.buckets(pk, MONDAY_S, MONDAY_S + 2 * DAY_S, HOUR_S)
        ]

    store = open_store()  # what is marked survives a restart
    assert len(store.periods.settled_marks()) > 10
    runs = close_all(Rollups(store, POPULATION))
    assert max(run.marks_cleared for run in runs) <= rollups.MARKS_MAX
    assert store.periods.settled_marks() == []
    check_exact(store, history, [1, 2, 3])
    assert open_store().periods.settled_marks() == []


def test_late_observations_of_one_hour_and_range_are_taken_in_together(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    pks = np.array([[1], [2], [3]])
    store.insert_observations(*history.add(pks, MONDAY_S + np.arange(0, DAY_S + 2 * HOUR_S, 600)))
    close_all(Rollups(store, POPULATION))
    monkeypatch.setattr(rollups, "MARKS_MAX", 1)
    for second in range(5):
        store.insert_observations(*history.add(1 + second % 3, MONDAY_S + 10 + second))
    assert len(store.periods.settled_marks()) == 5
    assert Rollups(store, POPULATION).run().marks_cleared == 5
    check_exact(store, history, [1, 2, 3])


def test_hours_whose_raw_rows_are_going_are_not_computed_from_what_is_left(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert_observations(*history.add(1, MONDAY_S + np.arange(0, DAY_S + 2 * HOUR_S, 600)))
    close_all(Rollups(store, POPULATION))

    def last_of_first_hour() -> int:
        return int(store.series(1, MONDAY_S, MONDAY_S + HOUR_S, "1h").follower_count[0])

    closed = last_of_first_hour()
    store.insert_observations(*history.add(1, MONDAY_S + HOUR_S - 1))
    assert last_of_first_hour() != closed, "from the raw rows, as long as there is a mark"
    kept = replace(store.kept(), raw_since_s=MONDAY_S + HOUR_S)
    monkeypatch.setattr(store, "kept", lambda: kept)
    assert Rollups(store, POPULATION).run().marks_cleared == 1
    assert last_of_first_hour() == closed


def test_an_observation_that_comes_while_its_hour_is_computed_is_not_lost(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert_observations(
        *history.add(np.array([[1], [2]]), MONDAY_S + np.arange(0, DAY_S + 2 * HOUR_S, 600))
    )
    plain, observations = Store.execute, len(history.at)

    def execute(self: Store, command: str, parameters: Any = None) -> None:
        plain(self, command, parameters)
        if command in ("close_hours", "close_day") and len(history.at) < observations + 30:
            late = parameters.get("from", parameters.get("day")) + int(history.random.integers(1, 599))
            self.insert_observations(*history.add(2, late))

    monkeypatch.setattr(Store, "execute", execute)
    while len(history.at) < observations + 30:
        Rollups(store, POPULATION).run()
    monkeypatch.undo()
    assert store.periods.settled_marks()
    close_all(Rollups(store, POPULATION))
    check_exact(store, history, [1, 2])


def test_nothing_is_lost_when_a_run_fails_anywhere(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert_observations(*history.add(1, MONDAY_S + np.arange(0, DAY_S + HOUR_S, 700)))
    plain, calls, fail_at = Store.execute, [0], [1]

    def execute(self: Store, command: str, parameters: Any = None) -> None:
        calls[0] += 1
        if calls[0] == fail_at[0]:
            raise StoreError("the disk of the store is full")
        plain(self, command, parameters)

    monkeypatch.setattr(Store, "execute", execute)
    for number in range(1, 30):
        calls[0], fail_at[0] = 0, number % 9 + 1
        try:
            Rollups(store, POPULATION).run()
        except StoreError:
            store.insert_observations(*history.add(1, MONDAY_S + int(history.random.integers(DAY_S))))
    monkeypatch.undo()
    close_all(Rollups(store, POPULATION))
    check_exact(store, history, [1])


def test_an_hour_stays_open_while_an_insert_into_it_is_under_way(store: Store, history: History) -> None:
    rows = history.add(1, MONDAY_S + np.arange(0, 2 * HOUR_S, 60))
    with store.periods.inserting(rows[0], rows[1]):
        store._writer.insert("averages", ["at"], [b"1\n"], "TSV")  # anything but the rows
        store.insert_observations(*history.add(1, MONDAY_S + 3 * HOUR_S))
        assert Rollups(store, POPULATION).run() == Run()
    store.insert_observations(*rows)
    close_all(Rollups(store, POPULATION))
    check_exact(store, history, [1])


def test_a_clock_that_is_ahead_closes_nothing(store: Store, history: History) -> None:
    now_s = int(time.time())
    store.insert_observations(*history.add(1, now_s))
    store.insert_observations(*history.add(2, now_s + 3 * HOUR_S))
    Rollups(store, POPULATION).run()
    assert store.periods.closed_until_s("1h") <= now_s // HOUR_S * HOUR_S


def test_a_clock_that_is_set_back_does_not_bring_old_figures_back(
    open_store: Open, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.insert_observations(*history.add(1, MONDAY_S + np.arange(0, DAY_S + HOUR_S, 700)))
    close_all(Rollups(store, POPULATION))
    earlier_ns = time.time_ns() - 10**9 * HOUR_S
    monkeypatch.setattr(time, "time_ns", lambda: earlier_ns)
    for late in (np.arange(6) * HOUR_S + 1, 5 * HOUR_S + 2):  # the second restart must count from the first
        store = open_store()
        store.insert_observations(*history.add(1, MONDAY_S + late))
        close_all(Rollups(store, POPULATION))
        check_exact(store, history, [1])


def test_the_ranks_at_the_end_of_a_day(store: Store, history: History) -> None:
    pks = np.arange(1, 41)
    store.insert_observations(*history.add(pks[:, None], MONDAY_S + np.array([10, DAY_S - 1])))
    store.insert_observations(*history.add(pks[:10], MONDAY_S + DAY_S + HOUR_S + 1_000))
    work = Rollups(store, POPULATION)
    close_all(work)
    for late in (False, True):
        if late:
            store.insert_observations(*history.add(pks[:5], MONDAY_S + DAY_S - 1 - pks[:5]))
            store.insert_observations(*history.add(41, MONDAY_S))
            close_all(work)
        last = {
            pk: history.buckets(pk, MONDAY_S, MONDAY_S + DAY_S, DAY_S)[0][2]
            for pk in [*range(1, 41), *([41] * late)]
        }
        for pk, followers in last.items():
            (row,) = store.query(
                "rank_series", {"pk": pk, "from": MONDAY_S, "to": MONDAY_S + DAY_S}
            ).to_pylist()
            assert row["rank"] == 1 + sum(other > followers for other in last.values())
            assert (row["follower_count"], row["influencers"]) == (followers, len(last))


def test_ranks_wait_for_all_that_came_late(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.insert_observations(*history.add(np.arange(1, 4)[:, None], MONDAY_S + np.array([10, DAY_S - 1])))
    store.insert_observations(*history.add(1, MONDAY_S + DAY_S + HOUR_S + 1_000))
    close_all(Rollups(store, POPULATION))
    for hour in range(3):
        store.insert_observations(*history.add(2, MONDAY_S + hour * HOUR_S + 20))
    store.insert_observations(*history.add(4, MONDAY_S + 3 * HOUR_S))
    monkeypatch.setattr(rollups, "MARKS_MAX", 1)
    ranked: list[int] = []
    snapshot_ranks = store.snapshot_ranks

    def counted(day_s: int) -> None:
        ranked.append(day_s)
        snapshot_ranks(day_s)

    monkeypatch.setattr(store, "snapshot_ranks", counted)
    assert [run.marks_cleared for run in close_all(Rollups(store, POPULATION))] == [1, 1, 1, 1, 0]
    assert ranked == [MONDAY_S]
    (row,) = store.query("rank_series", {"pk": 4, "from": MONDAY_S, "to": MONDAY_S + DAY_S}).to_pylist()
    assert row["influencers"] == 4
    check_exact(store, history, [1, 2, 3, 4])


def test_inserts_readers_and_rollups_at_once(store: Store, history: History) -> None:
    """Late and timely rows from one thread, rollups in another, readers in a third: nothing is lost."""
    blocks = [
        history.add(np.array([[1], [2]]), MONDAY_S + hour * HOUR_S + np.arange(0, HOUR_S, 300))
        for hour in range(8)
    ]
    blocks += [history.add(1, MONDAY_S + np.arange(hour, 8 * HOUR_S, 2_999)) for hour in range(1, 6)]
    inserted = threading.Event()
    failures: list[BaseException] = []

    def guarded(work: Any) -> threading.Thread:
        def body() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        return thread

    def insert() -> None:
        try:
            for block in blocks:
                store.insert_observations(*block)
        finally:
            inserted.set()

    def until_inserted() -> Iterator[None]:
        """Also once more when all is."""
        while not inserted.is_set():
            yield
        yield

    def roll() -> None:
        for _ in until_inserted():
            Rollups(store, POPULATION).run()

    def read() -> None:
        complete = [row[2] for row in history.buckets(2, 0, 2**32, HOUR_S)]
        found: list[int] = []
        for _ in until_inserted():
            before = len(found)
            found = store.series(2, MONDAY_S, MONDAY_S + DAY_S, "1h").follower_count.tolist()
            assert found == complete[: len(found)]
            assert len(found) >= before
        assert found == complete

    for thread in [guarded(insert), guarded(roll), guarded(read)]:
        thread.join()
    assert failures == []
    close_all(Rollups(store, POPULATION))
    check_exact(store, history, [1, 2])


def test_the_day_before_a_gap_is_closed_with_the_next_observation(store: Store, history: History) -> None:
    store.insert_observations(*history.add(1, MONDAY_S + 20 * HOUR_S + np.arange(4) * 600))
    store.insert_observations(*history.add(1, MONDAY_S + 5 * DAY_S + 600))
    close_all(Rollups(store, POPULATION))
    assert store.periods.closed_until_s("1h") == MONDAY_S + 5 * DAY_S
    assert store.periods.closed_until_s("1d") == MONDAY_S + 5 * DAY_S
    store.insert_observations(*history.add(1, MONDAY_S + DAY_S + 7))  # late now
    close_all(Rollups(store, POPULATION))
    check_exact(store, history, [1])


@pytest.mark.timeout(60, method="thread")  # closing all days since 1970 takes hours
def test_what_the_retention_dropped_is_not_of_1970(open_store: Open, history: History) -> None:
    now_s = int(time.time())
    long_ago_s = now_s // DAY_S * DAY_S - 20 * DAY_S
    store = open_store()
    store.insert_observations(*history.add([1, 2], long_ago_s + 600))
    store.insert_observations(*history.add([1, 2], long_ago_s + 7_800))
    assert Rollups(store, POPULATION).run().hours_closed == (long_ago_s, long_ago_s + HOUR_S)
    store = open_store(Retention(3, 3, 3))
    for table in ("observations", "hourly_rollups"):
        store._maintenance.command(f"OPTIMIZE TABLE {table} FINAL")
    # For half a minute there is a part without rows.
    assert store.query("first_part_since", {"since": 0})["since_s"][0].as_py() is None
    store = open_store(Retention(3, 3, 3))
    assert Rollups(store, POPULATION).run() == Run()
    Rollups(store, POPULATION).close(now_s // DAY_S * DAY_S - DAY_S)
    assert store.periods.closed_until_s("1d") == 0
