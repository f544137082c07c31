"""When is an hour or a day closed, and how?

The store's own time decides: an hour is over when an observation came that is later than its end and a
grace. So a sink that is far behind closes nothing too early, and a store that gets no
observations any more keeps its last hour open, which is exact too, only read from the raw rows.

`Rollups.run` is called once a minute or so. Whatever interrupts it: it repeats what it had not written down
as done, and repeating changes nothing, because the newest of two rows for the same period counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from tidemark.errors import StoreError
from tidemark.population import PK_MAX, Population
from tidemark.store.clickhouse import Store
from tidemark.store.periods import DAY_S, HOUR_S, MARK_SPAN_PKS, Mark

GRACE_S: Final = 180
"""How long after its end an hour stays open: batches of the dead are delivered again within a minute."""
RANGE_PKS: Final = 65_536
"""Pks that are computed at once: some tens of MB for the states, not 1.6 GB for a million."""
HOURS_MAX: Final = 2
DAYS_MAX: Final = 1
MARKS_MAX: Final = 32
"""What one run does at most: it ends within half a minute, so that nobody waits long for it to stop. A
store that is behind still closes 120 hours in an hour."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run did, in Unix seconds."""

    hours_closed: tuple[int, ...] = ()
    days_closed: tuple[int, ...] = ()
    marks_cleared: int = 0
    """Marks of late observations that were taken into their hours and days."""


def over_until(newest_s: int, grace_s: int = GRACE_S) -> int:
    """Every hour that begins before this is over, by the newest observation. In Unix seconds."""
    return max(newest_s - grace_s, 0) // HOUR_S * HOUR_S


def days_due(closed_until_s: int, hours_closed_until_s: int) -> list[int]:
    """The days to close next: those from `closed_until_s` on whose hours are all closed."""
    return list(range(closed_until_s, hours_closed_until_s // DAY_S * DAY_S, DAY_S))


def pk_ranges(population: Population, range_pks: int = RANGE_PKS) -> list[tuple[int, int]]:
    """Ranges (first, last), inclusive, that hold every possible pk: the outer two are open-ended.

    So an influencer who is stored but not watched any more is closed as well.
    """
    starts = [0, *range(population.first + range_pks, population.last + 1, range_pks)]
    ends = [start - 1 for start in starts[1:]] + [PK_MAX]
    return list(zip(starts, ends, strict=True))


def _by_cell(marks: Sequence[Mark]) -> list[list[Mark]]:
    """Those of one hour and one span of pks together, in the order in which the first of each came."""
    cells: dict[tuple[int, int], list[Mark]] = {}
    for mark in marks:
        cells.setdefault((mark.hour_s, mark.first_pk // MARK_SPAN_PKS), []).append(mark)
    return list(cells.values())


def _around(marks: Sequence[Mark]) -> Mark:
    """One that says what these of a cell say."""
    first_pk, last_pk = min(mark.first_pk for mark in marks), max(mark.last_pk for mark in marks)
    return replace(marks[0], first_pk=first_pk, last_pk=last_pk)


def _day(mark: Mark) -> int:
    """The beginning of its day, in Unix seconds."""
    return mark.hour_s // DAY_S * DAY_S


class Rollups:
    """Closes the hours and days of a store."""

    def __init__(self, store: Store, population: Population, grace_s: int = GRACE_S) -> None:
        self._store = store
        self._ranges = pk_ranges(population)
        self._grace_s = grace_s
        self._running = threading.Lock()

    def run(self) -> Run:
        """Take in what came late, then close what is over, a bounded part of it. Blocks.

        About 10 s of one core for an hour of a million influencers. Raises StoreError; what was done until
        then is kept, and the next run does the rest.
        """
        with self._running:
            # Each insert leaves one: those of the same hour and neighbouring pks are done together, or a poller whose
            # clock is behind would leave more of them than are cleared.
            waiting = _by_cell(self._store.periods.settled_marks())
            due = waiting[:MARKS_MAX]
            days_were_closed_until_s = self._store.periods.closed_until_s("1d")
            # The hours of what is too old now have lost some of their raw rows: they stay as they are.
            raw_since_s = self._store.kept().raw_since_s
            fresh = [_around(marks) for marks in due if marks[0].hour_s >= raw_since_s]
            for_later = {_day(marks[0]) for marks in waiting[MARKS_MAX:] if marks[0].hour_s >= raw_since_s}
            for mark in fresh:
                self._compute_hours(mark.hour_s, mark.hour_s + HOUR_S, [(mark.first_pk, mark.last_pk)])
            hours = self._close_hours()
            days = self._close_days()
            self._compute_days([mark for mark in fresh if mark.hour_s < days_were_closed_until_s], for_later)
            # Only now: a mark stands until its hour and its day hold what it was about.
            done = [mark for marks in due for mark in marks]
            self._store.clear_marks(done)
            return Run(tuple(hours), tuple(days), len(done))

    def close(self, until_s: int) -> None:
        """Close every hour before `until_s`, a full hour in Unix seconds, and the days that are over then. Blocks.

        For history that came whole and in order: a day at a time is read once, 0.03 us an observation.
        Nothing may be inserted before `until_s` meanwhile; that raises StoreError.
        """
        with self._running:
            store = self._store
            if not store.periods.begin_close(until_s):
                raise StoreError("these hours are being written to: close them when that is done")
            from_s = self._next_hour()
            while from_s is not None and from_s < until_s:
                to_s = min(from_s // DAY_S * DAY_S + DAY_S, until_s)
                self._compute_hours(from_s, to_s, self._ranges)
                store.set_closed("1h", to_s)
                from_s = to_s
            while self._close_days():
                pass

    def _close_hours(self) -> list[int]:
        store = self._store
        # A poller whose clock is ahead must not close hours that others still write to.
        newest_s = min(store.max_observed_at() or 0, int(time.time()))
        until_s = over_until(newest_s, self._grace_s)
        # First of all: from here on an insert into these hours counts as late and leaves its mark.
        if until_s <= store.periods.closed_until_s("1h") or not store.periods.begin_close(until_s):
            return []
        from_s = self._next_hour()
        if from_s is None or from_s >= until_s:
            store.set_closed("1h", until_s)  # the hours of a gap too, or the day before it would stay open
            return []
        hours = list(range(from_s, until_s, HOUR_S))[:HOURS_MAX]
        for hour_s in hours:
            self._compute_hours(hour_s, hour_s + HOUR_S, self._ranges)
            store.set_closed("1h", hour_s + HOUR_S)
        return hours

    def _next_hour(self) -> int | None:
        """The first hour to close: where closed ones end or observations after that begin; None without any."""
        closed_until_s = self._store.periods.closed_until_s("1h")
        since_s = self._store.query("first_part_since", {"since": closed_until_s})["since_s"][0].as_py()
        return None if since_s is None else int(since_s) // HOUR_S * HOUR_S

    def _close_days(self) -> list[int]:
        store = self._store
        first_s = store.periods.closed_until_s("1d") or store.kept().first_s // DAY_S * DAY_S
        if not first_s:  # hours were closed, and nothing is kept of them any more
            return []
        days = days_due(first_s, store.periods.closed_until_s("1h"))[:DAYS_MAX]
        for day_s in days:
            self._compute_day(day_s, self._ranges)
            store.snapshot_ranks(day_s)
            store.set_closed("1d", day_s + DAY_S)
        return days

    def _compute_hours(self, from_s: int, to_s: int, ranges: list[tuple[int, int]]) -> None:
        for first_pk, last_pk in ranges:
            self._compute("close_hours", {"from": from_s, "to": to_s}, first_pk, last_pk)

    def _compute_days(self, marks: list[Mark], for_later: Set[int]) -> None:
        """The days of these marks anew; the ranks of those that are left `for_later` only when all of it is in."""
        for day_s in sorted(set(map(_day, marks))):
            ranges = {(mark.first_pk, mark.last_pk) for mark in marks if _day(mark) == day_s}
            self._compute_day(day_s, sorted(ranges))
            if day_s not in for_later:  # it reads the daily rollups of the whole year
                self._store.snapshot_ranks(day_s)

    def _compute_day(self, day_s: int, ranges: list[tuple[int, int]]) -> None:
        for first_pk, last_pk in ranges:
            self._compute("close_day", {"day": day_s}, first_pk, last_pk)

    def _compute(self, command: str, period: dict[str, int], first_pk: int, last_pk: int) -> None:
        parameters = period | {"first_pk": first_pk, "last_pk": last_pk}
        self._store.execute(command, parameters | {"closed_at": self._store.next_version()})
