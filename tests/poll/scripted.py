"""An API that does what the test says: one act for each request, on real sockets."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

HEAD = b"HTTP/1.1 %d Some\r\nContent-Type: application/json; charset=utf-8\r\n"


def observation(pk: int, followers: int = 5) -> bytes:
    """The body that the API documents."""
    return json.dumps(
        {"pk": pk, "username": f"influencer-{pk}", "followerCount": followers, "followingCount": pk % 7}
    ).encode()


def answer(body: bytes, status: int = 200, headers: bytes = b"") -> bytes:
    """A whole answer with its length."""
    return HEAD % status + headers + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def chunked(body: bytes) -> bytes:
    """The same in three chunks."""
    third = len(body) // 3
    parts = [body[:third], body[third : 2 * third], body[2 * third :]]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)
    return HEAD % 200 + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@dataclass(frozen=True)
class Act:
    """What becomes of one request."""

    wire: bytes = b""
    """What is written."""
    close: bool = False
    """Whether the connection is closed then."""
    silent: bool = False
    """Whether nothing more is ever said on this connection."""
    again_every_s: float = 0.0
    """Write the same again and again."""


SILENCE = Act(silent=True)
CLOSE = Act(close=True)
GARBAGE = Act(b"what do you want?\r\n\r\n")


def good(pk: int, followers: int = 5) -> Act:
    return Act(answer(observation(pk, followers)))


def status(number: int) -> Act:
    return Act(answer(b'{"error":"no"}', number))


def cut_off(pk: int) -> Act:
    return Act(answer(observation(pk))[:-5], close=True)


def last(pk: int) -> Act:
    return Act(answer(observation(pk), headers=b"Connection: close\r\n"), close=True)


@dataclass(eq=False)
class Peer:
    """A connection, as the API sees it."""

    writer: asyncio.StreamWriter
    asked: list[int] = field(default_factory=list)
    answered: int = 0


Script = Callable[[int, int], Act]
"""What to do when this pk is asked for the n-th time, from 1."""


class ScriptedApi:
    """Listens on a port of its own; `script` may be changed at any time."""

    def __init__(self) -> None:
        self.script: Script = lambda pk, time: good(pk)
        self.asked: Counter[int] = Counter()
        """How often each pk was asked for."""
        self.peers: list[Peer] = []
        """All connections there ever were."""
        self.open: set[Peer] = set()
        self.hold: asyncio.Event | None = None
        """No request is answered before this is set."""
        self.latency_s = 0.0
        self.stale: set[Peer] = set()
        """Connections that are closed when the next request comes."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and all connections; `start` opens the same port."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def say(self, wire: bytes) -> None:
        """Say something on every open connection that nobody asked for."""
        for peer in self.open:
            peer.writer.write(wire)

    def hang_up(self) -> None:
        """Close all connections, but not the port."""
        for peer in self.open:
            peer.writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        peer = Peer(writer)
        self.peers.append(peer)
        self.open.add(peer)
        requests: asyncio.Queue[int | None] = asyncio.Queue()
        reading = asyncio.ensure_future(self._read(reader, peer, requests))
        try:
            while (pk := await requests.get()) is not None:
                if self.hold is not None:
                    await self.hold.wait()
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                act = self.script(pk, self.asked[pk])
                if writer.is_closing() or peer in self.stale:
                    break
                writer.write(act.wire)
                await writer.drain()
                while act.again_every_s and not writer.is_closing():
                    writer.write(act.wire)
                    await asyncio.sleep(act.again_every_s)
                if act.silent:
                    await asyncio.Event().wait()
                peer.answered += 1
                if act.close:
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            reading.cancel()
            self.open.discard(peer)
            writer.close()

    async def _read(
        self, reader: asyncio.StreamReader, peer: Peer, requests: asyncio.Queue[int | None]
    ) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                pk = int(head.split(b" ")[1].rpartition(b"/")[2])
                self.asked[pk] += 1
                peer.asked.append(pk)
                requests.put_nowait(pk)
        except (asyncio.IncompleteReadError, ConnectionError):
            requests.put_nowait(None)
            self.open.discard(peer)
