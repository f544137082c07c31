"""How do verdicts get from the log into the store, onto the board and into the figures?

The log delivers at least once, and each verdict counts once: the store keeps one row of the same influencer
and second, the board the newest. A message is acknowledged when its verdicts are on the store's disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import structlog

from tidemark import telemetry
from tidemark.board import Board
from tidemark.errors import LogError, StoreError
from tidemark.log.client import Consumer, Delivery
from tidemark.log.reconnecting import ReconnectingConsumer
from tidemark.messages import MessageError, Verdicts
from tidemark.process import wait
from tidemark.serve.progress import Progress
from tidemark.store.clickhouse import Store

BLOCK_SECONDS: Final = 10.0
"""Verdicts come a dozen a second: an insert now and then will do. The board has them at once."""
BLOCK_ROWS_MAX: Final = 50_000
"""A new store, which reads the verdicts of days, inserts as soon as it has so many."""
FETCH_MESSAGES: Final = 256
FETCH_WAIT_S: Final = 0.5
RETRY_S: Final = 1.0
STOP_PATIENCE_S: Final = 10.0

logger = structlog.get_logger("tidemark.serve")


@dataclass(slots=True)
class _Block:
    """What goes into one insert."""

    since: float = field(default_factory=time.monotonic)
    verdicts: list[Verdicts] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    rows: int = 0


class VerdictSink:
    """Moves verdicts from the log to the board and the store, until it is stopped."""

    def __init__(self, store: Store, board: Board, progress: Progress) -> None:
        self._store = store
        self._board = board
        self._progress = progress
        self.unpublished = False
        """Whether the board took a verdict since this was last set to false."""

    async def run(self, connect: Callable[[], Awaitable[Consumer]], stop: asyncio.Event) -> None:
        """Take verdicts until `stop`; then store what was taken. `connect` gives the log's consumer."""
        block = _Block()
        reader = ReconnectingConsumer(connect, stop, logger.warning, "verdicts cannot be read, trying again")
        give_up_at = float("inf")
        while True:
            if stop.is_set():
                give_up_at = min(give_up_at, time.monotonic() + STOP_PATIENCE_S)
            deliveries = await reader.next(FETCH_MESSAGES, FETCH_WAIT_S)
            for delivery in deliveries:
                await self._take(delivery, block)
            ending = stop.is_set() and (not deliveries or time.monotonic() > give_up_at)
            if not block.deliveries:
                block.since = time.monotonic()
            elif ending or block.rows >= BLOCK_ROWS_MAX or time.monotonic() - block.since >= BLOCK_SECONDS:
                await self._write(block, stop)
                block = _Block()
            if ending:
                return

    async def _take(self, delivery: Delivery, block: _Block) -> None:
        try:
            verdicts = Verdicts.decode(delivery.data)
        except MessageError as error:
            telemetry.SET_ASIDE.inc()
            logger.error("a message is set aside", error=str(error))
            with suppress(LogError):
                await delivery.terminate()
            return
        verdicts = verdicts.logged_at(delivery.logged_at_s)
        block.deliveries.append(delivery)
        block.verdicts.append(verdicts)
        block.rows += len(verdicts)
        self._progress.add(verdicts)
        if self._board.apply_verdicts(verdicts.pk, verdicts.suspicious, verdicts.checked_at):
            self.unpublished = True

    async def _write(self, block: _Block, stop: asyncio.Event) -> None:
        """Store the block, however often it takes, and acknowledge it. Given up when `stop` is set and it fails."""
        pk, checked_at, suspicious = (
            np.concatenate([getattr(verdicts, column) for verdicts in block.verdicts])
            for column in ("pk", "checked_at", "suspicious")
        )
        while True:
            try:
                await asyncio.to_thread(self._store.insert_verdicts, pk, checked_at, suspicious)
                break
            except StoreError as error:
                telemetry.INSERT_FAILURES.inc()
                logger.error("verdicts wait in the log, their insert is tried again", error=str(error))
                if await wait(stop, RETRY_S):
                    return
        telemetry.VERDICT_ROWS.inc(block.rows)
        for delivery in block.deliveries:
            with suppress(LogError):  # an acknowledgement that gets lost is harmless
                await delivery.ack()
