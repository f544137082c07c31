"""When is somebody called by the clock? One timer for all who wait for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Alarm:
    """Calls `ring` once, at the earliest of the moments that it was set for, on the event loop's monotonic clock.

    Most are over with what they wait for long before their moment. To be called in vain now and then is cheaper than
    a timer for each: with uvloop that is a handle of libuv, made, closed and freed in a turn of the loop of its own.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._rings_at = inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, moment: float) -> None:
        """Ring then, or before."""
        if moment < self._rings_at:
            self.cancel()
            self._rings_at = moment
            self._timer = asyncio.get_running_loop().call_at(moment, self._moment_came)

    def cancel(self) -> None:
        """Do not ring, unless it is set again."""
        self._rings_at = inf
        if self._timer is not None:
            self._timer.cancel()

    def _moment_came(self) -> None:
        self._rings_at = inf
        self._ring()
