"""From a tick to a batch: a real log, an API on real sockets, and a poller in between."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.log.server import PATIENCE_S, NatsServer, before_each_ack, settle, signs_of_life, until
from tests.poll.scripted import CLOSE, SILENCE, Act, ScriptedApi, answer, good, observation, status
from tidemark.breaker import Breaker
from tidemark.config import Settings, load
from tidemark.errors import CallerError, LogError
from tidemark.log import client, streams
from tidemark.log.client import Consumer, Delivery, Log, connect
from tidemark.messages import Batch, Tick
from tidemark.poll import poller as module
from tidemark.poll import pool
from tidemark.poll.poller import poll
from tidemark.population import Population
from tidemark.process import FILES, wait
from tidemark.schedule.scheduler import schedule

FIRST = 1_000_000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not to come in time does not take long, and a tick is one batch, however slow the machine."""
    monkeypatch.setattr(module, "TICK_WAIT_S", 0.2)
    monkeypatch.setattr(module, "LOG_RETRY_S", 0.1)
    monkeypatch.setattr(module, "PART_S", 2 * PATIENCE_S)
    monkeypatch.setattr(pool, "SWEEP_SECONDS", 0.02)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log is taken away, calls to it end soon."""
    monkeypatch.setattr(client, "CALL_DEADLINE_S", 2.0)
    monkeypatch.setattr(client, "CONNECT_DEADLINE_S", 2.0)


def settings(server: NatsServer, *apis: ScriptedApi, **flags: Any) -> Settings:
    return load(nats=[server.url], api=[api.url for api in apis], **flags)


@asynccontextmanager
async def polling(configured: Settings) -> AsyncIterator[asyncio.Event]:
    """A poller until the end of the block, where it is stopped in order."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(poll(configured, stop))
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await task


@asynccontextmanager
async def reading(configured: Settings) -> AsyncIterator[Log]:
    async with connect(configured, "test") as log:
        await log.open()
        yield log


async def batches(log: Log, enough: Callable[[list[Batch]], bool]) -> list[Batch]:
    """Read batches until these are enough, past crashes of the server."""
    read: list[Batch] = []
    consumer: Consumer | None = None
    give_up_at = time.monotonic() + PATIENCE_S
    while not enough(read):
        assert time.monotonic() < give_up_at, f"{len(read)} batches came"
        try:
            if consumer is None:
                await log.open()
                consumer = await log.consume_observations("test")
            for delivery in await consumer.next(16, 0.2):
                read.append(Batch.decode(delivery.data))
                await settle(delivery)
        except (LogError, nats.errors.Error):
            consumer = None
    return read


async def one(log: Log) -> Batch:
    (batch,) = await batches(log, lambda read: len(read) == 1)
    return batch


async def no_tick_left(log: Log) -> None:
    """Wait until each was acknowledged or set aside."""
    async with asyncio.timeout(PATIENCE_S):
        ticks = await log.consume_ticks()
        while await ticks.pending():
            pass


def pks_of(read: list[Batch]) -> Counter[int]:
    return Counter(pk for batch in read for pk in batch.pk.tolist())


def tick(shard: int = 0, pks: int = 20, due_ms: int | None = None) -> Tick:
    first = FIRST + 1_000 * shard
    return Tick(shard, first, first + pks - 1, due_ms or time.time_ns() // 1_000_000)


async def test_a_tick_becomes_a_batch(nats_server: NatsServer, api: ScriptedApi) -> None:
    configured = settings(nats_server, api)
    async with reading(configured) as log, polling(configured):
        order = tick()
        await log.publish_tick(order)
        batch = await one(log)
        await no_tick_left(log)
    assert batch.tick_id == order.id
    assert batch.pk.tolist() == list(range(order.first_pk, order.last_pk + 1))
    assert batch.username.to_pylist() == [f"influencer-{pk}" for pk in batch.pk]
    assert set(batch.follower_count.tolist()) == {5}
    assert batch.following_count.tolist() == [pk % 7 for pk in batch.pk.tolist()]
    assert all(abs(at / 1_000 - time.time()) < PATIENCE_S for at in batch.observed_at_ms.tolist())
    assert set(api.asked.values()) == {1}


async def test_a_tick_is_acknowledged_when_its_batch_is_on_the_log(
    nats_server: NatsServer, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    publish_batch = Log.publish_batch

    async def published(self: Log, shard: int, batch: Batch) -> bool:
        new = await publish_batch(self, shard, batch)
        happened.append("on the log")
        return new

    async def acknowledged() -> None:
        happened.append("acknowledged")

    monkeypatch.setattr(Log, "publish_batch", published)
    before_each_ack(monkeypatch, acknowledged)
    configured = settings(nats_server, api)
    async with reading(configured) as log, polling(configured):
        await log.publish_tick(tick())
        await no_tick_left(log)
    assert happened == ["on the log", "acknowledged"]


async def test_of_a_tick_that_takes_long_the_log_is_told_that_it_is_in_work(
    nats_server: NatsServer, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = signs_of_life(monkeypatch)
    monkeypatch.setattr(streams, "TICK_ACK_WAIT_S", 1)
    api.hold = asyncio.Event()
    configured = settings(nats_server, api, request_deadline=300)
    async with reading(configured) as log, polling(configured):
        order = tick()
        await log.publish_tick(order)
        await until(lambda: told[order.encode()] >= 3, "a third sign of life")
        api.hold.set()
        assert len(await one(log)) == 20
        await no_tick_left(log)


async def test_scheduler_poller_and_log_observe_everybody_once_a_tick(
    nats_server: NatsServer, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    population = Population(FIRST, FIRST + 2_499, shard_size=1_000)
    monkeypatch.setattr(Settings, "population", property(lambda settings: population))
    given: dict[int, list[int]] = defaultdict(list)

    def script(pk: int, time: int) -> Act:
        given[pk].append(pk % 1_000 * 10 + time)
        return good(pk, followers=given[pk][-1])

    api.script = script
    configured = settings(nats_server, api, interval=1)
    stop = asyncio.Event()
    async with reading(configured) as log, polling(configured):
        scheduler = asyncio.ensure_future(schedule(configured, stop))
        ranges = [population.shard_range(shard) for shard in range(3)]

        def two_of_each_shard(read: list[Batch]) -> bool:
            counts = Counter(int(batch.pk[0]) for batch in read)
            return all(counts[first] >= 2 for first, _ in ranges)

        read = await batches(log, two_of_each_shard)
        stop.set()
        await scheduler
    assert len({batch.tick_id for batch in read}) == len(read)
    for batch in read:
        pks = batch.pk.tolist()
        first, last = next(range_ for range_ in ranges if range_[0] == pks[0])
        assert pks == list(range(first, last + 1))
        assert batch.tick_id.startswith(f"{first}-{last}@")
        for pk, followers in zip(pks, batch.follower_count.tolist(), strict=True):
            assert followers in given[pk]


async def test_what_failed_is_asked_again_and_what_is_unknown_is_not(
    nats_server: NatsServer, api: ScriptedApi
) -> None:
    acts: dict[int, Callable[[int], Act]] = {
        FIRST + 1: lambda time: status(404),
        FIRST + 2: lambda time: status(500) if time == 1 else good(FIRST + 2),
        FIRST + 3: lambda time: CLOSE if time < 3 else good(FIRST + 3),
        FIRST + 4: lambda time: Act(answer(b"<html>")),
        FIRST + 5: lambda time: good(FIRST + 6),
        FIRST + 6: lambda time: Act(answer(observation(FIRST + 6).replace(b": 5", b": -5"))),
    }
    api.script = lambda pk, time: acts[pk](time) if pk in acts else good(pk)
    configured = settings(nats_server, api, max_in_flight=1)
    async with reading(configured) as log, polling(configured):
        await log.publish_tick(tick())
        batch = await one(log)
    missing = set(range(FIRST, FIRST + 20)) - set(batch.pk.tolist())
    assert missing == {FIRST + 1, FIRST + 4, FIRST + 5, FIRST + 6}
    assert api.asked[FIRST] == 1
    assert api.asked[FIRST + 1] == 1
    assert api.asked[FIRST + 2] == 2
    assert api.asked[FIRST + 4] == api.asked[FIRST + 5] == api.asked[FIRST + 6] == module.ATTEMPTS


async def test_a_slow_influencer_holds_up_nobody_else(
    nats_server: NatsServer, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither other ticks nor the others of its own: what was answered goes on the log."""
    monkeypatch.setattr(module, "PART_S", 0.1)
    api.script = lambda pk, time: SILENCE if pk == FIRST + 3 else good(pk)
    configured = settings(nats_server, api, request_deadline=300)
    everybody = Counter(range(FIRST, FIRST + 20))
    for shard in range(1, 6):
        everybody.update(range(FIRST + 1_000 * shard, FIRST + 1_000 * shard + 20))
    async with reading(configured) as log, polling(configured):
        order = tick(shard=0)
        await log.publish_tick(order)
        await until(lambda: api.asked[FIRST + 3], "the request without an answer")
        for shard in range(1, 6):
            await log.publish_tick(tick(shard))
        read = await batches(log, lambda read: pks_of(read).total() == everybody.total() - 1)
        assert pks_of(read) == everybody - Counter([FIRST + 3])
        api.script = lambda pk, time: good(pk)
        api.hang_up()
        late = await one(log)
        await no_tick_left(log)
    parts = {batch.tick_id for batch in read if int(batch.pk[0]) < FIRST + 1_000}
    assert all(part.startswith(f"{order.id}+") for part in parts)
    assert pks_of([late]) == Counter([FIRST + 3])
    assert late.tick_id.startswith(f"{order.id}+")
    assert late.tick_id not in parts


async def test_a_foreign_message_among_the_ticks_is_set_aside(
    nats_server: NatsServer, api: ScriptedApi
) -> None:
    configured = settings(nats_server, api)
    async with reading(configured) as log, polling(configured):
        foreign = await nats.connect(nats_server.url)
        for shard, message in enumerate([b"hello", b'{"\xff": 1}', b'{"shard":0}']):
            await foreign.jetstream().publish(streams.tick_subject(shard), message)
        await foreign.close()
        await log.publish_tick(tick(shard=7))
        assert int((await one(log)).pk[0]) == FIRST + 7_000
        await no_tick_left(log)


async def test_while_the_api_is_down_ticks_wait(
    nats_server: NatsServer, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = Breaker(rest_min_s=3_600, rest_max_s=3_600)
    monkeypatch.setattr(pool, "Breaker", lambda: breaker)
    waits = asyncio.Event()

    async def noted(stop: asyncio.Event, seconds: float) -> bool:
        waits.set()
        return await wait(stop, seconds)

    monkeypatch.setattr(module, "wait", noted)
    unreachable = refused("unreachable")
    await api.stop()
    configured = settings(nats_server, api)
    async with reading(configured) as log, polling(configured):
        await log.consume_ticks()
        await log.publish_tick(tick(due_ms=1))
        async with asyncio.timeout(PATIENCE_S):
            await waits.wait()
            while (await log._jetstream.consumer_info(streams.TICKS, streams.POLLERS)).num_waiting:
                pass  # the poller has given up to ask for a tick; the server may not have
        for due_ms in range(2, 30):
            await log.publish_tick(tick(due_ms=due_ms))
        assert await log.ticks_waiting() == 1
        await api.start()
        assert not api.asked
        breaker.retry_at = 0.0
        batch = await one(log)
        await no_tick_left(log)
    assert batch.tick_id.endswith("@2"), "the first that waited"
    assert len(batch) == 20
    assert set(api.asked.values()) == {1}
    assert refused("unreachable") - unreachable == 20


async def test_a_tick_within_which_the_api_goes_away_comes_again(
    nats_server: NatsServer, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = Breaker(failures_max=1, rest_min_s=3_600, rest_max_s=3_600)
    monkeypatch.setattr(pool, "Breaker", lambda: breaker)
    monkeypatch.setattr(module, "API_RETRY_S", 0.1)
    api.script = lambda pk, time: CLOSE if pk >= FIRST + 10 and time < 3 else good(pk)
    configured = settings(nats_server, api, max_in_flight=1)
    async with reading(configured) as log, polling(configured):
        order = tick()
        await log.publish_tick(order)
        before = await one(log)
        assert before.pk.tolist() == list(range(FIRST, FIRST + 10))
        api.script = lambda pk, time: good(pk)
        breaker.retry_at = 0.0
        after = await one(log)
        await no_tick_left(log)
    assert after.tick_id == order.id
    assert pks_of([after]) == Counter(range(FIRST, FIRST + 20))


async def test_one_tick_shows_whether_the_api_is_back(
    nats_server: NatsServer, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look for it must not take a dozen of those that another poller could answer."""
    breaker = Breaker(rest_min_s=3_600, rest_max_s=3_600)
    breaker.failed(0.0, breaker.failures_max)
    monkeypatch.setattr(pool, "Breaker", lambda: breaker)
    api.hold = asyncio.Event()
    breaker.retry_at = 0.0
    configured = settings(nats_server, api, max_in_flight=1)
    async with reading(configured) as log:
        for shard in range(10):
            await log.publish_tick(tick(shard))
        async with polling(configured):
            await until(lambda: api.asked, "the one request")
            info = await log._jetstream.consumer_info(streams.TICKS, streams.POLLERS)
            assert info.num_ack_pending == 1
            assert api.asked.total() == 1
            api.hold.set()
            assert len(await batches(log, lambda read: len(read) == 10)) == 10
            await no_tick_left(log)


@pytest.mark.usefixtures("impatient")
async def test_polling_goes_on_after_a_crash_of_the_log(nats_server: NatsServer, api: ScriptedApi) -> None:
    api.hold = asyncio.Event()
    configured = settings(nats_server, api)
    async with reading(configured) as log, polling(configured):
        await log.publish_tick(tick(due_ms=1))
        await until(lambda: api.asked.total() == 20, "the requests of the first tick")
        nats_server.kill()
        api.hold.set()
        nats_server.start()
        first = await one(log)
        assert first.tick_id.endswith("@1")  # was on its way while the server was away
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                await log.open()
                await log.publish_tick(tick(due_ms=2))
                break
            except LogError:
                assert time.monotonic() < give_up_at
        second = await one(log)
        assert second.tick_id.endswith("@2")


@pytest.mark.usefixtures("impatient")
async def test_a_poller_waits_for_its_log(nats_server: NatsServer, api: ScriptedApi) -> None:
    configured = settings(nats_server, api)
    nats_server.kill()
    with capture_logs() as said:
        async with polling(configured):
            await until(lambda: any(event["event"] == "no ticks" for event in said), "a poller without a log")
            nats_server.start()
            async with reading(configured) as log:
                await log.publish_tick(tick())
                assert len(await one(log)) == 20


async def test_an_orderly_stop_finishes_the_ticks_in_work(nats_server: NatsServer, api: ScriptedApi) -> None:
    api.hold = asyncio.Event()
    configured = settings(nats_server, api)
    async with reading(configured) as log:
        async with polling(configured) as stop:
            await log.publish_tick(tick())
            await until(lambda: api.asked.total() == 20, "the requests")
            stop.set()
            await asyncio.sleep(0.05)
            api.hold.set()
        assert len(await one(log)) == 20
        ticks = await log.consume_ticks()
        assert await ticks.next(1, 0.2) == []


async def test_what_a_stopped_poller_could_not_finish_another_takes_at_once(
    nats_server: NatsServer, api: ScriptedApi, another_api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_PATIENCE_S", 0.2)
    monkeypatch.setattr(streams, "TICK_ACK_WAIT_S", 10_000)  # not by the log's patience with a dead poller
    api.script = lambda pk, time: SILENCE if pk == FIRST + 5 else good(pk)
    async with reading(settings(nats_server, api)) as log:
        async with polling(settings(nats_server, api, request_deadline=300)):
            await log.publish_tick(tick())
            await until(lambda: api.asked[FIRST + 5], "the request without an answer")
        await until(lambda: not api.open, "the end of the poller's connections")
        async with polling(settings(nats_server, another_api)):
            assert len(await one(log)) == 20


async def test_two_pollers_share_the_ticks(
    nats_server: NatsServer, api: ScriptedApi, another_api: ScriptedApi
) -> None:
    async with (
        reading(settings(nats_server, api)) as log,
        polling(settings(nats_server, api)),
        polling(settings(nats_server, another_api)),
    ):
        shards = 0
        give_up_at = time.monotonic() + PATIENCE_S
        while not (api.asked and another_api.asked):
            assert time.monotonic() < give_up_at
            await log.publish_tick(tick(shards))
            shards += 1
            await asyncio.sleep(0.01)
        read = await batches(log, lambda read: len(read) == shards)
    assert Counter(int(batch.pk[0]) for batch in read) == {
        FIRST + 1_000 * shard: 1 for shard in range(shards)
    }
    assert set((api.asked + another_api.asked).values()) == {1}


async def test_there_are_no_more_connections_than_open_files_allow(
    nats_server: NatsServer, api: ScriptedApi, another_api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they lack would look like a failure of the API."""
    monkeypatch.setattr(module, "raise_file_limit", lambda: FILES + 7)
    api.hold = another_api.hold = asyncio.Event()
    async with reading(settings(nats_server, api)) as log, polling(settings(nats_server, api, another_api)):
        await log.publish_tick(tick())
        await until(lambda: api.asked.total() == another_api.asked.total() == 3, "three each")
        api.hold.set()
        assert len(await one(log)) == 20
    assert len(api.peers) + len(another_api.peers) == 6


async def test_a_tick_that_comes_again_is_on_the_log_once(nats_server: NatsServer, api: ScriptedApi) -> None:
    """As after the death of a poller between its batch and its acknowledgement."""
    configured = settings(nats_server, api)
    order = tick(due_ms=1)
    repeated = refused("repeated")
    async with reading(configured) as log:
        async with polling(configured):
            await log.publish_tick(order)
            await one(log)
        other = Tick(order.shard + 1, order.first_pk, order.last_pk, order.due_ms)
        direct = await nats.connect(nats_server.url)
        await direct.jetstream().publish(streams.tick_subject(other.shard), other.encode())
        await direct.close()
        async with polling(configured):
            await log.publish_tick(tick(shard=9))
            assert int((await one(log)).pk[0]) == FIRST + 9_000
            await until(lambda: min(api.asked.values()) == 1 and api.asked[FIRST] == 2, "the second poll")
            await no_tick_left(log)
        consumer = await log.consume_observations("test")
        assert await consumer.pending() == 0
        assert await consumer.next(1, 0.2) == []
    assert refused("repeated") - repeated == 20


async def test_an_acknowledgement_that_fails_is_no_failure_of_the_tick(
    nats_server: NatsServer, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(self: Delivery) -> None:
        monkeypatch.undo()
        raise LogError("cannot acknowledge a message")

    monkeypatch.setattr(streams, "TICK_ACK_WAIT_S", 1)
    monkeypatch.setattr(Delivery, "ack", failing)
    configured = settings(nats_server, api)
    with capture_logs() as said:
        async with reading(configured) as log, polling(configured):
            await log.publish_tick(tick())
            assert len(await one(log)) == 20
            await until(lambda: api.asked[FIRST] >= 2, "the tick once more")
            await no_tick_left(log)
            assert await (await log.consume_observations("test")).pending() == 0
    told = [event for event in said if event["log_level"] in ("warning", "error")]
    assert any("comes again" in event["event"] for event in told)
    assert not any("exc_info" in event for event in told)


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("tidemark_refused_total", {"reason": reason}) or 0.0


async def test_without_an_api_nothing_is_started(nats_server: NatsServer) -> None:
    with pytest.raises(CallerError, match="--api"):
        await poll(settings(nats_server), asyncio.Event())
