"""By how much did one influencer change since an hour, a day or a week ago?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

from tidemark.store.clickhouse import Store

ChangeWindow = Literal["1h", "24h", "7d"]


@dataclass(frozen=True, slots=True)
class Window:
    """A time to look back over, in seconds."""

    name: ChangeWindow
    seconds: int
    tolerance_s: int
    """So much older than `seconds` the observation compared with may be, where there were none for a while."""


WINDOWS: Final = (
    Window("1h", 3_600, 600),
    Window("24h", 86_400, 7_200),
    Window("7d", 7 * 86_400, 43_200),
)


@dataclass(frozen=True, slots=True)
class Before:
    """An observation of some time ago."""

    observed_at: int
    """Unix seconds."""
    follower_count: int
    following_count: int


def before(store: Store, pk: int, at_s: int, interval_s: float) -> list[Before | None]:
    """For each of WINDOWS the last observation that was so long before `at_s` (Unix seconds), less half an interval.

    With an answer of each interval that is the nearest one, also where this one came sooner in its turn than that.
    None where there is none within the tolerance, or within two intervals when those are longer; and where
    the window is shorter than the interval. A statement of one or two granules for each; what the retention
    took is told by the hourly rollups. Raises StoreError.
    """
    return [
        _before(store, pk, at_s - window.seconds, interval_s, window.tolerance_s)
        if interval_s <= window.seconds
        else None
        for window in WINDOWS
    ]


def _before(store: Store, pk: int, wanted_s: int, interval_s: float, tolerance_s: int) -> Before | None:
    to_s = max(wanted_s + int(interval_s / 2), 0)
    from_s = max(wanted_s - max(tolerance_s, round(2 * interval_s)), 0)
    parameters = {"pk": pk, "from": from_s, "to": to_s}
    found = _only(store.query("observation_before", parameters))
    if found is None and from_s < store.kept().raw_since_s:
        found = _only(store.query("hour_before", parameters))
    return found


def _only(rows: pa.Table) -> Before | None:
    return Before(**rows.to_pylist()[0]) if rows.num_rows else None
