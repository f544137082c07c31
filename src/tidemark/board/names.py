"""What is each influencer called?

The names lie in Arrow string arrays of one shard each: 4 bytes and the text a name, where a Python
string would take 60 bytes more. Names hardly ever change, so the usual batch is one comparison of two
buffers: a microsecond for 1,000 names.

A block is immutable and replaced whole, in one assignment: readers in any thread need no lock. There is
one writer at a time; `Board` sees to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemark.board.latest import Slots
from tidemark.board.search import SearchIndex, fold, pk_ranges
from tidemark.population import Population

LOOKED_AT_ONCE: Final = 16_384
"""Influencers among whom the observed are looked for: more than anybody asks for, and far from a million."""
RENAMED_MAX: Final = 1_000
"""So many who have another name since the last reindex may be met in one search: each takes a microsecond or two."""

_NONE = np.empty(0, np.int64)


class Names:
    """The names of a population by index; the empty name stands for one that is not known."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._block_size = population.shard_size
        ranges = (population.shard_range(shard) for shard in range(population.shards))
        self._blocks: list[pa.StringArray] = [
            _compact(pa.repeat("", last - first + 1)) for first, last in ranges
        ]
        self._index = SearchIndex([], self._block_size)
        self.changed_since_reindex = 0
        """Names that `search` does not know of yet."""

    def name(self, index: int) -> str | None:
        """The name of an influencer; None while it is not known. Under a microsecond."""
        block, slot = divmod(index, self._block_size)
        name: str = self._blocks[block][slot].as_py()
        return name or None

    def column(self, start: int, stop: int) -> pa.StringArray:
        """The names from index `start` to before `stop`, "" where not known."""
        pieces = [self._blocks[block].slice(a, b - a) for block, a, b in self._cut(start, stop)]
        return pa.concat_arrays(pieces) if pieces else pa.array([], pa.string())

    def put(self, slots: Slots, names: pa.StringArray) -> npt.NDArray[np.int64]:
        """Take over names (n,) without nulls and return the indices whose name is new or another, ascending.

        An empty name is none and changes nothing.
        """
        changed = [
            self._put_in_block(block, where, names.slice(first_row, len(where)))
            for block, where, first_row in self._by_block(slots)
        ]
        found = changed[0] if len(changed) == 1 else np.concatenate([_NONE, *changed])
        self.changed_since_reindex += len(found)
        return found

    def reindex(self) -> None:
        """Let `search` know of the names as they are now.

        About half a second of CPU at a million names, nearly all of it without the interpreter's lock: for
        a thread, now and then. Readers go on searching the old index meanwhile.
        """
        if self.changed_since_reindex:
            self.changed_since_reindex = 0
            self._index = SearchIndex(list(self._blocks), self._block_size)

    def search(self, text: str, limit: int, observed: npt.NDArray[np.uint32]) -> list[int]:
        """The indices, at most `limit`, of whom `text` may mean, likeliest first: of those where `observed` is not 0.

        First the influencer whose pk it is, then the names that begin with it in the order of their letters,
        then the pks that begin with it. Upper and lower case are the same, see `search.fold`. A name that
        changed since the last `reindex` is found from the next one on, under its old form no longer. Empty
        text finds nobody.
        """
        folded = fold(text)
        if not folded:
            return []
        found: dict[int, None] = {}
        ranges = pk_ranges(text, self._population)
        if ranges and ranges[0].start + self._population.first == int(text):
            its_own = ranges.pop(0).start
            if observed[its_own]:
                found[its_own] = None
        for index in self._with_name(folded, observed):
            if len(found) >= limit:
                break
            found[index] = None
        for indices in ranges:
            for start in range(indices.start, indices.stop, LOOKED_AT_ONCE):
                if len(found) >= limit:
                    break
                some = observed[start : min(start + LOOKED_AT_ONCE, indices.stop)]
                # Some of them may have been found by name already.
                first = np.flatnonzero(some)[: limit + len(found)]
                found |= dict.fromkeys((start + first).tolist())
        return list(found)[:limit]

    def _with_name(self, folded: str, observed: npt.NDArray[np.uint32]) -> Iterator[int]:
        """The indices of the observed whose name began with a folded text at the last reindex, and still does."""
        named, renamed = self._index.starting_with(folded), 0
        for start in range(0, len(named), LOOKED_AT_ONCE):
            some = named[start : start + LOOKED_AT_ONCE]
            for index in some[observed[some] > 0].tolist():
                if fold(self.name(index) or "").startswith(folded):
                    yield index
                elif (renamed := renamed + 1) == RENAMED_MAX:
                    return

    def _cut(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Cut the indices from `start` to before `stop` into (block, first slot, after the last slot)."""
        while start < stop:
            block, slot = divmod(start, self._block_size)
            end = min(stop, (block + 1) * self._block_size)
            yield block, slot, slot + end - start
            start = end

    def _by_block(self, slots: Slots) -> Iterator[tuple[int, range | npt.NDArray[np.int64], int]]:
        """Cut places into (block, slots in the block, row of the first)."""
        if isinstance(slots, slice):
            for block, first, end in self._cut(slots.start, slots.stop):
                yield block, range(first, end), block * self._block_size + first - slots.start
        elif len(slots):
            blocks = slots // self._block_size
            starts = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(slots)]
            for row, end in pairwise(starts):
                block = int(blocks[row])
                yield block, slots[row:end] - block * self._block_size, row

    def _put_in_block(
        self, block: int, slots: range | npt.NDArray[np.int64], names: pa.StringArray
    ) -> npt.NDArray[np.int64]:
        known = self._blocks[block]
        if isinstance(slots, range):
            before = known.slice(slots.start, len(slots))
        else:
            before = known.take(pa.array(slots))
        if before.equals(names):
            return _NONE
        differs = pc.and_(pc.not_equal(before, names), pc.not_equal(names, ""))
        rows = np.flatnonzero(differs.to_numpy(zero_copy_only=False))
        if not len(rows):
            return _NONE
        changed = np.asarray(slots, np.int64)[rows]
        selection = np.arange(len(known))
        selection[changed] = len(known) + rows
        self._blocks[block] = _compact(pa.concat_arrays([known, names]).take(pa.array(selection)))
        return changed + block * self._block_size


def _compact(names: pa.StringArray) -> pa.StringArray:
    """A copy that owns exactly its bytes, and keeps no message or pool of a batch alive."""
    _, offsets, text = names.buffers()
    ends = np.frombuffer(offsets, np.int32)[names.offset : names.offset + len(names) + 1]
    data = b"" if text is None else text[int(ends[0]) : int(ends[-1])].to_pybytes()
    return pa.StringArray.from_buffers(
        len(names), pa.py_buffer((ends - ends[0]).tobytes()), pa.py_buffer(data)
    )
