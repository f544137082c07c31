"""What are gains counted from, and when is that written down?

Every ten minutes the followers of everybody who is being observed go into the store as a snapshot, and for
each window the snapshot nearest to its beginning is held in memory, as a baseline. So gains cost a subtraction
and no query, and survive a restart. The lists of a view are made when somebody asks, at most once for each view.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal
from weakref import WeakKeyDictionary

import numpy as np

from tidemark.board import Board, View
from tidemark.board.gains import Baseline, Direction, Gainers, gainers
from tidemark.serve.readers import WAIT_S, busy
from tidemark.store.clickhouse import Store
from tidemark.store.snapshots import due, fresh_since, nearest

GainWindow = Literal["1h", "24h"]

WINDOW_S: Final[dict[GainWindow, int]] = {"1h": 3_600, "24h": 86_400}
KEPT_PLACES: Final = 1_000
"""As many places of each list of a view are kept: what people turn to comes with the first page."""


class Gains:
    """Snapshots of the board's views, the baselines of today, and the lists of the newest view."""

    def __init__(self, board: Board, store: Store, interval_s: float) -> None:
        self._board = board
        self._store = store
        self._interval_s = interval_s
        self._last_s: int | None = None
        """When the last snapshot was taken, as far as this process knows."""
        self._baselines: dict[GainWindow, Baseline] = {}
        self._lists: WeakKeyDictionary[View, dict[tuple[int, Direction, bool | None], Gainers]] = (
            WeakKeyDictionary()
        )
        """Goes with its view: a view of a million takes 20 MB."""
        self._computing = asyncio.Lock()

    def keep(self) -> None:
        """Write a snapshot of the newest view when one is due. Blocks; raises StoreError, and is due again then."""
        view = self._board.view
        at_s = view.published_at_ms // 1_000
        if self._last_s is None:
            self._last_s = max(self._store.snapshot_times(), default=None)
        if not due(at_s, self._last_s):
            return
        indices = np.flatnonzero(view.values.observed_at >= max(fresh_since(at_s, self._interval_s), 1))
        if len(indices):
            pk = (indices + view.population.first).astype(np.uint32)
            self._store.insert_snapshot(at_s, pk, view.values.follower_count[indices])
            self._last_s = at_s

    def refresh(self) -> None:
        """Take the baselines that fit the moment that the newest view is of. Blocks; raises StoreError.

        About 0.1 s for a new one of a million. None for a window in which not everybody is observed: what was gained
        before it would count.
        """
        times = self._store.snapshot_times()
        for window, seconds in WINDOW_S.items():
            wanted_s = self._board.view.as_of_s - seconds
            taken_at = nearest(times, wanted_s, self._interval_s) if self._interval_s <= seconds else None
            present = self._baselines.get(window)
            if taken_at is None:
                self._baselines.pop(window, None)
            elif present is None or present.taken_at != taken_at:
                pk, follower_count = self._store.load_snapshot(taken_at)
                self._baselines[window] = Baseline.of(self._board.population, taken_at, pk, follower_count)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Raises Problem 503 when it takes too long to come."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._computing.acquire()
        except TimeoutError as error:
            raise busy(f"others asked for gains for {WAIT_S:g} s") from error
        try:
            yield
        finally:
            self._computing.release()

    async def page(
        self, window: GainWindow, direction: Direction, limit: int, offset: int, suspicious: bool | None
    ) -> tuple[View, Baseline | None, Gainers]:
        """Places `offset` (from 0) to `offset + limit` by gain, of the newest view, and the baseline they are from."""
        async with self._turn():  # one at a time: whoever asks for the same waits, and finds it made
            # Only now: a view that somebody holds while waiting is 20 MB, and not the newest when the turn comes.
            view, baseline = self._board.view, self._baselines.get(window)
            if baseline is None:
                nothing = np.empty(0, np.int64)
                return view, None, Gainers(0, nothing, nothing)
            if offset + limit > KEPT_PLACES:
                found = await asyncio.to_thread(
                    gainers, view.values, baseline, direction, offset, limit, suspicious
                )
                return view, baseline, found
            lists = self._lists.setdefault(view, {})
            wanted = (baseline.taken_at, direction, suspicious)
            if wanted not in lists:
                lists[wanted] = await asyncio.to_thread(
                    gainers, view.values, baseline, direction, 0, KEPT_PLACES, suspicious
                )
        return view, baseline, lists[wanted].page(offset, limit)
