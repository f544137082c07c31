"""How does the history of a random walk get into a store?

Day after day: its observations in inserts of some millions of rows, each influencer's in the order of time, so
that they lie on the disk as merged ones would; then the averages and snapshots of the day, and its rollups by
the store's own code. While one block is inserted the next is made, and the day before is rolled up, each in a
thread of its own. Whenever this is stopped, what is in the store is a history that ends earlier.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemark.backfill.marks import Latest, Marks, put_latest
from tidemark.backfill.plan import DAY_S, Plan, Span
from tidemark.backfill.walk import Walk
from tidemark.board import Board
from tidemark.board.table import record_batches
from tidemark.errors import CallerError, StoreError
from tidemark.simulate.walk import is_suspicious
from tidemark.store import dsn
from tidemark.store.clickhouse import SNAPSHOTS_MAX, Store
from tidemark.store.rollups import Rollups, over_until

NAMES_MAX: Final = 100_000
"""Usernames of one insert."""

SNAPSHOT_ROWS_MAX: Final = 1_000_000
"""Rows of snapshots of one insert."""

Block = tuple[np.ndarray[Any, Any], ...]
Report = Callable[[int], None]
"""Is told how many rows are stored so far."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What was done."""

    rows: int
    to_s: int
    """Where the history ends, in Unix seconds; 0 when there is none."""
    whole: bool
    """Whether that is all that was planned."""
    seconds: float


def check_disk(address: str, plan: Plan) -> None:
    """Raise CallerError when the disk of an embedded store has too little space for the plan."""
    target = dsn.parse(address)
    if not isinstance(target, dsn.Embedded):
        return
    folder = next(path for path in (target.path, *target.path.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    # Merges write a part anew before they let go of the old ones.
    if plan.disk_bytes * 1.2 > free:
        raise CallerError(
            f"{plan.rows:,} observations take about {plan.disk_bytes / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are"
            f" free in {Path(folder)}: give fewer --influencers or --days, a longer --interval, or another --data"
        )


def check_empty(store: Store) -> None:
    """Raise StoreError when the store has a history already."""
    if store.kept().first_s:
        raise StoreError(
            "the store has observations already, and what is made up must not stand among them:"
            " choose another --data or --store"
        )


def backfill(store: Store, plan: Plan, stop: threading.Event, report: Report) -> Filled:
    """Put the history of a plan into an empty store; `stop` ends it early, after the insert under way.

    Raises StoreError when the store has a history already, or cannot take this one.
    """
    check_empty(store)
    began = time.monotonic()
    filling = _Filling(store, plan, report)
    try:
        whole = filling.fill(stop)
    finally:
        filling.wait()
    filling.finish()
    return Filled(filling.rows, int(filling.latest.observed_at.max()), whole, time.monotonic() - began)


class _Filling:
    """The work of one `backfill`."""

    def __init__(self, store: Store, plan: Plan, report: Report) -> None:
        self._store = store
        self._plan = plan
        self._report = report
        population = plan.population
        self._walks = [
            Walk(last - first + 1, (plan.seed, first))
            for first, last in map(population.shard_range, range(population.shards))
        ]
        self._rollups = Rollups(store, population)
        self._inserts = _OneAtATime("inserting")
        self._closing = _OneAtATime("rolling up")
        self.latest = Latest(plan)
        self._verdicts = (np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.bool_))
        """Of everybody, once they are given: pk, when in Unix seconds, suspicious."""
        self.rows = 0

    def fill(self, stop: threading.Event) -> bool:
        """Everything but the table of influencers; False when `stop` came first."""
        self._name_everybody()
        for span in self._plan.spans():
            marks = Marks(self._plan, span)
            for shards in self._plan.blocks(span):
                if stop.is_set():
                    return False
                block = self._make(shards, span, marks)
                self._inserts.submit(self._insert, block)
            self._inserts.wait()
            self._store_marks(marks)
            if span.ends_day:
                self._closing.submit(self._rollups.close, over_until(span.to_s, 0))
        self._closing.wait()
        self._judge_everybody()
        return True

    def wait(self) -> None:
        """Until nothing is under way. Raises what that raised."""
        try:
            self._inserts.end()
        finally:
            self._closing.end()

    def finish(self) -> None:
        """Everybody's row, as `serve` would have written it last."""
        latest, population = self.latest, self._plan.population
        known = np.flatnonzero(latest.observed_at)
        if not len(known):
            return
        board, pk = Board(population), known + population.first
        board.restore(
            pk,
            latest.follower_count[known],
            latest.following_count[known],
            latest.observed_at[known],
        )
        board.restore_names(pk, _names(pk))
        if len(self._verdicts[0]):
            judged, checked_at, suspicious = self._verdicts
            board.apply_verdicts(judged, suspicious, checked_at)
        view = board.publish(int(latest.observed_at.max()) * 1_000)
        self._store.replace_influencers(record_batches(view))

    def _name_everybody(self) -> None:
        """Before the observations, as the sink does."""
        population = self._plan.population
        for first in range(population.first, population.last + 1, NAMES_MAX):
            pk = np.arange(first, min(first + NAMES_MAX, population.last + 1), dtype=np.uint32)
            self._store.insert_usernames(pk, _names(pk), np.full(len(pk), self._plan.from_s, np.uint32))

    def _judge_everybody(self) -> None:
        """The verdicts of the last day, as the stand-in gives them, spread over it as the classification does."""
        population, plan = self._plan.population, self._plan
        pk = np.arange(population.first, population.last + 1, dtype=np.uint32)
        ago_s = np.arange(population.size) * min(DAY_S, plan.to_s - plan.from_s) // population.size
        checked_at = (plan.to_s - 1 - ago_s).astype(np.uint32)
        suspicious = np.fromiter(map(is_suspicious, pk.tolist()), np.bool_, population.size)
        self._store.insert_verdicts(pk, checked_at, suspicious)
        self._verdicts = pk, checked_at, suspicious

    def _make(self, shards: range, span: Span, marks: Marks) -> Block:
        """The observations of some shards in a span, by pk and time: pk, time, followers, followings; (n,) each."""
        plan = self._plan
        times = [plan.times(shard, span) for shard in shards]
        ranges = [plan.population.shard_range(shard) for shard in shards]
        sizes = [last - first + 1 for first, last in ranges]
        # Filled in place: the memory of a copy is dearer than the copy.
        rows = sum(size * len(at) for size, at in zip(sizes, times, strict=True))
        block = tuple(np.empty(rows, np.uint32) for _ in range(4))
        row = 0
        for shard, at, (first, last), size in zip(shards, times, ranges, sizes, strict=True):
            end = row + size * len(at)
            pk, observed_at, followers, followings = (
                column[row:end].reshape(size, len(at)) for column in block
            )
            if len(at):
                pk[:] = np.arange(first, last + 1, dtype=np.uint32)[:, np.newaxis]
                observed_at[:] = at
                self._walks[shard].advance(followers, followings)
            marks.add(shard, at, followers, self.latest)
            if len(at):
                put_latest(plan, shard, at, followers, followings, self.latest)
            row = end
        return block

    def _insert(self, block: Block) -> None:
        pk, at, followers, followings = block
        self._store.insert_observations(pk, at, followers, followings)
        self.rows += len(pk)
        self._report(self.rows)

    def _store_marks(self, marks: Marks) -> None:
        known = np.flatnonzero(marks.influencers)
        influencers = marks.influencers[known]
        self._store.insert_averages(
            marks.minutes[known], influencers, marks.follower_sum[known] / influencers
        )
        together = max(1, min(SNAPSHOTS_MAX, SNAPSHOT_ROWS_MAX // self._plan.population.size))
        for first in range(0, len(marks.snapshot_times), together):
            taken_at = marks.snapshot_times[first : first + together].tolist()
            snapshots = [marks.snapshot(first + number) for number in range(len(taken_at))]
            pk, followers = (np.concatenate(column) for column in zip(*snapshots, strict=True))
            times = np.repeat(np.array(taken_at, np.uint32), [len(pks) for pks, _ in snapshots])
            self._store.insert_snapshots(times, pk, followers)


class _OneAtATime:
    """Work in a thread, one piece under way: whoever brings the next waits for the one before."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._under_way: Future[Any] | None = None

    def submit(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Start the work when that before is done. Raises what that one raised."""
        self.wait()
        self._under_way = self._thread.submit(work, *arguments)

    def wait(self) -> None:
        """Until nothing is under way. Raises what it raised."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def end(self) -> None:
        """Wait, and give back the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def _names(pk: Any) -> pa.StringArray:
    """The names that the stand-in gives."""
    return pc.binary_join_element_wise("influencer-", pa.array(pk).cast(pa.string()), "")
