"""The figures of /v1/stats while nothing arrives."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tidemark.board import Board
from tidemark.messages import Batch, string_array
from tidemark.population import Population
from tidemark.serve import figures
from tidemark.serve.figures import Figures


async def test_ages_grow_and_rows_are_told_without_a_new_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "STALE_SECONDS", 0.0)
    now_ms = time.time_ns() // 1_000_000
    pk = np.arange(1, 4, dtype=np.uint32)
    board = Board(Population(1, 3))
    board.apply(Batch("t", pk, np.full(3, now_ms, np.int64), pk, pk, string_array(["a", "b", "c"])))
    board.publish(now_ms)
    sink: Any = SimpleNamespace(rows_stored=0, lag_batches=3)
    told = Figures(board, sink, 60_000)
    before = await told.stats()
    sink.rows_stored, sink.lag_batches = 3, 0
    await asyncio.sleep(1.1)  # observations are of whole seconds, and so are their ages at least
    after = await told.stats()
    assert before.freshness_seconds is not None
    assert after.freshness_seconds is not None
    assert after.freshness_seconds.max >= before.freshness_seconds.max + 1
    assert (before.observations_total, after.observations_total) == (0, 3)
    assert (before.lag_batches, after.lag_batches) == (3, 0)


def test_the_rate_is_of_what_was_added_also_while_old_rows_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    sink: Any = SimpleNamespace(rows_stored=1_440_000_000, rows_added=0)
    told = Figures(Board(Population(1, 3)), sink, 60_000)
    assert told.observations_per_second() == 0.0
    for _ in range(20):
        told.tick()
        now += 0.5
        sink.rows_added += 1_500
        sink.rows_stored -= 100_000_000
    told.tick()
    assert told.observations_per_second() == 3_000.0
