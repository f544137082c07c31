"""Ranking against counting by hand."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark.board.ranking import Ranking, sort_keys

COUNTS = st.sampled_from([0, 0, 1, 2, 2, 7, 2**31, 2**32 - 1])
"""Few different ones, so that ties are the rule, and both ends of what fits."""
FOLLOWERS = st.dictionaries(st.integers(0, 30), COUNTS)
SIZE = 31


def keys(followers: dict[int, int]) -> np.ndarray:
    return sort_keys(np.array(list(followers), np.int64), np.array(list(followers.values()), np.uint32))


def room(size: int = SIZE) -> np.ndarray:
    return np.full(size, -1, np.int64)


def ranking_of(followers: dict[int, int]) -> Ranking:
    return Ranking.of_nobody().replaced(keys({}), keys(followers), room())


def rank_by_hand(followers: dict[int, int], index: int) -> int:
    return 1 + sum(other > followers[index] for other in followers.values())


def board_by_hand(followers: dict[int, int]) -> list[int]:
    return sorted(followers, key=lambda index: (-followers[index], index))


@given(FOLLOWERS)
def test_rank_is_one_more_than_how_many_have_strictly_more(followers: dict[int, int]) -> None:
    ranking = ranking_of(followers)
    for index, count in followers.items():
        assert ranking.rank(count) == rank_by_hand(followers, index)
        assert ranking.fewer(count) == sum(other < count for other in followers.values())
        assert ranking.place(index, count) == board_by_hand(followers).index(index)


@given(FOLLOWERS)
def test_ranks_of_all_agree_with_rank_and_leave_the_unobserved_at_zero(followers: dict[int, int]) -> None:
    ranks = ranking_of(followers).ranks_of_all(SIZE)
    assert ranks.tolist() == [rank_by_hand(followers, i) if i in followers else 0 for i in range(SIZE)]


@given(FOLLOWERS, st.integers(0, 40), st.integers(0, 40))
def test_places_are_a_slice_of_the_leaderboard(followers: dict[int, int], offset: int, limit: int) -> None:
    places = ranking_of(followers).places(offset, limit)
    expected = board_by_hand(followers)[offset : offset + limit]
    assert places.indices.tolist() == expected
    assert places.follower_count.tolist() == [followers[index] for index in expected]
    assert places.ranks.tolist() == [rank_by_hand(followers, index) for index in expected]
    assert places.fewer.tolist() == [
        sum(other < followers[index] for other in followers.values()) for index in expected
    ]


@given(FOLLOWERS, FOLLOWERS)
def test_replacing_keys_is_the_same_as_starting_again(before: dict[int, int], after: dict[int, int]) -> None:
    moved = {index for index in before | after if before.get(index) != after.get(index)}
    first = ranking_of(before)
    kept = first.keys.copy()
    ranking = first.replaced(
        removed=keys({index: before[index] for index in moved & before.keys()}),
        added=keys({index: after[index] for index in moved & after.keys()}),
        room=room(),
    )
    assert ranking.keys.tolist() == sorted(keys(after).tolist())
    assert first.keys.tolist() == kept.tolist()


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 600), st.sampled_from([7, 250, 1_000, 1_001]))
def test_many_moves_at_the_size_where_the_merge_gallops(seed: int, moves: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 50, 1_000).astype(np.uint32)
    indices = np.arange(1_000)
    ranking = Ranking.of_nobody().replaced(keys({}), sort_keys(indices, count), room(1_000))
    moved = rng.choice(1_000, moves, replace=False)
    after = count.copy()
    after[moved] = rng.integers(0, 50, moves)
    moved = moved[after[moved] != count[moved]]
    with mock.patch("tidemark.board.ranking.STEP", step):
        ranking = ranking.replaced(
            sort_keys(moved, count[moved]), sort_keys(moved, after[moved]), room(1_000)
        )
    assert (ranking.keys == np.sort(sort_keys(indices, after))).all()


def test_nobody_is_ranked_at_first() -> None:
    ranking = Ranking.of_nobody()
    assert len(ranking) == 0
    assert ranking.rank(5) == 1
    assert ranking.places(0, 10).indices.tolist() == []
    assert ranking.ranks_of_all(3).tolist() == [0, 0, 0]


def test_a_ranking_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ranking_of({1: 1}).keys[0] = 2
