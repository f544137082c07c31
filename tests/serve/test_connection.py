"""Requests that never end, through a real server and real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from fastapi import FastAPI, Response

from tidemark.serve.live import connection
from tidemark.serve.live.connection import REQUEST_MAX_BYTES
from tidemark.serve.role import Server, listen

DEADLINE_S = 60
"""For what takes milliseconds: a busy machine is no failure."""
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


CONNECTIONS = 4
"""As many as these tests open at once, at most."""

KERNEL_BYTES = 65_536
"""So much the kernel keeps on each side; Linux doubles it."""

LARGE_BYTES = 8_000_000
"""More than the kernel keeps for a reader who takes nothing."""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = FastAPI()

    @app.get("/")
    def hello() -> str:
        return "hello"

    @app.get("/large")
    def large() -> Response:
        return Response(b"x" * LARGE_BYTES)

    with listen("127.0.0.1", 0) as listener:
        # Inherited by every connection: what a reader takes, the server soon sees.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        server = Server(app, CONNECTIONS)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


async def answered(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes = WHOLE
) -> None:
    writer.write(request)
    async with asyncio.timeout(DEADLINE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(b'"hello"')) == b'"hello"'
    assert head.startswith(b"HTTP/1.1 200")


async def hung_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(DEADLINE_S):
        with suppress(ConnectionResetError):
            await reader.read()
    writer.close()


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"x" * 1_000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000,
        b"GET / HTTP/1.1\r\nX: x\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n",
    ],
    ids=["url", "header", "headers", "body"],
)
async def test_a_request_without_end_is_cut_off(
    port: int, endless: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_S", 10.0 * DEADLINE_S)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(endless)
    piece = b"X: x\r\n" * 1_000 if endless.endswith(b"\r\n") else b"x" * 6_000
    for _ in range(REQUEST_MAX_BYTES // len(piece) + 2):
        with suppress(ConnectionError):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)  # in pieces of their own
    await hung_up(reader, writer)


async def test_many_requests_are_none_without_end(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    long = WHOLE[:-2] + b"X: " + b"x" * (REQUEST_MAX_BYTES // 4) + b"\r\n\r\n"
    for _ in range(8):
        await answered(reader, writer, long)
    writer.close()


async def test_who_says_nothing_is_hung_up_on(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_S", 0.05)
    for beginning in (b"", b"GET / HT"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(beginning)
        await hung_up(reader, writer)
    monkeypatch.setattr(connection, "REQUEST_S", float(DEADLINE_S))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await answered(reader, writer)
    writer.close()


async def test_the_deadline_is_that_of_each_request(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await answered(reader, writer)
    monkeypatch.setattr(connection, "REQUEST_S", 0.05)
    writer.write(WHOLE[:10])
    await hung_up(reader, writer)


LARGE = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_who_takes_no_answer_is_dropped(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TAKE_S", 0.2)
    lost = asyncio.Event()
    connection_lost = connection.Connection.connection_lost

    def noted(self: connection.Connection, error: Exception | None) -> None:
        lost.set()
        connection_lost(self, error)

    monkeypatch.setattr(connection.Connection, "connection_lost", noted)
    with socket.create_connection(("127.0.0.1", port)) as stuck:
        stuck.sendall(6 * LARGE)
        async with asyncio.timeout(DEADLINE_S):
            await lost.wait()


async def test_who_is_slow_gets_all_of_it(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TAKE_S", 0.05)
    looks: list[int] = []
    look = connection.Connection._look

    def noted(self: connection.Connection, untaken_before: int) -> None:
        if self._untaken() < untaken_before:
            looks.append(untaken_before)
            look(self, untaken_before)
        else:  # however slow this machine is, the reader was not stuck
            self._taking = self.loop.call_later(0.01, self._look, untaken_before)

    monkeypatch.setattr(connection.Connection, "_look", noted)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    slow.connect(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=slow)
    writer.write(LARGE)
    async with asyncio.timeout(DEADLINE_S):
        await reader.readuntil(b"\r\n\r\n")
        taken = 0
        while taken < LARGE_BYTES:
            piece = await reader.read(50_000)
            assert piece, f"dropped after {taken} bytes"
            taken += len(piece)
            await asyncio.sleep(0.01)
    assert taken == LARGE_BYTES
    assert len(looks) >= 3
    writer.close()


async def test_who_comes_when_all_places_are_taken_is_hung_up_on(port: int) -> None:
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    for reader, writer in held:
        await answered(reader, writer)
    await hung_up(*await asyncio.open_connection("127.0.0.1", port))
    reader, writer = held.pop()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(DEADLINE_S):  # until the server has seen that
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with suppress(asyncio.IncompleteReadError, ConnectionResetError):
                await answered(reader, writer)
                break
            writer.close()
    writer.close()
    for _, writer in held:
        writer.close()
