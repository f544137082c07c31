"""How well are the influencers watched? The figures of /v1/stats and /metrics, once for each view."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from tidemark import telemetry
from tidemark.board import Board, View
from tidemark.serve.answers import (
    Classification,
    FreshnessSeconds,
    LatencySeconds,
    Stats,
    Verdicts,
)
from tidemark.serve.progress import Progress
from tidemark.store.sink import Sink
from tidemark.times import rfc3339

RATE_WINDOW_S: Final = 60.0
"""Observations a second are told over the last minute: a small population is polled once in it."""

LATE_SHARE: Final = 0.05
"""Of the interval: so much older a verdict may be and still be one of the last interval. A turn takes a while."""
DAY_S: Final = 86_400.0
STALE_SECONDS: Final = 1.0
"""Ages grow and rows are stored also while nothing arrives of which there would be a new view."""


class Figures:
    """Figures about the newest view, computed once for each view that anybody asks about, and once a second."""

    def __init__(self, board: Board, sink: Sink, interval_ms: int, progress: Progress | None = None) -> None:
        self._board = board
        self._progress = progress or Progress(DAY_S)
        self._sink = sink
        self.interval_ms = interval_ms
        self._counts: deque[tuple[float, int]] = deque()
        """(monotonic seconds, rows stored by this process), over the last minute."""
        self._view: View | None = None
        self._view_since = 0.0
        """Monotonic seconds when it was first asked about."""
        self._stats: Stats | None = None
        self._stale_at = 0.0
        self._computing = asyncio.Lock()

    def tick(self) -> None:
        """Take note of the rows stored; called twice a second."""
        now = time.monotonic()
        self._counts.append((now, self._sink.rows_added))
        while now - self._counts[0][0] > RATE_WINDOW_S and len(self._counts) > 2:
            self._counts.popleft()

    def observations_per_second(self) -> float:
        """Rows stored a second, over the last minute or since the start."""
        if len(self._counts) < 2:
            return 0.0
        (from_s, before), (to_s, after) = self._counts[0], self._counts[-1]
        return (after - before) / (to_s - from_s)

    @property
    def log_away(self) -> bool:
        """Whether nothing new can arrive."""
        return self._sink.log_away

    async def stats(self) -> Stats:
        """The figures of the newest view, at most a second old."""
        async with self._computing:
            view, now = self._board.view, time.monotonic()
            if self._view is not view:
                self._view, self._view_since, self._stats = view, now, None
            if self._stats is None or now >= self._stale_at:
                older_ms = round((now - self._view_since) * 1_000)
                stats = await asyncio.to_thread(self._compute, view, view.published_at_ms + older_ms)
                self._add_progress(stats.classification)
                self._stats = stats
                self._stale_at = now + STALE_SECONDS
            return self._stats

    def _compute(self, view: View, now_ms: int) -> Stats:
        freshness = view.freshness(now_ms)
        verdicts = view.verdict_counts
        return Stats(
            influencers=view.population.size,
            interval_seconds=self.interval_ms / 1_000,
            observed=view.total,
            average_follower_count=view.average_follower_count,
            observations_total=self._sink.rows_stored,
            observations_per_second=round(self.observations_per_second(), 3),
            coverage=view.coverage(now_ms, self.interval_ms),
            freshness_seconds=None
            if freshness is None
            else FreshnessSeconds(freshness.p50, freshness.p99, freshness.max),
            suspicious=Verdicts(verdicts.suspicious, verdicts.not_suspicious, verdicts.unknown),
            classification=Classification(
                share=view.classified(now_ms / 1_000 - (1 + LATE_SHARE) * self._progress.interval_s),
                oldest_verdict_seconds=None
                if view.oldest_verdict_at is None
                else max(now_ms - 1_000 * view.oldest_verdict_at, 0) / 1_000,
                verdicts_per_second=0.0,
                in_flight=0,
                latency_seconds=None,
            ),
            lag_batches=self._sink.lag_batches,
            as_of=rfc3339(now_ms // 1_000),
        )

    def _add_progress(self, classification: Classification) -> None:
        """What the event loop knows; the rest was computed in a thread."""
        now_s = time.time()
        latency = self._progress.latency_s(now_s)
        classification.verdicts_per_second = round(self._progress.per_second(now_s), 3)
        classification.in_flight = self._progress.in_flight(now_s)
        classification.latency_seconds = None if latency is None else LatencySeconds(*latency)

    async def export(self) -> None:
        """Put the figures into /metrics."""
        stats = await self.stats()
        telemetry.COVERAGE.set(stats.coverage)
        telemetry.OBSERVED.set(stats.observed)
        telemetry.CLASSIFIED_SHARE.set(stats.classification.share)
        telemetry.OLDEST_VERDICT.set(stats.classification.oldest_verdict_seconds or 0.0)
        if stats.freshness_seconds:
            for quantile, value in (
                ("0.5", stats.freshness_seconds.p50),
                ("0.99", stats.freshness_seconds.p99),
                ("1", stats.freshness_seconds.max),
            ):
                telemetry.FRESHNESS.labels(quantile).set(value)
