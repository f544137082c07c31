"""Gains against subtracting and sorting by hand."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.board.gains import Baseline, Direction, gainers
from tidemark.board.latest import UNKNOWN, Values
from tidemark.population import Population

POPULATION = Population(100, 130)
COUNTS = st.sampled_from([0, 0, 1, 2, 2, 7, 2**31, 2**32 - 1])
"""Few different ones, so that ties are the rule, and both ends of what fits."""
FOLLOWERS = st.dictionaries(st.integers(0, 30), COUNTS)


def values_of(followers: dict[int, int], suspicious: dict[int, bool]) -> Values:
    observed_at, count = np.zeros(31, np.uint32), np.zeros(31, np.uint32)
    verdict = np.full(31, UNKNOWN, np.int8)
    for index, value in followers.items():
        observed_at[index], count[index] = 1, value
    for index, value in suspicious.items():
        verdict[index] = value
    return Values(observed_at, count, count, verdict, observed_at)


def baseline_of(followers: dict[int, int]) -> Baseline:
    pk = np.array(list(followers), np.uint32) + 100
    return Baseline.of(POPULATION, 5, pk.astype(np.uint32), np.array(list(followers.values()), np.uint32))


@pytest.mark.parametrize("direction", get_args(Direction))
@given(
    before=FOLLOWERS,
    after=FOLLOWERS,
    verdicts=st.dictionaries(st.integers(0, 30), st.booleans()),
    only=st.sampled_from([None, True, False]),
    offset=st.integers(0, 40),
    limit=st.integers(1, 40),
)
def test_any_page_is_a_slice_of_what_sorting_by_hand_gives(
    direction: Direction,
    before: dict[int, int],
    after: dict[int, int],
    verdicts: dict[int, bool],
    only: bool | None,
    offset: int,
    limit: int,
) -> None:
    listed = [
        index
        for index in before.keys() & after.keys()
        if only is None or (verdicts.get(index) is True) == only
    ]
    gain = {index: after[index] - before[index] for index in listed}
    sign = -1 if direction == "up" else 1
    expected = sorted(listed, key=lambda index: (sign * gain[index], index))
    found = gainers(values_of(after, verdicts), baseline_of(before), direction, offset, limit, only)
    assert found.total == len(listed)
    assert found.indices.tolist() == expected[offset : offset + limit]
    assert found.gains.tolist() == [gain[index] for index in expected[offset : offset + limit]]
    assert found.page(1, 2).indices.tolist() == found.indices.tolist()[1:3]


def test_ties_at_the_edge_of_a_page_among_many() -> None:
    random = np.random.default_rng(1)
    size = 50_000
    population = Population(0, size - 1)
    was, now = random.integers(0, 3, size), random.integers(0, 3, size)
    ones = np.ones(size, np.uint32)
    values = Values(ones, now.astype(np.uint32), ones, np.zeros(size, np.int8), ones)
    baseline = Baseline.of(population, 1, np.arange(size), was)
    expected = np.lexsort((np.arange(size), was - now))
    pages = [gainers(values, baseline, "up", offset, 1_000) for offset in range(0, size, 1_000)]
    assert (np.concatenate([page.indices for page in pages]) == expected).all()


def test_who_is_not_watched_is_left_out_of_a_baseline() -> None:
    baseline = Baseline.of(POPULATION, 7, np.array([131, 130, 99, 5]), np.array([1, 2, 3, 4]))
    assert baseline.known.nonzero()[0].tolist() == [30]
    assert baseline.follower_count[30] == 2
