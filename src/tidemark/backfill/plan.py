"""Which observations would there have been? (pure)

As the timetable has it: shard i of n is due at every k * T + i * T / n, in whole seconds here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tidemark.errors import CallerError
from tidemark.population import Population

DAY_S: Final = 86_400
BLOCK_ROWS_MAX: Final = 6_000_000
"""Rows of an insert, which becomes one part: 100 MB of columns, and some copies of them on their way."""
BYTES_PER_ROW: Final = 3.0
BYTES_PER_INFLUENCER_DAY: Final = 900
"""On disk (`tidemark bench storage`): an observation; the rollups and ranks of a day beside it."""


@dataclass(frozen=True, slots=True)
class Span:
    """A day or a part of one, in Unix seconds from (inclusive) to (exclusive), and whether the day ends with it."""

    from_s: int
    to_s: int
    ends_day: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Everybody's observations from (inclusive) to (exclusive) in Unix seconds, one each `interval_s`."""

    population: Population
    interval_s: int
    from_s: int
    to_s: int
    seed: int = 1

    @classmethod
    def until(cls, now_s: int, days: float, interval_s: float, population: Population, seed: int = 1) -> Plan:
        """So many days that end now. Raises CallerError for what makes no history."""
        if not interval_s >= 1 or interval_s % 1:
            raise CallerError(
                f"a history has an observation each whole number of seconds, not {interval_s:g}: --interval 60"
            )
        from_s = now_s + 1 - round(days * DAY_S) if math.isfinite(days) else 0
        if not 0 < from_s <= now_s + 1 - interval_s:
            raise CallerError(
                f"{days:g} days have no observation each {interval_s:g} s: give more --days, or a shorter --interval"
            )
        return cls(population, int(interval_s), from_s, now_s + 1, seed)

    @property
    def rows(self) -> int:
        """How many observations there are, give or take one an influencer."""
        return self.population.size * ((self.to_s - self.from_s) // self.interval_s)

    @property
    def disk_bytes(self) -> int:
        """About what they take on the disk."""
        days = (self.to_s - self.from_s) / DAY_S
        return round(self.rows * BYTES_PER_ROW + self.population.size * days * BYTES_PER_INFLUENCER_DAY)

    def spans(self) -> Iterator[Span]:
        """The days in their order; where a day has more calls than a block takes of one shard, parts of days."""
        most_s = self.interval_s * max(1, BLOCK_ROWS_MAX // self.population.shard_size)
        at = self.from_s
        while at < self.to_s:
            midnight = (at // DAY_S + 1) * DAY_S
            to_s = min(at + most_s, midnight, self.to_s)
            yield Span(at, to_s, to_s in (midnight, self.to_s))
            at = to_s

    def blocks(self, span: Span) -> Iterator[range]:
        """The shards, cut into runs that make an insert each."""
        calls = (span.to_s - span.from_s) // self.interval_s + 1
        shards = max(1, BLOCK_ROWS_MAX // (calls * self.population.shard_size))
        for first in range(0, self.population.shards, shards):
            yield range(first, min(first + shards, self.population.shards))

    def times(self, shard: int, span: Span) -> npt.NDArray[np.uint32]:
        """When a shard is observed within a span, in Unix seconds, ascending; may be empty."""
        phase = shard * self.interval_s // self.population.shards
        first = -(-(span.from_s - phase) // self.interval_s) * self.interval_s + phase
        return np.arange(first, span.to_s, self.interval_s).astype(np.uint32)
