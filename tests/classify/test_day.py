"""Days in seconds: scheduler, classifiers and log as they are, with a short --classify-interval."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from tidemark.config import Settings, load
from tidemark.log import streams
from tidemark.population import Population
from tidemark.schedule.scheduler import schedule

from .conftest import FIRST, Api, Bench, bench_of, until

pytestmark = pytest.mark.usefixtures("quick")

DAY_S = 5
INFLUENCERS = 60
SHARD_SIZE = 10
ALL = range(FIRST, FIRST + INFLUENCERS)
SHARDS = range(INFLUENCERS // SHARD_SIZE)


@pytest.fixture
async def days(nats_url: str, api: Api, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """Small shards, so that the day has a timetable."""
    population = Population(FIRST, FIRST + INFLUENCERS - 1, SHARD_SIZE)
    monkeypatch.setattr(Settings, "population", property(lambda self: population))
    monkeypatch.setattr(streams, "TURN_ACK_WAIT_S", 0.5)
    settings = load(
        api=(api.url,), nats=(nats_url,), interval=3_600, classify_interval=DAY_S, classify_concurrency=4
    )
    async with bench_of(settings) as bench:
        yield bench


async def verdicts(bench: Bench) -> dict[int, list[tuple[str, bool, int]]]:
    found: dict[int, list[tuple[str, bool, int]]] = {}
    for shard in SHARDS:
        found |= await bench.verdicts(shard)
    return found


async def test_everybody_has_one_verdict_a_day_though_classifiers_and_schedulers_die(
    days: Bench, api: Api
) -> None:
    async def slow(pk: int) -> tuple[int, bytes]:
        await asyncio.sleep(0.03)
        return 200, b'{"pk":%d,"suspicious":%s}' % (pk, b"true" if pk % 3 else b"false")

    async def have(number: int) -> bool:
        found = await verdicts(days)
        return sum(len(rows) >= number for rows in found.values()) == INFLUENCERS

    async def some(number: int) -> bool:
        return sum(len(rows) for rows in (await verdicts(days)).values()) >= number

    api.answering = lambda pk, times: slow(pk)
    stop = asyncio.Event()
    schedulers = [asyncio.ensure_future(schedule(days.settings, stop)) for _ in range(2)]
    try:
        days.start()
        await until(lambda: some(15), "a part of the first sweep")
        await days.kill()
        days.start()
        await until(lambda: have(1), "the first sweep")

        await until(lambda: some(INFLUENCERS + 15), "a part of the second day")
        await days.kill()
        schedulers.append(asyncio.ensure_future(schedule(days.settings, stop)))
        days.start()
        await until(lambda: have(3), "the third day")
    finally:
        stop.set()
        await asyncio.gather(*schedulers)

    for pk, rows in (await verdicts(days)).items():
        assert pk in ALL
        turns = [turn for turn, _, _ in rows]
        assert len(set(turns)) == len(turns), "never two verdicts in one turn"
        due = [int(turn.partition("@")[2]) for turn in turns]
        assert all(later - earlier >= DAY_S * 1_000 for earlier, later in pairwise(due))
        assert {suspicious for _, suspicious, _ in rows} == {pk % 3 != 0}
