"""Live updates through a real server and real sockets: what readers get, and what becomes of those who do not read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemark.board import Board
from tidemark.messages import Batch, string_array
from tidemark.population import Population
from tidemark.serve import answers
from tidemark.serve.app import create
from tidemark.serve.figures import Figures
from tidemark.serve.gains import Gains
from tidemark.serve.live import Limits, Live
from tidemark.serve.live.watched import FIRST_PLACES, Watched
from tidemark.serve.role import Server, listen
from tidemark.serve.routes import Sources
from tidemark.store.clickhouse import Store
from tidemark.store.sink import Sink
from tidemark.times import rfc3339

POPULATION = Population(1_000, 1_009)
OBSERVED = np.arange(1_000, 1_009, dtype=np.uint32)
"""1009 is watched, but not observed at first."""
NOW_S = int(time.time()) - 100_000
DEADLINE_S = 60
"""For what takes milliseconds: a busy machine is no failure."""
SOON = Limits(sweep=0.01)
SMALL_BUFFER = 4_096


@dataclass
class Event:
    """One event, or a comment, whose name is then empty."""

    name: str
    id: int
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Reader:
    """A client of server-sent events."""

    def __init__(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream = stream
        self._writer = writer
        self._text = ""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.retry_ms = 0

    async def head(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            lines = (await self._stream.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:-2])}

    async def body(self) -> Any:
        """The JSON of an answer that is no stream."""
        async with asyncio.timeout(DEADLINE_S):
            return json.loads(await self._stream.readexactly(int(self.headers["content-length"])))

    async def next(self, name: str | None = None) -> Event:
        """The next event, or the next of this name. EOFError after an end in order."""
        while True:
            while "\n\n" not in self._text:
                async with asyncio.timeout(DEADLINE_S):
                    size = int(await self._stream.readline(), 16)
                    self._text += (await self._stream.readexactly(size)).decode()
                    await self._stream.readline()
                if not size:
                    raise EOFError
            block, self._text = self._text.split("\n\n", 1)
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            if "retry" in fields:
                self.retry_ms = int(fields["retry"])
                continue
            event = Event(fields.get("event", ""), int(fields.get("id", 0)), fields.get("data", ""))
            if name is None or event.name == name:
                return event

    async def close(self) -> None:
        self._writer.close()


class Served:
    """A server over a board that the test writes."""

    def __init__(self, board: Board, live: Live, figures: Figures, port: int) -> None:
        self.board = board
        self.live = live
        self.figures = figures
        self.port = port
        self.readers = AsyncExitStack()
        self.at_s = NOW_S

    def observe(self, pk: np.ndarray[Any, Any] = OBSERVED) -> int:
        """A newer observation of these, and a new view; returns its second, which is the follower count too."""
        self.at_s += 1
        self.board.apply(
            Batch(
                tick_id="",
                pk=pk.astype(np.uint32),
                observed_at_ms=np.full(len(pk), self.at_s * 1_000, np.int64),
                follower_count=np.full(len(pk), self.at_s, np.uint32),
                following_count=np.ones(len(pk), np.uint32),
                username=string_array(["somebody with a name of some length"] * len(pk)),
            )
        )
        self.live.publish(self.board.publish(self.at_s * 1_000 + 500))
        return self.at_s

    async def read(self, path: str, status: int = 200, receive_buffer: int | None = None) -> Reader:
        peer = socket.socket()
        if receive_buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", self.port))
        stream, writer = await asyncio.open_connection(sock=peer, limit=SMALL_BUFFER)
        reader = Reader(stream, writer)
        self.readers.push_async_callback(reader.close)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        await reader.head()
        assert reader.status == status
        return reader

    async def fill(self) -> None:
        """Write updates until a reader that does not read has some that it cannot take."""
        async with asyncio.timeout(DEADLINE_S):
            while not any(stream._unsent_bytes() for stream in self.live._streams):
                self.observe()
                await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _streams_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound for answers of all kinds would drop a stuck reader too, after half a minute."""
    monkeypatch.setattr("tidemark.serve.live.connection.TAKE_S", 10.0 * DEADLINE_S)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(f"chdb://{Path(tmp_path_factory.mktemp('live'))}/store")
    yield store
    store.close()


@asynccontextmanager
async def serving(store: Store, limits: Limits = SOON) -> AsyncIterator[Served]:
    board = Board(POPULATION)
    figures = Figures(board, Sink(store, board, POPULATION.first), 60_000)
    live = Live(board, figures, limits)
    server = Server(create(Sources(board, store, figures, Gains(board, store, 60)), live))
    with listen("127.0.0.1", 0) as listener:
        http = asyncio.ensure_future(server.serve(sockets=[listener]))
        served = Served(board, live, figures, listener.getsockname()[1])
        served.observe()
        try:
            async with served.readers:
                yield served
                await live.close()
        finally:
            server.should_exit = True
            async with asyncio.timeout(DEADLINE_S):
                await http
    assert live.streams == 0
    assert (len(live._watched), live._places, live._observations) == (0, {}, {})
    assert not live._statistics.readers


async def test_the_present_value_comes_at_once_and_each_newer_one(store: Store) -> None:
    async with serving(store) as served:
        reader = await served.read("/v1/influencers/1003/live")
        assert reader.headers["content-type"] == "text/event-stream"
        assert reader.headers["cache-control"] == "no-store, no-transform"
        first = await reader.next("observation")
        assert 2_000 <= reader.retry_ms <= 10_000
        latest = served.board.view.latest(1_003)
        assert latest is not None
        assert first.data.encode() == answers.as_json(answers.Influencer.of(latest))
        assert first.id == NOW_S * 1_000 + 1_500, "the moment of the view"
        other = np.array([1_004])
        served.observe(other)
        at_s = served.observe()
        found = await reader.next("observation")
        assert found.json["followerCount"] == at_s, "and nothing of what others have"
        assert found.json["observedAt"] == rfc3339(at_s)


async def test_who_is_watched_but_not_observed_is_waited_for(store: Store) -> None:
    async with serving(store) as served:
        reader = await served.read("/v1/influencers/1009/live")
        at_s = served.observe(np.array([1_009]))
        found = (await reader.next("observation")).json
        assert (found["pk"], found["followerCount"]) == (1_009, at_s)


async def test_several_influencers_and_the_statistics_in_one_stream(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemark.serve.figures.STALE_SECONDS", 600.0)  # the same for the stream and for us
    async with serving(store) as served:
        reader = await served.read("/v1/live?pk=1001&pk=1002&pk=1001&stats=true")
        events = [await reader.next() for _ in range(3)]
        assert [event.json["pk"] for event in events[:2]] == [1_001, 1_002], "each once"
        assert events[2].name == "stats"
        assert events[2].data.encode() == answers.as_json(await served.figures.stats())
        at_s = served.observe(np.array([1_002]))
        assert (await reader.next("observation")).json["followerCount"] == at_s
        assert (await reader.next("stats")).json["asOf"] == rfc3339(at_s)


async def test_statistics_that_a_newcomer_brought_up_to_date_are_told_to_all(store: Store) -> None:
    async with serving(store, Limits(sweep=3_600)) as served:  # nobody but newcomers asks for them
        first = await served.read("/v1/live?stats=true")
        await first.next("stats")
        at_s = served.observe()
        await served.read("/v1/live?stats=true")
        assert (await first.next("stats")).json["asOf"] == rfc3339(at_s)


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/v1/influencers/1010/live", "Not a watched pk"),
        ("/v1/influencers/x/live", "Not a watched pk"),
        ("/v1/live?pk=1001&pk=7", "Not a watched pk"),
        ("/v1/live?" + "&".join(["pk=1001"] * 11), "Bad request"),
        ("/v1/live?stats=perhaps", "Bad request"),
        ("/v1/live", "Nothing to tell of"),
        ("/v1/live?stats=false", "Nothing to tell of"),
    ],
)
async def test_what_cannot_be_watched_is_a_problem(store: Store, path: str, title: str) -> None:
    async with serving(store) as served:
        reader = await served.read(path, status=422)
        assert reader.headers["content-type"] == "application/problem+json"
        assert (await reader.body())["title"] == title


async def test_an_event_is_serialised_once_for_all_who_read_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(store) as served:
        readers = [await served.read("/v1/influencers/1003/live") for _ in range(5)]
        for reader in readers:
            await reader.next("observation")
        encoded: list[Any] = []
        encode = answers.as_json

        def counted(answer: Any) -> bytes:
            encoded.append(answer)
            return encode(answer)

        monkeypatch.setattr(answers, "as_json", counted)
        at_s = served.observe()
        for reader in readers:
            assert (await reader.next("observation")).json["followerCount"] == at_s
        assert len(encoded) == 1, "and nobody else's: nobody reads them"


async def test_the_newest_value_wins_for_a_reader_who_is_slow(store: Store) -> None:
    async with serving(store, Limits(send=DEADLINE_S)) as served:
        reader = await served.read("/v1/live?pk=1001&pk=1002", receive_buffer=SMALL_BUFFER)
        await served.fill()
        (stream,) = served.live._streams
        for _ in range(1_000):
            served.observe()
            await asyncio.sleep(0)
        newest = served.at_s
        assert len(stream._slots) == 2, "a slot for each influencer, whatever came meanwhile"
        received: list[tuple[int, int]] = []
        while not received or received[-1] != (1_002, newest):
            found = (await reader.next("observation")).json
            received.append((found["pk"], found["followerCount"]))
        for pk in (1_001, 1_002):
            times = [at_s for number, at_s in received if number == pk]
            assert times == sorted(set(times))
            assert times[-1] == newest
            assert newest - times[-2] >= 1_000, "what lay between was never written"


async def test_who_hears_nothing_new_is_pinged(store: Store) -> None:
    async with serving(store, Limits(sweep=0.01, ping=0.02)) as served:
        reader = await served.read("/v1/live?pk=1009")
        assert [await reader.next() for _ in range(3)] == [Event("", 0, "")] * 3


async def test_those_who_come_at_once_are_not_pinged_at_once(store: Store) -> None:
    async with serving(store, Limits(ping=3_600)) as served:
        for _ in range(20):
            await served.read("/v1/live?pk=1009")
        await until(lambda: len(served.live._streams) == 20)
        quiet_since = [stream.quiet_since for stream in served.live._streams]
        assert max(quiet_since) - min(quiet_since) > 360


async def test_a_stream_past_the_cap_is_refused(store: Store) -> None:
    async with serving(store, Limits(streams_max=1)) as served:
        first = await served.read("/v1/live?stats=true")
        second = await served.read("/v1/live?stats=true", status=503)
        assert second.headers["content-type"] == "application/problem+json"
        assert 5 <= int(second.headers["retry-after"]) <= 30
        assert (await second.body())["title"] == "Too many live streams"
        await first.close()
        await until(lambda: served.live.streams == 0)
        await (await served.read("/v1/live?stats=true")).next("stats")


async def test_a_stuck_reader_is_dropped_and_hurts_nobody(store: Store) -> None:
    async with serving(store, Limits(sweep=0.01, send=3.0)) as served:
        stuck = await served.read("/v1/influencers/1001/live", receive_buffer=SMALL_BUFFER)
        await served.fill()
        well = await served.read("/v1/influencers/1002/live")
        await well.next("observation")
        at_s = served.observe()
        assert (await well.next("observation")).json["followerCount"] == at_s
        async with asyncio.timeout(DEADLINE_S):
            while served.live.streams > 1:
                served.observe()  # what the kernel had room for was not stuck yet
                await asyncio.sleep(0.005)
        at_s = served.observe()
        while (await well.next("observation")).json["followerCount"] < at_s:
            pass
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError, ValueError)):
            await stuck.next("none")


async def test_an_old_stream_ends_in_order(store: Store) -> None:
    async with serving(store, Limits(sweep=0.01, life=0.05)) as served:
        reader = await served.read("/v1/influencers/1001/live")
        await reader.next("observation")
        with pytest.raises(EOFError):
            await reader.next()
        await until(lambda: served.live.streams == 0)


async def test_an_orderly_stop_ends_all_streams_and_takes_no_more(store: Store) -> None:
    async with serving(store, Limits(send=DEADLINE_S, close=5.0)) as served:
        stuck = await served.read("/v1/influencers/1001/live", receive_buffer=SMALL_BUFFER)
        await served.fill()
        readers = [await served.read("/v1/live?pk=1001&stats=true") for _ in range(3)]
        for reader in readers:
            await reader.next("observation")
        at_s = served.observe()
        closing = asyncio.ensure_future(served.live.close())
        for reader in readers:
            found = await reader.next("observation")
            assert found.json["followerCount"] == at_s, "the last view reaches them"
            with pytest.raises(EOFError):
                await reader.next("none")
        await closing
        await until(lambda: served.live.streams == 0)
        refused = await served.read("/v1/live?stats=true", status=503)
        assert (await refused.body())["title"] == "Stopping"
        await stuck.close()


async def test_who_goes_away_leaves_nothing_behind(store: Store) -> None:
    async with serving(store) as served:
        everybody = "&".join(f"pk={pk}" for pk in range(1_000, 1_010))
        gone = await served.read(f"/v1/live?{everybody}&stats=true")
        await gone.next()
        stays = await served.read("/v1/influencers/1002/live")
        await stays.next("observation")
        assert len(served.live._watched) == 10
        await gone.close()
        await until(lambda: served.live.streams == 1)
        assert len(served.live._watched) == len(served.live._observations) == 1
        at_s = served.observe()
        assert (await stays.next("observation")).json["followerCount"] == at_s


def test_places_are_used_again_and_grow() -> None:
    watched = Watched()
    observed_at = np.zeros(FIRST_PLACES * 3, np.uint32)
    places = {index: watched.add(index, 0) for index in range(FIRST_PLACES * 2)}
    assert len(set(places.values())) == len(watched) == FIRST_PLACES * 2
    observed_at[[3, FIRST_PLACES + 3, FIRST_PLACES * 2 + 3]] = 7
    assert sorted(watched.changed(observed_at)) == sorted([places[3], places[FIRST_PLACES + 3]])
    assert watched.changed(observed_at) == [], "told of once"
    watched.remove(places[3])
    observed_at[3] = 8
    assert watched.changed(observed_at) == []
    assert watched.add(5, told_at=9) == places[3]
    observed_at[5] = 9
    assert watched.changed(observed_at) == [places[5]], "only for whom it is newer"
