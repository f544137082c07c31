from __future__ import annotations

import asyncio

from tidemark.classify.alarm import Alarm

from .conftest import PATIENCE_S


async def test_it_rings_once_at_the_earliest_moment_and_can_be_set_again() -> None:
    rang: asyncio.Queue[None] = asyncio.Queue()
    alarm = Alarm(lambda: rang.put_nowait(None))
    now = asyncio.get_running_loop().time()
    for moment in (now + 3_600, now + 0.01, now + 7_200):
        alarm.set(moment)
    for _ in range(2):
        async with asyncio.timeout(PATIENCE_S):
            await rang.get()
        assert rang.empty()
        alarm.set(now)


async def test_it_does_not_ring_when_it_is_cancelled() -> None:
    rang = asyncio.Event()
    alarm = Alarm(rang.set)
    alarm.set(asyncio.get_running_loop().time())
    alarm.cancel()
    await asyncio.sleep(0.01)
    assert not rang.is_set()
