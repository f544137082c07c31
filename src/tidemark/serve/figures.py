"""How well are the influencers watched? The figures of /v1/stats and /metrics, once for each view."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from tidemark import telemetry
from tidemark.board import Board, View
from tidemark.serve.answers import FreshnessSeconds, Stats, Verdicts, rfc3339
from tidemark.store.sink import Sink

RATE_WINDOW_S: Final = 60.0
"""Observations a second are told over the last minute: a small population is polled once in it."""


class Figures:
    """Figures about the newest view, computed once for each view that anybody asks about."""

    def __init__(self, board: Board, sink: Sink, interval_ms: int) -> None:
        self._board = board
        self._sink = sink
        self._interval_ms = interval_ms
        self._counts: deque[tuple[float, int]] = deque()
        """(monotonic seconds, rows stored), over the last minute."""
        self._view: View | None = None
        self._stats: Stats | None = None
        self._computing = asyncio.Lock()

    def tick(self) -> None:
        """Take note of the rows stored; called about once a second."""
        now = time.monotonic()
        self._counts.append((now, self._sink.rows_stored))
        while now - self._counts[0][0] > RATE_WINDOW_S and len(self._counts) > 2:
            self._counts.popleft()

    def observations_per_second(self) -> float:
        """Rows stored a second, over the last minute or since the start."""
        if len(self._counts) < 2:
            return 0.0
        (from_s, before), (to_s, after) = self._counts[0], self._counts[-1]
        return max(0.0, (after - before) / (to_s - from_s))

    @property
    def log_away(self) -> bool:
        """Whether nothing new can arrive."""
        return self._sink.log_away

    async def stats(self) -> Stats:
        """The figures of the newest view."""
        async with self._computing:
            view = self._board.view
            if self._stats is None or self._view is not view:
                self._stats = await asyncio.to_thread(self._compute, view)
                self._view = view
            return self._stats

    def _compute(self, view: View) -> Stats:
        now_ms = view.published_at_ms
        freshness = view.freshness(now_ms)
        verdicts = view.verdict_counts
        return Stats(
            influencers=view.population.size,
            observed=view.total,
            average_follower_count=view.average_follower_count,
            observations_total=self._sink.rows_stored,
            observations_per_second=round(self.observations_per_second(), 3),
            coverage=view.coverage(now_ms, self._interval_ms),
            freshness_seconds=None
            if freshness is None
            else FreshnessSeconds(freshness.p50, freshness.p99, freshness.max),
            suspicious=Verdicts(verdicts.suspicious, verdicts.not_suspicious, verdicts.unknown),
            lag_batches=self._sink.lag_batches,
            as_of=rfc3339(now_ms // 1_000),
        )

    async def export(self) -> None:
        """Put the figures into /metrics."""
        stats = await self.stats()
        telemetry.COVERAGE.set(stats.coverage)
        telemetry.OBSERVED.set(stats.observed)
        if stats.freshness_seconds:
            for quantile, value in (
                ("0.5", stats.freshness_seconds.p50),
                ("0.99", stats.freshness_seconds.p99),
                ("1", stats.freshness_seconds.max),
            ):
                telemetry.FRESHNESS.labels(quantile).set(value)
