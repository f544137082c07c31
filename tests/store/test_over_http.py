"""`clickhouse://` with the real client and the real engine; between them `over_http` instead of a server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.log.server import nats_running, until
from tidemark.board import Board
from tidemark.config import load
from tidemark.errors import StoreError
from tidemark.log.client import connect
from tidemark.population import Population
from tidemark.store.clickhouse import Store
from tidemark.store.rollups import Rollups
from tidemark.store.sink import Sink

from . import over_http
from .conftest import DAY_S, MONDAY_S, History
from .test_clickhouse import everybody
from .test_sink import NOW_S, POPULATION, batch


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a ClickHouse of this test's own."""
    command = [sys.executable, over_http.__file__, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"clickhouse://me:secret@127.0.0.1:{int(process.stdout.readline())}/watched"
        process.kill()


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    store = Store.open(address)
    yield store
    store.close()


def test_what_is_written_is_read(store: Store, address: str, history: History) -> None:
    pk = np.arange(1, 101)
    for hour in range(26):
        store.insert_observations(*history.add(pk, MONDAY_S + hour * 3_600 + pk))
    rollups = Rollups(store, Population(1, 100))
    while rollups.run().hours_closed:
        pass
    store.replace_influencers([everybody(100, 7)])
    store.insert_usernames(
        pk.astype(np.uint32), pa.array([f"name-{n}" for n in pk]), np.full(100, 5, np.uint32)
    )
    store.insert_verdicts(np.array([3], np.uint32), np.array([MONDAY_S], np.uint32), np.array([True]))
    store.insert_snapshot(NOW_S, np.array([4], np.uint32), np.array([44], np.uint32))
    store.insert_average(MONDAY_S, 100, 7.5)
    store.close()

    store = Store.open(address)
    assert not store.new
    assert store.address == address.replace(":secret", "")
    assert store.row_count() == 2_600
    until_s = MONDAY_S + 2 * DAY_S
    for step, step_s in (("raw", 1), ("1m", 60), ("1h", 3_600), ("1d", DAY_S)):
        found = store.series(50, MONDAY_S, until_s, step)
        expected = history.buckets(50, MONDAY_S, until_s, step_s)
        assert found.time.tolist() == [row[0] for row in expected]
        assert found.follower_count.tolist() == [row[2] for row in expected]
    assert store.load_influencers()["follower_count"].to_pylist() == [7] * 100
    assert store.load_usernames(0)["username"].to_pylist() == [f"name-{n}" for n in pk]
    assert store.load_verdicts(0)["suspicious"].to_pylist() == [True]
    assert [counts.tolist() for counts in store.load_snapshot(NOW_S)] == [[4], [44]]
    assert store.average_series(MONDAY_S, until_s).average_follower_count.tolist() == [7.5]
    store.close()


def test_what_it_refuses_is_told_in_its_words(store: Store, address: str) -> None:
    with pytest.raises(
        StoreError, match=r"clickhouse://me@127.0.0.1:\d+/watched refused: .*Division by zero"
    ) as error:
        store._maintenance.command("SELECT intDiv(1, 0)")
    assert "secret" not in str(error.value)


async def test_an_insert_that_is_carried_out_after_its_connection_broke_counts_once(
    store: Store, tmp_path: Path
) -> None:
    """It ends between the comparison and the second try: as late as it can."""
    with nats_running(tmp_path / "nats") as server:
        async with connect(load(nats=(server.url,)), "test") as log:
            await log.open()
            cut_off = tmp_path / "cut-off"
            cut_off.touch()
            await log.publish_batch(0, batch(0, NOW_S))
            sink = Sink(store, Board(POPULATION), POPULATION.first)
            stop = asyncio.Event()
            running = asyncio.create_task(sink.run(lambda: log.consume_observations(store.store_id), stop))
            await until(lambda: sink.rows_stored > 0 and sink.lag_batches == 0, "the second try")
            await log.publish_batch(1, batch(1, NOW_S))
            await until(lambda: sink.rows_stored > 10 and sink.lag_batches == 0, "the next block")
            stop.set()
            async with asyncio.timeout(60):
                await running
    assert not cut_off.exists()
    assert store.row_count() == 20
    for pk in range(1_000, 1_020):
        assert store.series(pk, NOW_S - DAY_S, NOW_S + DAY_S, "raw").time.tolist() == [NOW_S]
