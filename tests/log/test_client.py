"""The log against a real NATS server, which is killed and started again."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import nats
import numpy as np
import pytest
from nats.js.errors import APIError

from tests.log.server import PATIENCE_S, NatsServer, patient, settle, until
from tidemark.config import load
from tidemark.errors import LogError
from tidemark.log import client, streams
from tidemark.log.client import Consumer, Delivery, Log, connect
from tidemark.messages import Batch, MessageError, Tick, Turn, string_array
from tidemark.population import Population

WAIT_S = 0.2
"""For what is not to come; what is to come is waited for with patience."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not to come in time does not take long."""
    monkeypatch.setattr(client, "CALL_DEADLINE_S", 2.0)
    monkeypatch.setattr(client, "CONNECT_DEADLINE_S", 2.0)


@pytest.fixture
async def log(nats_server: NatsServer) -> AsyncIterator[Log]:
    async with connect(load(nats=[nats_server.url]), "test") as log:
        await log.open()
        yield log


def tick(shard: int = 0, due_ms: int = 1) -> Tick:
    return Tick(shard, shard * 10, shard * 10 + 9, due_ms)


def batch(tick_id: str = "0-9@1", pks: int = 3) -> Batch:
    counts = np.arange(pks, dtype=np.uint32)
    return Batch(tick_id, counts, np.ones(pks, np.int64), counts, counts, string_array(["a"] * pks))


async def test_a_log_for_which_the_disk_is_too_small_is_refused_with_a_way_out(
    nats_server: NatsServer,
) -> None:
    async with connect(load(nats=[nats_server.url], log_gigabytes=100_000), "test") as log:
        with pytest.raises(LogError, match=r"no room for OBSERVATIONS, .* 100000 GB: free disk"):
            await log.open()


async def some(consumer: Consumer, count: int) -> list[Delivery]:
    """So many messages, however long they take."""
    deliveries: list[Delivery] = []
    give_up_at = time.monotonic() + PATIENCE_S
    while len(deliveries) < count:
        assert time.monotonic() < give_up_at, f"only {len(deliveries)} came"
        deliveries += await consumer.next(count - len(deliveries), 1)
    return deliveries


async def test_a_tick_is_handed_to_one_of_the_pollers(log: Log, nats_server: NatsServer) -> None:
    async with connect(load(nats=[nats_server.url]), "test") as other:
        await other.open()
        consumers = [await log.consume_ticks(), await other.consume_ticks()]
        for shard in range(20):
            await log.publish_tick(tick(shard))
        assert await log.ticks_waiting() == 20
        taken = [await some(consumer, 10) for consumer in consumers]
        shards = [Tick.decode(delivery.data).shard for deliveries in taken for delivery in deliveries]
        assert sorted(shards) == list(range(20))
        assert await log.ticks_waiting() == 0
        assert await consumers[0].pending() == 20
        for delivery in taken[0] + taken[1]:
            await settle(delivery)
        assert await consumers[0].pending() == 0


async def test_a_tick_that_is_published_again_is_dropped(log: Log) -> None:
    consumer = await log.consume_ticks()
    await log.publish_tick(tick())
    (delivery,) = await some(consumer, 1)
    await settle(delivery)
    await log.publish_tick(tick())
    assert await consumer.next(1, WAIT_S) == []
    await log.publish_tick(tick(due_ms=2))
    assert len(await some(consumer, 1)) == 1


async def test_a_tick_that_another_is_just_publishing_is_published(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*arguments: object, **options: object) -> None:
        raise APIError(code=409, err_code=10158, description="duplicate message id is in process")

    monkeypatch.setattr(log._jetstream, "publish", busy)
    await log.publish_tick(tick())
    with pytest.raises(LogError, match="in process"):
        await log.publish_batch(0, batch())  # only when it is on the disk


async def test_a_tick_that_nobody_took_keeps_its_place(log: Log) -> None:
    consumer = await log.consume_ticks()
    for due_ms in range(1, 6):
        put = [await log.publish_tick(tick(shard, due_ms)) for shard in (1, 2)]
        assert put == [due_ms == 1] * 2
    assert await log.publish_tick(tick(1, 1)), "a repeated one is there"
    deliveries = await some(consumer, 2)
    assert [Tick.decode(delivery.data) for delivery in deliveries] == [tick(1, 1), tick(2, 1)]
    assert await consumer.next(1, WAIT_S) == []


async def test_a_tick_in_work_is_replaced(log: Log) -> None:
    consumer = await log.consume_ticks()
    await log.publish_tick(tick(due_ms=1))
    (in_work,) = await some(consumer, 1)
    assert await log.publish_tick(tick(due_ms=2))
    assert not await log.publish_tick(tick(due_ms=3))
    await in_work.ack()
    (delivery,) = await some(consumer, 1)
    assert Tick.decode(delivery.data) == tick(due_ms=2)


async def test_a_tick_that_was_handed_back_comes_again(log: Log) -> None:
    consumer = await log.consume_ticks()
    await log.publish_tick(tick())
    (first,) = await some(consumer, 1)
    await first.in_progress()
    await first.again(0.05)
    (second,) = await some(consumer, 1)
    assert second.data == first.data
    await second.again(0)
    (third,) = await some(consumer, 1)
    await settle(third)
    assert await consumer.next(1, WAIT_S) == []


async def test_a_tick_is_handed_out_until_it_is_done(log: Log) -> None:
    consumer = await log.consume_ticks()
    await log.publish_tick(tick())
    for times in range(1, 9):  # as while an API is away
        (delivery,) = await some(consumer, 1)
        assert delivery.times == times
        await delivery.again(0)


async def test_the_consumer_of_an_earlier_version_is_brought_up_to_date(log: Log) -> None:
    before = replace(streams.poller_consumer(), max_deliver=3)
    await log._jetstream.add_consumer(streams.TICKS, before)
    await log.publish_tick(tick())
    consumer = await log.consume_ticks()
    info = await log._jetstream.consumer_info(streams.TICKS, streams.POLLERS)
    assert (info.config.max_deliver, info.num_pending) == (-1, 1)
    await some(consumer, 1)


async def test_what_is_terminated_comes_to_nobody(log: Log) -> None:
    consumer = await log.consume_ticks()
    await log.publish_tick(tick())
    (delivery,) = await some(consumer, 1)
    await delivery.terminate()
    assert await consumer.next(1, WAIT_S) == []
    with pytest.raises(LogError):
        await delivery.ack()


async def test_what_others_put_on_the_queue_of_classifications_does_not_stop_the_scheduler(log: Log) -> None:
    await log.publish_turn(Turn(3, 30, 39, 1, 1))
    assert log._client is not None
    await log._client.jetstream().publish(streams.turn_subject("*").replace("*", "hello"), b"hello")
    assert await log.drop_turns_of_others(Population(0, 29, shard_size=10)) == set()
    consumer = await log.consume_turns()
    assert [delivery.data for delivery in await some(consumer, 1)] == [b"hello"]
    assert await consumer.next(1, WAIT_S) == []


async def test_a_batch_is_kept_for_each_store_and_kept_once(log: Log) -> None:
    await log.publish_batch(0, batch("0-9@1"))
    await log.publish_batch(0, batch("0-9@1", pks=2))
    await log.publish_batch(0, batch("0-9@2"))
    for store in ("one", "two"):
        consumer = await log.consume_observations(store)
        assert await consumer.pending() == 2
        deliveries = await some(consumer, 2)
        assert [Batch.decode(delivery.data).tick_id for delivery in deliveries] == ["0-9@1", "0-9@2"]
        assert len(Batch.decode(deliveries[0].data)) == 3
        for delivery in deliveries:
            await settle(delivery)


async def test_a_store_goes_on_where_it_stopped(log: Log) -> None:
    for due_ms in range(4):
        await log.publish_batch(0, batch(f"0-9@{due_ms}"))
    consumer = await log.consume_observations("one")
    for delivery in await some(consumer, 2):
        await settle(delivery)
    await some(consumer, 1)
    again = await log.consume_observations("one")
    assert await again.pending() == 2  # the third was delivered and not acknowledged
    third, fourth = await some(again, 2)
    assert Batch.decode(third.data).tick_id == "0-9@2"
    assert Batch.decode(fourth.data).tick_id == "0-9@3"


async def test_whoever_reads_for_a_store_next_reads_in_order_what_was_not_acknowledged(log: Log) -> None:
    for number in range(4):
        await log.publish_batch(number, batch(f"0-9@{number}"))
    first = await some(await log.consume_observations("a"), 3)
    await settle(first[0])
    await settle(first[2])
    again = await some(await log.consume_observations("a"), 3)
    assert [Batch.decode(delivery.data).tick_id for delivery in again] == ["0-9@1", "0-9@2", "0-9@3"]
    for delivery in again:
        await settle(delivery)
    consumer = await log.consume_observations("a")
    assert await consumer.next(1, WAIT_S) == []


async def test_what_an_earlier_reader_was_handed_is_known_as_repeated(log: Log) -> None:
    await log.publish_batch(0, batch("0-9@1"))
    await log.publish_batch(0, batch("0-9@2"))
    killed = await log.consume_observations("a")
    first, _ = await some(killed, 2)
    assert not first.repeated
    await killed.close()
    consumer = await log.consume_observations("a")
    await log.publish_batch(0, batch("0-9@3"))
    assert [delivery.repeated for delivery in await some(consumer, 3)] == [True, True, False]


async def test_what_others_put_on_the_streams_is_no_message_of_ours(
    log: Log, nats_server: NatsServer
) -> None:
    foreign = await nats.connect(nats_server.url)
    try:
        await foreign.jetstream().publish(streams.observation_subject(0), b"hello")
        await foreign.jetstream().publish(streams.tick_subject(0), b"hello")
    finally:
        await foreign.close()
    for consumer, decode in [
        (await log.consume_observations("one"), Batch.decode),
        (await log.consume_ticks(), Tick.decode),
    ]:
        (delivery,) = await some(consumer, 1)
        with pytest.raises(MessageError):
            decode(delivery.data)
        await delivery.terminate()
        assert await consumer.next(1, WAIT_S) == []


async def limits(server: NatsServer) -> tuple[int | None, float | None]:
    """The bytes and the seconds for which the log keeps batches."""
    direct = await nats.connect(server.url)
    try:
        config = (await direct.jetstream().stream_info(streams.OBSERVATIONS)).config
    finally:
        await direct.close()
    return config.max_bytes, config.max_age


async def test_settings_of_the_scheduler_that_changed_are_taken_over(
    log: Log, nats_server: NatsServer
) -> None:
    await log.publish_batch(0, batch())
    settings = load(nats=[nats_server.url], log_hours=0.1, log_gigabytes=1)
    async with connect(settings, "test", governs=True) as changed:
        await changed.open()
        consumer = await changed.consume_observations("one")
        assert len(await some(consumer, 1)) == 1
    assert await limits(nats_server) == (1_000_000_000, 360)


async def test_who_was_told_other_settings_than_the_scheduler_leaves_the_streams_alone(
    log: Log, nats_server: NatsServer
) -> None:
    before = await limits(nats_server)
    async with connect(load(nats=[nats_server.url], log_hours=0.1, log_gigabytes=1), "test") as other:
        await other.open()
        await other.publish_batch(0, batch())
    assert await limits(nats_server) == before


@pytest.mark.usefixtures("impatient")
async def test_after_a_crash_of_the_server_batches_are_there_and_ticks_start_anew(
    log: Log, nats_server: NatsServer
) -> None:
    ticks = await log.consume_ticks()
    store = await log.consume_observations("one")
    await log.publish_tick(tick())
    for due_ms in range(3):
        await log.publish_batch(0, batch(f"0-9@{due_ms}"))
    (first,) = await some(store, 1)
    await first.ack()
    nats_server.restart()

    await patient(log, "publish_batch", 0, batch("0-9@2"))  # the third once more: its id is remembered
    await patient(log, "publish_batch", 0, batch("0-9@3"))
    read = Counter[str]()
    while len(read - Counter(["0-9@0"])) < 3:  # the first comes again if its acknowledgement was lost
        read.update(Batch.decode(delivery.data).tick_id for delivery in await some(store, 1))
    assert read - Counter(["0-9@0"]) == Counter(["0-9@1", "0-9@2", "0-9@3"])

    await patient(log, "consume_ticks")
    await patient(log, "publish_tick", tick())  # a tick of before the crash may be issued again
    (delivery,) = await some(ticks, 1)
    assert Tick.decode(delivery.data) == tick()


async def test_a_queue_that_is_gone_is_an_error_and_no_silence(log: Log, nats_server: NatsServer) -> None:
    consumer = await log.consume_ticks()
    nats_server.restart()
    give_up_at = time.monotonic() + PATIENCE_S
    with pytest.raises(LogError, match="cannot read the log"):  # noqa: PT012 - empty answers while it reconnects
        while time.monotonic() < give_up_at:
            assert await consumer.next(1, 0.5) == []


@pytest.mark.usefixtures("impatient")
async def test_while_the_server_is_away_calls_end(log: Log, nats_server: NatsServer) -> None:
    consumer = await log.consume_ticks()
    await log.publish_tick(tick())
    (delivery,) = await some(consumer, 1)
    nats_server.kill()
    async with asyncio.timeout(PATIENCE_S):
        assert await consumer.next(1, WAIT_S) == []
        with pytest.raises(LogError, match="is the NATS server up"):
            await log.publish_tick(tick(due_ms=2))
        with pytest.raises(LogError, match="is the NATS server up"):
            await consumer.pending()
        await delivery.ack()  # waits in the client until the server is back


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_is_not_there(nats_server: NatsServer) -> None:
    nats_server.kill()
    async with asyncio.timeout(PATIENCE_S), connect(load(nats=[nats_server.url]), "test") as log:
        with pytest.raises(
            LogError, match=f"cannot reach NATS at 127.0.0.1:{nats_server.port} .*Connect call failed"
        ):
            await log.open()
        nats_server.start()
        await patient(log, "publish_tick", tick())


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_never_speaks_is_given_up_with_its_connection() -> None:
    peers: list[asyncio.StreamReader] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(reader)
        await reader.read()  # until the client closes it
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with asyncio.timeout(PATIENCE_S), connect(load(nats=[url]), "test") as log:
        for _ in range(2):
            with pytest.raises(LogError, match="cannot reach NATS"):
                await log.open()
        assert peers
        await until(lambda: all(reader.at_eof() for reader in peers), "the end of the connections")
    server.close()


async def test_a_consumer_that_is_closed_takes_nothing_more(log: Log) -> None:
    await log.publish_tick(tick())
    assert log._client is not None
    subscriptions = len(log._client._subs)
    consumer = await log.consume_ticks()
    await consumer.close()
    assert len(log._client._subs) == subscriptions
    assert len(await some(await log.consume_ticks(), 1)) == 1
    await log._client.close()
    await consumer.close()


async def test_a_message_that_the_server_finds_too_large(log: Log) -> None:
    assert log._client is not None
    log._client._max_payload = 1_000  # as the server said when it was connected to
    with pytest.raises(LogError, match="raise its max_payload"):
        await log.publish_batch(0, batch(pks=1_000))


async def test_a_wrong_token_is_called_so_and_not_shown(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_DEADLINE_S", 2.0)
    nats_server.token = "right"
    nats_server.restart()
    url = nats_server.url.replace("right", "wrong")
    async with asyncio.timeout(PATIENCE_S), connect(load(nats=[url]), "test") as log:
        with pytest.raises(LogError, match="refuses these credentials") as refused:
            await log.open()
        assert "wrong" not in str(refused.value)
    async with connect(load(nats=[nats_server.url]), "test") as log:
        await log.open()


async def test_a_client_that_gave_up_is_replaced(log: Log) -> None:
    consumer = await log.consume_ticks()
    assert log._client is not None
    # As nats-py does by itself after an error of the server's that it does not know.
    await log._client.close()
    with pytest.raises(LogError):
        await log.publish_tick(tick())
    with pytest.raises(LogError):
        await consumer.next(1, WAIT_S)
    await log.open()
    await log.publish_tick(tick())
    assert len(await some(await log.consume_ticks(), 1)) == 1


async def test_closing_a_log_that_was_never_opened() -> None:
    async with connect(load(), "test"):
        pass


async def test_a_server_that_refuses_at_once_is_not_asked_again_at_once() -> None:
    class Subscription:
        """As nats-py while a cluster elects."""

        async def fetch(self, count: int, timeout: float) -> list[object]:  # noqa: ASYNC109 - nats-py's own name
            raise nats.errors.TimeoutError

    began = time.monotonic()
    assert await Consumer(Subscription()).next(1, PATIENCE_S) == []  # type: ignore[arg-type]
    assert time.monotonic() - began >= 0.05


async def test_a_cancellation_in_the_moment_in_which_a_message_comes_is_not_lost() -> None:
    class Subscription:
        """As nats-py waits for a message."""

        def __init__(self) -> None:
            self.coming: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()

        async def fetch(self, count: int, timeout: float) -> list[object]:  # noqa: ASYNC109 - nats-py's own name
            return await asyncio.wait_for(self.coming, timeout)

    subscription = Subscription()
    asked = asyncio.ensure_future(Consumer(subscription).next(1, PATIENCE_S))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    subscription.coming.set_result([])
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
