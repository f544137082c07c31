"""What did everybody have at the full minutes, and at the ten minutes of snapshots? (pure)"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from tidemark.backfill.plan import Plan, Span
from tidemark.store.snapshots import SNAPSHOT_S, fresh_since

UInt32s = npt.NDArray[np.uint32]
MINUTE_S: Final = 60
SNAPSHOTS_S: Final = 25 * 3_600
"""Snapshots of so long are made: those that gains over a day are counted from, and an hour to spare."""


class Latest:
    """Everybody's latest observation so far; columns of `population.size`, and sums for each shard."""

    def __init__(self, plan: Plan) -> None:
        size, shards = plan.population.size, plan.population.shards
        self.follower_count = np.zeros(size, np.uint32)
        self.following_count = np.zeros(size, np.uint32)
        self.observed_at = np.zeros(size, np.uint32)
        """Unix seconds; 0: never."""
        self.follower_sum = np.zeros(shards, np.int64)
        """The latest followers of each shard, added up."""


class Marks:
    """The averages and snapshots of a span; each shard is put in once, with what was its latest before."""

    def __init__(self, plan: Plan, span: Span) -> None:
        self._plan = plan
        self.minutes = _multiples(MINUTE_S, span.from_s, span.to_s)
        """The full minutes of the span, in Unix seconds: (m,)."""
        self.influencers = np.zeros(len(self.minutes), np.int64)
        self.follower_sum = np.zeros(len(self.minutes), np.int64)
        self.snapshot_times = _multiples(SNAPSHOT_S, max(span.from_s, plan.to_s - SNAPSHOTS_S), span.to_s)
        """The moments of snapshots in the span, (s,)."""
        self._snapshots = np.zeros((len(self.snapshot_times), plan.population.size), np.uint32)
        self._in_snapshot = np.zeros((len(self.snapshot_times), plan.population.shards), np.bool_)

    def add(self, shard: int, times: UInt32s, follower_count: UInt32s, latest: Latest) -> None:
        """Put in a shard's followers (size, calls) at `times` (calls,); `latest` is that before the span."""
        rows = _rows(self._plan, shard)
        # One column more, in front: what there was before the first call of the span.
        at = np.append(latest.observed_at[rows.start], times).astype(np.int64)
        sums = np.append(latest.follower_sum[shard], follower_count.sum(axis=0, dtype=np.int64))
        newest = np.searchsorted(at, self.minutes, "right") - 1
        known = (newest >= 0) & (at[newest] > 0)
        self.follower_sum += np.where(known, sums[newest], 0)
        self.influencers += known * (rows.stop - rows.start)
        for number, taken_at in enumerate(self.snapshot_times.tolist()):
            call = int(np.searchsorted(at, taken_at, "right")) - 1
            if call >= 0 and at[call] >= max(fresh_since(taken_at, self._plan.interval_s), 1):
                counts = latest.follower_count[rows] if call == 0 else follower_count[:, call - 1]
                self._snapshots[number, rows] = counts
                self._in_snapshot[number, shard] = True

    def snapshot(self, number: int) -> tuple[UInt32s, UInt32s]:
        """Of the snapshot at `snapshot_times[number]`: pks and followers, (n,)."""
        population = self._plan.population
        wanted = np.repeat(self._in_snapshot[number], population.shard_size)[: population.size]
        pk = np.flatnonzero(wanted) + population.first
        return pk.astype(np.uint32), self._snapshots[number, wanted]


def put_latest(
    plan: Plan,
    shard: int,
    times: UInt32s,
    follower_count: UInt32s,
    following_count: UInt32s,
    latest: Latest,
) -> None:
    """Make the last call of a shard (as in `Marks.add`, at least one) its latest."""
    rows = _rows(plan, shard)
    latest.follower_count[rows] = follower_count[:, -1]
    latest.following_count[rows] = following_count[:, -1]
    latest.observed_at[rows] = times[-1]
    latest.follower_sum[shard] = int(follower_count[:, -1].sum(dtype=np.int64))


def _rows(plan: Plan, shard: int) -> slice:
    first, last = plan.population.shard_range(shard)
    return slice(first - plan.population.first, last - plan.population.first + 1)


def _multiples(step_s: int, from_s: int, to_s: int) -> npt.NDArray[np.int64]:
    return np.arange(-(-from_s // step_s) * step_s, to_s, step_s)
