"""Which step does a chart get, and what is in a series?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from tidemark.errors import CallerError
from tidemark.times import TIME_MAX_S

Step = Literal["raw", "1m", "1h", "1d"]

STEP_S: Final[dict[Step, int]] = {"raw": 1, "1m": 60, "1h": 3_600, "1d": 86_400}
POINTS_MAX: Final = 2_000
"""What `auto` gives at most: a point for each pixel of a wide chart."""
LIMIT_POINTS: Final = 50_000
"""What a named step gives at most unless the caller says otherwise; a month of raw rows by the minute."""


@dataclass(frozen=True, slots=True)
class Range:
    """What to read: a step, and whole periods of it from (inclusive) to (exclusive), in Unix seconds."""

    step: Step
    from_s: int
    to_s: int


@dataclass(frozen=True, slots=True)
class Rolled:
    """What a period of more than one observation has beside its value; arrays (n,)."""

    observations: npt.NDArray[np.uint64]
    follower_min: npt.NDArray[np.uint32]
    follower_max: npt.NDArray[np.uint32]
    follower_average: npt.NDArray[np.float64]
    following_min: npt.NDArray[np.uint32]
    following_max: npt.NDArray[np.uint32]
    following_average: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One influencer over time; arrays (n,), ascending in time. Periods without an observation are left out.

    The value of a period is that of its last observation, so a chart ends with the latest value.
    """

    step: Step
    from_s: int
    to_s: int
    time: npt.NDArray[np.uint32]
    """Where the period begins, in Unix seconds; for raw, when it was observed."""
    follower_count: npt.NDArray[np.uint32]
    following_count: npt.NDArray[np.uint32]
    follower_ratio: npt.NDArray[np.float64]
    """NaN where nobody was followed."""
    rolled: Rolled | None
    """None for raw."""

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, slots=True)
class AverageSeries:
    """averageFollowerCount over time; arrays (n,), ascending in time. The value of a period is its last one."""

    step: Step
    from_s: int
    to_s: int
    time: npt.NDArray[np.uint32]
    average_follower_count: npt.NDArray[np.float64]
    influencers: npt.NDArray[np.uint32]
    """How many influencers the average is over."""
    average_min: npt.NDArray[np.float64]
    average_max: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.time)


def ratio(
    follower_count: npt.NDArray[np.uint32], following_count: npt.NDArray[np.uint32]
) -> npt.NDArray[np.float64]:
    """followerRatio (n,); NaN where nobody is followed."""
    out = np.full(len(follower_count), np.nan)
    np.divide(follower_count, following_count, out=out, where=following_count != 0)
    return out


@dataclass(frozen=True, slots=True)
class Kept:
    """From when on the store has anything at all, single observations, and hourly figures; and now. Unix seconds."""

    first_s: int = 0
    raw_since_s: int = 0
    hourly_since_s: int = 0
    now_s: int = TIME_MAX_S


def plan(step: str, from_s: int, to_s: int, kept: Kept = Kept()) -> list[Range]:
    """What to try, in this order; the first that has no more than POINTS_MAX points is the answer.

    A named step is the only one. `auto` takes the finest step that is kept for the whole range and fits for
    certain, and tries raw first where minutes would fit. Time before the store's first observation and to come
    does not count, so "all" of a young store is not one point. Each range is widened to whole periods of its step:
    the first and the last point of a chart are then as true as the others. Raises CallerError.
    """
    if not 0 <= from_s < to_s <= TIME_MAX_S:
        raise CallerError(
            f"no time lies from {from_s} to before {to_s}: give from and to, the earlier one first"
        )
    for name in STEP_S:
        if step == name:
            return [_whole(name, from_s, to_s)]
    if step != "auto":
        raise CallerError(f"{step!r} is no step: choose auto, raw, 1m, 1h or 1d")
    seen_from_s, seen_to_s = max(from_s, kept.first_s), min(to_s, kept.now_s + 1)
    if seen_from_s >= kept.raw_since_s and _points("1m", seen_from_s, seen_to_s) <= POINTS_MAX:
        return [_whole("raw", from_s, to_s), _whole("1m", from_s, to_s)]
    if seen_from_s >= kept.hourly_since_s and _points("1h", seen_from_s, seen_to_s) <= POINTS_MAX:
        return [_whole("1h", from_s, to_s)]
    return [_whole("1d", from_s, to_s)]


def _points(step: Step, from_s: int, to_s: int) -> int:
    """How many periods of a step the range touches."""
    return -(-to_s // STEP_S[step]) - from_s // STEP_S[step]


def _whole(step: Step, from_s: int, to_s: int) -> Range:
    step_s = STEP_S[step]
    return Range(step, from_s // step_s * step_s, min(-(-to_s // step_s) * step_s, TIME_MAX_S))
