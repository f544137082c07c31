"""When may a server that is saturated answer the next request?

A token bucket with a queue in front, and no clock of its own.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final, Generic, TypeVar

BURST_S: Final = 0.02
"""Tokens that may be saved up, in seconds. In any t seconds at most `rps * (t + BURST_S)` requests go
through, and one at least; a pause of the process shorter than this costs nothing of the rate."""

WAITING_MAX_REQUESTS: Final = 4_096
"""Requests that wait for their turn: as many as a listening server has sockets for, without much memory."""


Request = TypeVar("Request")


class Turn(Enum):
    """What becomes of a request that arrives."""

    NOW = auto()
    WAIT = auto()
    REFUSED = auto()


class Pacer(Generic[Request]):
    """Lets at most `rps` requests a second through, in the order in which they came."""

    def __init__(self, rps: float, now_s: float, waiting_max: int = WAITING_MAX_REQUESTS) -> None:
        self._rps = rps
        self._waiting_max = waiting_max
        self._burst = max(1.0, rps * BURST_S)
        self._tokens = 1.0
        self._refilled_s = now_s
        self._waiting: deque[Request] = deque()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def arrive(self, request: Request, now_s: float) -> Turn:
        """A request came. With WAIT it is in the queue and comes out of `release` later."""
        self._refill(now_s)
        if not self._waiting and self._tokens >= 1.0:
            self._tokens -= 1.0
            return Turn.NOW
        if len(self._waiting) >= self._waiting_max:
            return Turn.REFUSED
        self._waiting.append(request)
        return Turn.WAIT

    def release(self, now_s: float) -> list[Request]:
        """Take out of the queue those whose turn it is, oldest first."""
        self._refill(now_s)
        count = min(int(self._tokens), len(self._waiting))
        self._tokens -= count
        return [self._waiting.popleft() for _ in range(count)]

    def wait_s(self) -> float:
        """Seconds from the last call until a request may go, 0 or more."""
        return max(0.0, (1.0 - self._tokens) / self._rps)

    def _refill(self, now_s: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now_s - self._refilled_s) * self._rps)
        self._refilled_s = now_s
