"""The queue of turns, and the verdicts as the record of who had one, on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from tests.log.server import NatsServer
from tidemark.config import load
from tidemark.log import streams
from tidemark.log.client import Consumer, Log, connect
from tidemark.messages import Turn, Verdicts
from tidemark.population import Population

LONG_AGO_MS = 1


@pytest.fixture
async def log(nats_server: NatsServer) -> AsyncIterator[Log]:
    async with connect(load(nats=[nats_server.url]), "test") as log:
        await log.open()
        yield log


def verdicts(*pks: int) -> Verdicts:
    n = len(pks)
    ones = np.ones(n, np.uint32)
    return Verdicts("1-9@5", "x", 1, np.array(pks, np.uint32), np.zeros(n, np.bool_), ones, ones)


async def add(log: Log, shard: int, message: Verdicts) -> int:
    added = await log.publish_verdicts(shard, message, (await log.record(shard, LONG_AGO_MS)).last)
    assert added is not None
    return added


async def turns(consumer: Consumer, count: int) -> list[Turn]:
    """Take and acknowledge so many, and see that there are no more."""
    taken: list[Turn] = []
    while len(taken) < count:
        for delivery in await consumer.next(1, 1):
            taken.append(Turn.decode(delivery.data))
            await delivery.ack()
    assert await consumer.next(1, 0.1) == []
    return taken


async def test_a_record_is_what_was_put_there(log: Log) -> None:
    assert await log.record(3, LONG_AGO_MS) == await log.record(4, LONG_AGO_MS)
    first = await add(log, 3, verdicts(1, 2))
    last = await add(log, 3, verdicts(3))
    await add(log, 4, verdicts(9))
    record = await log.record(3, LONG_AGO_MS)
    assert [message.pk.tolist() for message in record.verdicts] == [[1, 2], [3]]
    assert record.last == last > first
    assert await log.shards_with_verdicts() == {3, 4}


async def test_a_long_record_is_read_whole(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemark.log.client.RECORD_FETCH_MESSAGES", 4)
    last: int | None = 0
    for pk in range(11):
        last = await log.publish_verdicts(0, verdicts(pk), last or 0)
    record = await log.record(0, LONG_AGO_MS)
    assert [message.pk.tolist() for message in record.verdicts] == [[pk] for pk in range(11)]
    assert record.last == last


async def test_of_a_record_only_what_is_new_is_read_but_its_end_is_known(log: Log) -> None:
    last = await add(log, 0, verdicts(1))
    later = await log.record(0, round(time.time() * 1_000) + 3_600_000)
    assert (later.verdicts, later.last) == ([], last)


async def test_who_does_not_know_the_end_of_a_record_adds_nothing(log: Log) -> None:
    last = await add(log, 0, verdicts(1))
    assert await log.publish_verdicts(0, verdicts(2), 0) is None
    assert await log.publish_verdicts(0, verdicts(2), last + 1) is None
    assert (await log.record(0, LONG_AGO_MS)).last == last
    assert await log.publish_verdicts(0, verdicts(2), last) == last + 1
    assert await log.publish_verdicts(0, verdicts(2), last) is None, "its own answer was lost, say"


async def test_of_two_who_add_at_once_one_does(log: Log) -> None:
    added = await asyncio.gather(*(log.publish_verdicts(0, verdicts(pk), 0) for pk in range(8)))
    assert sorted(seq for seq in added if seq is not None) == [1]
    assert len((await log.record(0, LONG_AGO_MS)).verdicts) == 1


async def test_what_is_no_verdict_is_passed_over(log: Log) -> None:
    await log._publish(streams.verdict_subject(0), b"nonsense", "x")
    last = await add(log, 0, verdicts(5))
    record = await log.record(0, LONG_AGO_MS)
    assert ([message.pk.tolist() for message in record.verdicts], record.last) == ([[5]], last)


async def test_readers_of_the_record_leave_nothing_behind(log: Log) -> None:
    await add(log, 0, verdicts(5))
    for _ in range(3):
        await log.record(0, LONG_AGO_MS)
    assert await log._jetstream.consumers_info(streams.VERDICTS) == []


async def test_a_turn_is_queued_once_and_taken_in_order(log: Log) -> None:
    consumer = await log.consume_turns()
    for shard in (2, 0, 1, 2):
        await log.publish_turn(Turn(shard, shard * 10, shard * 10 + 9, 1_000, 1_000))
    assert [turn.shard for turn in await turns(consumer, 3)] == [2, 0, 1]
    await log.publish_turn(Turn(2, 20, 29, 1_000, 1_000))
    assert await turns(consumer, 0) == []


async def test_turns_of_shards_that_nobody_watches_any_more_can_be_dropped(log: Log) -> None:
    for shard in range(4):
        await log.publish_turn(Turn(shard, shard * 10, shard * 10 + 9, 1_000, 1_000))
    await log.publish_jump(Turn(3, 35, 35, 5, 5), day=1)
    assert await log.drop_turns_of_others(Population(0, 19, shard_size=10)) == {0, 1}
    consumer = await log.consume_turns()
    assert [turn.first_pk for turn in await turns(consumer, 2)] == [0, 10]
    assert await turns(consumer, 0) == []
    assert [turn.first_pk for turn in await turns(await log.consume_jumps(), 1)] == [35]


async def test_turns_of_a_range_that_nobody_watches_any_more_can_be_dropped(log: Log) -> None:
    for shard in range(3):
        await log.publish_turn(Turn(shard, shard * 10, shard * 10 + 9, 1_000, 1_000))
    assert await log.drop_turns_of_others(Population(500, 529, shard_size=10)) == set()
    assert await turns(await log.consume_turns(), 0) == []


async def test_a_turn_that_was_dropped_can_be_issued_again(log: Log) -> None:
    turn = Turn(0, 0, 9, 1_000, 1_000)
    assert await log.publish_turn(turn)
    await log.drop_turns_of_others(Population(500, 509, shard_size=10))
    assert not await log.publish_turn(turn)
    assert await log.publish_turn(turn, " again")
    assert await turns(await log.consume_turns(), 1) == [turn]


async def test_a_verdict_from_the_future_is_as_old_as_its_place_on_the_log(log: Log) -> None:
    ahead = verdicts(1, 2)
    now_s = int(time.time())
    ahead = replace(ahead, checked_at=np.array([now_s + 100_000, now_s - 1_000], np.uint32))
    await add(log, 0, ahead)
    (taken,) = (await log.record(0, LONG_AGO_MS)).verdicts
    assert taken.checked_at[0] <= time.time()
    assert taken.checked_at[1] == now_s - 1_000


async def test_the_turn_that_is_due_comes_though_it_was_taken_early(log: Log) -> None:
    consumer = await log.consume_turns()
    early, due = Turn(0, 0, 9, 9_000, 1_000), Turn(0, 0, 9, 9_000, 9_000)
    for turn in (early, early, due, due):
        await log.publish_turn(turn)
    assert await turns(consumer, 2) == [early, due]


async def test_turns_that_nobody_takes_do_not_pile_up(log: Log) -> None:
    for day in range(5):
        await log.publish_turn(Turn(0, 0, 9, day, day))
    assert [turn.due_ms for turn in await turns(await log.consume_turns(), 2)] == [3, 4]


async def test_who_jumped_is_queued_once_a_day_and_pushes_out_no_turn(log: Log) -> None:
    consumer = await log.consume_turns()
    for day in range(2):
        await log.publish_turn(Turn(0, 0, 9, day, day))
    for pk in (5, 6, 7):
        for replica in (70, 71):
            await log.publish_jump(Turn(0, pk, pk, replica, replica), day=1)
    assert [(turn.first_pk, turn.last_pk) for turn in await turns(consumer, 2)] == [(0, 9), (0, 9)]
    consumer = await log.consume_jumps()
    assert [(turn.first_pk, turn.last_pk) for turn in await turns(consumer, 3)] == [(5, 5), (6, 6), (7, 7)]
    await log.publish_jump(Turn(0, 5, 5, 80, 80), day=1)
    await log.publish_jump(Turn(0, 6, 6, 80, 80), day=2)
    assert [turn.first_pk for turn in await turns(consumer, 1)] == [6]


async def test_the_consumer_that_got_turns_and_jumps_is_brought_up_to_date(log: Log) -> None:
    before = replace(streams.classifier_consumer(), filter_subject=None)
    await log._jetstream.add_consumer(streams.CLASSIFICATIONS, before)
    await log.publish_turn(Turn(0, 0, 9, 5, 5))
    await log.publish_jump(Turn(0, 7, 7, 5, 5), day=1)
    jumps = await log.consume_jumps()
    assert [turn.first_pk for turn in await turns(jumps, 1)] == [7]
    assert [turn.first_pk for turn in await turns(await log.consume_turns(), 1)] == [0]


async def test_a_turn_is_handed_out_until_it_is_done(log: Log) -> None:
    consumer = await log.consume_turns()
    await log.publish_turn(Turn(0, 0, 9, 5, 5))
    for times in range(1, 12):
        (delivery,) = await consumer.next(1, 5)
        assert delivery.times == times
        await delivery.again(0)
