"""Verdicts from a real log into a real store, onto the board and into the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.log.server import PATIENCE_S, NatsServer, before_each_ack, nats_running, until
from tidemark.board import Board
from tidemark.board.table import record_batches
from tidemark.config import load
from tidemark.errors import StoreError
from tidemark.log import streams
from tidemark.log.client import Consumer, Log, connect
from tidemark.messages import Verdicts
from tidemark.population import Population
from tidemark.serve import verdicts as module
from tidemark.serve.app import create
from tidemark.serve.figures import Figures
from tidemark.serve.gains import Gains
from tidemark.serve.progress import Progress
from tidemark.serve.role import restore
from tidemark.serve.routes import Sources
from tidemark.serve.verdicts import VerdictSink
from tidemark.store.clickhouse import Store
from tidemark.store.sink import Sink

POPULATION = Population(1_000, 1_009)
NOW_S = int(time.time()) - 100


def verdicts(rows: dict[int, bool], at_s: int = NOW_S) -> Verdicts:
    n = len(rows)
    return Verdicts(
        turn_id="1000-1009@1",
        classifier="a",
        in_flight=5,
        pk=np.array(sorted(rows), np.uint32),
        suspicious=np.array([rows[pk] for pk in sorted(rows)], np.bool_),
        checked_at=np.full(n, at_s, np.uint32),
        took_ms=np.full(n, 9_000, np.uint32),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_running(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def log(server: NatsServer) -> AsyncIterator[Log]:
    async with connect(load(nats=[server.url]), "test") as log:
        await log.open()
        await log._jetstream.delete_stream("VERDICTS")
        await log.open()
        yield log


class Served:
    """One store, its board and its sink of verdicts."""

    def __init__(self, store: Store, log: Log) -> None:
        self.store = store
        self.log = log
        self.board = Board(POPULATION)
        self.progress = Progress(3_600)
        self.sink = VerdictSink(store, self.board, self.progress)

    async def connect(self) -> Consumer:
        return await self.log.consume_verdicts(self.store.store_id)

    async def take_all(self) -> None:
        """What lies on the log, in one run that is stopped at once; until the log knows that it is taken."""
        stop = asyncio.Event()
        stop.set()
        await self.sink.run(self.connect, stop)
        name = streams.verdict_consumer(self.store.store_id).durable_name or ""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                consumer = await self.log._jetstream.consumer_info(streams.VERDICTS, name)
                if not (consumer.num_pending or consumer.num_ack_pending):
                    return
                if consumer.num_pending:  # nothing came in time
                    await self.sink.run(self.connect, stop)
                await asyncio.sleep(0.01)

    def rows(self, pk: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.store.query("verdict_history", {"pk": pk}).to_pylist()
        return rows


@pytest.fixture
def served(tmp_path: Path, log: Log) -> Iterator[Served]:
    store = Store.open(f"chdb://{tmp_path}/store")
    yield Served(store, log)
    store.close()


async def publish(log: Log, *messages: Verdicts) -> None:
    for message in messages:
        record = await log.record(0, 0)
        assert await log.publish_verdicts(0, message, record.last) is not None


async def test_from_the_log_to_the_store_and_the_board(served: Served, log: Log) -> None:
    await publish(log, verdicts({1_000: True, 1_001: False}), verdicts({1_000: False}, NOW_S + 50))
    await served.take_all()
    assert [row["suspicious"] for row in served.rows(1_000)] == [True, False]
    assert [row["suspicious"] for row in served.rows(1_001)] == [False]
    assert served.rows(1_002) == []
    values = served.board.publish(1).values
    assert values.verdict[:3].tolist() == [0, 0, -1]
    assert values.verdict_at[:2].tolist() == [NOW_S + 50, NOW_S]
    assert served.sink.unpublished
    assert served.progress.in_flight(NOW_S + 10) == 5


async def test_a_message_is_acknowledged_when_its_verdicts_are_stored(
    served: Served, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[int] = []  # as of each acknowledgement

    async def look() -> None:
        stored.append(len(served.rows(1_000)))

    before_each_ack(monkeypatch, look)
    await publish(log, verdicts({1_000: True}))
    await served.take_all()
    assert stored == [1]


async def test_a_verdict_delivered_twice_counts_once(served: Served, log: Log) -> None:
    await publish(log, verdicts({1_000: True}), verdicts({1_000: True}))
    await served.take_all()
    served.sink.unpublished = False
    await publish(log, verdicts({1_000: True}))
    await served.take_all()
    assert len(served.rows(1_000)) == 1
    assert not served.sink.unpublished, "nothing new"


async def test_a_verdict_from_the_future_keeps_no_later_one_out(served: Served, log: Log) -> None:
    await publish(log, verdicts({1_000: True}, NOW_S + 10**7))
    await served.take_all()
    (row,) = served.rows(1_000)
    assert abs(served.board.publish(1).values.verdict_at[0] - time.time()) < PATIENCE_S
    assert row["checked_at"] <= time.time()
    await asyncio.sleep(1.1)  # the next second, by the log's time
    await publish(log, verdicts({1_000: False}, int(time.time())))
    await served.take_all()
    assert served.board.publish(2).values.verdict[0] == 0


async def test_what_is_no_verdict_is_set_aside(served: Served, log: Log) -> None:
    await log._publish("tidemark.verdicts.0", b"nonsense", "x")
    await publish(log, verdicts({1_001: True}))
    await served.take_all()
    assert len(served.rows(1_001)) == 1


async def test_a_store_that_fails_for_a_while_gets_all_in_the_end(
    served: Served, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    monkeypatch.setattr(module, "BLOCK_SECONDS", 0.0)
    insert, failures = served.store.insert_verdicts, iter([True, True])

    def failing(*columns: Any) -> None:
        if next(failures, False):
            raise StoreError("on purpose")
        insert(*columns)

    monkeypatch.setattr(served.store, "insert_verdicts", failing)
    await publish(log, verdicts({1_000: True}))
    stop = asyncio.Event()
    running = asyncio.ensure_future(served.sink.run(served.connect, stop))
    await until(lambda: served.rows(1_000), "the verdict")
    stop.set()
    await running


async def test_what_a_stop_gave_up_is_stored_after_the_next_start(
    served: Served, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()
    loop = asyncio.get_running_loop()

    def full(*columns: Any) -> None:
        loop.call_soon_threadsafe(tried.set)
        raise StoreError("no space left")

    monkeypatch.setattr(module, "BLOCK_SECONDS", 0.0)
    await publish(log, verdicts({1_000: True}))
    with monkeypatch.context() as failing:
        failing.setattr(served.store, "insert_verdicts", full)
        stop = asyncio.Event()
        running = asyncio.ensure_future(served.sink.run(served.connect, stop))
        async with asyncio.timeout(PATIENCE_S):
            await tried.wait()
            stop.set()
            await running
    again = Served(served.store, log)
    await again.take_all()
    assert len(served.rows(1_000)) == 1


async def test_a_new_store_reads_all_and_a_known_one_what_is_new(served: Served, log: Log) -> None:
    await publish(log, verdicts({1_000: True}))
    await served.take_all()
    again = Served(served.store, log)
    await publish(log, verdicts({1_001: True}))
    await again.take_all()
    assert again.board.publish(1).values.verdict.tolist() == [-1, 1] + [-1] * 8
    restore(again.board, served.store, 60, 86_400)
    assert again.board.view.values.verdict.tolist() == [1, 1] + [-1] * 8


async def test_who_was_not_watched_for_a_while_has_the_verdict_again(
    served: Served, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    pk, counts = np.arange(1_000, 1_002, dtype=np.uint32), np.ones(2, np.uint32)
    await publish(log, verdicts({1_000: True, 1_001: False}))
    await served.take_all()
    now_s = time.time
    monkeypatch.setattr(time, "time", lambda: now_s() + 3_600)
    for population in (Population(1_000, 1_000), POPULATION):
        # As if it had been written down long after the verdicts came, by whom the other was not watched.
        board = Board(population)
        board.restore(pk, counts, counts, np.full(2, int(time.time()) + 100_000, np.uint32))
        view = board.publish(1)
        served.store.replace_influencers(record_batches(view))
        served.store.insert_average(int(time.time()) + 100_000, 2, 1.0)
        restored = Board(population)
        restore(restored, served.store, 60, 86_400)
        assert restored.view.values.verdict.tolist()[:2] == [1, 0][: population.size]


async def test_the_answers(served: Served, log: Log) -> None:
    pk = np.arange(1_000, 1_009, dtype=np.uint32)
    followers = np.array([100, 300, 300, 200, 5, 5, 5, 5, 0], np.uint32)
    served.board.restore(pk, followers, followers, np.full(9, NOW_S, np.uint32))
    now_s = int(time.time())
    await publish(log, verdicts({1_000: True}, now_s - 1_000))  # so the rate is one over the whole window
    await publish(log, verdicts({1_001: True, 1_003: True, 1_009: True, 1_000: False}, now_s))
    await served.take_all()
    served.board.publish(now_s * 1_000)
    sink = Sink(served.store, served.board, 1_000)
    figures = Figures(served.board, sink, 60_000, served.progress)
    transport = httpx.ASGITransport(
        create(Sources(served.board, served.store, figures, Gains(served.board, served.store, 60)))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

        async def places(query: str) -> tuple[int, list[tuple[int, int]]]:
            found = (await client.get(f"/v1/leaderboard?{query}")).json()
            return found["total"], [(item["pk"], item["rank"]) for item in found["items"]]

        assert await places("limit=2") == (9, [(1_001, 1), (1_002, 1)])
        assert await places("limit=2&suspicious=exclude") == (7, [(1_002, 1), (1_000, 4)])
        assert await places("suspicious=only") == (2, [(1_001, 1), (1_003, 3)])
        assert await places("limit=1&around=1003&suspicious=exclude") == (7, [(1_000, 4)])
        assert (await client.get("/v1/leaderboard?suspicious=maybe")).status_code == 422

        one = (await client.get("/v1/influencers/1001")).json()
        assert one["suspicious"] is True
        assert one["suspiciousCheckedAt"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))

        stats = (await client.get("/v1/stats")).json()
        assert stats["suspicious"] == {"suspicious": 3, "notSuspicious": 1, "unknown": 6}
        assert stats["classification"] == {
            "share": 0.4,
            "oldestVerdictSeconds": 0.0,
            "verdictsPerSecond": 0.013,
            "inFlight": 5,
            "latencySeconds": {"p50": 9.0, "p99": 9.0, "max": 9.0},
        }
        await figures.export()
        assert "tidemark_classified_ratio 0.4" in (await client.get("/metrics")).text
