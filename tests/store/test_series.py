from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.errors import CallerError
from tidemark.store.clickhouse import Store
from tidemark.store.rollups import Rollups
from tidemark.store.series import (
    POINTS_MAX,
    STEP_S,
    Kept,
    Range,
    Series,
    Step,
    plan,
    ratio,
)
from tidemark.times import TIME_MAX_S

from .conftest import DAY_S, MONDAY_S, History, UInt32s
from .test_rollups import POPULATION, close_all

HOUR_S = 3_600


# ---------------------------------------------------------------- which step (pure)


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [
        (HOUR_S, ["raw", "1m"]),
        (DAY_S, ["raw", "1m"]),
        (3 * DAY_S, ["1h"]),
        (80 * DAY_S, ["1h"]),
        (90 * DAY_S, ["1d"]),
    ],
)
def test_auto_takes_the_finest_step_that_fits(seconds: int, steps: list[str]) -> None:
    assert [wanted.step for wanted in plan("auto", MONDAY_S, MONDAY_S + seconds)] == steps


def test_auto_counts_from_the_first_observation() -> None:
    assert plan("auto", 0, MONDAY_S)[0].step == "1d"
    assert plan("auto", 0, MONDAY_S, Kept(first_s=MONDAY_S - HOUR_S))[0].step == "raw"


def test_time_to_come_does_not_count() -> None:
    year_s = 365 * DAY_S
    assert plan("auto", MONDAY_S, MONDAY_S + year_s)[0].step == "1d"
    assert plan("auto", MONDAY_S, MONDAY_S + year_s, Kept(now_s=MONDAY_S + HOUR_S))[0].step == "raw"
    assert plan("auto", MONDAY_S, MONDAY_S + year_s, Kept(now_s=MONDAY_S + 9 * DAY_S))[0].step == "1h"


def test_auto_does_not_ask_for_what_is_not_kept_any_more() -> None:
    kept = Kept(raw_since_s=MONDAY_S, hourly_since_s=MONDAY_S - 10 * DAY_S)
    assert plan("auto", MONDAY_S, MONDAY_S + 60, kept)[0].step == "raw"
    assert plan("auto", MONDAY_S - 1, MONDAY_S + 60, kept)[0].step == "1h"
    assert plan("auto", MONDAY_S - 11 * DAY_S, MONDAY_S + 60, kept)[0].step == "1d"


def test_a_range_is_widened_to_whole_periods() -> None:
    assert plan("1h", MONDAY_S + 1, MONDAY_S + HOUR_S + 1) == [Range("1h", MONDAY_S, MONDAY_S + 2 * HOUR_S)]
    assert plan("raw", MONDAY_S + 1, MONDAY_S + 2) == [Range("raw", MONDAY_S + 1, MONDAY_S + 2)]


@given(st.integers(0, TIME_MAX_S), st.integers(0, TIME_MAX_S), st.sampled_from(["auto", *STEP_S]))
def test_plans_hold_the_range_and_auto_is_bounded(one: int, other: int, step: str) -> None:
    from_s, to_s = sorted((one, other))
    if from_s == to_s:
        with pytest.raises(CallerError):
            plan(step, from_s, to_s)
        return
    ranges = plan(step, from_s, to_s)
    for wanted in ranges:
        assert wanted.from_s <= from_s < to_s <= wanted.to_s <= TIME_MAX_S
        assert wanted.from_s % STEP_S[wanted.step] == 0
    last = ranges[-1]
    assert step != "auto" or last.step == "1d" or (last.to_s - last.from_s) / STEP_S[last.step] <= POINTS_MAX


@pytest.mark.parametrize(
    ("from_s", "to_s", "step"),
    [(5, 5, "raw"), (6, 5, "raw"), (-1, 5, "raw"), (0, 2**32, "raw"), (0, 5, "5m")],
)
def test_bad_times_and_steps_are_the_callers(from_s: int, to_s: int, step: str) -> None:
    with pytest.raises(CallerError):
        plan(step, from_s, to_s)


def test_the_ratio_of_somebody_who_follows_nobody() -> None:
    np.testing.assert_array_equal(
        ratio(np.array([6, 6, 0], np.uint32), np.array([3, 0, 0], np.uint32)), [2.0, np.nan, np.nan]
    )


# ---------------------------------------------------------------- against brute force, in a real store


def rows(series: Series) -> list[tuple[float, ...]]:
    assert series.rolled is not None
    rolled = series.rolled
    columns = (
        series.time, rolled.observations,
        series.follower_count, rolled.follower_min, rolled.follower_max, rolled.follower_average,
        series.following_count, rolled.following_min, rolled.following_max, rolled.following_average,
    )  # fmt: skip
    return [tuple(row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def three_days(history: History) -> tuple[UInt32s, UInt32s, UInt32s, UInt32s]:
    """Two influencers over three days and a bit, with gaps, seconds in disorder, and the days' very edges."""
    at = MONDAY_S + history.random.choice(3 * DAY_S + 5_000, 1_500, replace=False)
    at = at[(at - MONDAY_S) // HOUR_S % 5 != 2]
    edges = MONDAY_S + np.array([0, DAY_S - 1, DAY_S, DAY_S + 1, 2 * DAY_S - 1, 3 * DAY_S])
    at = np.union1d(at, edges)
    history.random.shuffle(at)
    return history.add(np.array([[1], [2]]), at)


def check(store: Store, history: History, step: Step, from_s: int, to_s: int) -> None:
    for pk in (1, 2, 3):
        found = store.series(pk, from_s, to_s, step)
        assert (found.step, len(found)) == (step, len(found.time))
        assert rows(found) == history.buckets(pk, found.from_s, found.to_s, STEP_S[step])
        np.testing.assert_array_equal(
            found.follower_ratio, ratio(found.follower_count, found.following_count)
        )


def test_every_step_is_exact_open_half_closed_and_closed(store: Store, history: History) -> None:
    store.insert_observations(*three_days(history))
    end_s = MONDAY_S + 3 * DAY_S + 5_000
    for closed in (False, True):
        if closed:
            close_all(Rollups(store, POPULATION))
            assert store.periods.closed_until_s("1h") == MONDAY_S + 3 * DAY_S + HOUR_S
            assert store.periods.closed_until_s("1d") == MONDAY_S + 3 * DAY_S
        for step in ("1m", "1h", "1d"):
            check(store, history, step, MONDAY_S, end_s)
            check(store, history, step, MONDAY_S + 30_000, MONDAY_S + 2 * DAY_S + 7_777)
            check(store, history, step, 0, TIME_MAX_S)


def test_raw_is_every_observation_in_order(store: Store, history: History) -> None:
    store.insert_observations(*three_days(history))
    found = store.series(1, MONDAY_S + 10, MONDAY_S + DAY_S, "raw")
    chosen = (history.pk == 1) & (history.at >= MONDAY_S + 10) & (history.at < MONDAY_S + DAY_S)
    order = np.argsort(history.at[chosen])
    assert found.rolled is None
    np.testing.assert_array_equal(found.time, history.at[chosen][order])
    np.testing.assert_array_equal(found.follower_count, history.followers[chosen][order])
    np.testing.assert_array_equal(found.following_count, history.followings[chosen][order])


def test_auto_falls_back_to_minutes_when_there_is_more_than_a_point_for_each(
    store: Store, history: History
) -> None:
    store.insert_observations(*history.add(1, MONDAY_S + np.arange(POINTS_MAX + 1) * 10))
    end_s = MONDAY_S + POINTS_MAX * 10
    assert len(store.series(1, MONDAY_S, end_s)) == POINTS_MAX
    found = store.series(1, MONDAY_S, end_s + 10)
    assert found.step == "1m"
    assert rows(found) == history.buckets(1, found.from_s, found.to_s, 60)


def test_a_named_step_that_does_not_fit_is_refused_not_cut(store: Store, history: History) -> None:
    store.insert_observations(*history.add(1, MONDAY_S + np.arange(11)))
    assert len(store.series(1, MONDAY_S, MONDAY_S + 10, "raw", limit=10)) == 10
    with pytest.raises(CallerError, match="more than 10 points"):
        store.series(1, MONDAY_S, MONDAY_S + 11, "raw", limit=10)


def test_nobody_has_an_empty_series_at_every_step(store: Store) -> None:
    for step in ("auto", *STEP_S):
        found = store.series(1, MONDAY_S, MONDAY_S + DAY_S, step)
        assert len(found) == len(found.follower_count) == len(found.follower_ratio) == 0


def test_a_series_reads_little_of_many(store: Store, history: History) -> None:
    pks, minutes = 400, 500
    store.insert_observations(*history.add(np.arange(pks)[:, None], MONDAY_S + np.arange(minutes) * 60))
    granules_of_all = pks * minutes // 8_192
    parameters = {"pk": 77, "from": MONDAY_S, "to": MONDAY_S + DAY_S, "limit": 2_001}
    rolled = {"closed_until": MONDAY_S + 3 * HOUR_S, "reopened": [MONDAY_S]}
    for name in ("series_raw", "series_1m", "series_1h", "series_1d"):
        asked = parameters | (rolled if name in ("series_1h", "series_1d") else {})
        assert 1 <= granules(store, name, asked) <= 2 < granules_of_all


def granules(store: Store, name: str, parameters: dict[str, object]) -> int:
    """How many granules a question reads of all its tables."""
    found = [
        line.split("Granules:")[1]
        for line in store.explain(name, parameters).splitlines()
        if "| Granules:" in line
    ]
    return sum(int(number) for number in found)


# ---------------------------------------------------------------- the average over time


def test_the_average_over_time_at_every_step(store: Store) -> None:
    at = MONDAY_S - 90 + np.arange(300) * 60
    average = np.round(np.sin(np.arange(300)) * 1_000, 3)
    for second, value in zip(at[::30], average[::30], strict=True):
        store.insert_average(int(second), 7, float(value))
    at, average = at[::30], average[::30]
    for step, step_s in STEP_S.items():
        found = store.average_series(MONDAY_S - DAY_S, MONDAY_S + DAY_S, step)
        starts = np.unique(at // step_s * step_s)
        inside = [average[at // step_s * step_s == start] for start in starts]
        np.testing.assert_array_equal(found.time, starts)
        np.testing.assert_array_equal(found.average_follower_count, [values[-1] for values in inside])
        np.testing.assert_array_equal(found.average_min, [values.min() for values in inside])
        np.testing.assert_array_equal(found.average_max, [values.max() for values in inside])
        assert set(found.influencers) == {7}
    found = store.average_series(MONDAY_S - HOUR_S, MONDAY_S + 5 * HOUR_S)
    assert (found.step, len(found)) == ("raw", 10)
    with pytest.raises(CallerError):
        store.average_series(MONDAY_S, MONDAY_S + DAY_S, "raw", limit=2)
