"""How does a tick become a batch on the log?

A poller holds no state and owns no shard. It takes ticks while it has room, asks the API, and
acknowledges a tick when its batch is on the log's disk; where answers are slow, its batches. When it dies in
between, JetStream hands the tick to another, and the batch's id keeps the log free of a second one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from tidemark import telemetry
from tidemark.config import Settings
from tidemark.errors import CallerError, LogError
from tidemark.log import streams
from tidemark.log.client import Delivery, Log, connect
from tidemark.log.reconnecting import ReconnectingConsumer
from tidemark.messages import Batch, MessageError, Tick
from tidemark.poll.exchange import compile_ahead
from tidemark.poll.pacing import retry_delay
from tidemark.poll.pool import Pool
from tidemark.population import SHARD_SIZE_PKS
from tidemark.process import raise_file_limit, spawn, wait, within_files

TICKS_IN_WORK_MAX: Final = 16
"""Ticks one poller works on: bounds its memory to about 16 batches. Slow answers of one do not hold up the next."""
REQUESTS_WAITING_MIN: Final = 3_000
"""Ticks are taken while fewer requests wait than this, or than twice what may be in flight, as many at once as that
takes: so that connections do not run out of work while they are fetched, which takes 20 ms of a busy machine, and no
tick is hoarded that another could answer."""
ATTEMPTS: Final = 3
"""How often an influencer is asked for one tick."""
TICK_WAIT_S: Final = 2.0
"""How long one look for a tick lasts."""
PART_S: Final = 0.5
"""What is answered waits about so long for what is not; then it goes on the log as a batch of its own."""
ROOM_LOOK_S: Final = 0.005
"""How often the requests that wait are counted, while there are too many."""
LOG_RETRY_S: Final = 1.0
API_RETRY_S: Final = 15.0
"""After how long a tick whose API was away is handed out again: as long as the longest rest of an API, so that one
look for it does not take the ticks of the one before."""
PUBLISH_PATIENCE_S: Final = 60.0
"""How long a batch waits for a log that is away before its tick is handed back."""
STOP_PATIENCE_S: Final = 20.0
"""An orderly stop waits so long for the ticks in work; what is left over goes to another poller."""
COMPLAIN_SECONDS: Final = 10.0
TOLD_MAX: Final = 3
"""Influencers that are named when it is said that some were not observed."""
COMPILED_ANEW_S: Final = 5.0
"""Nothing is compiled in so short a time, only loaded."""

logger = structlog.get_logger("tidemark.poll")


async def poll(settings: Settings, stop: asyncio.Event) -> None:
    """Take ticks and publish batches until `stop`; then finish those in work. Raises CallerError without an API."""
    if not settings.api:
        raise CallerError("which API? Name it with --api http://host:port")
    connections = -(-settings.max_in_flight // settings.pipeline) * len(settings.api)
    held = within_files(connections, raise_file_limit(), "--max-in-flight")
    in_flight = max(1, held // len(settings.api)) * settings.pipeline
    settings = settings.model_copy(update={"max_in_flight": min(settings.max_in_flight, in_flight)})
    began = time.monotonic()
    await asyncio.to_thread(compile_ahead)
    if time.monotonic() - began > COMPILED_ANEW_S:
        logger.info("compiled, once", seconds=round(time.monotonic() - began))
    async with connect(settings, "poll") as log:
        pool = Pool(settings)
        try:
            await _Poller(settings, log, pool).run(stop)
        finally:
            await pool.close()


class _Poller:
    def __init__(self, settings: Settings, log: Log, pool: Pool) -> None:
        self._settings = settings
        self._log = log
        self._pool = pool
        self._work: set[asyncio.Task[None]] = set()
        self._refused: Counter[str] = Counter()
        self._complained_at = 0.0
        self._chance = random.Random()

    async def run(self, stop: asyncio.Event) -> None:
        logger.info("polling", api=list(self._settings.api))
        ticks = ReconnectingConsumer(self._log.consume_ticks, stop, logger.warning, "no ticks")
        while not stop.is_set():
            if wanted := await self._ticks_wanted(stop):
                for delivery in await ticks.next(wanted, TICK_WAIT_S):
                    spawn(self._work, self._answer(delivery), "a tick")
        if self._work:
            _, late = await asyncio.wait(self._work, timeout=STOP_PATIENCE_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _ticks_wanted(self, stop: asyncio.Event) -> int:
        """Wait until another tick would find an API to ask and connections that run out of work; how many would.

        One, where a single request is to show whether the API is back. 0 at `stop`.
        """
        pool = self._pool
        while not stop.is_set():
            if not pool.reachable.is_set():
                await wait(stop, 0.1)
                continue
            missing = max(REQUESTS_WAITING_MIN, 2 * pool.allowed) - pool.waiting
            free = (1 if pool.on_trial else TICKS_IN_WORK_MAX) - len(self._work)
            if missing > 0 and free > 0:
                return min(-(-missing // SHARD_SIZE_PKS), free)
            await asyncio.sleep(ROOM_LOOK_S)
        return 0

    async def _answer(self, delivery: Delivery) -> None:
        """One tick, from the order to the acknowledgement."""
        try:
            tick = Tick.decode(delivery.data)
        except MessageError as error:
            telemetry.SET_ASIDE.inc()
            logger.error("set aside", error=str(error))
            await delivery.terminate()
            return
        heartbeat = asyncio.ensure_future(_keep_alive(delivery))
        try:
            try:
                done = await self._observe(tick)
            except LogError as error:
                logger.error("a batch is given up and its tick handed back", error=str(error))
                await delivery.again(LOG_RETRY_S)
                return
            if not done:
                await delivery.again(API_RETRY_S)
                return
            telemetry.TICK_DELAY.observe(max(0.0, time.time() - tick.due_ms / 1_000))
            await delivery.ack()
        except LogError as error:
            logger.warning("the log was not told what became of a tick: it comes again", error=str(error))
        except asyncio.CancelledError:
            with suppress(LogError):
                await delivery.again(0)
            raise
        finally:
            heartbeat.cancel()

    async def _observe(self, tick: Tick) -> bool:
        """Ask for each influencer of the tick, those that failed up to ATTEMPTS times, and publish the answers.

        Returns whether that was all: not where the API went away meanwhile. Raises LogError as `_publish` does.
        """
        size = tick.last_pk - tick.first_pk + 1
        positions: Sequence[int] | npt.NDArray[np.int64] = range(size)
        refused: Counter[str] = Counter()
        part_at = time.monotonic() + PART_S
        with self._pool.begin(tick.first_pk, size) as round_:
            for attempt in range(1, ATTEMPTS + 1):
                self._pool.ask(round_, positions)
                while not await _is_done(round_.done, part_at):
                    await self._publish(tick, round_.batch(tick.id))
                    part_at = time.monotonic() + PART_S
                refused += round_.refused()
                positions = round_.wanting()
                if not len(positions) or not self._pool.reachable.is_set():
                    break
                if attempt < ATTEMPTS:
                    await asyncio.sleep(retry_delay(attempt, self._chance))
            done = not len(positions) or self._pool.reachable.is_set()
            batch = round_.batch(tick.id)
            unobserved = round_.unobserved(TOLD_MAX)
        for reason, count in refused.items():
            telemetry.REFUSED.labels(reason).inc(count)
        outcome = f"{size - round_.batched} not observed"
        self._complain(refused, tick, f"{outcome}: {unobserved}" if unobserved else outcome)
        await self._publish(tick, batch)
        return done

    def _complain(self, refused: Counter[str], tick: Tick, outcome: str) -> None:
        """Say what was refused, at most every ten seconds."""
        self._refused += refused
        now = time.monotonic()
        if self._refused and now - self._complained_at > COMPLAIN_SECONDS:
            logger.warning(
                "answers were refused",
                refused=dict(self._refused),
                latest=f"pks {tick.first_pk}-{tick.last_pk}, {outcome}",
            )
            self._refused.clear()
            self._complained_at = now

    async def _publish(self, tick: Tick, batch: Batch) -> None:
        """Put the batch on the log, waiting for a log that is away. Raises LogError when that takes too long."""
        if not len(batch):
            return
        give_up_at = time.monotonic() + PUBLISH_PATIENCE_S
        attempt, new = 1, None
        while new is None:
            try:
                new = await self._log.publish_batch(tick.shard, batch)
            except LogError:
                telemetry.PUBLISH_RETRIES.inc()
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(retry_delay(attempt, self._chance))
                attempt += 1
        if new or attempt > 1:  # that of before may be this one, of which the log's word was lost
            telemetry.BATCHES.inc()
            telemetry.OBSERVATIONS.inc(len(batch))
        else:
            telemetry.REFUSED.labels("repeated").inc(len(batch))
            self._complain(Counter(repeated=len(batch)), tick, f"{len(batch)} on the log already")


async def _is_done(future: asyncio.Future[None], at: float) -> bool:
    """Whether it is done, as soon as it is, or at this time of the monotonic clock."""
    done, _ = await asyncio.wait((future,), timeout=max(0.0, at - time.monotonic()))
    return bool(done)


async def _keep_alive(delivery: Delivery) -> None:
    while True:
        await asyncio.sleep(streams.TICK_ACK_WAIT_S / 3)
        # While reconnecting it fails; if that lasts, another gets the tick and the log drops one batch.
        with suppress(LogError):
            await delivery.in_progress()
