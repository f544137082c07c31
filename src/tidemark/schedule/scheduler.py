"""Who puts ticks and turns on the log? Any number of schedulers: they arrive at the same ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Final

import structlog

from tidemark import telemetry
from tidemark.config import Settings
from tidemark.errors import LogError
from tidemark.log.client import Log, connect
from tidemark.messages import Tick, Turn
from tidemark.process import wait
from tidemark.schedule.timetable import Issued, RoundRobin, Timetable
from tidemark.schedule.turns import turns, turns_at_start

LOOK_SECONDS: Final = 0.1
"""With `--interval 0`: how often the tick queue is filled up."""
SLEEP_MAX_SECONDS: Final = 1.0
"""A clock that is set while we sleep is noticed within this."""
APART_MS: Final = 1_000
"""A tick that is so late that the next is due within this, or within a third of a shorter interval, is skipped:
the store keeps one observation a second."""
AT_ONCE_MAX: Final = 64
"""Messages that are published side by side."""
RETRY_SECONDS: Final = 1.0
CATCH_UP_SECONDS: Final = 15.0
"""Ticks that were due while the log was away, or no scheduler ran, are issued afterwards, if that was no longer: an
election in a NATS cluster takes up to ten. What was due before that is skipped, after a sleep of the machine or a clock
set forward too: all at once it would be too much for the API."""
CATCH_UP_SHARE: Final = 0.01
"""Or within this share of a longer interval: a daily turn is not lost to a restart. Where a scheduler that is gone
issued some more than TICK_DEDUPLICATION_S ago, these are observed twice."""

logger = structlog.get_logger("tidemark.schedule")


async def schedule(settings: Settings, stop: asyncio.Event) -> None:
    """Publish ticks and turns until `stop`."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_schedule_ticks(settings, stop))
        group.create_task(_schedule_turns(settings, stop))


async def _schedule_ticks(settings: Settings, stop: asyncio.Event) -> None:
    """What cannot be published for long is skipped, not queued: the next comes anyway."""
    issued = Issued(0)  # a restart catches up as well; what is on the log already, the log drops
    turn = RoundRobin(settings.population)
    async with connect(settings, "schedule", governs=True) as log:
        while not stop.is_set():
            try:
                await log.consume_ticks()
                if settings.interval:
                    timetable = Timetable(settings.population, round(settings.interval * 1_000))
                    await _timed(
                        timetable,
                        issued,
                        lambda ticks: _publish(log, issued.named(ticks)),
                        late_max_ms(timetable.interval_ms),
                        stop,
                    )
                else:
                    await _untimed(turn, log, stop)
            except LogError as error:
                logger.warning("ticks wait", error=str(error))
                await wait(stop, RETRY_SECONDS)


def late_max_ms(interval_ms: int) -> int:
    """How long after it was due a tick is still issued."""
    return max(round(CATCH_UP_SECONDS * 1_000), int(CATCH_UP_SHARE * interval_ms))


async def _schedule_turns(settings: Settings, stop: asyncio.Event) -> None:
    """The turns of the classification. After each failure from the start: the log drops what it has seen."""
    timetable = Timetable(settings.population, round(settings.classify_interval * 1_000))
    async with connect(settings, "schedule turns", governs=True) as log:
        while not stop.is_set():
            try:
                await log.open()
                # Of another population that was watched before: they would be asked about first, for hours.
                queued = await log.drop_turns_of_others(settings.population)
                now_ms = _now_ms()
                classified = await log.shards_with_verdicts()
                await _publish_at_start(log, turns_at_start(timetable, now_ms, classified), queued)
                await _timed(
                    timetable,
                    Issued(now_ms),
                    lambda ticks: _publish_turns(log, turns(ticks)),
                    timetable.interval_ms,
                    stop,
                )
            except LogError as error:
                logger.warning("turns of the classification wait", error=str(error))
                await wait(stop, RETRY_SECONDS)


async def _timed(
    timetable: Timetable,
    issued: Issued,
    issue: Callable[[Sequence[Tick]], Awaitable[None]],
    late_max_ms: int,
    stop: asyncio.Event,
) -> None:
    """Issue what the timetable has due after `issued`, when it is due or so much later at most, and move that on."""
    while not stop.is_set():
        pause_s = (timetable.next_due_ms(issued.until_ms) - _now_ms()) / 1_000
        if pause_s > 0 and await wait(stop, min(pause_s, SLEEP_MAX_SECONDS)):
            return
        now_ms = _now_ms()
        interval_ms = timetable.interval_ms
        worth_ms = now_ms - min(late_max_ms, interval_ms - min(APART_MS, interval_ms // 3))
        await issue([tick for tick in timetable.due(issued.until_ms, now_ms) if tick.due_ms > worth_ms])
        issued.advance(now_ms, interval_ms)


async def _untimed(turn: RoundRobin, log: Log, stop: asyncio.Event) -> None:
    while not await wait(stop, LOOK_SECONDS):
        await _publish(log, turn.due(_now_ms(), await log.ticks_waiting()))


async def _publish(log: Log, ticks: Sequence[Tick]) -> None:
    for start in range(0, len(ticks), AT_ONCE_MAX):
        chunk = ticks[start : start + AT_ONCE_MAX]
        results = await asyncio.gather(*(log.publish_tick(tick) for tick in chunk), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
            (telemetry.TICKS if result else telemetry.TICKS_KEPT).inc()


async def _publish_turns(log: Log, wanted: Sequence[Turn]) -> None:
    """One after another: their order is that in which they are taken."""
    for turn in wanted:
        await log.publish_turn(turn)
        telemetry.TURNS.inc()


async def _publish_at_start(log: Log, wanted: Sequence[Turn], queued: Set[int]) -> None:
    """As below. The log drops a turn that it has seen, also where it was taken off the queue while others were
    watched: so who has none on the queue gets it once more. If it was done, the record says so."""
    issue = f" again {time.time_ns()}"
    for turn in wanted:
        if not await log.publish_turn(turn) and turn.shard not in queued:
            await log.publish_turn(turn, issue)
        telemetry.TURNS.inc()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
