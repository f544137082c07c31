"""A client of plain streams, and a stand-in that is stopped after the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tidemark.simulate import Mockstagram, SimulateOptions
from tidemark.simulate.service import Steps

ANSWER_MAX_BYTES = 4 << 20
PATIENCE_S = 30


@dataclass(frozen=True)
class Answer:
    """One answer off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection to the stand-in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *requests: bytes) -> None:
        self._writer.write(b"".join(requests))

    async def answer(self) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            if headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(await self._reader.readline(), 16):
                    body += (await self._reader.readexactly(size + 2))[:-2]
                await self._reader.readline()
            else:
                body = await self._reader.readexactly(int(headers["Content-Length"]))
            return Answer(int(head[0].split(" ")[1]), headers, body)

    async def ask(self, request: bytes) -> Answer:
        self.send(request)
        return await self.answer()

    async def rest(self) -> bytes:
        """Whatever comes until the stand-in closes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read()

    def end(self) -> None:
        """Send no more."""
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()


def get(pk: int | str, headers: str = "Host: x\r\n") -> bytes:
    return f"GET /api/v1/influencers/{pk} HTTP/1.1\r\n{headers}\r\n".encode()


def post(body: bytes, content_type: str = "application/json") -> bytes:
    return (
        f"POST /api/v1/influencers/is_suspicious HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Recorder:
    """Counts that a test can foretell: 10,000 and the number of the call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def step(self, pk: int) -> tuple[int, int]:
        self.calls.append(pk)
        return 10_000 + len(self.calls), len(self.calls)


class Running:
    """A stand-in that runs, and connections to it."""

    def __init__(self, mockstagram: Mockstagram, address: str) -> None:
        self.mockstagram = mockstagram
        self.service = mockstagram.service
        self.port = urlsplit(address).port or 0
        self._clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=ANSWER_MAX_BYTES))
        self._clients.append(client)
        return client

    async def stop(self) -> None:
        for client in self._clients:
            await client.close()
        await self.mockstagram.stop()


Start = Callable[..., Awaitable[Running]]


@asynccontextmanager
async def starting() -> AsyncIterator[Start]:
    """A function that starts a stand-in, with 100 influencers from 1,000,000; at the end all are stopped.

    `await start(max_rps=5, walk=Recorder())`.
    """
    running: list[Running] = []

    async def start(walk: Steps | None = None, **options: Any) -> Running:
        mockstagram = Mockstagram(SimulateOptions(**{"last": 1_000_099, **options}), walk)
        running.append(Running(mockstagram, await mockstagram.start()))
        return running[-1]

    yield start
    for one in running:
        await one.stop()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with starting() as start:
        yield start
