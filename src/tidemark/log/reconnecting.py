"""How does a stage go on reading while the log comes and goes?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tidemark.errors import LogError
from tidemark.log.client import Consumer, Delivery
from tidemark.process import wait

RETRY_S: Final = 1.0


class ReconnectingConsumer:
    """A consumer that is made when it is first read, and anew after each failure of the log."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Consumer]],
        stop: asyncio.Event,
        complain: Callable[..., Any],
        complaint: str,
    ) -> None:
        """`complain(complaint, error=...)` is called with each failure: a method of the stage's logger."""
        self._connect = connect
        self._stop = stop
        self._complain = complain
        self._complaint = complaint
        self._consumer: Consumer | None = None

    @property
    def away(self) -> bool:
        """Whether the log could not be read at the last try; true before the first."""
        return self._consumer is None

    async def next(self, count: int, wait_s: float) -> list[Delivery]:
        """As `Consumer.next`. Where the log fails, none: after it was said, and a pause that `stop` ends."""
        try:
            if self._consumer is None:
                self._consumer = await self._connect()
            return await self._consumer.next(count, wait_s)
        except LogError as error:
            await self._failed(error)
            return []

    async def pending(self) -> int | None:
        """As `Consumer.pending`; None where the log fails."""
        if self._consumer is None:
            return None
        try:
            return await self._consumer.pending()
        except LogError as error:
            await self._failed(error)
            return None

    async def _failed(self, error: LogError) -> None:
        self._complain(self._complaint, error=str(error))
        failed, self._consumer = self._consumer, None
        if failed is not None:
            await failed.close()
        await wait(self._stop, RETRY_S)
