"""Reading on a real NATS server, which comes and goes."""

from __future__ import annotations

import asyncio

import pytest

from tests.log.server import PATIENCE_S, NatsServer, patient, until
from tidemark.config import load
from tidemark.log import client, reconnecting
from tidemark.log.client import Delivery, connect
from tidemark.log.reconnecting import ReconnectingConsumer
from tidemark.messages import Tick

WAIT_S = 0.2


def tick(due_ms: int) -> Tick:
    return Tick(shard=0, first_pk=1_000_000, last_pk=1_000_999, due_ms=due_ms)


class Complaints(list[str]):
    def warning(self, complaint: str, error: str) -> None:
        self.append(f"{complaint}: {error}")


async def next_tick(reader: ReconnectingConsumer) -> int:
    async with asyncio.timeout(PATIENCE_S):
        deliveries: list[Delivery] = []
        while not deliveries:
            deliveries = await reader.next(1, WAIT_S)
    await deliveries[0].ack()
    return Tick.decode(deliveries[0].data).due_ms


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_DEADLINE_S", 0.3)
    monkeypatch.setattr(reconnecting, "RETRY_S", 0.01)


async def test_a_server_that_comes_later_is_read_from_then_on(nats_server: NatsServer) -> None:
    nats_server.kill()
    said = Complaints()
    async with connect(load(nats=[nats_server.url]), "test") as log:
        reader = ReconnectingConsumer(log.consume_ticks, asyncio.Event(), said.warning, "no ticks")
        assert reader.away
        assert await reader.pending() is None
        for tries in (1, 2):
            assert await reader.next(1, WAIT_S) == []
            assert reader.away
            assert len(said) == tries
        assert said[0].startswith("no ticks: cannot reach NATS")
        nats_server.start()
        await patient(log, "publish_tick", tick(1))
        assert await next_tick(reader) == 1
        assert not reader.away


async def test_a_consumer_that_fails_is_made_anew(nats_server: NatsServer) -> None:
    said = Complaints()
    async with connect(load(nats=[nats_server.url]), "test") as log:
        reader = ReconnectingConsumer(log.consume_ticks, asyncio.Event(), said.warning, "no ticks")
        await patient(log, "publish_tick", tick(1))
        assert await next_tick(reader) == 1
        for due_ms, ask in ((2, lambda: reader.next(1, WAIT_S)), (3, reader.pending)):
            assert log._client is not None
            # As nats-py does by itself after an error of the server's that it does not know.
            await log._client.close()
            assert not await ask()
            assert reader.away
            assert len(said) == due_ms - 1
            await patient(log, "publish_tick", tick(due_ms))
            assert await next_tick(reader) == due_ms
            assert not reader.away


async def test_a_stop_ends_the_pause(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "RETRY_S", 10 * PATIENCE_S)
    nats_server.kill()
    stop, said = asyncio.Event(), Complaints()
    async with asyncio.timeout(PATIENCE_S), connect(load(nats=[nats_server.url]), "test") as log:
        reader = ReconnectingConsumer(log.consume_ticks, stop, said.warning, "no ticks")
        asked = asyncio.ensure_future(reader.next(1, WAIT_S))
        await until(lambda: bool(said), "the complaint")
        assert not asked.done()
        stop.set()
        assert await asked == []
