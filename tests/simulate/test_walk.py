from __future__ import annotations

import numpy as np
import pytest

from tidemark.simulate.walk import (
    FOLLOWERS_FLOOR,
    FOLLOWERS_HOME,
    FOLLOWERS_STEP,
    FOLLOWINGS_FLOOR,
    FOLLOWINGS_HOME,
    FOLLOWINGS_STEP,
    PULL,
    TABLE_SIZE,
    Walk,
    is_suspicious,
)

FIRST = 1_000_000


def counts(walk: Walk, size: int) -> np.ndarray:
    return np.array([walk.step(pk) for pk in range(FIRST, FIRST + size)])


@pytest.mark.parametrize("seed", [None, 1, -3, 2**70])
def test_it_begins_as_it_goes_on(seed: int | None) -> None:
    """A first round, and one 300 calls later, look like Normal(100,000, 100,000) seen through the floor."""
    size = 2_000
    walk = Walk(FIRST, FIRST + size - 1, seed)
    rounds = [counts(walk, size) for _ in range(PULL // 2)]
    for now in (rounds[0], rounds[-1]):
        for values, home, floor in zip(
            now.T, (FOLLOWERS_HOME, FOLLOWINGS_HOME), (FOLLOWERS_FLOOR, FOLLOWINGS_FLOOR), strict=True
        ):
            assert values.min() == floor
            assert 0.12 < np.mean(values == floor) < 0.22
            # The floor lifts the mean of the hidden values by 9%.
            assert 0.95 < values.mean() / home < 1.25
            assert values.max() < 7 * home


def test_a_step_is_small() -> None:
    walk = Walk(FIRST, FIRST, 5)
    seen = np.array([walk.step(FIRST) for _ in range(5_000)])
    moved = np.abs(np.diff(seen, axis=0)).max(axis=0)
    # A step, the pull at five standard deviations, and the rounding of both.
    assert moved[0] <= FOLLOWERS_STEP * (1 + 50 / PULL) + 2
    assert moved[1] <= FOLLOWINGS_STEP * (1 + 50 / PULL) + 2
    assert moved[0] > FOLLOWERS_STEP * 0.9


def test_two_in_a_row_differ() -> None:
    walk = Walk(FIRST, FIRST + 99)
    first, second = counts(walk, 100), counts(walk, 100)
    above = (first[:, 0] > 2 * FOLLOWERS_STEP) & (second[:, 0] > 2 * FOLLOWERS_STEP)
    assert np.mean(first[above, 0] != second[above, 0]) > 0.9


def test_with_a_seed_it_can_be_foretold() -> None:
    walk = Walk(FIRST, FIRST + 9, 7)
    foretold = walk.expected(FIRST + 3, 50)
    assert [walk.step(FIRST + 3) for _ in range(50)] == foretold
    assert walk.expected(FIRST + 3, 50) == foretold


def test_the_order_of_the_calls_and_the_range_do_not_matter() -> None:
    calls = np.random.default_rng(1).integers(FIRST, FIRST + 20, 2_000).tolist()
    mixed = Walk(FIRST, FIRST + 19, 7)
    seen: dict[int, list[tuple[int, int]]] = {pk: [] for pk in range(FIRST, FIRST + 20)}
    for pk in calls:
        seen[pk].append(mixed.step(pk))
    elsewhere = Walk(0, 10, 7)
    for pk, sequence in seen.items():
        assert sequence == elsewhere.expected(pk, len(sequence))


def test_seeds_and_pks_differ() -> None:
    walk, other = Walk(FIRST, FIRST, 1), Walk(FIRST, FIRST, 2)
    sequences = [walk.expected(FIRST, 20), walk.expected(FIRST + 1, 20), other.expected(FIRST, 20)]
    assert len({tuple(sequence) for sequence in sequences}) == 3


def test_those_who_share_steps_do_not_meet() -> None:
    """The table is shorter than the list of pks: no two of them may go the same way for long."""
    pks = range(FIRST, FIRST + 3 * TABLE_SIZE, TABLE_SIZE // 2)
    walk = Walk(FIRST, FIRST, 1)
    steps = np.array([np.diff([c[0] for c in walk.expected(pk, 400)]) for pk in pks])
    alike = np.corrcoef(steps[steps.std(axis=1) > 0])
    assert np.abs(alike - np.eye(len(alike))).max() < 0.5


def test_without_a_seed_nothing_is_foretold() -> None:
    with pytest.raises(ValueError, match="seed"):
        Walk(FIRST, FIRST).expected(FIRST, 1)


def test_a_tenth_is_suspicious() -> None:
    verdicts = [is_suspicious(pk) for pk in range(FIRST, FIRST + 10_000)]
    assert 0.08 < np.mean(verdicts) < 0.12
    assert verdicts == [is_suspicious(pk) for pk in range(FIRST, FIRST + 10_000)]
