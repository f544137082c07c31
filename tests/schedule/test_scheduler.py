"""Schedulers with a real log: what is on the queue is what the timetable says, once."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.log.server import PATIENCE_S, NatsServer, until
from tidemark.config import Settings, load
from tidemark.errors import LogError
from tidemark.log import client, streams
from tidemark.log.client import Consumer, Log, connect
from tidemark.messages import Tick
from tidemark.population import SHARD_SIZE_PKS
from tidemark.schedule import scheduler
from tidemark.schedule.scheduler import schedule
from tidemark.schedule.timetable import Issued, Timetable
from tidemark.schedule.turns import turns_at_start

SHARDS = 4
INFLUENCERS = f"1-{SHARDS * SHARD_SIZE_PKS}"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "RETRY_SECONDS", 0.1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log is taken away, calls to it end soon."""
    monkeypatch.setattr(client, "CONNECT_DEADLINE_S", 2.0)
    monkeypatch.setattr(client, "CALL_DEADLINE_S", 2.0)


@asynccontextmanager
async def running(work: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    """Run it until the end of the block, then stop it in order."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await task


@asynccontextmanager
async def scheduling(configured: Settings) -> AsyncIterator[Log]:
    """A scheduler, until the end of the block, and its log."""
    async with connect(configured, "test") as log, running(lambda stop: schedule(configured, stop)):
        yield log


def settings(server: NatsServer, interval: float) -> Settings:
    return load(nats=[server.url], influencers=INFLUENCERS, interval=interval)


async def consumer_of(log: Log) -> Consumer:
    """As soon as the log is there."""
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            await log.open()
            return await log.consume_ticks()
        except LogError:
            assert time.monotonic() < give_up_at


async def taken(log: Log, wanted: Callable[[list[Tick]], bool]) -> list[Tick]:
    """Take and acknowledge ticks until these are enough."""
    ticks: list[Tick] = []
    consumer = await consumer_of(log)
    give_up_at = time.monotonic() + PATIENCE_S
    while not wanted(ticks):
        assert time.monotonic() < give_up_at, ticks
        try:
            for delivery in await consumer.next(8, 0.2):
                ticks.append(Tick.decode(delivery.data))
                await delivery.ack()
        except LogError:
            consumer = await consumer_of(log)
    return ticks


def rounds(count: int) -> Callable[[list[Tick]], bool]:
    """So many different ticks of each shard."""
    return lambda ticks: all(
        len({tick.due_ms for tick in ticks if tick.shard == shard}) >= count for shard in range(SHARDS)
    )


def assert_by_the_timetable(ticks: list[Tick], configured: Settings) -> None:
    timetable = Timetable(configured.population, round(configured.interval * 1_000))
    for tick in ticks:
        assert tick in timetable.due(tick.due_ms - 1, tick.due_ms)
        assert tick.due_ms <= time.time() * 1_000
    assert len({tick.id for tick in ticks}) == len(ticks)


async def test_the_ticks_of_the_timetable_are_on_the_queue(nats_server: NatsServer) -> None:
    configured = settings(nats_server, 1)
    async with scheduling(configured) as log:
        ticks = await taken(log, rounds(2))
    assert_by_the_timetable(ticks, configured)


async def test_a_scheduler_that_starts_issues_what_fell_due_just_before(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "CATCH_UP_SECONDS", 7_200.0)
    configured = settings(nats_server, 3_600)
    async with scheduling(configured) as log:
        ticks = await taken(log, rounds(1))
    assert_by_the_timetable(ticks, configured)


async def test_two_schedulers_issue_each_tick_once(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued: Counter[str] = Counter()
    publish_tick = Log.publish_tick

    async def counted(self: Log, tick: Tick) -> bool:
        is_there = await publish_tick(self, tick)
        issued[tick.id] += 1
        return is_there

    monkeypatch.setattr(Log, "publish_tick", counted)
    configured = settings(nats_server, 1)
    async with (
        connect(configured, "test") as log,
        running(lambda stop: schedule(configured, stop)),
        running(lambda stop: schedule(configured, stop)),
    ):
        ticks = await taken(
            log, lambda ticks: rounds(2)(ticks) and sum(issued[tick.id] == 2 for tick in ticks) >= SHARDS
        )
    assert_by_the_timetable(ticks, configured)


def waits_for_the_log(said: Sequence[Mapping[str, Any]]) -> bool:
    """With its ticks, and with the turns of the classification."""
    return {event["event"] for event in said} >= {"ticks wait", "turns of the classification wait"}


@pytest.mark.usefixtures("impatient")
async def test_a_scheduler_waits_for_its_log(nats_server: NatsServer) -> None:
    configured = settings(nats_server, 1)
    nats_server.kill()
    with capture_logs() as said:
        async with scheduling(configured) as log:
            await until(lambda: waits_for_the_log(said), "a scheduler without a log")
            nats_server.start()
            ticks = await taken(log, rounds(1))
    assert_by_the_timetable(ticks, configured)


@pytest.mark.usefixtures("impatient")
async def test_a_scheduler_outlives_a_crash_of_the_server(nats_server: NatsServer) -> None:
    configured = settings(nats_server, 1)
    async with scheduling(configured) as log:
        await taken(log, rounds(1))
        nats_server.restart()
        ticks = await taken(log, rounds(1))
    assert_by_the_timetable(ticks, configured)


@pytest.mark.parametrize("second_from_ms", [0, 3_000, 10_000])
async def test_pollers_that_cannot_keep_up_observe_everybody_in_turn(
    nats_server: NatsServer, second_from_ms: int
) -> None:
    """Also when a second scheduler comes meanwhile, and when it is late each time."""
    configured = settings(nats_server, 1)
    timetable = Timetable(configured.population, 1_000)
    async with connect(configured, "test") as log:
        consumer = await consumer_of(log)
        await scheduler._publish(log, timetable.due(0, 1_000))
        taken: list[int] = []
        for at_ms in range(
            1_250, 9_250, 250
        ):  # a shard is due at each of these, and each second one is taken
            await scheduler._publish(log, timetable.due(at_ms - 250, at_ms))
            if at_ms > second_from_ms:
                await scheduler._publish(log, timetable.due(at_ms - 500, at_ms - 250))
            if at_ms % 500 == 0:
                (delivery,) = await consumer.next(1, PATIENCE_S)
                taken.append(Tick.decode(delivery.data).shard)
                await delivery.ack()
    for turn in range(0, len(taken), SHARDS):
        assert sorted(taken[turn : turn + SHARDS]) == list(range(SHARDS)), taken


@pytest.mark.usefixtures("impatient")
async def test_what_was_due_while_the_log_was_away_is_issued_when_it_is_back(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "CATCH_UP_SECONDS", 1_000.0)
    configured = settings(nats_server, 8)
    async with scheduling(configured) as log:
        await taken(log, lambda ticks: len(ticks) >= 1)
        nats_server.kill()
        from_ms = time.time() * 1_000
        await asyncio.sleep(2.1)  # a shard is due every two seconds
        until_ms = time.time() * 1_000
        nats_server.start()
        ticks = await taken(log, lambda ticks: any(from_ms < tick.due_ms < until_ms for tick in ticks))
    assert_by_the_timetable(ticks, configured)


async def issued_at_once(timetable: Timetable, since_ms: int, late_max_ms: int) -> tuple[list[Tick], int]:
    """What is issued at the first look of one who has issued all until `since_ms`, and when that was."""
    issued, stop = Issued(since_ms), asyncio.Event()
    found: list[Tick] = []

    async def issue(ticks: Sequence[Tick]) -> None:
        found.extend(ticks)
        stop.set()

    await scheduler._timed(timetable, issued, issue, late_max_ms, stop)
    return found, issued.until_ms


async def test_turns_that_were_due_while_the_first_ones_were_published_are_issued() -> None:
    timetable = Timetable(load(influencers=INFLUENCERS).population, 40_000)
    since_ms = round(time.time() * 1_000) - 30_000  # longer than ticks are caught up
    found, now_ms = await issued_at_once(timetable, since_ms, timetable.interval_ms)
    assert found == timetable.due(since_ms, now_ms)
    assert len(found) >= 3


async def test_after_a_long_sleep_no_more_is_issued_than_is_worth_it() -> None:
    """Nor after the clock was set forward: a whole interval at once would be too much for the API."""
    timetable = Timetable(load(influencers=f"1-{400 * SHARD_SIZE_PKS}").population, 400_000)
    since_ms = round(time.time() * 1_000) - 300_000
    found, now_ms = await issued_at_once(timetable, since_ms, 15_000)
    assert found == timetable.due(now_ms - 15_000, now_ms)
    found, now_ms = await issued_at_once(timetable, 0, timetable.interval_ms)
    # But for those whose next tick is about to come: the store keeps one observation a second.
    assert found == timetable.due(now_ms - 400_000 + 1_000, now_ms)


async def test_a_turn_that_waits_on_the_queue_is_not_issued_a_second_time_at_a_start(
    nats_server: NatsServer,
) -> None:
    configured = settings(nats_server, 3_600)
    turns = Timetable(configured.population, round(configured.classify_interval * 1_000))
    wanted = turns_at_start(turns, round(time.time() * 1_000), set())
    async with connect(configured, "test") as log:
        await log.open()
        for _ in range(2):
            queued = await log.drop_turns_of_others(configured.population)
            await scheduler._publish_at_start(log, wanted, queued)
        put_there = (await log._jetstream.stream_info(streams.CLASSIFICATIONS)).state.last_seq
    assert put_there == len(wanted) == SHARDS


@pytest.mark.parametrize(
    ("interval_s", "late_s"), [(1, 15), (60, 15), (1_500, 15), (3_600, 36), (86_400, 864)]
)
def test_at_a_long_interval_more_is_caught_up(interval_s: int, late_s: int) -> None:
    assert scheduler.late_max_ms(interval_s * 1_000) == late_s * 1_000


@pytest.mark.usefixtures("impatient")
async def test_a_scheduler_can_be_stopped_while_the_log_is_away(nats_server: NatsServer) -> None:
    configured = settings(nats_server, 1)
    nats_server.kill()
    with capture_logs() as said:
        async with running(lambda stop: schedule(configured, stop)):
            await until(lambda: waits_for_the_log(said), "a scheduler without a log")


async def test_without_an_interval_ticks_come_as_they_are_taken(nats_server: NatsServer) -> None:
    configured = settings(nats_server, 0)
    async with scheduling(configured) as log:
        ticks = await taken(log, rounds(2))
        assert await log.ticks_waiting() <= SHARDS
    for shard in range(SHARDS):
        dues = [tick.due_ms for tick in ticks if tick.shard == shard]
        assert all(after - before >= 1_000 for before, after in pairwise(dues))
