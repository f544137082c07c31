"""Where do the arrays of a view lie? In the memory of earlier views, once nobody reads those any more.

Twice a second some 20 MB are written anew for a million influencers. Fresh memory comes from the kernel, which
clears it first; `perf` showed a sixth of what `serve` takes of the processor there.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import numpy.typing as npt


class Spares:
    """Gives out arrays, and takes the memory of each back when neither it nor a slice of it is referenced any more.

    One piece of each size is kept; what else comes back goes to the system. Any thread may let go of an array.
    """

    def __init__(self) -> None:
        self._free: dict[int, memoryview] = {}
        """By bytes."""

    def array(self, length: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array (length,), of at least one, with anything in it."""
        size = length * np.dtype(dtype).itemsize
        memory = self._free.pop(size, None)
        if memory is None:
            # From numpy, which asks for huge pages.
            memory = np.empty(size, np.uint8).data
        # A slice refers to this array and not past it, because the memory is no array: so this waits for all slices.
        array = np.frombuffer(memory, dtype)
        weakref.finalize(array, self._free.__setitem__, size, memory).atexit = False
        return array
