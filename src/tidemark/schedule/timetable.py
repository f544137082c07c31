"""Which ticks are due between two moments? (pure)

With n shards and an interval of T seconds, shard i is due at every Unix time `k * T + i * T / n`. So
the load on the API is even, each influencer keeps its place in the interval, and all schedulers,
restarted or doubled, arrive at the same ticks with the same ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from tidemark.messages import Tick
from tidemark.population import Population


@dataclass(frozen=True, slots=True)
class Timetable:
    """The timetable of a population at an interval in milliseconds (> 0)."""

    population: Population
    interval_ms: int

    def due(self, after_ms: int, until_ms: int) -> list[Tick]:
        """The ticks with `after_ms < due <= until_ms`, in the order they are due.

        Slots that were missed are skipped: a shard that is due more than once gets its latest tick only.
        A clock that stepped back (`until_ms <= after_ms`) has nothing due.
        """
        shards = self.population.shards
        slot = self._slot_after(max(after_ms, until_ms - self.interval_ms))
        ticks = []
        while (due_ms := slot * self.interval_ms // shards) <= until_ms:
            ticks.append(self._tick(slot % shards, due_ms))
            slot += 1
        return ticks

    def next_due_ms(self, after_ms: int) -> int:
        """When the next tick after `after_ms` is due."""
        return self._slot_after(after_ms) * self.interval_ms // self.population.shards

    def _slot_after(self, after_ms: int) -> int:
        """Slot s = k * n + i is due at floor(s * T / n): exact whole numbers, no drift."""
        return -(-(after_ms + 1) * self.population.shards // self.interval_ms)

    def _tick(self, shard: int, due_ms: int) -> Tick:
        first_pk, last_pk = self.population.shard_range(shard)
        return Tick(shard, first_pk, last_pk, due_ms)


@dataclass(slots=True)
class Issued:
    """How far a timetable is issued, by a clock that may be set."""

    until_ms: int
    _highest_ms: int = 0
    _steps: int = 0
    """How often the clock was set back by an interval or more."""

    def advance(self, now_ms: int, interval_ms: int) -> None:
        """All that was due until now is issued.

        A clock set back by less than an interval is waited for: nobody goes unobserved for two. One that was set
        back further has its ticks issued again, by the new time.
        """
        if now_ms <= self.until_ms - interval_ms:
            self._steps += 1
            self.until_ms = now_ms
        self.until_ms = max(self.until_ms, now_ms)
        self._highest_ms = max(self._highest_ms, self.until_ms)

    def named(self, ticks: Sequence[Tick]) -> list[Tick]:
        """The ticks, with ids of their own where such ones were issued before the clock was set back.

        Under the same ids the log would drop them, or the batches that they become. A millisecond makes the difference.
        """
        return [
            replace(tick, due_ms=tick.due_ms + self._steps) if tick.due_ms <= self._highest_ms else tick
            for tick in ticks
        ]


class RoundRobin:
    """The shards one after another, for `--interval 0`: as fast as the pollers take them.

    It keeps so many ticks waiting that the pollers find work until the next look, and asks for no
    shard more than once a second, because a second is the resolution in which observations are kept. So a
    tick is named by its second: of two schedulers that ask for a shard in the same one, the log takes one's.
    """

    def __init__(self, population: Population, waiting_min: int = 16) -> None:
        self._population = population
        self._waiting_min = waiting_min
        self._next = 0
        self._issued_ms = [-(10**18)] * population.shards
        self._issued = 0

    def due(self, now_ms: int, waiting: int) -> list[Tick]:
        """The ticks to issue now, when `waiting` of those issued were not taken yet.

        The queue is kept twice as long as what was taken since the last call. It holds one tick of a shard: as long as
        no more are asked for than there are shards, none pushes out another, only to go to the end of the queue.
        """
        taken = max(0, self._issued - waiting)
        shards = self._population.shards
        wanted = min(max(self._waiting_min, 2 * taken), shards) - waiting
        ticks: list[Tick] = []
        while len(ticks) < wanted:
            shard = self._next
            since_ms = now_ms - self._issued_ms[shard]
            if 0 <= since_ms < 1_000:
                break
            self._issued_ms[shard] = now_ms
            first_pk, last_pk = self._population.shard_range(shard)
            ticks.append(Tick(shard, first_pk, last_pk, now_ms - now_ms % 1_000))
            self._next = (shard + 1) % shards
        self._issued = waiting + len(ticks)
        return ticks
