"""A NATS server, an API that can be told how to answer, and classifiers that can be killed."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from tests.log.server import nats_running
from tidemark.classify.classifier import classify
from tidemark.config import Settings, load
from tidemark.log import streams
from tidemark.log.client import Log, connect
from tidemark.messages import Turn, Verdicts
from tidemark.simulate import Mockstagram, SimulateOptions

FIRST = 1_000_000
PATIENCE_S = 60


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the roles run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server; each test empties its streams."""
    with nats_running(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code with shorter waits."""
    for name, seconds in {
        "ASK_MIN_S": 0.0,
        "TELL_SECONDS": 0.05,
        "TURN_WAIT_S": 0.2,
        "ROOM_LOOK_S": 0.02,
    }.items():
        monkeypatch.setattr(f"tidemark.classify.classifier.{name}", seconds)
    monkeypatch.setattr("tidemark.classify.agenda.RETRY_MIN_S", 0.02)
    monkeypatch.setattr("tidemark.classify.agenda.HAND_BACK_MIN_S", 0.2)


@pytest.fixture
def soon_redelivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn of a dead classifier goes to another after a second: as that of one that stood still for as long."""
    monkeypatch.setattr(streams, "TURN_ACK_WAIT_S", 1.0)


async def until(reached: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Wait for it; it takes as long as it takes."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = reached()
                if (found if isinstance(found, bool) else await found) is True:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{what} did not come")


Answering = Callable[[int, int], Awaitable[tuple[int, bytes]] | None]
"""Given a pk and how often it was asked about before: the status and body of the POST, or None for a sound one."""


@dataclass
class Api:
    """Whatever a test makes the POST answer, over plain streams; GETs are sound."""

    answering: Answering = lambda pk, times: None
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of the POSTs."""
    times: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0
    in_flight_max: int = 0
    down: bool = False
    """Connections are dropped as soon as something is asked."""
    dropped: int = 0
    """Requests that came while it was down."""

    clients: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.clients.add(task)
        try:
            await self.answer_all(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.clients.discard(task)
            writer.close()

    async def answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1])) if length else b""
            if self.down:
                self.dropped += 1
                break
            status, answer = await self.answer(head, body)
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(answer)}\r\n\r\n".encode()
                + answer
            )

    def hold(self, first_pk: int = FIRST) -> asyncio.Event:
        """Verdicts from this pk on wait until what is returned is set, and are sound."""
        free = asyncio.Event()

        async def held(pk: int) -> tuple[int, bytes]:
            await free.wait()
            return 200, sound(pk)

        self.answering = lambda pk, times: held(pk) if pk >= first_pk else None
        return free

    async def stop(self) -> None:
        clients = list(self.clients)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def answer(self, head: str, body: bytes) -> tuple[int, bytes]:
        method, path, _ = head.split("\r\n", 1)[0].split()
        if method == "GET":
            pk = int(path.rpartition("/")[2])
            details = {
                "pk": pk,
                "username": f"i-{pk}",
                "followerCount": self.times[pk] + 7,
                "followingCount": 3,
            }
            return 200, json.dumps(details).encode()
        assert path == "/api/v1/influencers/is_suspicious"
        details = json.loads(body)
        pk = details["pk"]
        self.asked.append(details)
        times, self.times[pk] = self.times[pk], self.times[pk] + 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            told = self.answering(pk, times)
            return await told if told else (200, sound(pk))
        finally:
            self.in_flight -= 1


def sound(pk: int) -> bytes:
    """Every third is suspicious."""
    return json.dumps({"pk": pk, "suspicious": pk % 3 == 0}).encode()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
    api.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield api
    server.close()
    await api.stop()


@dataclass
class Bench:
    """The log, and classifiers on it."""

    settings: Settings
    log: Log
    running: list[tuple[asyncio.Task[None], asyncio.Event]] = field(default_factory=list)

    def start(self, **settings: Any) -> asyncio.Event:
        """A classifier; set what this returns to stop it in order."""
        stop = asyncio.Event()
        task = asyncio.ensure_future(classify(self.settings.model_copy(update=settings), stop))
        self.running.append((task, stop))
        return stop

    async def kill(self) -> None:
        """End all classifiers in the middle of what they do: they publish, acknowledge and hand back nothing more."""
        for task, _ in self.running:
            task.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(task for task, _ in self.running), return_exceptions=True)
        self.running.clear()

    async def stop(self) -> None:
        """In order."""
        for _, stop in self.running:
            stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(task for task, _ in self.running))
        self.running.clear()

    async def order(
        self, first: int, last: int, due_ms: int = 1_000, shard: int = 0, since_ms: int | None = None
    ) -> Turn:
        turn = Turn(shard, first, last, due_ms, due_ms if since_ms is None else since_ms)
        await self.log.publish_turn(turn)
        return turn

    async def record(self, shard: int = 0) -> list[Verdicts]:
        return (await self.log.record(shard, 0)).verdicts

    async def verdicts(self, shard: int = 0) -> dict[int, list[tuple[str, bool, int]]]:
        """All verdicts on the log: pk -> [(turn, suspicious, checked at)]."""
        found = defaultdict(list)
        for message in await self.record(shard):
            rows = zip(
                message.pk.tolist(), message.suspicious.tolist(), message.checked_at.tolist(), strict=True
            )
            for pk, suspicious, at in rows:
                found[pk].append((message.turn_id, suspicious, at))
        return found

    async def waiting(self) -> int:
        """Turns that are not done."""
        return (await self.log._jetstream.stream_info(streams.CLASSIFICATIONS)).state.messages

    async def done(self) -> None:
        """Wait until no turn is left."""

        async def nothing_waits() -> bool:
            return await self.waiting() == 0

        await until(nothing_waits, "the end of all turns")


@asynccontextmanager
async def bench_of(settings: Settings) -> AsyncIterator[Bench]:
    async with connect(settings, "test") as log:

        async def opened() -> bool:
            with suppress(Exception):
                await log.open()
                return True
            return False

        await until(opened, "NATS")
        for stream in (streams.TICKS, streams.OBSERVATIONS, streams.CLASSIFICATIONS, streams.VERDICTS):
            await log._jetstream.delete_stream(stream)
        await log.open()
        bench = Bench(settings, log)
        try:
            yield bench
        finally:
            await bench.kill()


@pytest.fixture
async def bench(nats_url: str, api: Api) -> AsyncIterator[Bench]:
    settings = load(
        api=(api.url,),
        nats=(nats_url,),
        influencers=f"{FIRST}-{FIRST + 19}",
        classify_concurrency=8,
        classify_interval=3_600,
        classify_deadline=30,
    )
    async with bench_of(settings) as bench:
        yield bench


@pytest.fixture
async def mockstagram() -> AsyncIterator[Mockstagram]:
    """The stand-in itself."""
    mockstagram = Mockstagram(SimulateOptions(first=FIRST, last=FIRST + 99, classify_seconds=0.05))
    yield mockstagram
    await mockstagram.stop()
