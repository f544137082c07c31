from __future__ import annotations

import numpy as np

from tidemark.backfill.walk import FOLLOWERS, FOLLOWINGS, Walk


def advance(walk: Walk, size: int, calls: int) -> tuple[np.ndarray, np.ndarray]:
    counts = np.zeros((size, calls), np.uint32), np.zeros((size, calls), np.uint32)
    walk.advance(*counts)
    return counts


def test_the_same_seed_gives_the_same_walk_and_another_another() -> None:
    first, again, other = (Walk(50, seed) for seed in ((1, 7), (1, 7), (2, 7)))
    for _ in range(2):
        expected = advance(first, 50, 20)
        for counts, same in zip(expected, advance(again, 50, 20), strict=True):
            assert counts.tolist() == same.tolist()
        assert expected[0].tolist() != advance(other, 50, 20)[0].tolist()


def test_counts_step_as_the_stand_in_s_do_and_go_on_from_day_to_day() -> None:
    walk = Walk(1_000, (1,))
    days = [advance(walk, 1_000, 300) for _ in range(2)]
    for which, (home, step, floor) in enumerate((FOLLOWERS, FOLLOWINGS)):
        counts = np.concatenate([day[which] for day in days], axis=1).astype(np.int64)
        assert counts.shape == (1_000, 600)
        assert counts.min() == floor
        assert 0.12 < (counts == floor).mean() < 0.23  # a normal distribution's share below half its spread
        assert 0.9 < np.median(counts) / home < 1.1
        steps = np.abs(np.diff(counts, axis=1))
        # The pull moves who is far out, four spreads of ten steps, by another fifteenth of a step.
        assert 0.99 * step < steps.max() < 1.1 * step
        assert np.abs(steps[:, 299]).max() < 1.1 * step  # between the two days
