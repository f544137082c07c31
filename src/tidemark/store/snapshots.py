"""When is a snapshot of everybody's followers due, and which one was a window ago? (pure)

Snapshots have the time at which they were really taken, so one that is late, missing or taken twice needs no
repair: gains are counted from the one nearest to the moment wanted, and their answer says which that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SNAPSHOT_S: Final = 600
"""Each ten minutes of the clock have a snapshot: a gain over an hour is then one over 55 to 65 minutes."""
EARLY_S: Final = 30
"""A view that is so little older than the clock's ten minutes is theirs already."""
TOLERANCE_S: Final = 600
"""So far from the moment wanted a snapshot may be, or half an interval: one may be missing, two in a row may not."""
FRESH_S: Final = 900
"""Who was observed longer before a snapshot than this is not in it: what was gained in between would count as
gained after it."""
KEPT_S: Final = 26 * 3_600
"""As the table's TTL has it: the longest window, the tolerance, and some time to spare."""


def due(at_s: int, last_s: int | None) -> bool:
    """Whether the ten minutes of a moment have no snapshot yet, the last one having been taken at `last_s`.

    All in Unix seconds. A clock that was set back makes a second one of the same ten minutes, which is harmless.
    """
    return last_s is None or (at_s + EARLY_S) // SNAPSHOT_S != (last_s + EARLY_S) // SNAPSHOT_S


def fresh_since(at_s: int, interval_s: float) -> int:
    """Who was observed at or after this is in a snapshot of `at_s`: two intervals, where they are longer."""
    return max(0, at_s - max(FRESH_S, round(2 * interval_s)))


def nearest(taken_at: Sequence[int], wanted_s: int, interval_s: float) -> int | None:
    """Of the times of snapshots, the one nearest to a moment; None when all are too far.

    Where few are watched and seldom, there is a view, and so a snapshot, with each of their observations only.
    """
    found = min(taken_at, key=lambda at_s: (abs(at_s - wanted_s), at_s), default=None)
    tolerance_s = max(TOLERANCE_S, interval_s / 2)
    return found if found is not None and abs(found - wanted_s) <= tolerance_s else None
