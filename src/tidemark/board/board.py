"""Latest, rank and average of everybody, in memory: the writer's side.

Two threads may work on a Board at once: one applies batches (the event loop), another publishes views.

    apply ──> columns, names ──(changes, under the lock)──> publish ──> View ──> readers

The lock guards the columns and the names against two writers. `publish` holds it only while it copies what
changed, 0.3 ms for 17,000 of a million; everything after that works on arrays nobody else writes. Readers
take no lock: a View never changes, and it is exchanged in one assignment.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemark.board.latest import UNKNOWN, Changes, LatestColumns, Values
from tidemark.board.memory import Spares
from tidemark.board.names import Names
from tidemark.board.ranking import Keys, Ranking, sort_keys
from tidemark.board.view import View
from tidemark.messages import Batch
from tidemark.population import Population

Integers = npt.NDArray[Any]
"""Whole numbers of any type that fit the columns' own."""


class Board:
    """The board of a population. Until the first `publish`, its view is empty."""

    def __init__(self, population: Population) -> None:
        self.population = population
        self.names = Names(population)
        self._columns = LatestColumns(population)
        self._memory = Spares()
        self.outside = 0
        """Rows ignored because their pk is not watched."""
        self._writing = threading.Lock()
        """Held by whoever writes or copies the columns or writes the names."""
        self._publishing = threading.Lock()
        """Held by the one `publish` at a time: each builds on the view before."""
        nothing = Values.nothing(population.size)
        self._view = View(population, 0, nothing, Ranking.of_nobody(), self.names, 0)

    @property
    def view(self) -> View:
        """The view published last."""
        return self._view

    def apply(self, batch: Batch, now_ms: int | None = None) -> npt.NDArray[np.int64]:
        """Take over the observations that are newer than the board's: about 30 us for 1,000.

        Late, repeated and partial batches are welcome. With `now_ms`, what comes now takes the place of a value that is
        more than AHEAD_MAX_MS ahead of it, of a clock that has been set back. Returns the indices whose name is new or
        another, ascending. Each is returned once: keep it until `names.name(index)` is stored.
        """
        with self._writing:
            return self._put(
                batch.pk,
                batch.observed_at_ms,
                batch.follower_count,
                batch.following_count,
                batch.username,
                now_ms=now_ms,
            )[1]

    def same_second(self, batch: Batch) -> npt.NDArray[np.bool_]:
        """(n,): which rows are of the very second in which their influencer was observed last.

        None where that was restored: it is not known to be in the store.
        """
        with self._writing:
            return self._columns.same_second(batch.pk, batch.observed_at_ms)

    def overtaken(self, batch: Batch) -> bool:
        """Whether a row is not of a later second than its influencer's latest."""
        with self._writing:
            return self._columns.overtaken(batch.pk, batch.observed_at_ms)

    def apply_verdicts(self, pk: Integers, suspicious: npt.NDArray[Any], checked_at: Integers) -> int:
        """Take over verdicts (n,), in any order, where newer, and return how many were.

        `suspicious` is true or false; `checked_at` is Unix seconds.
        """
        rows = _newest_of_each(pk, checked_at)
        with self._writing:
            slots, inside = self._columns.find(pk[rows].astype(np.uint32))
            return self._columns.put_verdicts(
                slots, suspicious[rows][inside].astype(np.bool_), checked_at[rows][inside].astype(np.uint32)
            )

    def restore(
        self,
        pk: Integers,
        follower_count: Integers,
        following_count: Integers,
        observed_at: Integers,
        *,
        verdict: Integers | None = None,
        verdict_at: Integers | None = None,
    ) -> int:
        """Take over columns (n,) from the store, in any order, where newer; return how many rows were.

        Times are Unix seconds. `verdict` is 1 suspicious, 0 not, -1 unknown and needs `verdict_at`; newer verdicts
        count on their own. Idempotent. At a million rows it holds the lock for some 0.3 s: for the start.
        """
        rows = _newest_of_each(pk, observed_at)
        with self._writing:
            count, _ = self._put(
                pk[rows].astype(np.uint32),
                observed_at[rows].astype(np.int64) * 1000,
                follower_count[rows].astype(np.uint32),
                following_count[rows].astype(np.uint32),
                None,
                restored=True,
            )
        if verdict is not None and verdict_at is not None:
            known = np.flatnonzero(verdict != UNKNOWN)
            self.apply_verdicts(pk[known], verdict[known] == 1, verdict_at[known])
        return count

    def restore_names(self, pk: Integers, username: pa.Array | pa.ChunkedArray) -> int:
        """Take over names (n,), each pk once, in any order, whatever the board has.

        For the names that were stored as they changed, before the log is read: a name from there is newer. Returns
        how many were new or others.
        """
        order = np.argsort(pk)
        with self._writing:
            slots, inside = self._columns.find(pk[order].astype(np.uint32))
            return len(self.names.put(slots, _strings(username).take(pa.array(order[inside]))))

    def publish(self, now_ms: int) -> View:
        """Build the view of this moment (Unix milliseconds), make it `view` and return it.

        About 10 ms at a million influencers of whom 17,000 changed, 200 where all did; nearly all of it in
        numpy without the interpreter's lock.
        """
        with self._publishing:
            before = self._view
            with self._writing:
                changes = self._columns.take_changes()
            room = self._memory.array(self.population.size, np.int64)
            ranking = _ranking_after(before, changes, room)
            values = before.values.after(changes, self._memory)
            self._view = View(self.population, now_ms, values, ranking, self.names, changes.follower_sum)
            return self._view

    def _put(
        self,
        pk: npt.NDArray[np.uint32],
        observed_at_ms: npt.NDArray[np.int64],
        follower_count: npt.NDArray[np.uint32],
        following_count: npt.NDArray[np.uint32],
        username: pa.StringArray | None,
        *,
        restored: bool = False,
        now_ms: int | None = None,
    ) -> tuple[int, npt.NDArray[np.int64]]:
        """Put rows of strictly increasing pks; how many were newer, and the indices of new names."""
        slots, inside = self._columns.find(pk)
        if not restored:  # what was watched before, the store still has
            self.outside += len(pk) - (inside.stop - inside.start)
        newer = self._columns.put(
            slots,
            observed_at_ms[inside],
            follower_count[inside],
            following_count[inside],
            restored=restored,
            now_ms=now_ms,
        )
        if username is None or not len(newer):
            return len(newer), np.empty(0, np.int64)
        # Only with a newer observation: an old batch must not bring an old name back.
        names = username.slice(inside.start, inside.stop - inside.start)
        if not isinstance(newer.rows, slice):
            names = names.take(pa.array(newer.rows))
        return len(newer), self.names.put(newer.slots, names)


def _ranking_after(before: View, changes: Changes, room: Keys) -> Ranking:
    """The ranking of the view before with the changes in place, its keys in `room`."""
    indices = changes.indices
    old_count = before.values.follower_count[indices]
    ranked = before.values.observed_at[indices] > 0
    moved = (changes.observed_at_ms > 0) & (~ranked | (old_count != changes.follower_count))
    left = moved & ranked
    return before.ranking.replaced(
        removed=sort_keys(indices[left], old_count[left]),
        added=sort_keys(indices[moved], changes.follower_count[moved]),
        room=room,
    )


def _newest_of_each(pk: Integers, at: Integers) -> npt.NDArray[np.int64]:
    """The rows to take so that pks increase strictly, for each pk the one with the latest `at`."""
    if not len(pk) or bool((pk[1:] > pk[:-1]).all()):
        return np.arange(len(pk))
    order = np.lexsort((at, pk))
    ordered = pk[order]
    newest: npt.NDArray[np.int64] = order[np.append(ordered[1:] != ordered[:-1], True)]
    return newest


def _strings(names: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    """Any column of text as one array of strings without nulls."""
    if isinstance(names, pa.ChunkedArray):
        names = names.combine_chunks()
    return names.cast(pa.string()).fill_null("")
