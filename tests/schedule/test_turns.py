"""Which turns are issued, by the timetable and at a start: worked out, and for any moment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.messages import Turn
from tidemark.population import Population
from tidemark.schedule.timetable import Timetable
from tidemark.schedule.turns import turns, turns_at_start

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
POPULATION = Population(100, 339, shard_size=60)
TIMETABLE = Timetable(POPULATION, DAY_MS)
MIDNIGHT_MS = 20_000 * DAY_MS
"""Shard i of four is due at 6 * i hours of each day."""


def test_a_turn_is_due_when_the_timetable_says_so() -> None:
    (turn,) = turns(TIMETABLE.due(MIDNIGHT_MS + 5 * HOUR_MS, MIDNIGHT_MS + 7 * HOUR_MS))
    due_ms = MIDNIGHT_MS + 6 * HOUR_MS
    assert turn == Turn(1, 160, 219, due_ms, due_ms)
    assert turn.id == f"160-219@{due_ms}"


def test_in_an_empty_log_everybody_is_issued_the_coming_turn_in_the_order_in_which_they_are_due() -> None:
    found = turns_at_start(TIMETABLE, MIDNIGHT_MS + 7 * HOUR_MS, set())
    assert [(turn.shard, (turn.due_ms - MIDNIGHT_MS) // HOUR_MS) for turn in found] == [
        (2, 12),
        (3, 18),
        (0, 24),
        (1, 30),
    ]
    assert all(turn.due_ms - turn.since_ms == DAY_MS for turn in found)


def test_who_was_classified_before_is_issued_the_present_turn() -> None:
    found = turns_at_start(TIMETABLE, MIDNIGHT_MS + 7 * HOUR_MS, {0, 1, 2, 3})
    assert [(turn.shard, (turn.due_ms - MIDNIGHT_MS) // HOUR_MS) for turn in found] == [
        (2, -12),
        (3, -6),
        (0, 0),
        (1, 6),
    ]
    assert all(turn.due_ms == turn.since_ms for turn in found)


def test_who_was_never_classified_comes_first() -> None:
    found = turns_at_start(TIMETABLE, MIDNIGHT_MS, {0, 1, 2})
    assert [turn.shard for turn in found] == [3, 1, 2, 0]


@pytest.mark.parametrize("interval_ms", [1_000, 7_777, DAY_MS])
@given(
    now_ms=st.integers(10**12, 2 * 10**12),
    classified=st.sets(st.integers(0, 3)),
    later_ms=st.integers(0, 5_000),
)
def test_at_any_moment_each_shard_has_one_turn_and_schedulers_agree(
    interval_ms: int, now_ms: int, classified: set[int], later_ms: int
) -> None:
    timetable = Timetable(POPULATION, interval_ms)
    found = turns_at_start(timetable, now_ms, classified)
    assert sorted(turn.shard for turn in found) == [0, 1, 2, 3]
    moments = (now_ms - interval_ms, now_ms), (now_ms, now_ms + interval_ms)
    on_time = {turn.id for after, until in moments for turn in turns(timetable.due(after, until))}
    for turn in found:
        assert turn.id in on_time
        early = turn.shard not in classified
        assert now_ms - interval_ms < turn.due_ms <= now_ms + early * interval_ms
        assert turn.since_ms <= now_ms
        assert early == (turn.due_ms > now_ms)
    later_ms = min(later_ms, interval_ms)
    again = {turn.id for turn in turns_at_start(timetable, now_ms + later_ms, classified)}
    assert len(again - {turn.id for turn in found}) == len(timetable.due(now_ms, now_ms + later_ms))
