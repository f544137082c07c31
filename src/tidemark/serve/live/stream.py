"""How is one reader told? A slot for each source, and at most one write under way.

    tell --> slots --(a task, only while there is something to write)--> send

While nothing is new a stream costs one task that waits for the reader to go away, and no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from starlette.types import Message, Receive, Send

from tidemark.serve.live.sources import Observation, Source

NOTHING: Final[Message] = {"type": "http.response.body", "body": b"", "more_body": True}
END: Final[Message] = {"type": "http.response.body", "body": b"", "more_body": False}

logger = structlog.get_logger("tidemark.serve.live")


class Stream:
    """One open connection of a reader."""

    __slots__ = (
        "_clock",
        "_ending",
        "_loop",
        "_send",
        "_slots",
        "_unsent_bytes",
        "_writer",
        "abort",
        "ends_at",
        "observations",
        "quiet_since",
        "writing_since",
    )

    def __init__(
        self, send: Send, abort: Callable[[], None], unsent_bytes: Callable[[], int], ends_at: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self.abort = abort
        """Drops the connection at once, with what was not sent."""
        self._unsent_bytes = unsent_bytes
        """How much of what was written lies in this process because the reader does not take it."""
        self._slots: list[Source] = []
        """Which sources have something that the reader does not have: each at most once."""
        self._writer: asyncio.Task[None] | None = None
        self._ending = False
        self.observations: Sequence[Observation] = ()
        self.ends_at = ends_at
        """When it has lived long enough, by the loop's clock, as the other times here."""
        self.quiet_since = 0.0
        """When something was written last."""
        self.writing_since: float | None = None
        """Since when a write waits for the reader; None while none does."""

    async def open(self, headers: Sequence[tuple[bytes, bytes]], retry_ms: int) -> None:
        """Say that events follow, and after how long to come again when they end."""
        self.quiet_since = self._loop.time()
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(
            {"type": "http.response.body", "body": b"retry: %d\n\n" % retry_ms, "more_body": True}
        )

    async def closed(self, receive: Receive) -> None:
        """Wait until the reader is gone, or until all is said after `end`."""
        while (await receive())["type"] != "http.disconnect":
            pass

    def tell(self, source: Source) -> None:
        """Write the newest of this source as soon as the reader can take it."""
        if self._ending:
            return
        if source not in self._slots:
            self._slots.append(source)
        self._write_on()

    def end(self) -> None:
        """Say what is new, and no more."""
        if not self._ending:
            self._ending = True
            self._write_on()

    def _write_on(self) -> None:
        if self._writer is None:
            self.writing_since = self._loop.time()
            self._writer = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._slots:
                if self._unsent_bytes():
                    # The reader is slow: what is newest is to be looked up when it can take it, not now.
                    await self._send(NOTHING)
                body = self._take()
                if body:
                    await self._send({"type": "http.response.body", "body": body, "more_body": True})
                self.quiet_since = self.writing_since = self._loop.time()
            if self._ending:
                await self._send(END)
        except Exception as error:
            logger.error("a live stream failed", error=str(error), exc_info=error)
            self.abort()
        finally:
            self.writing_since = self._writer = None

    def _take(self) -> bytes:
        """What the slots stand for now; they are empty afterwards."""
        events = []
        for source in self._slots:
            if event := source.event():
                events.append(event)
                source.sent.inc()
        self._slots.clear()
        return b"".join(events)
