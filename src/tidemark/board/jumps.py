"""Whose followers jumped between two views? (pure: the time is an argument)

Who buys followers gets them at once. A change counts as a jump when it is all of this:

- larger than THRESHOLD times the spread of the changes that everybody makes between two observations. The
  spread is the median of their sizes, times 1.4826, which for a normal distribution is its standard deviation:
  the median absolute deviation about no change (Hampel, 1974). Half of everybody would have to jump to move it,
  and where counts wander a lot, more is needed to stand out;
- no less than FOLLOWERS_MIN followers;
- to RATIO_MIN times what there was or more, or down to what that is RATIO_MIN times of: a fraction of the
  followers of somebody famous is no jump.

Chance alone stays below that: a normal change exceeds eight standard deviations once in 10**15 observations.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from tidemark.board.view import View

THRESHOLD: Final = 8.0
FOLLOWERS_MIN: Final = 1_000
RATIO_MIN: Final = 1.5
SPREAD_OF_MEDIAN: Final = 1.4826
SAMPLE_MAX: Final = 8_192
"""Sizes of recent changes that are kept for the median."""
SAMPLE_MIN: Final = 512
"""Before so many were seen, nothing is known of what is usual."""
TAKEN_FROM_A_VIEW_MAX: Final = 1_024
"""So that the sample spans several views."""

SHARE: Final = 0.01
"""Of all influencers, how many may be classified ahead of their turn in an interval: a million in a day at ten
seconds a call leave a tenth of the calls to spare."""
SAVED_SHARE: Final = 1 / 24
"""As much of that may be used at once."""


class Jumps:
    """Looks at each view and the one before, and tells who jumped."""

    def __init__(self) -> None:
        self._sample = np.empty(0, np.int64)
        """Sizes of changes, the latest last."""

    @property
    def spread(self) -> float | None:
        """The usual size of a change; None while too little is known."""
        if len(self._sample) < SAMPLE_MIN:
            return None
        return SPREAD_OF_MEDIAN * float(np.median(self._sample))

    def find(self, before: View, after: View) -> list[int]:
        """The indices of who jumped, the largest jump first. About 2 ms for a million influencers."""
        old, new = before.values, after.values
        observed = np.flatnonzero((old.observed_at != new.observed_at) & (old.observed_at > 0))
        if not len(observed):
            return []
        had = old.follower_count[observed].astype(np.int64)
        has = new.follower_count[observed].astype(np.int64)
        size = np.abs(has - had)
        # With the changes of this view among the sample: after hours without observations all are larger.
        self._learn(size)
        if self.spread is None:
            return []
        jumped = np.flatnonzero(
            (size >= max(THRESHOLD * self.spread, FOLLOWERS_MIN))
            & (np.maximum(had, has) >= RATIO_MIN * np.minimum(had, has))
        )
        order = jumped[np.argsort(-size[jumped], kind="stable")]
        indices: list[int] = observed[order].tolist()
        return indices

    def _learn(self, size: npt.NDArray[np.int64]) -> None:
        step = -(-len(size) // TAKEN_FROM_A_VIEW_MAX)
        self._sample = np.concatenate((self._sample, size[::step]))[-SAMPLE_MAX:]


class Bound:
    """How many may be classified ahead of their turn? Each once in an interval, SHARE of all in total.

    What is not used is saved up for later, up to SAVED_SHARE of it. So after a restart, which forgets what was
    used, no more than that comes on top.
    """

    def __init__(self, influencers: int, interval_s: float) -> None:
        self._interval_s = interval_s
        self._per_second = max(1.0, SHARE * influencers) / interval_s
        self._saved_max = max(1.0, SHARE * SAVED_SHARE * influencers)
        self._saved = self._saved_max
        self._at: float | None = None
        self._day = -1
        self._chosen: set[int] = set()

    def day(self, now_s: float) -> int:
        """The number of the interval that a moment (Unix seconds) lies in: the same for everybody."""
        return int(now_s // self._interval_s)

    def choose(self, indices: list[int], now_s: float) -> list[int]:
        """Those of `indices` who may be classified ahead of their turn now; the first are preferred."""
        if self._at is not None:
            saved = self._saved + max(0.0, now_s - self._at) * self._per_second
            self._saved = min(self._saved_max, saved)
        self._at = now_s
        if self.day(now_s) != self._day:
            self._day = self.day(now_s)
            self._chosen.clear()
        chosen = [index for index in indices if index not in self._chosen][: int(self._saved)]
        self._saved -= len(chosen)
        self._chosen.update(chosen)
        return chosen
