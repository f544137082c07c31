"""Whom does a reader mean who types the beginning of a username or of a pk? (pure)

A search index is the indices of all names in alphabetical order, 4 bytes a name; the names themselves are
read from the blocks of `Names`, which it shares. Looking up is a binary search: some twenty names read
and compared.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemark.population import PK_MAX, Population

PK_DIGITS_MAX: Final = len(str(PK_MAX))


def fold(text: str) -> str:
    """The form in which texts are compared: each character in lower case by itself, nothing more.

    That is Unicode's simple case mapping, so a beginning stays a beginning; `str.lower()` depends on the
    neighbours of a Greek sigma. Accents count. Text that is no Unicode (a lone surrogate) becomes "".
    """
    if text.isascii():
        return text.lower()
    try:
        folded: str = pc.utf8_lower(pa.scalar(text, pa.string())).as_py()
    except UnicodeEncodeError:
        return ""
    return folded


def pk_ranges(text: str, population: Population) -> list[range]:
    """The indices of the watched pks whose digits begin with `text`, in ranges: shorter pks first."""
    if not (text.isascii() and text.isdigit() and len(text) <= PK_DIGITS_MAX):
        return []
    if text[0] == "0" and text != "0":
        return []
    ranges = []
    first, after = int(text), int(text) + 1
    while first <= population.last:
        low, high = max(first, population.first), min(after, population.last + 1)
        if low < high:
            ranges.append(range(low - population.first, high - population.first))
        if first == 0:
            break
        first, after = first * 10, after * 10
    return ranges


class SearchIndex:
    """The names of some blocks in order, without the empty ones.

    All blocks have `block_size` names, only the last may have fewer.
    """

    def __init__(self, blocks: list[pa.StringArray], block_size: int) -> None:
        self._blocks = blocks
        self._block_size = block_size
        self._order = _order(blocks)

    def starting_with(self, folded: str) -> npt.NDArray[np.uint32]:
        """The indices (n,) of the names that begin with a folded text, in the order of names, then of indices."""
        begin = bisect_left(self._order, folded, key=self._folded_name)
        end = bisect_right(
            self._order, folded, begin, key=lambda index: self._folded_name(index)[: len(folded)]
        )
        return self._order[begin:end]

    def _folded_name(self, index: np.uint32) -> str:
        block, slot = divmod(int(index), self._block_size)
        return fold(self._blocks[block][slot].as_py())


def _order(blocks: list[pa.StringArray]) -> npt.NDArray[np.uint32]:
    if not blocks:
        return np.empty(0, np.uint32)
    # Of 64 bits: all names of a large population are more than 2 GB.
    folded = pc.utf8_lower(pa.concat_arrays([block.cast(pa.large_string()) for block in blocks]))
    # Arrow sorts stably and by bytes of UTF-8, which is the order in which Python compares strings. Empty
    # names come first.
    order: npt.NDArray[np.uint32] = pc.sort_indices(folded).to_numpy().astype(np.uint32)
    empty: int = pc.sum(pc.equal(folded, ""), min_count=0).as_py()
    return order[empty:]
