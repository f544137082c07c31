"""What were the counts of a shard's influencers, call after call? (pure)

The walk of the stand-in (`simulate/walk.py`: a slow pull to a home, a uniform step a call, a floor), but for
all calls of a day and a thousand influencers at once: 8 ns an observation, where one at a time takes 500.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

UInt32s = npt.NDArray[np.uint32]

FOLLOWERS: Final = (100_000, 10_000, 5_000)
FOLLOWINGS: Final = (1_000, 100, 50)
"""Home, step and floor of a count."""
KEPT: Final = 1 - 1 / 600
"""Of its distance from home a hidden value keeps this share in each call."""
SPREAD_STEPS: Final = 10
"""The standard deviation of a hidden value in the long run, in steps: 1 / sqrt(3) / sqrt(2 / 600)."""


class Walk:
    """The counts of `size` influencers. The same seed, whole numbers, gives the same walk."""

    def __init__(self, size: int, seed: tuple[int, ...]) -> None:
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._distance = [
            (self._random.standard_normal(size, np.float32) * np.float32(SPREAD_STEPS * step))
            for _, step, _ in (FOLLOWERS, FOLLOWINGS)
        ]
        """The hidden values, from their homes: (size,) each."""

    def advance(self, followers: UInt32s, followings: UInt32s) -> None:
        """Fill in the followers and followings at the next calls, at least one: (size, calls) each."""
        self._count(0, FOLLOWERS, followers)
        self._count(1, FOLLOWINGS, followings)

    def _count(self, which: int, count: tuple[int, int, int], out: UInt32s) -> None:
        home, step, floor = count
        # A row is a call, so that the recurrence runs over rows of all influencers, in the cache.
        hidden = self._random.random(out.T.shape, np.float32)
        hidden -= np.float32(0.5)
        hidden *= np.float32(2 * step)
        pulled, before = np.empty_like(self._distance[which]), self._distance[which]
        for row in hidden:
            np.multiply(before, np.float32(KEPT), out=pulled)
            np.add(row, pulled, out=row)
            before = row
        self._distance[which] = before.copy()
        hidden += np.float32(home)
        np.maximum(hidden, np.float32(floor), out=hidden)
        np.copyto(out, hidden.T, casting="unsafe")
