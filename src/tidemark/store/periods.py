"""Which hours and days are closed, and what was written to them since?

A period is closed when its rows are in the rollups; readers then take it from there. An observation that
comes later reopens its hour: a mark, which is on the disk before the observation is, makes readers take
that hour from the raw rows again, until the hour is computed anew and the mark cleared.

Two races would lose an observation from the rollups, and are excluded here:

- An insert that began while its hour was open, and ends after the hour was computed. So an hour is not
  closed while an insert that touches it is under way; and from the moment that closing begins, an insert
  for it counts as late.
- A mark that is cleared because the hour was computed anew, although the insert behind it is not done
  yet. So a mark counts as settled only when its insert is over.

Everything is in memory; the store writes the marks and the progress down. One process writes to a store,
so what it remembers is what holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

RolledStep = Literal["1h", "1d"]

HOUR_S: Final = 3_600
DAY_S: Final = 86_400
MARK_SPAN_PKS: Final = 65_536
"""A mark spans no more pks than this, so that computing it anew takes a fraction of a second."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A closed hour was written to: it holds late observations of some pks from first to last, inclusive."""

    id: int
    hour_s: int
    first_pk: int
    last_pk: int


class Periods:
    """What is closed, marked and under way. Safe to use from any thread.

    `closed_until_s`: by step, every period that begins before it is closed (0: none is).
    """

    def __init__(self, closed_until_s: Mapping[RolledStep, int], marks: Iterable[Mark]) -> None:
        self._lock = threading.Lock()
        self._closed_until_s: dict[RolledStep, int] = {"1h": 0, "1d": 0, **closed_until_s}
        self._late_before_s = self._closed_until_s["1h"]
        self._marks = {mark.id: mark for mark in marks}
        self._next_mark_id = max([time.time_ns() // 1_000, *(mark_id + 1 for mark_id in self._marks)])
        self._under_way: dict[int, tuple[int, frozenset[int]]] = {}
        """Inserts by number: their oldest second, and the ids of their marks."""
        self._next_insert = 0

    @contextmanager
    def inserting(
        self, pk: npt.NDArray[np.uint32], observed_at: npt.NDArray[np.uint32]
    ) -> Iterator[tuple[Mark, ...]]:
        """Around an insert of observations (n,), n > 0: gives the marks to write down before the rows."""
        oldest_s = int(observed_at.min())
        with self._lock:
            marks = self._new_marks(pk, observed_at) if oldest_s < self._late_before_s else ()
            self._marks |= {mark.id: mark for mark in marks}
            number, self._next_insert = self._next_insert, self._next_insert + 1
            self._under_way[number] = oldest_s, frozenset(mark.id for mark in marks)
        try:
            yield marks
        finally:
            with self._lock:
                del self._under_way[number]

    def _new_marks(self, pk: npt.NDArray[np.uint32], observed_at: npt.NDArray[np.uint32]) -> tuple[Mark, ...]:
        late = observed_at < self._late_before_s
        late_pk = pk[late]
        cell = (observed_at[late] // HOUR_S).astype(np.int64) << 32 | late_pk // MARK_SPAN_PKS
        order = np.lexsort((late_pk, cell))
        cells, starts = np.unique(cell[order], return_index=True)
        pks = late_pk[order]
        ends = np.append(starts[1:], len(pks)) - 1
        first_id, self._next_mark_id = self._next_mark_id, self._next_mark_id + len(cells)
        return tuple(
            Mark(first_id + i, int(cells[i] >> 32) * HOUR_S, int(pks[starts[i]]), int(pks[ends[i]]))
            for i in range(len(cells))
        )

    def closed_until_s(self, step: RolledStep) -> int:
        """Every period of the step that begins before this is closed; 0: none is."""
        with self._lock:
            return self._closed_until_s[step]

    def begin_close(self, until_s: int) -> bool:
        """Before hours up to `until_s` are computed. False: an insert into them is under way, try later."""
        with self._lock:
            if any(oldest_s < until_s for oldest_s, _ in self._under_way.values()):
                return False
            self._late_before_s = max(self._late_before_s, until_s)
            return True

    def set_closed(self, step: RolledStep, until_s: int) -> None:
        """After their rows are in the rollups and the progress is written down."""
        with self._lock:
            self._closed_until_s[step] = max(self._closed_until_s[step], until_s)

    def settled_marks(self) -> list[Mark]:
        """The marks of closed hours whose inserts are over; computing these hours now takes in their rows."""
        with self._lock:
            unsettled = frozenset[int]().union(*(ids for _, ids in self._under_way.values()))
            closed_until_s = self._closed_until_s["1h"]
            return [
                mark
                for mark in self._marks.values()
                if mark.id not in unsettled and mark.hour_s < closed_until_s
            ]

    def clear(self, marks: Iterable[Mark]) -> None:
        """After the hours and days of these marks were computed anew and that is written down."""
        with self._lock:
            for mark in marks:
                self._marks.pop(mark.id, None)

    def state_of(self, pk: int, step: RolledStep) -> tuple[int, list[int]]:
        """For one influencer: up to when the step is closed, and the hours (Unix seconds) that are reopened."""
        with self._lock:
            reopened = {m.hour_s for m in self._marks.values() if m.first_pk <= pk <= m.last_pk}
            return self._closed_until_s[step], sorted(reopened)
