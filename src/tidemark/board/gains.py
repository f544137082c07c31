"""Who gained or lost the most followers since a moment? (pure)

A baseline is a column of what everybody had then. The gains of a view are one subtraction over all, and the
list of them is never sorted whole: a key for each influencer, the gain in the high bits and the position in
the low ones as in `ranking`, so that keys are unique and their order exact, ties by pk. The run of keys that
is asked for is parted from the rest (quickselect), and only that is sorted: `tidemark bench board` says what
it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tidemark.board.latest import Values
from tidemark.board.ranking import INDEX_BITS, INDEX_MASK
from tidemark.population import Population

Direction = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What everybody had at one moment: read-only arrays of `population.size`, 5 bytes an influencer."""

    taken_at: int
    """Unix seconds."""
    follower_count: npt.NDArray[np.uint32]
    known: npt.NDArray[np.bool_]
    """Who was observed then; of the others nothing is known."""

    @classmethod
    def of(
        cls, population: Population, taken_at: int, pk: npt.NDArray[Any], follower_count: npt.NDArray[Any]
    ) -> Baseline:
        """From columns (n,), in any order; who is not watched (any more) is left out."""
        watched = (pk >= population.first) & (pk <= population.last)
        indices = pk[watched].astype(np.int64) - population.first
        column, known = np.zeros(population.size, np.uint32), np.zeros(population.size, np.bool_)
        column[indices], known[indices] = follower_count[watched], True
        column.flags.writeable = known.flags.writeable = False
        return cls(taken_at, column, known)


@dataclass(frozen=True, slots=True)
class Gainers:
    """A run of the list of influencers by gain: columns of equal length."""

    total: int
    """How long the whole list is: who has a baseline and a latest value."""
    indices: npt.NDArray[np.int64]
    gains: npt.NDArray[np.int64]
    """Followers won since the baseline; negative: lost."""

    def page(self, offset: int, limit: int) -> Gainers:
        """At most `limit` places of this run from its place `offset` (from 0) on."""
        return Gainers(self.total, self.indices[offset : offset + limit], self.gains[offset : offset + limit])


def gainers(
    values: Values,
    baseline: Baseline,
    direction: Direction,
    offset: int,
    limit: int,
    suspicious: bool | None = None,
) -> Gainers:
    """The places `offset` (from 0) to `offset + limit` of the list by gain, ties by pk.

    Up, the biggest gain comes first; down, the biggest loss. Of everybody, only of those who are suspicious, or
    of all but those. About 20 ms for any 1,000 of a million, nearly all of it without the interpreter's lock.
    """
    listed = baseline.known & (values.observed_at > 0)
    if suspicious is not None:
        listed &= (values.verdict == 1) == suspicious
    indices = np.flatnonzero(listed)
    # In place from here on: arrays of 8 MB are dearer to make than to fill.
    keys = values.follower_count[indices].astype(np.int64)
    keys -= baseline.follower_count[indices]
    if direction == "down":
        np.negative(keys, out=keys)
    keys <<= INDEX_BITS
    keys |= INDEX_MASK - indices
    # The list is read from the end of the keys.
    total = len(keys)
    stop = max(total - offset, 0)
    start = max(stop - limit, 0)
    ends = [place for place in {start, stop} if 0 < place < total]
    if ends:
        keys.partition(ends)
    run = np.sort(keys[start:stop])[::-1]
    won = run >> INDEX_BITS
    return Gainers(total, INDEX_MASK - (run & INDEX_MASK), won if direction == "up" else -won)
