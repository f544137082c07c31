"""How many readers of the store at once, and how many may wait?

The store serves a few reads at a time. They have threads of their own: what keeps the board fresh never waits behind
somebody's chart. Who would wait for long is told to come again instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from tidemark.serve.problems import Problem
from tidemark.store.clickhouse import READERS

WAITING_MAX: Final = 500
"""A day's series takes 8 ms, two at a time: the last of so many waits two seconds."""
WAIT_S: Final = 10.0
"""The page gives up after as long."""

T = TypeVar("T")


class Readers:
    """Runs reads of the store in threads, `READERS` at a time, in the order in which they were asked for."""

    def __init__(self, waiting_max: int = WAITING_MAX, wait_s: float = WAIT_S) -> None:
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._places = asyncio.Semaphore(READERS)
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._waiting = 0

    async def run(self, read: Callable[[], T]) -> T:
        """The result of `read()`, which may block. Raises Problem 503 where too many wait, or one waited too long."""
        await self._place()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        finally:
            self._places.release()

    async def _place(self) -> None:
        if self._waiting >= self._waiting_max:
            raise busy(f"{self._waiting} readers are waiting already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise busy(f"it was others' turn for {self._wait_s:g} s") from error
        finally:
            self._waiting -= 1


def busy(why: str) -> Problem:
    """The answer to who came when too many others did."""
    return Problem(503, "Busy", f"{why}; try again in a second, or ask another replica")
