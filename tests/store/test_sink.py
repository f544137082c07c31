"""Batches from a real log into a real store, with everything that comes twice, late or broken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.log.server import before_each_ack, nats_running, until
from tidemark import telemetry
from tidemark.board import Board
from tidemark.config import load
from tidemark.errors import StoreError
from tidemark.log.client import Consumer, Log, connect
from tidemark.messages import Batch, string_array
from tidemark.population import Population
from tidemark.store import sink as sinks
from tidemark.store.clickhouse import Store
from tidemark.store.sink import REPEATED_S, Seen, Sink

POPULATION = Population(1_000, 1_099, shard_size=10)
NOW_S = int(time.time())


def batch(shard: int, at_s: int, name: str = "", followers: int = 7) -> Batch:
    first, last = POPULATION.shard_range(shard)
    pk = np.arange(first, last + 1, dtype=np.uint32)
    return Batch(
        tick_id=name or f"{first}-{last}@{at_s}000",
        pk=pk,
        observed_at_ms=np.full(len(pk), at_s * 1_000 + 500, np.int64),
        follower_count=np.full(len(pk), followers, np.uint32),
        following_count=np.ones(len(pk), np.uint32),
        username=string_array([f"influencer-{number}" for number in pk]),
    )


def insert(store: Store, batch: Batch, rows: int | None = None) -> None:
    """Into the store, past the sink: all of a batch, or its first rows."""
    at = (batch.observed_at_ms // 1_000).astype(np.uint32)
    columns = (batch.pk, at, batch.follower_count, batch.following_count)
    store.insert_observations(*(column[:rows] for column in columns))


def test_seen_knows_a_batch_by_its_id() -> None:
    seen = Seen(stored_until_s=0)
    assert seen.take(batch(0, NOW_S))
    assert not seen.take(batch(0, NOW_S, followers=8))
    assert seen.take(batch(1, NOW_S))


def test_an_id_that_comes_again_much_later_is_another_batch() -> None:
    seen = Seen(stored_until_s=0)
    assert seen.take(batch(0, NOW_S, "a clock set back"))
    assert not seen.take(batch(0, NOW_S + REPEATED_S, "a clock set back"))
    assert seen.take(batch(0, NOW_S + REPEATED_S + 1, "a clock set back"))
    assert not seen.take(batch(0, NOW_S + REPEATED_S + 1, "a clock set back"))


def test_only_what_the_store_had_reached_is_doubtful() -> None:
    seen = Seen(stored_until_s=NOW_S)
    assert seen.doubtful(batch(0, NOW_S))
    assert not seen.doubtful(batch(0, NOW_S + 1))


def test_what_is_no_longer_remembered_is_doubtful() -> None:
    seen = Seen(stored_until_s=0, ids_max=2)
    for shard in range(3):
        assert seen.take(batch(shard, NOW_S + shard))
    assert seen.doubtful(batch(0, NOW_S))
    assert not seen.doubtful(batch(1, NOW_S + 1))


@dataclass
class Running:
    """A sink at work on a log, with its store and board."""

    store: Store
    board: Board
    sink: Sink
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def end(self) -> None:
        self.stop.set()
        async with asyncio.timeout(60):
            await self.task

    def rows(self, pk: int) -> list[int]:
        times: list[int] = self.store.series(pk, NOW_S - 86_400, NOW_S + 86_400, "raw").time.tolist()
        return times


Start = Callable[..., Running]


@pytest.fixture
async def start(store: Store, log: Log) -> AsyncIterator[Start]:
    """Start a sink on the store and the log; it is ended with the test."""
    started: list[Running] = []

    async def consumer() -> Consumer:
        return await log.consume_observations(store.store_id)

    def start(board: Board | None = None) -> Running:
        board = board or Board(POPULATION)
        sink = Sink(store, board, POPULATION.first)
        stop = asyncio.Event()
        started.append(Running(store, board, sink, stop, asyncio.ensure_future(sink.run(consumer, stop))))
        return started[-1]

    yield start
    for running in started:
        await running.end()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"chdb://{tmp_path}/store")
    yield store
    store.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    with nats_running(tmp_path / "nats") as server:
        async with connect(load(nats=(server.url,)), "test") as log:
            await log.open()
            yield log


async def test_batches_reach_the_board_and_the_store(log: Log, store: Store, start: Start) -> None:
    running = start()
    for shard in range(3):
        await log.publish_batch(shard, batch(shard, NOW_S))
    await until(
        lambda: running.sink.rows_stored == 30 and running.sink.lag_batches == 0, "what was published"
    )
    assert running.board.publish(NOW_S * 1_000).total == 30
    await running.end()
    assert running.rows(1_005) == [NOW_S]
    assert store.load_usernames(0).num_rows == 30


async def test_a_batch_is_acknowledged_when_it_is_stored(
    log: Log, store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[int] = []  # as of each acknowledgement

    async def look() -> None:
        stored.append(store.row_count())

    before_each_ack(monkeypatch, look)
    running = start()
    await log.publish_batch(0, batch(0, NOW_S))
    await until(lambda: running.sink.rows_stored == 10 and running.sink.lag_batches == 0, "the first")
    await log.publish_batch(1, batch(1, NOW_S))
    await until(lambda: running.sink.rows_stored == 20 and running.sink.lag_batches == 0, "the second")
    await running.end()
    assert stored == [10, 20]


async def test_a_batch_that_comes_again_counts_once(log: Log, store: Store, start: Start) -> None:
    running = start()
    await log.publish_batch(0, batch(0, NOW_S))
    # The same again under another subject and id: what a duplicate window that was missed looks like.
    again = batch(0, NOW_S)
    await log._publish("tidemark.observations.77", again.encode(), "another id")
    await log.publish_batch(1, batch(1, NOW_S))
    await until(lambda: running.sink.rows_stored == 20, "what was published")
    await running.end()
    assert running.rows(1_000) == [NOW_S]


async def test_two_of_one_second_that_come_after_a_later_one_count_once(
    log: Log, store: Store, start: Start
) -> None:
    # With several pollers and --interval 0 a slow answer of a second may reach the log behind one of the next.
    await log.publish_batch(0, batch(0, NOW_S, "quick", followers=7))
    await log.publish_batch(0, batch(0, NOW_S + 2, "the next", followers=9))
    await log.publish_batch(0, batch(0, NOW_S, "slow", followers=8))
    await log.publish_batch(0, batch(0, NOW_S + 1, "slow too", followers=8))
    await log.publish_batch(0, batch(0, NOW_S + 1, "slow as well", followers=6))
    running = start()
    await until(lambda: running.sink.lag_batches == 0, "what was published")
    await running.end()
    assert [running.rows(pk) for pk in range(1_000, 1_010)] == [[NOW_S, NOW_S + 1, NOW_S + 2]] * 10
    assert store.series(1_000, NOW_S, NOW_S + 3, "raw").follower_count.tolist() == [7, 8, 9]


async def test_a_batch_of_a_clock_that_is_not_set_is_set_aside(log: Log, store: Store, start: Start) -> None:
    await log.publish_batch(0, batch(0, 1_000))
    await log.publish_batch(1, batch(1, NOW_S))
    running = start()
    await until(
        lambda: running.sink.rows_stored == 10 and running.sink.lag_batches == 0, "the one with a time"
    )
    await running.end()
    assert running.board.publish(NOW_S * 1_000).total == 10
    assert store.max_observed_at() == NOW_S
    assert store.query("extent")["first_s"].to_pylist() == [NOW_S]


def test_what_all_clocks_say_is_of_1970_is_of_none_that_was_set() -> None:
    assert sinks._time_is_wrong(batch(0, 18_000), logged_at_s=18_001) == "of the past"
    assert sinks._time_is_wrong(batch(0, NOW_S), logged_at_s=NOW_S) == ""


async def test_a_kill_between_insert_and_acknowledgement_doubles_nothing(
    log: Log, store: Store, start: Start
) -> None:
    # What a killed process leaves behind: rows in the store, some of a batch only, and nothing acknowledged.
    stored = batch(0, NOW_S)
    insert(store, stored, rows=4)
    await log.publish_batch(0, stored)
    await log.publish_batch(0, batch(0, NOW_S + 5))
    await log.publish_batch(0, batch(0, NOW_S - 5))  # older than the store's newest, and not in it
    running = start()
    await until(lambda: running.sink.rows_stored == 30, "what was published")
    await running.end()
    for pk in range(1_000, 1_010):
        assert running.rows(pk) == [NOW_S - 5, NOW_S, NOW_S + 5]


async def test_an_insert_of_a_killed_process_that_a_server_ends_late_doubles_nothing(
    log: Log, store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = batch(0, NOW_S)
    await log.publish_batch(0, late)
    killed = await log.consume_observations(store.store_id)
    assert len(await killed.next(1, 30)) == 1
    await killed.close()
    newest_of_all = store.max_observed_at

    def newest_before_it_ends() -> int | None:
        newest = newest_of_all()
        insert(store, late)
        return newest

    monkeypatch.setattr(store, "max_observed_at", newest_before_it_ends)
    running = start()
    await until(
        lambda: running.board.publish(NOW_S * 1_000).total == 10 and running.sink.lag_batches == 0,
        "what was published",
    )
    await running.end()
    assert [running.rows(pk) for pk in range(1_000, 1_010)] == [[NOW_S]] * 10


async def test_an_insert_of_unknown_outcome_is_repeated_without_doubling(
    log: Log, store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserted = store.insert_observations
    failures = ["after the insert", "before the insert"]

    def flaky(*columns: Any) -> None:
        if not failures:
            inserted(*columns)
        elif failures.pop() == "after the insert":
            inserted(*columns)
            raise StoreError("the connection broke")
        else:
            raise StoreError("no space left")

    monkeypatch.setattr(store, "insert_observations", flaky)
    running = start()
    for shard in range(2):
        await log.publish_batch(shard, batch(shard, NOW_S))
    await until(
        lambda: running.sink.rows_stored == 20 and running.sink.lag_batches == 0, "what was published"
    )
    await running.end()
    assert not failures
    assert running.rows(1_000) == running.rows(1_019) == [NOW_S]


@pytest.mark.parametrize("stored_rows", [0, 4, 10])
async def test_what_the_board_was_restored_with_is_stored_if_the_store_lacks_it(
    log: Log, store: Store, start: Start, stored_rows: int
) -> None:
    # The board is written down once a minute, also with what is not in the store yet when the process is killed.
    killed = batch(0, NOW_S)
    insert(store, killed, stored_rows)
    await log.publish_batch(0, killed)
    await log.publish_batch(0, batch(0, NOW_S, "the same second", followers=8))
    await log.publish_batch(1, batch(1, NOW_S))
    board = Board(POPULATION)
    board.restore(killed.pk, killed.follower_count, killed.following_count, np.full(10, NOW_S, np.uint32))
    running = start(board)
    await until(
        lambda: running.sink.rows_stored == 20 and running.sink.lag_batches == 0, "what was published"
    )
    await running.end()
    assert [running.rows(pk) for pk in range(1_000, 1_020)] == [[NOW_S]] * 20
    assert store.series(1_009, NOW_S, NOW_S + 1, "raw").follower_count.tolist() == [7]
    assert store.load_usernames(0)["pk"].to_pylist() == list(range(1_000, 1_020))


async def test_what_a_stop_gave_up_is_stored_after_the_next_start(
    log: Log, store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserted, tried = store.insert_observations, asyncio.Event()
    loop = asyncio.get_running_loop()

    def full(*columns: Any) -> None:
        loop.call_soon_threadsafe(tried.set)
        raise StoreError("no space left")

    monkeypatch.setattr(store, "insert_observations", full)
    monkeypatch.setattr(sinks, "RETRY_MIN_S", 600.0)
    running = start()
    await log.publish_batch(0, batch(0, NOW_S))
    async with asyncio.timeout(60):
        await tried.wait()
    # While the first block waits to be stored, its batch comes again, with another that belongs to the next block.
    again = batch(0, NOW_S)
    await log._publish("tidemark.observations.77", again.encode(), "another id")
    await log.publish_batch(1, batch(1, NOW_S))
    await until(lambda: running.board.publish(NOW_S * 1_000).total == 20, "the next block")
    # The disk has room again, but the stop comes before the first block is tried anew.
    monkeypatch.setattr(store, "insert_observations", inserted)
    await running.end()
    assert store.row_count() == 0
    next_one = start()
    await until(lambda: next_one.sink.rows_stored == 20 and next_one.sink.lag_batches == 0, "all of it")
    await next_one.end()
    assert [next_one.rows(pk) for pk in range(1_000, 1_020)] == [[NOW_S]] * 20


async def test_an_insert_is_done_also_when_the_store_is_too_busy_to_count(
    log: Log, store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy() -> int:
        raise StoreError("the store has too much to do")

    running = start()
    failures = telemetry.INSERT_FAILURES._value.get()
    monkeypatch.setattr(store, "row_count", busy)
    await log.publish_batch(0, batch(0, NOW_S))
    await until(lambda: running.sink.rows_added == 10, "what was published")
    await running.end()
    assert telemetry.INSERT_FAILURES._value.get() == failures


async def test_one_observation_a_second(log: Log, store: Store, start: Start) -> None:
    running = start()
    await log.publish_batch(0, batch(0, NOW_S, "first"))
    await log.publish_batch(0, batch(0, NOW_S, "second", followers=8))
    await log.publish_batch(0, batch(0, NOW_S + 1, "third", followers=9))
    await until(lambda: running.sink.rows_stored == 20, "what was published")
    await running.end()
    series = store.series(1_000, NOW_S - 60, NOW_S + 60, "raw")
    assert series.follower_count.tolist() == [7, 9]


async def test_what_is_not_ours_is_set_aside(log: Log, store: Store, start: Start) -> None:
    running = start()
    await log._publish("tidemark.observations.0", b"not a batch", "x")
    await log.publish_batch(0, batch(0, NOW_S))
    await until(
        lambda: running.sink.rows_stored == 10 and running.sink.lag_batches == 0, "what was published"
    )
    await running.end()


async def test_a_batch_from_the_future_is_set_aside_and_holds_nothing_up(
    log: Log, store: Store, start: Start
) -> None:
    aside = telemetry.SET_ASIDE._value.get()
    running = start()
    await log.publish_batch(0, batch(0, NOW_S + 7_200))
    await log.publish_batch(1, batch(1, NOW_S))
    await until(
        lambda: running.sink.rows_stored == 10 and running.sink.lag_batches == 0, "what was published"
    )
    await running.end()
    assert running.board.publish(NOW_S * 1_000).total == 10
    assert telemetry.SET_ASIDE._value.get() - aside == 1


async def test_a_machine_whose_clock_is_behind_takes_what_the_log_calls_now(
    log: Log, store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    now_s = time.time
    monkeypatch.setattr(time, "time", lambda: now_s() - 7_200)
    await log.publish_batch(0, batch(0, NOW_S))
    await until(
        lambda: running.sink.rows_stored == 10 and running.sink.lag_batches == 0, "what was published"
    )
    await running.end()


async def test_a_clock_that_was_ahead_holds_nobodys_place(log: Log, store: Store, start: Start) -> None:
    # All clocks of a machine were ahead, and are set back: the log and the store have what nobody calls now.
    ahead = batch(0, NOW_S + 7_200, followers=8)
    insert(store, ahead)
    running = start()
    running.board.apply(ahead)
    assert running.board.publish(NOW_S * 1_000).coverage(NOW_S * 1_000, 60_000) == 0.0
    await log.publish_batch(0, batch(0, NOW_S, followers=9))
    await until(lambda: running.sink.rows_stored == 20, "what was published")
    await running.end()
    view = running.board.publish(NOW_S * 1_000)
    latest = view.latest(1_000)
    assert latest is not None
    assert (latest.follower_count, latest.observed_at) == (9, NOW_S)
    assert view.coverage(NOW_S * 1_000, 60_000) == 0.1
