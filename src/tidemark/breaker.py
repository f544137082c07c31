"""When is an API address to be left in peace? (pure: the time is an argument)"""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Breaker:
    """Gives an address a rest after failures in a row; then lets one request through to see.

    States: closed (all go), open (none, until `retry_at`), half-open (one).
    """

    failures_max: int = 32
    rest_min_s: float = 0.5
    rest_max_s: float = 15.0
    _failures: int = 0
    _rest_s: float = 0.0
    retry_at: float = 0.0
    half_open: bool = False
    _random: random.Random = field(default_factory=random.Random)

    @property
    def closed(self) -> bool:
        """Whether requests may go without a bound of the breaker's."""
        return self._rest_s == 0.0

    def allows(self, now: float) -> bool:
        """Whether a request may go now; when the rest is over it turns half-open."""
        if self.closed:
            return True
        if now >= self.retry_at and not self.half_open:
            self.half_open = True
        return self.half_open

    def succeeded(self) -> bool:
        """An answer came; returns whether that closed the breaker."""
        self._failures = 0
        reopened = not self.closed
        self._rest_s = 0.0
        self.half_open = False
        return reopened

    def failed(self, now: float, count: int = 1) -> bool:
        """So many requests failed for want of an answer; returns whether that opened the breaker."""
        self._failures += count
        was_closed = self.closed
        if was_closed and self._failures < self.failures_max:
            return False
        if was_closed or self.half_open:
            self._rest_s = min(self.rest_max_s, max(self.rest_min_s, self._rest_s * 2))
            self.retry_at = now + self._rest_s * self._random.uniform(0.75, 1.25)
            self.half_open = False
        return was_closed
