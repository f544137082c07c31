"""Whose followers jumped, and how many may be brought forward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tidemark.board import Board, View
from tidemark.board.jumps import FOLLOWERS_MIN, SAMPLE_MIN, SAVED_SHARE, SHARE, Bound, Jumps
from tidemark.population import Population

POPULATION = Population(1_000, 2_999)
SIZE = POPULATION.size
PK = np.arange(1_000, 3_000, dtype=np.uint32)
Counts = npt.NDArray[np.int64]


class Watched:
    """A board that is observed again and again."""

    def __init__(self, start: Counts) -> None:
        self.board = Board(POPULATION)
        self.jumps = Jumps()
        self.counts = start
        self.minute = 0
        self.observe(np.zeros(SIZE, np.int64))

    def observe(self, change: Counts, rows: slice = slice(None)) -> list[int]:
        """The pks found to have jumped after these changes."""
        self.counts = np.maximum(self.counts + change, 0)
        self.minute += 1
        before = self.board.view
        counts = self.counts[rows].astype(np.uint32)
        self.board.restore(PK[rows], counts, counts, np.full(len(counts), self.minute * 60, np.uint32))
        return [index + 1_000 for index in self.jumps.find(before, self.view())]

    def view(self) -> View:
        return self.board.publish(self.minute * 60_000)


def walk(step: int) -> Callable[[], Counts]:
    """Changes as the stand-in makes them: uniform, of the same size for all."""
    random = np.random.default_rng(7)
    return lambda: random.integers(-step, step + 1, SIZE)


def bump(**pks: int) -> Counts:
    change = np.zeros(SIZE, np.int64)
    for pk, size in pks.items():
        change[int(pk.removeprefix("pk")) - 1_000] = size
    return change


def test_chance_is_no_jump() -> None:
    change = walk(10_000)
    watched = Watched(np.random.default_rng(1).integers(0, 200_000, SIZE))
    assert [watched.observe(change()) for _ in range(50)] == [[]] * 50


def test_what_stands_out_is_found_the_largest_first() -> None:
    change = walk(100)
    watched = Watched(np.full(SIZE, 10_000, np.int64))
    for _ in range(3):
        assert watched.observe(change()) == []
    assert watched.observe(change() + bump(pk1007=6_000, pk2345=200_000)) == [2_345, 1_007]
    assert watched.observe(change()) == []
    assert watched.observe(change() + bump(pk2345=-190_000)) == [2_345], (
        "bought followers that are taken away"
    )


def test_a_fraction_of_many_and_a_handful_are_no_jump() -> None:
    start = np.full(SIZE, 10_000, np.int64)
    start[:2] = 5_000_000, 10
    watched = Watched(start)
    change = walk(5)
    watched.observe(change())
    assert watched.observe(change() + bump(pk1000=1_000_000, pk1001=FOLLOWERS_MIN - 50)) == []
    assert watched.observe(change() + bump(pk1000=4_000_000, pk1001=FOLLOWERS_MIN + 50)) == [1_000, 1_001]


def test_nobody_jumps_before_it_is_known_what_is_usual() -> None:
    watched = Watched(np.full(SIZE, 10_000, np.int64))
    few = slice(0, SAMPLE_MIN // 2)
    assert watched.observe(bump(pk1003=50_000), few) == []
    assert watched.jumps.spread is None
    watched.observe(walk(10)(), few)
    assert watched.jumps.spread is not None


def test_when_all_change_more_more_is_usual() -> None:
    """After an hour without observations, or for an API that answers anything."""
    watched = Watched(np.full(SIZE, 100_000, np.int64))
    for _ in range(3):
        watched.observe(walk(10)())
    random = np.random.default_rng(3)
    found = [watched.observe(random.integers(-90_000, 90_000, SIZE)) for _ in range(8)]
    assert found[-1] == []


def test_who_is_observed_for_the_first_time_does_not_jump() -> None:
    watched = Watched(np.full(SIZE, 10_000, np.int64))
    for _ in range(2):
        watched.observe(walk(10)())
    board = Board(POPULATION)
    before = board.view
    board.restore(PK, PK, PK, np.full(SIZE, 60, np.uint32))
    assert watched.jumps.find(before, board.publish(60_000)) == []
    assert watched.jumps.find(board.view, board.view) == []


def test_nobody_is_chosen_twice_in_a_day() -> None:
    bound = Bound(100_000, 86_400)
    assert bound.choose([5, 6], 1_000) == [5, 6]
    assert bound.choose([6, 7], 2_000) == [7]
    assert bound.choose([5, 6, 7], 86_400 + 1_000) == [5, 6, 7]
    assert bound.day(86_399.9) == 0
    assert bound.day(86_400) == 1


@pytest.mark.parametrize("influencers", [1, 99, 100_000])
def test_the_bound_holds_however_many_jump(influencers: int) -> None:
    bound = Bound(influencers, 86_400)
    fresh = iter(range(10**9))
    chosen = [len(bound.choose([next(fresh) for _ in range(5_000)], at)) for at in range(0, 86_400, 600)]
    a_day = max(1.0, SHARE * influencers)
    saved = max(1.0, SHARE * SAVED_SHARE * influencers)
    assert chosen[0] == int(saved)
    assert a_day - 2 <= sum(chosen) <= a_day + saved


def test_what_is_saved_in_a_quiet_time_is_bounded() -> None:
    bound = Bound(100_000, 86_400)
    bound.choose([], 0)
    saved = int(SHARE * SAVED_SHARE * 100_000)
    assert bound.choose(list(range(5_000)), 30 * 86_400) == list(range(saved))


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    bound = Bound(2_400, 86_400)
    assert bound.choose([1, 2, 3], 50_000) == [1]
    assert bound.choose([2], 40_000) == []
