"""How much may be asked of one API address? (pure: the time is an argument)"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

IN_FLIGHT_START: Final = 128
"""Enough to keep a server on the same network busy, also while this process makes a batch: with 64 the whole pipeline
stored perhaps 5% less, 256 brought no more (docs/adr/0015 has the intervals)."""
GROWTH: Final = 1.25
BACKOFF: Final = 0.7
"""Multiplicative decrease when requests fail."""
MATTERS_FROM: Final = 1.1
"""A step up, by a quarter, stays when it brings 10% more good answers, a step down when it costs less:
smaller is noise."""
PROBE_SECONDS: Final = 10.0
"""How long after a step that was taken back, or after failures, the same is tried again."""
CONGESTED_SHARE: Final = 0.02
"""Share of failed requests that counts as congestion."""
TRIAL_REQUESTS_MIN: Final = 50
"""No judgement on fewer requests: one that failed would be more than CONGESTED_SHARE of them."""
TRIAL_SECONDS_MIN: Final = 1.0
"""Rates over less differ by MATTERS_FROM on any busy machine."""
BURST_SECONDS: Final = 0.02
"""The bucket of `--max-rps` holds the requests of this long: no burst is longer."""


@dataclass(slots=True)
class InFlightLimit:
    """How many requests may be in flight: it grows while that brings more answers, and backs off from failures.

    Additive-increase schemes grow until something breaks; latency gradients mistake the queue of a
    single-threaded server on the same machine for congestion. What we want is the smallest limit with
    the full rate, so the rate of good answers itself is the signal: hill climbing, with AIMD's
    multiplicative decrease. A decrease that costs answers and does not halve the share of failures is taken
    back, and the failures excused for a while: an API of which 3% always fail would otherwise be asked one
    thing at a time.

    Windows are added up into trials of at least twice `value` requests: two round trips, however slow.
    """

    maximum: int
    value: int = 0
    _good: int = 0
    _failed: int = 0
    _seconds: float = 0.0
    _saturated: bool = True
    """Of the trial under way: good answers, failures, how long, and whether saturated all along."""
    _settling: int = 0
    """Requests whose end still belongs to the limit before the last step: not in the trial."""
    _value_before: int = 0
    """The limit before the step on trial; 0 when none is."""
    _rate_before: float = 0.0
    _failed_share_before: float = 0.0
    _saturated_before: bool = False
    _up_at: float = 0.0
    _down_at: float = 0.0
    """Not stepped up or down before these."""

    def __post_init__(self) -> None:
        self.value = min(IN_FLIGHT_START, self.maximum)

    def update(self, now: float, good: int, failed: int, seconds: float, saturated: bool) -> int:
        """Judge the window of `seconds` that ends at `now`; returns the new limit (1 to maximum).

        `good` counts sound answers, `failed` those that said the API cannot, and requests without an
        answer. `saturated`: the limit, not a lack of work, held requests back all through the window.
        """
        if not saturated and not failed and not self._failed:
            self._value_before = 0  # work ran out: the rate says nothing about the limit
            self._next_trial(0)
            return self.value
        if self._settling > 0:
            self._settling -= good + failed
            return self.value
        self._good += good
        self._failed += failed
        self._seconds += seconds
        self._saturated = self._saturated and saturated
        enough = max(TRIAL_REQUESTS_MIN, 2 * self.value)
        if self._good + self._failed >= enough and self._seconds >= TRIAL_SECONDS_MIN:
            self._judge(now)
        return self.value

    def _judge(self, now: float) -> None:
        """The end of a trial: take the last step back, or take the next."""
        before, rate = self.value, self._good / self._seconds
        share = self._failed / (self._good + self._failed)
        congested = share > CONGESTED_SHARE and now >= self._down_at
        if congested:
            self._up_at = now + PROBE_SECONDS
        if self._value_before and self._step_was_wrong(rate, share, congested):
            if self.value > self._value_before:
                self._up_at = now + PROBE_SECONDS
            else:
                self._down_at = now + PROBE_SECONDS
                self._up_at = now
            self.value, self._value_before = self._value_before, 0
        else:
            if congested:
                self.value = max(1, int(self.value * BACKOFF))
            elif self._saturated and now >= self._up_at:
                self.value = min(self.maximum, max(self.value + 1, int(self.value * GROWTH)))
            self._value_before = before if self.value != before else 0
            self._rate_before, self._failed_share_before = rate, share
            self._saturated_before = self._saturated
        self._next_trial(before if self.value != before else 0)

    def _step_was_wrong(self, rate: float, share: float, congested: bool) -> bool:
        if not self._saturated:
            return False  # there was not work enough to tell
        if self.value > self._value_before:
            return congested or rate < self._rate_before * MATTERS_FROM
        if share < self._failed_share_before / 2:
            return False
        return not self._saturated_before or rate * MATTERS_FROM < self._rate_before

    def _next_trial(self, settling: int) -> None:
        self._good = self._failed = 0
        self._seconds = 0.0
        self._saturated = True
        self._settling = settling


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
    """Seconds before the attempt after `attempt` (from 1): up to 0.2, doubling to 2, with full jitter."""
    return chance.uniform(0.0, min(2.0, 0.1 * 2.0**attempt))
