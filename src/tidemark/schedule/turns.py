"""Which turns of the classification are to be issued? (pure)

Classifying is polling with an interval of a day: the same timetable, so shard i of n is due at every
`k * T + i * T / n`, and the work is spread evenly over the day.

What is new is the start. A shard that the record of the verdicts does not know has never been classified:
its next turn is taken now instead of when it is due. Everybody's first verdict then comes as soon as the
classifier can, counts as that of the coming turn, and nobody is asked about twice within the first day. They
are issued in the order in which they are due: if the first sweep takes the whole day, because the API takes
its ten seconds for everybody, then each verdict comes just before the moment to which it belongs.

All other shards are issued the turn they are in: it may have been due while no scheduler ran. Whatever is
done already, the classifier finds in the record, and the log drops a turn that it has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from tidemark.messages import Tick, Turn
from tidemark.schedule.timetable import Timetable


def turns_at_start(timetable: Timetable, now_ms: int, classified: Set[int]) -> list[Turn]:
    """What a scheduler issues first, at `now_ms` (Unix milliseconds): one turn for each shard.

    `classified`: the shards that the record knows. The others come first.
    """
    interval_ms = timetable.interval_ms
    coming = timetable.due(now_ms, now_ms + interval_ms)
    early = [_turn(tick, tick.due_ms - interval_ms) for tick in coming if tick.shard not in classified]
    current = timetable.due(now_ms - interval_ms, now_ms)
    return early + turns([tick for tick in current if tick.shard in classified])


def turns(ticks: Iterable[Tick]) -> list[Turn]:
    """The turns that are due where the timetable says ticks are."""
    return [_turn(tick, tick.due_ms) for tick in ticks]


def _turn(tick: Tick, since_ms: int) -> Turn:
    return Turn(tick.shard, tick.first_pk, tick.last_pk, tick.due_ms, since_ms)
