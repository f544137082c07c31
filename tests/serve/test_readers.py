"""Readers of the store: how many at once, how many may wait, for how long."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tidemark.serve.problems import Problem
from tidemark.serve.readers import Readers
from tidemark.store.clickhouse import READERS

PATIENCE_S = 60


def begun(running: threading.Semaphore) -> bool:
    return all(running.acquire(timeout=PATIENCE_S) for _ in range(READERS))


async def test_reads_run_beside_each_other_and_give_their_results() -> None:
    together = threading.Barrier(READERS, timeout=PATIENCE_S)

    def read() -> int:
        return together.wait()

    readers = Readers()
    assert sorted(await asyncio.gather(*(readers.run(read) for _ in range(READERS)))) == list(range(READERS))


async def test_an_error_of_a_read_is_its_readers() -> None:
    readers = Readers()
    for _ in range(READERS + 1):
        with pytest.raises(ZeroDivisionError):
            await readers.run(lambda: 1 // 0)


async def test_who_would_wait_for_long_is_sent_away_and_other_threads_are_free() -> None:
    readers = Readers(waiting_max=1, wait_s=PATIENCE_S)
    go, running = threading.Event(), threading.Semaphore(0)

    def read() -> str:
        running.release()
        assert go.wait(PATIENCE_S)
        return "read"

    first = [asyncio.ensure_future(readers.run(read)) for _ in range(READERS)]
    assert await asyncio.to_thread(begun, running)
    waiting = asyncio.ensure_future(readers.run(lambda: "waited"))
    await asyncio.sleep(0)
    with pytest.raises(Problem) as refused:
        await readers.run(lambda: "one too many")
    assert refused.value.status == 503
    assert await asyncio.to_thread(lambda: "published") == "published"
    go.set()
    assert await asyncio.gather(*first, waiting) == ["read"] * READERS + ["waited"]
    assert await readers.run(lambda: "later") == "later"


async def test_nobody_waits_for_ever() -> None:
    readers = Readers(wait_s=0.01)
    go, running = threading.Event(), threading.Semaphore(0)

    def read() -> bool:
        running.release()
        return go.wait(PATIENCE_S)

    first = [asyncio.ensure_future(readers.run(read)) for _ in range(READERS)]
    assert await asyncio.to_thread(begun, running)
    with pytest.raises(Problem, match="others' turn"):
        await readers.run(lambda: False)
    go.set()
    assert await asyncio.gather(*first) == [True] * READERS
    assert await readers.run(lambda: "later") == "later"
