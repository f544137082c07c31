"""Each shard once in each interval, whoever looks and however often."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.messages import Tick
from tidemark.population import Population
from tidemark.schedule.timetable import Issued, RoundRobin, Timetable

NOW_MS = 1_700_000_000_000
INTERVALS = st.sampled_from([1_000, 1_001, 7_777, 60_000, 86_400_000]) | st.integers(1, 100_000)
MOMENTS = st.integers(0, 2_000_000_000_000)


@st.composite
def timetables(draw: st.DrawFn) -> Timetable:
    shards = draw(st.integers(1, 40))
    return Timetable(Population(500, 500 + shards * 3 - 1, shard_size=3), draw(INTERVALS))


def ids(ticks: list[Tick]) -> list[str]:
    return [tick.id for tick in ticks]


@given(timetables(), MOMENTS)
def test_in_any_interval_each_shard_is_due_once(timetable: Timetable, until_ms: int) -> None:
    ticks = timetable.due(until_ms - timetable.interval_ms, until_ms)
    assert sorted(tick.shard for tick in ticks) == list(range(timetable.population.shards))
    assert all(until_ms - timetable.interval_ms < tick.due_ms <= until_ms for tick in ticks)
    assert [tick.due_ms for tick in ticks] == sorted(tick.due_ms for tick in ticks)
    for tick in ticks:
        assert (tick.first_pk, tick.last_pk) == timetable.population.shard_range(tick.shard)


@given(timetables(), MOMENTS, st.lists(st.integers(0, 100), min_size=1, max_size=30), st.integers(1, 3))
def test_how_often_one_looks_does_not_matter(
    timetable: Timetable, start_ms: int, parts: list[int], intervals: int
) -> None:
    """Any split of a span into calls that are no further apart than an interval gives the same ticks."""
    span_ms = timetable.interval_ms * intervals
    steps = [min(timetable.interval_ms, span_ms * part // max(1, sum(parts))) for part in parts]
    now_ms = start_ms
    ticks: list[Tick] = []
    for step_ms in steps:
        ticks += timetable.due(now_ms, now_ms + step_ms)
        now_ms += step_ms
    while now_ms < start_ms + span_ms:
        step_ms = min(timetable.interval_ms, start_ms + span_ms - now_ms)
        ticks += timetable.due(now_ms, now_ms + step_ms)
        now_ms += step_ms
    counts = Counter(tick.shard for tick in ticks)
    assert counts == dict.fromkeys(range(timetable.population.shards), intervals)
    assert len(set(ids(ticks))) == len(ticks)
    by_shard: dict[int, list[int]] = {}
    for tick in ticks:
        by_shard.setdefault(tick.shard, []).append(tick.due_ms)
    for dues in by_shard.values():
        # An influencer keeps its place in the interval, to the millisecond.
        assert all(after - before == timetable.interval_ms for before, after in pairwise(dues))


@given(timetables(), MOMENTS, st.integers(0, 10_000), st.integers(0, 10_000))
def test_two_schedulers_arrive_at_the_same_ticks(
    timetable: Timetable, start_ms: int, one_ms: int, other_ms: int
) -> None:
    """One looks a moment after the other, or is started later: what both have due is the same."""
    until_ms = start_ms + timetable.interval_ms
    one = timetable.due(start_ms + one_ms % timetable.interval_ms, until_ms)
    other = timetable.due(start_ms + other_ms % timetable.interval_ms, until_ms)
    shorter, longer = sorted([ids(one), ids(other)], key=len)
    assert longer[len(longer) - len(shorter) :] == shorter


@given(timetables(), MOMENTS, st.integers(0, 10**12))
def test_what_was_missed_is_skipped_and_not_queued(timetable: Timetable, start_ms: int, late_ms: int) -> None:
    until_ms = start_ms + late_ms
    ticks = timetable.due(start_ms, until_ms)
    assert max(Counter(tick.shard for tick in ticks).values(), default=0) <= 1
    if late_ms >= timetable.interval_ms:
        assert ids(ticks) == ids(timetable.due(until_ms - timetable.interval_ms, until_ms))


@given(timetables(), MOMENTS, st.integers(0, 10**9))
def test_a_clock_that_stepped_back_has_nothing_due(timetable: Timetable, now_ms: int, back_ms: int) -> None:
    assert timetable.due(now_ms, now_ms - back_ms) == []


@given(timetables(), MOMENTS, st.integers(0, 10**6))
def test_after_a_step_back_the_ticks_are_those_of_before(
    timetable: Timetable, now_ms: int, back_ms: int
) -> None:
    """So a scheduler that is started anew issues what the log knows and drops."""
    back_ms %= timetable.interval_ms
    before = timetable.due(now_ms - timetable.interval_ms, now_ms)
    again = timetable.due(now_ms - back_ms, now_ms)
    assert ids(before)[len(before) - len(again) :] == ids(again)


@given(st.lists(st.tuples(st.integers(181, 400), st.integers(-900, 900)), min_size=1, max_size=5))
def test_a_clock_that_is_set_leaves_nobody_out_and_no_id_twice(settings: list[tuple[int, int]]) -> None:
    """`settings`: for so many seconds the clock runs, then it is set by so many."""
    timetable = Timetable(Population(0, 6, shard_size=1), 60_000)
    issued = Issued(NOW_MS)
    true_ms, ahead_ms = NOW_MS, 0
    found: list[str] = []
    at: dict[int, list[int]] = {shard: [] for shard in range(7)}
    for run_s, set_s in settings:
        for _ in range(run_s):
            true_ms += 1_000
            now_ms = true_ms + ahead_ms
            ticks = issued.named(timetable.due(issued.until_ms, now_ms))
            found += [tick.id for tick in ticks]
            for tick in ticks:
                at[tick.shard].append(true_ms)
            issued.advance(now_ms, timetable.interval_ms)
        ahead_ms += set_s * 1_000
    assert len(set(found)) == len(found)
    for times in at.values():
        gaps = [after - before for before, after in pairwise([NOW_MS, *times, true_ms])]
        assert max(gaps) <= 2 * timetable.interval_ms


def test_a_clock_set_back_by_less_than_an_interval_is_waited_for() -> None:
    timetable = Timetable(Population(0, 6, shard_size=1), 60_000)
    issued = Issued(NOW_MS)
    issued.advance(NOW_MS - 59_000, 60_000)
    assert timetable.due(issued.until_ms, NOW_MS - 1) == []
    issued.advance(NOW_MS - 60_000, 60_000)
    assert len(timetable.due(issued.until_ms, NOW_MS)) == 7


@given(timetables(), MOMENTS)
def test_the_next_one_is_the_first_that_will_be_due(timetable: Timetable, after_ms: int) -> None:
    next_ms = timetable.next_due_ms(after_ms)
    assert after_ms < next_ms <= after_ms + timetable.interval_ms
    assert timetable.due(after_ms, next_ms - 1) == []
    assert {tick.due_ms for tick in timetable.due(after_ms, next_ms)} == {next_ms}


def test_a_million_are_spread_over_the_minute() -> None:
    timetable = Timetable(Population(1_000_000, 1_999_999), 60_000)
    ticks = timetable.due(NOW_MS, NOW_MS + 60_000)
    assert {after.due_ms - before.due_ms for before, after in pairwise(ticks)} == {200}
    assert len(timetable.due(NOW_MS, NOW_MS + 1_000)) == 5


@pytest.mark.parametrize("shards", [1, 7, 999, 1_000])
def test_more_shards_than_milliseconds_and_fewer(shards: int) -> None:
    timetable = Timetable(Population(0, shards - 1, shard_size=1), 100)
    assert sorted(tick.shard for tick in timetable.due(NOW_MS, NOW_MS + 100)) == list(range(shards))


POPULATIONS = st.integers(1, 60).map(lambda shards: Population(0, shards * 2 - 1, shard_size=2))


@given(
    POPULATIONS,
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(0, 1_500), st.integers(0, 80)), min_size=1, max_size=60),
)
def test_round_robin_is_fair_and_bounded(
    population: Population, waiting_min: int, looks: list[tuple[int, int]]
) -> None:
    turn = RoundRobin(population, waiting_min)
    now_ms, waiting = NOW_MS, 0
    counts = Counter(dict.fromkeys(range(population.shards), 0))
    issued_ms: dict[int, int] = {}
    ids: set[str] = set()
    expected = 0
    for step_ms, wanted in looks:
        now_ms += step_ms
        taken = min(wanted, waiting)
        waiting -= taken
        ticks = turn.due(now_ms, waiting)
        assert len(ticks) <= population.shards
        assert len(ticks) <= max(0, max(waiting_min, 2 * taken) - waiting)
        for tick in ticks:
            assert tick.shard == expected
            expected = (expected + 1) % population.shards
            assert tick.due_ms == now_ms // 1_000 * 1_000
            assert tick.id not in ids
            ids.add(tick.id)
            assert (tick.first_pk, tick.last_pk) == population.shard_range(tick.shard)
            assert now_ms - issued_ms.get(tick.shard, -10_000) >= 1_000
            issued_ms[tick.shard] = now_ms
            counts[tick.shard] += 1
        waiting += len(ticks)
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("shards", [1, 3, 12, 40])
@pytest.mark.parametrize("taken_a_look", [1, 2, 5])
def test_round_robin_starves_nobody_on_a_queue_of_one_tick_for_each_shard(
    shards: int, taken_a_look: int
) -> None:
    """A tick of a shard that waits replaces the one before it, and goes to the end: as on TICKS."""
    turn = RoundRobin(Population(0, shards - 1, shard_size=1))
    queue: dict[int, None] = {}
    polled = Counter(dict.fromkeys(range(shards), 0))
    for look in range(3_000):
        for tick in turn.due(NOW_MS + 100 * look, len(queue)):
            queue.pop(tick.shard, None)
            queue[tick.shard] = None
        for shard in list(queue)[:taken_a_look]:
            del queue[shard]
            polled[shard] += 1
    assert min(polled.values()) >= 1
    assert max(polled.values()) - min(polled.values()) <= 1


def test_two_round_robins_name_a_tick_alike_within_a_second() -> None:
    one, other = (RoundRobin(Population(0, 4, shard_size=1), waiting_min=5) for _ in range(2))
    assert one.due(NOW_MS, 0) == other.due(NOW_MS + 999, 0) != other.due(NOW_MS + 1_999, 0)


def test_round_robin_follows_pollers_that_become_faster() -> None:
    """The queue never runs dry for good: it holds twice what was taken since the last look."""
    turn = RoundRobin(Population(0, 9_999, shard_size=1))
    waiting = len(turn.due(NOW_MS, 0))
    for look in range(1, 40):
        taken = min(waiting, 300)
        waiting -= taken
        waiting += len(turn.due(NOW_MS + look * 100, waiting))
    assert waiting >= 600


def test_round_robin_survives_a_clock_that_stepped_back() -> None:
    turn = RoundRobin(Population(0, 4, shard_size=1), waiting_min=5)
    assert len(turn.due(NOW_MS, 0)) == 5
    assert len(turn.due(NOW_MS - 3_600_000, 0)) == 5
    assert turn.due(NOW_MS - 3_600_000 + 999, 0) == []
    assert len(turn.due(NOW_MS - 3_600_000 + 1_000, 0)) == 5


def test_round_robin_does_not_pile_up_what_nobody_takes() -> None:
    turn = RoundRobin(Population(0, 99, shard_size=1))
    waiting = len(turn.due(NOW_MS, 0))
    for look in range(1, 20):
        assert turn.due(NOW_MS + look * 1_000, waiting) == []
