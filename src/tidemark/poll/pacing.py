"""How much may be asked of one API address, and when not at all? (pure: the time is an argument)"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

IN_FLIGHT_START: Final = 64
"""Enough to keep a server on the same network busy: more brought nothing against nginx (docs/adr/0002)."""
GROWTH: Final = 1.25
PAYS_FROM: Final = 1.05
"""A step up stays when it brings 5% more answers; less is noise."""
PROBE_SECONDS: Final = 10.0
"""On the plateau: how often a step up is tried again."""
BACKOFF: Final = 0.7
"""Multiplicative decrease when requests fail."""
BURST_SECONDS: Final = 0.02
"""The bucket of `--max-rps` holds the requests of this long: no burst is longer."""
CONGESTED_SHARE: Final = 0.02
"""Share of failed requests in a window that counts as congestion."""


@dataclass(slots=True)
class InFlightLimit:
    """How many requests may be in flight: it grows while that brings more answers, and backs off from failures.

    Additive-increase schemes grow until something breaks; latency gradients mistake the queue of a
    single-threaded server on the same machine for congestion. What we want is the smallest limit with
    the full rate, so the rate itself is the signal: hill climbing, with AIMD's multiplicative decrease.
    """

    maximum: int
    value: int = 0
    _rate_before: float = 0.0
    _value_before: int = 0
    _probe_at: float = 0.0

    def __post_init__(self) -> None:
        self.value = min(IN_FLIGHT_START, self.maximum)

    def update(self, now: float, answered: int, failed: int, seconds: float, saturated: bool) -> int:
        """Judge the window of `seconds` that ends at `now`; returns the new limit (1 to maximum).

        `saturated`: the limit, not a lack of work, held requests back.
        """
        rate = answered / seconds if seconds > 0 else 0.0
        if failed and failed > CONGESTED_SHARE * (answered + failed):
            self.value = max(1, int(self.value * BACKOFF))
            self._value_before = 0
            self._probe_at = now + PROBE_SECONDS
        elif not saturated:
            self._value_before = 0  # the rate says nothing about the limit
        elif self._value_before:  # the step up of the last window is to be judged
            if rate < self._rate_before * PAYS_FROM:
                self.value = self._value_before
                self._probe_at = now + PROBE_SECONDS
                self._value_before = 0
            else:
                self._step_up(rate)
        elif now >= self._probe_at:
            self._step_up(rate)
        return self.value

    def _step_up(self, rate: float) -> None:
        self._rate_before = rate
        self._value_before = self.value if self.value < self.maximum else 0
        self.value = min(self.maximum, max(self.value + 1, int(self.value * GROWTH)))


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


@dataclass(slots=True)
class Allowance:
    """A token bucket: at most `per_second` requests a second, 0 for no bound.

    The owner keeps the tokens, because it takes one for each request.
    """

    per_second: float
    _at: float | None = None

    def refill(self, now: float, left: float) -> float:
        """How many requests may go, when `left` of the last answer are left."""
        if not self.per_second:
            return float("inf")
        since = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        return min(max(1.0, self.per_second * BURST_SECONDS), left + since * self.per_second)


def retry_delay(attempt: int, chance: random.Random) -> float:
    """Seconds before the attempt after `attempt` (from 1): doubling from 0.1, full jitter, at most 2."""
    return chance.uniform(0.0, min(2.0, 0.1 * 2.0**attempt))
