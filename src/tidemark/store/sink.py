"""How do batches get from the log into the store, each observation exactly once?

The log delivers at least once, and the store inserts whole blocks or nothing. So:

- A batch is acknowledged after the insert that holds it is on the disk.
- A batch that this process took before is known by its id and left out (`Seen`).
- A batch that an earlier process may have stored - one that was killed between its insert and its
  acknowledgements - was handed out before, or holds times that the store, or the board that was written down, had
  already reached when this process started. Such a batch is compared with the store, row by row, and so is one that
  was overtaken by a later one of the same influencers. For all others "newer than everything in the store" is proof
  enough. The same comparison is made before an insert of unknown outcome is repeated. A server may be at that insert
  still: of both it takes one (`remember_inserts` in commands.sql).
- A batch that comes again while its block waits to be stored is acknowledged with a later block. So where a stop
  gives a block up, no later one is stored or acknowledged either: all of it comes again at the next start.

Nothing that is stored relies on the sequence numbers of the stream: they may start again after a hard kill.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from tidemark import telemetry
from tidemark.errors import LogError, StoreError
from tidemark.log.client import Consumer, Delivery
from tidemark.log.reconnecting import ReconnectingConsumer
from tidemark.messages import Batch, MessageError
from tidemark.process import wait
from tidemark.store.clickhouse import Store

BLOCK_SECONDS: Final = 1.0
"""ClickHouse wants about one insert a second, of ten thousand rows or more."""
BLOCK_ROWS_MAX: Final = 400_000
"""A block that is full goes at once: 20 MB. While one is written, at most one more is filled."""
FETCH_MESSAGES: Final = 64
"""Half as many rows as a block at most, so that a block that is full is not much larger than that."""
FETCH_WAIT_S: Final = 0.2
GATHER_S: Final = 0.2
"""How often the log is asked for batches, while fewer come than are asked for. Asking for each as it comes costs as
much as taking it does (`tidemark bench e2e`: `serve` took 2.4 us of CPU an observation instead of 1.4, NATS 1.25
instead of 1.05)."""
SEEN_MAX: Final = 60_000
"""Ids of batches that are remembered, 8 MB: three hours of a million influencers by the minute."""
FUTURE_MAX_S: Final = 300
"""An observation is made before the log takes it. One so much later is of a clock that is ahead, and in the history it
would stand where nobody looks for it."""
PAST_MAX_S: Final = 86_400
"""A poller holds a batch for a minute. One that was made so long before the log took it is of a clock that is not set,
and a day of 1970 would be rolled up, with all days since."""
NOTHING_BEFORE_S: Final = 1_577_836_800
"""2020-01-01. Where no clock of a machine is set at its start, the log's is not either."""
REPEATED_S: Final = 600
"""A tick is polled again within minutes. A later batch with its id is another's: the scheduler's clock was set back."""
LAG_SECONDS: Final = 1.0
RETRY_MIN_S: Final = 0.5
RETRY_MAX_S: Final = 15.0
STOP_PATIENCE_S: Final = 10.0
"""An orderly stop takes what lies on the log for so long; the rest waits there."""

logger = structlog.get_logger("tidemark.sink")


class Board(Protocol):
    """What the sink shows each batch to, before it is stored."""

    def same_second(self, batch: Batch) -> npt.NDArray[np.bool_]:
        """(n,): which rows are of the very second in which their influencer was observed last."""

    def overtaken(self, batch: Batch) -> bool:
        """Whether a row is not of a later second than its influencer's latest."""

    def apply(self, batch: Batch, now_ms: int) -> npt.NDArray[np.int64]:
        """Take over a batch at this moment; returns the positions (pk - first pk watched) of new or changed names."""


class Seen:
    """Which batches were taken by this process, and up to when is the store to be asked instead?"""

    def __init__(self, stored_until_s: int, ids_max: int = SEEN_MAX) -> None:
        self._ids: OrderedDict[str, int] = OrderedDict()
        """The id of each batch and its newest second, in the order they were taken."""
        self._ids_max = ids_max
        self._doubtful_until_s = stored_until_s

    def take(self, batch: Batch) -> bool:
        """Remember this batch; False when it was taken before."""
        newest_s = _second(batch.observed_at_ms.max())
        before_s = self._ids.get(batch.tick_id)
        if before_s is not None and abs(newest_s - before_s) <= REPEATED_S:
            return False
        self._ids[batch.tick_id] = newest_s
        if len(self._ids) > self._ids_max:
            _, newest_s = self._ids.popitem(last=False)
            self._doubtful_until_s = max(self._doubtful_until_s, newest_s)
        return True

    def doubtful(self, batch: Batch) -> bool:
        """Whether rows of this batch may be in the store although it was not taken."""
        return _second(batch.observed_at_ms.min()) <= self._doubtful_until_s


@dataclass(slots=True)
class Block:
    """What goes into one insert."""

    since: float = field(default_factory=time.monotonic)
    batches: list[Batch] = field(default_factory=list)
    doubtful: list[bool] = field(default_factory=list)
    """For each batch, whether rows of it may be in the store."""
    deliveries: dict[int, Delivery] = field(default_factory=dict)
    """To be acknowledged when the block is stored; those of repeated batches too. By their place on the log, because
    they come again each minute while nothing can be stored."""
    rows: int = 0
    name_pk: list[int] = field(default_factory=list)
    names: list[pa.StringArray] = field(default_factory=list)
    name_seen_at: list[int] = field(default_factory=list)

    def add(self, batch: Batch, doubtful: bool, new_names: npt.NDArray[np.int64], first_pk: int) -> None:
        """Add a batch, with those of its names that the store does not have."""
        self.batches.append(batch)
        self.doubtful.append(doubtful)
        self.rows += len(batch)
        if len(new_names):
            at = np.searchsorted(batch.pk, new_names + first_pk)
            self.name_pk.extend((new_names + first_pk).tolist())
            self.names.append(batch.username.take(pa.array(at)))
            self.name_seen_at.extend((batch.observed_at_ms[at] // 1_000).tolist())


class Sink:
    """Moves batches from the log to the board and the store, until it is stopped. Made, it asks the store: blocks."""

    def __init__(self, store: Store, board: Board, first_pk: int) -> None:
        self._store = store
        self._board = board
        self._first_pk = first_pk
        self._seen: Seen | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sink")
        self._writing: asyncio.Task[None] | None = None
        self._gave_up = False
        """Whether a block was not stored because of a stop."""
        self.lag_batches: int | None = None
        """Batches on the log that are not stored yet; None while that is not known."""
        self._lag_due_at = 0.0
        self.log_away = True
        """Whether the log could not be read at the last try."""
        self.rows_stored = store.row_count()
        """Rows in the store, as it said after the last insert; fewer when old ones are dropped."""
        self.rows_added = 0
        """Rows that this process stored."""
        self.unpublished_ms: list[int] = []
        """When the oldest observation of each batch was made that the board took since this was emptied."""

    async def run(self, connect: Callable[[], Awaitable[Consumer]], stop: asyncio.Event) -> None:
        """Take batches until `stop`; then store what was taken. `connect` gives the log's consumer."""
        newest = await asyncio.get_running_loop().run_in_executor(self._writer, self._store.max_observed_at)
        self._seen = Seen(newest or 0)
        block = Block()
        reader = ReconnectingConsumer(connect, stop, logger.warning, "the log cannot be read, trying again")
        give_up_at = float("inf")
        gather_until = time.monotonic()
        while True:
            if stop.is_set():
                give_up_at = min(give_up_at, time.monotonic() + STOP_PATIENCE_S)
            await wait(stop, gather_until - time.monotonic())
            began = time.monotonic()
            deliveries = await reader.next(FETCH_MESSAGES, FETCH_WAIT_S)
            gather_until = began + GATHER_S if len(deliveries) < FETCH_MESSAGES else began
            await self._measure_lag(reader)
            self.log_away = reader.away
            for delivery in deliveries:
                await self._take(delivery, block)
                await asyncio.sleep(0)  # readers wait for one batch at most
            full = block.rows >= BLOCK_ROWS_MAX
            if block.deliveries and (full or time.monotonic() - block.since >= BLOCK_SECONDS):
                if await self._written(wait_for_it=full):
                    self._writing = asyncio.ensure_future(self._write(block, stop))
                    block = Block()
            elif not block.deliveries:
                block.since = time.monotonic()
            if stop.is_set() and (self._gave_up or not deliveries or time.monotonic() > give_up_at):
                break
        if await self._written(wait_for_it=True) and block.deliveries:
            await self._write(block, stop)
        self._writer.shutdown()

    async def _measure_lag(self, reader: ReconnectingConsumer) -> None:
        """Ask now and then how far behind the store is."""
        now = time.monotonic()
        if reader.away:
            self.lag_batches = None
        elif now >= self._lag_due_at:
            self._lag_due_at = now + LAG_SECONDS
            self.lag_batches = await reader.pending()
            if self.lag_batches is not None:
                telemetry.LAG_BATCHES.set(self.lag_batches)

    async def _take(self, delivery: Delivery, block: Block) -> None:
        assert self._seen is not None
        try:
            batch = Batch.decode(delivery.data)
        except MessageError as error:
            telemetry.SET_ASIDE.inc()
            logger.error("a message is set aside", error=str(error))
            await _quietly(delivery.terminate())
            return
        if len(batch) and (wrong := _time_is_wrong(batch, delivery.logged_at_s)):
            telemetry.SET_ASIDE.inc()
            logger.error(
                f"a batch {wrong} is set aside, set the clock of its poller",
                tick=batch.tick_id,
                observed_at_s=_second(batch.observed_at_ms.max()),
                logged_at_s=delivery.logged_at_s,
            )
            await _quietly(delivery.terminate())
            return
        block.deliveries[delivery.sequence] = delivery
        if not len(batch) or not self._seen.take(batch):
            telemetry.DUPLICATES.inc(len(batch))
            return
        # The store keeps one observation a second. Two can only come when an influencer is asked anew at
        # once (`--interval 0`), or when a batch comes again after a restart.
        repeated = self._board.same_second(batch)
        if repeated.any():
            telemetry.DUPLICATES.inc(int(repeated.sum()))
            batch = batch.only(~repeated)
            if not len(batch):
                return
        # One that comes late, because it was lost on its way, may be older than what is stored.
        doubtful = self._seen.doubtful(batch) or delivery.repeated or self._board.overtaken(batch)
        new_names = self._board.apply(batch, time.time_ns() // 1_000_000)
        block.add(batch, doubtful, new_names, self._first_pk)
        self.unpublished_ms.append(int(batch.observed_at_ms.min()))

    async def _written(self, *, wait_for_it: bool) -> bool:
        """Whether the next block may be stored: no insert is under way, and none was given up."""
        if self._writing is not None and (self._writing.done() or wait_for_it):
            await self._writing
            self._writing = None
        return self._writing is None and not self._gave_up

    async def _write(self, block: Block, stop: asyncio.Event) -> None:
        """Store the block, however often it takes, and acknowledge it. Given up when `stop` is set and it fails."""
        pause_s = RETRY_MIN_S
        stored: int | None = None
        while stored is None:
            try:
                stored = await asyncio.get_running_loop().run_in_executor(
                    self._writer, self._store_block, block
                )
            except StoreError as error:
                telemetry.INSERT_FAILURES.inc()
                logger.error(
                    "an insert failed; its batches wait in the log and it is tried again", error=str(error)
                )
                block.doubtful = [True] * len(block.batches)
                if await wait(stop, pause_s):
                    self._gave_up = True
                    return
                pause_s = min(RETRY_MAX_S, 2 * pause_s)
        self.rows_added += stored
        telemetry.STORED.inc(stored)
        telemetry.DUPLICATES.inc(block.rows - stored)
        for delivery in block.deliveries.values():
            await _quietly(delivery.ack())

    def _store_block(self, block: Block) -> int:
        """Insert what of the block is not stored yet; returns how many rows. Runs in the writer's thread."""
        columns = [
            self._not_stored(batch) if doubtful else _columns(batch)
            for batch, doubtful in zip(block.batches, block.doubtful, strict=True)
        ]
        if not columns:
            return 0
        pk, at, followers, followings = (np.concatenate(column) for column in zip(*columns, strict=True))
        if any(block.doubtful):
            _, first = np.unique(_row_keys(pk, at), return_index=True)
            if len(first) < len(pk):  # two of one second, both overtaken
                first.sort()
                pk, at, followers, followings = pk[first], at[first], followers[first], followings[first]
        if block.name_pk:  # before the observations: what comes again after a kill is left out by those
            self._store.insert_usernames(
                np.array(block.name_pk, np.uint32),
                pa.concat_arrays(block.names),
                np.array(block.name_seen_at, np.uint32),
            )
        with telemetry.INSERT_SECONDS.time():
            self._store.insert_observations(pk, at, followers, followings)
        with suppress(StoreError):  # too busy to count: they are stored all the same
            self.rows_stored = self._store.row_count()
        return len(pk)

    def _not_stored(self, batch: Batch) -> tuple[npt.NDArray[np.uint32], ...]:
        """The columns of a batch without the rows that the store has."""
        pk, at, followers, followings = _columns(batch)
        stored_pk, stored_at = self._store.existing_rows(
            int(pk[0]), int(pk[-1]), int(at.min()), int(at.max())
        )
        missing = ~np.isin(_row_keys(pk, at), _row_keys(stored_pk, stored_at))
        return pk[missing], at[missing], followers[missing], followings[missing]


def _time_is_wrong(batch: Batch, logged_at_s: int) -> str:
    """In words, when a batch is not of about the time at which the log took it; "" when it is."""
    # Of two clocks that disagree one may be wrong: only what both call the future is of a third that is.
    if batch.observed_at_ms.max() > (max(logged_at_s, time.time()) + FUTURE_MAX_S) * 1_000:
        return "from the future"
    if batch.observed_at_ms.min() < max(logged_at_s - PAST_MAX_S, NOTHING_BEFORE_S) * 1_000:
        return "of the past"
    return ""


def _columns(batch: Batch) -> tuple[npt.NDArray[np.uint32], ...]:
    """As they are stored: pk, seconds, followers, followings."""
    at = (batch.observed_at_ms // 1_000).astype(np.uint32)
    return batch.pk, at, batch.follower_count, batch.following_count


def _row_keys(pk: npt.NDArray[np.uint32], at: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    return pk.astype(np.uint64) << np.uint64(32) | at.astype(np.uint64)


def _second(at_ms: np.int64) -> int:
    return int(at_ms) // 1_000


async def _quietly(answer: Awaitable[None]) -> None:
    """An answer to the log that gets lost is harmless: the message comes again and changes nothing."""
    try:
        await answer
    except LogError as error:
        logger.debug("an answer to the log was lost", error=str(error))
