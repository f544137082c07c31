"""Which of the watched influencers have another observation in this view?

A view of a million changes for 17,000 of them a second, and readers watch a few: so the columns here hold only who
has a reader, and one numpy comparison finds the changed among them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FIRST_PLACES: Final = 256
_NEVER: Final = np.iinfo(np.uint32).max
"""In a free place: nothing is observed then."""


class Watched:
    """Who has readers, in places that are used again."""

    def __init__(self) -> None:
        self._index = np.zeros(FIRST_PLACES, np.int64)
        """By place: the column of the influencer on the board, `pk - first`."""
        self._told_at = np.full(FIRST_PLACES, _NEVER, np.uint32)
        """By place: the newest observation that its readers have been told of, in Unix seconds; 0: none yet."""
        self._free = list(range(FIRST_PLACES - 1, -1, -1))

    def __len__(self) -> int:
        """How many are watched."""
        return len(self._index) - len(self._free)

    def add(self, index: int, told_at: int) -> int:
        """Watch one influencer, and return its place."""
        if not self._free:
            size = len(self._index)
            self._index = np.concatenate([self._index, np.zeros(size, np.int64)])
            self._told_at = np.concatenate([self._told_at, np.full(size, _NEVER, np.uint32)])
            self._free.extend(range(2 * size - 1, size - 1, -1))
        place = self._free.pop()
        self._index[place] = index
        self._told_at[place] = told_at
        return place

    def remove(self, place: int) -> None:
        """Nobody watches it any more."""
        self._told_at[place] = _NEVER
        self._free.append(place)

    def changed(self, observed_at: npt.NDArray[np.uint32]) -> list[int]:
        """The places that have something new in this column of the board, each told of once. It may be of an earlier
        time, when a clock was ahead.

        About 60 us for 10,000 watched.
        """
        now = observed_at[self._index]
        places = np.flatnonzero((now != self._told_at) & (self._told_at != _NEVER))
        self._told_at[places] = now[places]
        return places.tolist()
