"""Who stands where by followers? (pure, immutable)

Each observed influencer is one int64 key, `follower_count << 28 | (2**28 - 1 - index)`, and the keys are
kept in ascending order. So everything is a binary search or a slice:

- rank is competition rank, 1 + how many have strictly more followers: ties are equal, and the rank
  after a tie of three is three further on;
- read from the end, the keys are the leaderboard, ties in the order of their pks.

A new ranking is merged from the last one and the keys that moved: 6 ms at a million influencers of whom
17,000 moved, where sorting everything takes 60. Sorting is the faster one only past a third of all, which
takes 20 seconds without a new ranking at one observation a minute, and there is no second way for that:
at worst, when all moved, merging takes 170 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tidemark.population import POPULATION_MAX_PKS

INDEX_BITS: Final = 28
INDEX_MASK: Final = (1 << INDEX_BITS) - 1
assert POPULATION_MAX_PKS == 1 << INDEX_BITS
STEP: Final = 1 << 16
"""Keys that are moved at a time: what they pass through stays in the processor's cache."""

Keys = npt.NDArray[np.int64]


def sort_keys(indices: npt.NDArray[np.int64], follower_count: npt.NDArray[np.uint32]) -> Keys:
    """The keys (n,) of influencers and their counts (n,), in the order given."""
    keys: Keys = (follower_count.astype(np.int64) << INDEX_BITS) | (INDEX_MASK - indices)
    return keys


@dataclass(frozen=True, slots=True)
class Places:
    """A run of a leaderboard, best first: columns of equal length."""

    indices: npt.NDArray[np.int64]
    follower_count: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int64]
    fewer: npt.NDArray[np.int64]
    """How many have strictly fewer followers."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The observed influencers in the order of their followers."""

    keys: Keys
    """(len,), strictly ascending, read-only."""

    @classmethod
    def of_nobody(cls) -> Ranking:
        """The ranking before the first observation."""
        return cls(np.empty(0, np.int64))

    def replaced(self, removed: Keys, added: Keys, room: Keys) -> Ranking:
        """This ranking without the keys `removed` and with the keys `added`, both in any order.

        Each of `removed` must be in the ranking, and none of `added` may be in it or twice. The new one takes the
        beginning of `room` for its keys, which nobody else may use from then on.
        """
        if not len(removed) and not len(added):
            return self
        stays = np.ones(len(self.keys), np.bool_)
        stays[np.searchsorted(self.keys, np.sort(removed))] = False
        length = 0
        for start in range(0, len(self.keys), STEP):
            run = self.keys[start : start + STEP][stays[start : start + STEP]]
            room[length : length + len(run)] = run
            length += len(run)
        keys = room[: length + len(added)]
        keys[length:] = np.sort(added)
        # Two ascending runs: numpy's stable sort is timsort for int64, which merges them in one pass and
        # takes 1 ms where the default sort takes 50.
        keys.sort(kind="stable")
        keys.flags.writeable = False
        return Ranking(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def more(self, follower_count: int) -> int:
        """How many have strictly more followers than this."""
        return len(self.keys) - int(self.keys.searchsorted((follower_count + 1) << INDEX_BITS))

    def fewer(self, follower_count: int) -> int:
        """How many have strictly fewer followers than this."""
        return int(self.keys.searchsorted(follower_count << INDEX_BITS))

    def rank(self, follower_count: int) -> int:
        """The competition rank of somebody with this many followers, from 1."""
        return 1 + self.more(follower_count)

    def place(self, index: int, follower_count: int) -> int:
        """The place of an influencer on the leaderboard, from 0: ties are broken by pk.

        For who is not ranked, the place they would have.
        """
        key = (follower_count << INDEX_BITS) | (INDEX_MASK - index)
        return len(self.keys) - int(self.keys.searchsorted(key, "right"))

    def only(self, wanted: npt.NDArray[np.bool_]) -> Ranking:
        """This ranking without those whose index is not wanted: a mask by index. About 10 ms for a million."""
        keys = self.keys[wanted[INDEX_MASK - (self.keys & INDEX_MASK)]]
        keys.flags.writeable = False
        return Ranking(keys)

    def places(self, offset: int, limit: int, among: Ranking | None = None) -> Places:
        """At most `limit` places of the leaderboard from place `offset` (from 0) on; both at least 0.

        Of that of some of them only, where `among` is given: their ranks are those in this ranking all the same.
        """
        listed = self.keys if among is None else among.keys
        stop = max(len(listed) - offset, 0)
        keys = listed[max(stop - limit, 0) : stop][::-1]
        return self.places_of(INDEX_MASK - (keys & INDEX_MASK), keys >> INDEX_BITS)

    def places_of(self, indices: npt.NDArray[np.int64], follower_count: npt.NDArray[np.int64]) -> Places:
        """Where influencers (n,) with so many followers (n,) stand, in the order given."""
        more = len(self.keys) - np.searchsorted(self.keys, (follower_count + 1) << INDEX_BITS)
        fewer = np.searchsorted(self.keys, follower_count << INDEX_BITS)
        return Places(indices, follower_count, 1 + more, fewer)

    def ranks_of_all(self, size: int) -> npt.NDArray[np.uint32]:
        """The rank of every index from 0 to `size` - 1, as (size,); 0 for who is not ranked."""
        ranks = np.zeros(size, np.uint32)
        if not len(self.keys):
            return ranks
        counts = self.keys >> INDEX_BITS
        # A tie is a run of equal counts; as many have strictly more as keys come after its end.
        ends = np.append(np.flatnonzero(counts[1:] != counts[:-1]) + 1, len(counts))
        rank_of_tie = (1 + len(counts) - ends).astype(np.uint32)
        ranks[INDEX_MASK - (self.keys & INDEX_MASK)] = np.repeat(rank_of_tie, np.diff(ends, prepend=0))
        return ranks
