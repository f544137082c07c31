"""A real store for each test: chDB in a folder of its own. One can be open in a process at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tidemark.store.clickhouse import Store
from tidemark.store.retention import FOREVER, Retention

UInt32s = npt.NDArray[np.uint32]
DAY_S = 86_400
MONDAY_S = (int(time.time()) // DAY_S - 20) * DAY_S // (7 * DAY_S) * (7 * DAY_S) + 4 * DAY_S
"""A Monday of some weeks ago, so that nothing is in the future and no test depends on the day."""

Open = Callable[..., Store]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    """Opens the test's store, closing the one that was open."""
    opened: list[Store] = []

    def open_it(retention: Retention | None = None) -> Store:
        for store in opened:
            store.close()
        everything = Retention(FOREVER, FOREVER, FOREVER)
        opened.append(Store.open(f"chdb://{tmp_path}/store", retention=retention or everything))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


class History:
    """Observations in plain arrays, and what follows from them by brute force."""

    def __init__(self, seed: int = 1) -> None:
        self.random = np.random.default_rng(seed)
        empty = np.empty(0, np.uint32)
        self.pk, self.at, self.followers, self.followings = empty, empty, empty, empty

    def add(self, pk: npt.ArrayLike, at: npt.ArrayLike) -> tuple[UInt32s, UInt32s, UInt32s, UInt32s]:
        """Observations of these pks at these seconds, with counts that often repeat and are often 0."""
        pks, times = np.broadcast_arrays(np.asarray(pk, np.uint32), np.asarray(at, np.uint32))
        followers = self.random.integers(0, 12, pks.shape).astype(np.uint32) * 100
        followings = self.random.integers(0, 3, pks.shape).astype(np.uint32)
        rows = (pks.ravel(), times.ravel(), followers.ravel(), followings.ravel())
        self.pk = np.concatenate([self.pk, rows[0]])
        self.at = np.concatenate([self.at, rows[1]])
        self.followers = np.concatenate([self.followers, rows[2]])
        self.followings = np.concatenate([self.followings, rows[3]])
        return rows

    def buckets(self, pk: int, from_s: int, to_s: int, step_s: int) -> list[tuple[float, ...]]:
        """(time, last, observations, min, max, average) of followers, then of followings, for each period."""
        chosen = (self.pk == pk) & (self.at >= from_s) & (self.at < to_s)
        order = np.argsort(self.at[chosen], kind="stable")
        at = self.at[chosen][order]
        found = []
        for start in np.unique(at // step_s * step_s):
            inside = at // step_s * step_s == start
            columns: list[float] = [int(start), int(inside.sum())]
            for counts in (self.followers, self.followings):
                values = counts[chosen][order][inside]
                columns += [int(values[-1]), int(values.min()), int(values.max()), float(values.mean())]
            found.append(tuple(columns))
        return found


@pytest.fixture
def history() -> History:
    return History()
