"""Who jumps is put on the queue of the classification, by a serve process that sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import structlog
from prometheus_client import REGISTRY

from tests.log.server import PATIENCE_S, NatsServer, nats_running
from tidemark.board import Board
from tidemark.config import load
from tidemark.log import client
from tidemark.log.client import Log, connect
from tidemark.messages import Batch, Turn, Verdicts, string_array
from tidemark.serve.app import create
from tidemark.serve.figures import Figures
from tidemark.serve.gains import Gains
from tidemark.serve.live import Live
from tidemark.serve.progress import Progress
from tidemark.serve.role import _Work
from tidemark.serve.routes import Sources
from tidemark.serve.verdicts import VerdictSink
from tidemark.store.clickhouse import Store
from tidemark.store.sink import Sink

FIRST, SIZE = 1_000, 2_000
PK = np.arange(FIRST, FIRST + SIZE, dtype=np.uint32)
DAY_S = 3_600
NOW_S = int(time.time())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_running(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def log(server: NatsServer) -> AsyncIterator[Log]:
    async with connect(load(nats=[server.url]), "test") as log:
        await log.open()
        yield log


class Replica:
    """The work of a serve process, step by step."""

    def __init__(self, server: NatsServer, store: Store) -> None:
        settings = load(nats=[server.url], influencers=f"{FIRST}-{FIRST + SIZE - 1}", classify_interval=DAY_S)
        self.board = Board(settings.population)
        self.progress = Progress(DAY_S)
        sink = Sink(store, self.board, FIRST)
        verdicts = VerdictSink(store, self.board, self.progress)
        figures = Figures(self.board, sink, 60_000, self.progress)
        self.sink = sink
        gains = Gains(self.board, store, settings.interval)
        self.sources = Sources(self.board, store, figures, gains)
        live = Live(self.board, figures)
        self.work = _Work(settings, self.board, store, sink, verdicts, self.progress, figures, gains, live)

    async def observe(self, minute: int, followers: dict[int, int]) -> None:
        """Everybody has about 10,000 followers, but for some."""
        counts = 10_000 + PK * (minute + 7) % 23
        for pk, count in followers.items():
            counts[pk - FIRST] = count
        at_ms = (NOW_S - 3_000 + 60 * minute) * 1_000
        batch = Batch(
            tick_id=f"{minute}",
            pk=PK,
            observed_at_ms=np.full(SIZE, at_ms, np.int64),
            follower_count=counts.astype(np.uint32),
            following_count=PK,
            username=string_array(["x"] * SIZE),
        )
        self.board.apply(batch)
        self.sink.unpublished_ms.append(at_ms)
        await self.work._publish()
        while self.work._tasks:
            await next(iter(self.work._tasks))

    def classified(self) -> None:
        """Somebody classifies."""
        ones = np.ones(1, np.uint32)
        at = np.array([NOW_S - 60], np.uint32)
        self.progress.add(Verdicts("t", "c", 1, ones, np.zeros(1, np.bool_), at, ones))


async def test_who_jumps_is_classified_ahead_of_the_turn(
    server: NatsServer, log: Log, tmp_path: Path
) -> None:
    store = Store.open(f"chdb://{tmp_path}/store")
    try:
        replicas = [Replica(server, store), Replica(server, store)]
        for replica in replicas:
            await replica.work._log.open()
            await replica.observe(0, {})
            await replica.observe(1, {2_345: 90_000})
        consumer = await log.consume_jumps()
        assert await consumer.next(1, 0.1) == [], "as long as nobody classifies"
        for replica in replicas:
            replica.classified()
            await replica.observe(2, {2_345: 90_000})
            await replica.observe(3, {1_234: 60_000, 2_345: 90_000})
            await replica.observe(4, {2_345: 90_000})
        (delivery,) = await consumer.next(1, 5)
        since_ms = (NOW_S - 3_000 + 180) * 1_000
        assert Turn.decode(delivery.data) == Turn(0, 1_234, 1_234, since_ms, since_ms)
        assert await consumer.next(1, 0.1) == [], "two replicas saw it, and it came back the same day"
        for replica in replicas:
            await replica.work._log.close()
    finally:
        store.close()


async def test_damage_of_the_store_is_said_once(
    server: NatsServer, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(f"chdb://{tmp_path}/store")
    try:
        work = Replica(server, store).work
        parts = {"observations": 1}
        monkeypatch.setattr(store, "damaged_parts", lambda: dict(parts))
        with structlog.testing.capture_logs() as said:
            await work._look_for_damage()
            await work._look_for_damage()
            assert [(event["log_level"], event["table"]) for event in said] == [("error", "observations")]
            parts["observations"] = 2
            await work._look_for_damage()
            assert len(said) == 2
            parts.clear()
            await work._look_for_damage()
            assert len(said) == 2
        assert REGISTRY.get_sample_value("tidemark_damaged_parts", {"table": "observations"}) == 0
    finally:
        store.close()


async def test_who_is_observed_and_not_watched_here_is_said(
    server: NatsServer, log: Log, tmp_path: Path
) -> None:
    store = Store.open(f"chdb://{tmp_path}/store")
    try:
        replica = Replica(server, store)
        with structlog.testing.capture_logs() as said:
            await replica.observe(0, {})
            await replica.work._look_for_strangers()
            assert not said
            others = np.arange(FIRST + SIZE - 5, FIRST + SIZE + 10, dtype=np.uint32)
            counts = np.ones(len(others), np.uint32)
            at_ms = np.full(len(others), NOW_S * 1_000, np.int64)
            replica.board.apply(Batch("x", others, at_ms, counts, counts, string_array(["x"] * len(others))))
            await replica.work._look_for_strangers()
            await replica.work._look_for_strangers()
        (event,) = said
        assert (event["influencers"], event["observations"]) == (f"{FIRST}-{FIRST + SIZE - 1}", 10)
    finally:
        store.close()


async def test_an_average_is_of_when_it_was_so_and_written_down_once(
    server: NatsServer, tmp_path: Path
) -> None:
    store = Store.open(f"chdb://{tmp_path}/store")
    try:
        replica = Replica(server, store)
        averages = {}
        for minute in (0, 1):  # fifty minutes ago: it is read from the log now
            await replica.observe(minute, {})
            average = replica.board.view.average_follower_count
            averages[NOW_S - 3_000 + 60 * minute] = average
            for _ in range(2):
                await replica.work._write_down()
            (rows,) = store._maintenance.ask("SELECT count() AS rows FROM averages")["rows"].to_pylist()
            assert rows == len(averages)
        series = store.average_series(0, 2**32 - 1, "raw")
        assert (
            dict(zip(series.time.tolist(), series.average_follower_count.tolist(), strict=True)) == averages
        )
    finally:
        store.close()


async def test_it_is_ready_while_the_log_is_there(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CALL_DEADLINE_S", 2.0)
    monkeypatch.setattr(client, "CONNECT_DEADLINE_S", 2.0)
    store = Store.open(f"chdb://{tmp_path}/store")
    try:
        replica, stop = Replica(server, store), asyncio.Event()
        transport = httpx.ASGITransport(create(replica.sources))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as reader:

            async def becomes(status: int) -> str:
                give_up_at = time.monotonic() + PATIENCE_S
                while True:
                    answer = await reader.get("/readyz")
                    assert (await reader.get("/healthz")).status_code == 200
                    if answer.status_code == status:
                        return answer.text
                    assert time.monotonic() < give_up_at
                    await asyncio.sleep(0.02)

            await becomes(503)
            sinking = asyncio.ensure_future(
                replica.sink.run(lambda: replica.work._log.consume_observations(store.store_id), stop)
            )
            try:
                assert await becomes(200) == "ready\n"
                server.kill()
                assert "The log is away" in await becomes(503)
                server.start()
                assert await becomes(200) == "ready\n"
            finally:
                stop.set()
                await sinking
                await replica.work._log.close()
    finally:
        store.close()


async def test_a_failure_that_is_not_the_stores_ends_the_process(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(f"chdb://{tmp_path}/store")
    try:
        replica = Replica(server, store)

        def full(at_ms: int) -> None:
            raise MemoryError

        monkeypatch.setattr(replica.board, "publish", full)
        replica.sink.unpublished_ms.append(1)
        async with asyncio.timeout(60):
            with pytest.RaisesGroup(MemoryError, flatten_subgroups=True):
                await replica.work.run(asyncio.Event())
    finally:
        store.close()
