"""What do a million influencers cost on the board, in bytes and in time?"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemark.bench.target import POPULATION
from tidemark.board import Board
from tidemark.board.gains import Baseline, gainers
from tidemark.board.table import record_batches
from tidemark.messages import Batch

CHANGED: Final = 5
"""Batches of a shard between two views: a million influencers a minute are 16,667 a second."""
NOW_MS: Final = 1_700_000_000_000
BASELINES: Final = 2
"""An hour ago and a day ago."""
ROUNDS: Final = 7
"""Repeats of what takes milliseconds; the best counts, because everything else only slows it down."""
LOOKUPS: Final = 5_000


def measure() -> dict[str, float]:
    """Fill a board with a million influencers and measure it; about 6 s.

    The last part of a key is its unit. Bytes are what numpy, Arrow and Python hold; at the peak one
    view is still read while the next is built.
    """
    feed = _Feed()
    return _sizes(feed) | _times(feed)


class _Feed:
    """Batches as the pollers make them: whole shards, 17% of the influencers without any followers."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)
        pks = pa.array(np.arange(POPULATION.first, POPULATION.last + 1)).cast(pa.string())
        self._names = pc.binary_join_element_wise(pa.scalar("influencer-"), pks, "")

    def batch(self, shard: int, at_ms: int) -> Batch:
        first, last = POPULATION.shard_range(shard)
        n = last - first + 1
        followers = np.where(self._rng.random(n) < 0.17, 0, self._rng.integers(0, 1_000_000, n))
        return Batch(
            tick_id=f"{first}-{last}@{at_ms}",
            pk=np.arange(first, last + 1, dtype=np.uint32),
            observed_at_ms=np.full(n, at_ms, np.int64),
            follower_count=followers.astype(np.uint32),
            following_count=self._rng.integers(0, 5_000, n).astype(np.uint32),
            username=self._names.slice(first - POPULATION.first, n),
        )

    def second(self, number: int) -> list[Batch]:
        """The batches of one second, each second other shards."""
        at_ms = NOW_MS + 1_000 * number
        return [self.batch((number * CHANGED + i) % POPULATION.shards, at_ms) for i in range(CHANGED)]

    def full_board(self) -> Board:
        board = Board(POPULATION)
        for shard in range(POPULATION.shards):
            board.apply(self.batch(shard, NOW_MS))
        board.publish(NOW_MS)
        board.names.reindex()
        return board


def _sizes(feed: _Feed) -> dict[str, float]:
    """Bytes of a board with its view, search index and the baselines of gains, in use and at the peak."""
    following = feed.second(1)
    tracemalloc.start()
    arrow_before = pa.total_allocated_bytes()
    try:
        board = feed.full_board()
        baselines = [_baseline(board) for _ in range(BASELINES)]
        for batch in following:
            board.apply(batch)
        tracemalloc.reset_peak()
        board.publish(NOW_MS + 1_000)
        in_use, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    arrow = pa.total_allocated_bytes() - arrow_before
    del baselines
    return {"board_bytes": float(in_use + arrow), "board_peak_bytes": float(peak + arrow)}


def _times(feed: _Feed) -> dict[str, float]:
    board = feed.full_board()
    apply_s, partial_s, publish_s = [], [], []
    for number in range(1, ROUNDS + 1):
        apply_s.append(_each(board.apply, feed.second(number)))
        publish_s.append(_seconds(lambda: board.publish(NOW_MS + 60_000)))
        partial_s.append(_each(board.apply, [_without_some(batch) for batch in feed.second(number + 100)]))
        board.publish(NOW_MS + 60_000)
    view = board.publish(NOW_MS + 60_000)
    pks = np.random.default_rng(2).integers(POPULATION.first, POPULATION.last + 1, LOOKUPS).tolist()
    texts = [f"Influencer-{pk}" for pk in pks[:200]]
    before = _hour_before(board)
    first = gainers(view.values, before, "up", 0, 1_000)
    return {
        "apply_batch_us": min(apply_s) * 1e6,
        "apply_partial_us": min(partial_s) * 1e6,
        "publish_second_ms": min(publish_s) * 1e3,
        "latest_us": _each(view.latest, pks) * 1e6,
        "leaderboard_100_us": _each(lambda offset: view.leaderboard(100, offset), range(0, 2_000, 10)) * 1e6,
        "search_us": _each(lambda text: view.search(text, 10), texts) * 1e6,
        "gains_1000_ms": _best(lambda: gainers(view.values, before, "up", 0, 1_000)) * 1e3,
        "gains_deep_1000_ms": _best(lambda: gainers(view.values, before, "down", 500_000, 1_000, False))
        * 1e3,
        "gains_page_us": _each(lambda offset: view.latest_of(first.indices[offset : offset + 20]), range(900))
        * 1e6,
        "baseline_ms": _best(lambda: _baseline(board)) * 1e3,
        "coverage_ms": _seconds(lambda: view.coverage(NOW_MS, 60_000)) * 1e3,
        "freshness_ms": _seconds(lambda: view.freshness(NOW_MS)) * 1e3,
        "table_ms": _seconds(lambda: list(record_batches(view))) * 1e3,
    }


def _baseline(board: Board) -> Baseline:
    """Everybody as they are, in the order of their pks, as the store gives a snapshot."""
    pk = np.arange(POPULATION.first, POPULATION.last + 1, dtype=np.uint32)
    return Baseline.of(POPULATION, NOW_MS // 1_000, pk, board.view.values.follower_count.copy())


def _hour_before(board: Board) -> Baseline:
    """Everybody with some more or fewer followers than now, and a few of whom nothing is known."""
    random = np.random.default_rng(3)
    now = board.view.values.follower_count.astype(np.int64)
    was = np.maximum(now + random.normal(0, 30_000, POPULATION.size), 0).astype(np.uint32)
    rows = np.flatnonzero(random.random(POPULATION.size) < 0.999)
    return Baseline.of(POPULATION, NOW_MS // 1_000, rows + POPULATION.first, was[rows])


def _without_some(batch: Batch) -> Batch:
    """A batch in which 1% of the answers are missing."""
    rows = np.flatnonzero(np.arange(len(batch)) % 100 != 50)
    return Batch(
        batch.tick_id,
        batch.pk[rows],
        batch.observed_at_ms[rows],
        batch.follower_count[rows],
        batch.following_count[rows],
        batch.username.take(pa.array(rows)),
    )


def _each(work: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    """Seconds of one call, over all arguments."""
    return _seconds(lambda: [work(argument) for argument in arguments]) / len(arguments)


def _best(work: Callable[[], object]) -> float:
    """Seconds of the quickest of some calls."""
    return min(_seconds(work) for _ in range(ROUNDS))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
