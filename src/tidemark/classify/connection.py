"""Which connection carries a call, and how does its answer come back?

A call takes the connection that was idle for the shortest time, or a new one, and has it for itself until its answer
is there: nothing is pipelined, so what a connection says meanwhile answers that call. One future for each call, and no
task, timer or queue (figures: docs/adr/0010). How many calls there are at once, their caller decides.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final, cast

from tidemark.classify.alarm import Alarm
from tidemark.dial import IDLE_S, dial
from tidemark.errors import UpstreamError
from tidemark.http1 import ProtocolError, Response, ResponseParser

LOOKS_APART_S: Final = 0.1
"""Seconds at least between two looks at all connections: so much longer may one stay open."""


class ConnectionLost(UpstreamError):
    """The API closed the connection before its answer was whole; `began` tells whether a part of it had come."""

    def __init__(self, began: bool) -> None:
        super().__init__("it closed the connection" + (" within an answer" if began else ""))
        self.began = began


class Connections:
    """The connections to one API address: no more than there were calls at once."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        """Those without a call: the last one has been idle for the shortest time."""
        self.alarm = Alarm(self._look)
        """Set for every deadline, and for when an idle connection is to be closed."""

    async def call(self, request: bytes, deadline_s: float, *, again: bool) -> Response:
        """Send a request and wait for the answer, for so many seconds in all.

        A connection that was idle may turn out to be closed; with `again` the request is then sent once more, on a new
        one. Raises TimeoutError, Unreachable, ConnectionLost, ProtocolError. When that or a cancellation ends it early,
        its connection is closed: an answer that comes too late answers nobody.
        """
        deadline = self._loop.time() + deadline_s
        if self._idle:
            try:
                return await self._idle.pop().call(request, deadline)
            except ConnectionLost as lost:
                if lost.began or not again:
                    raise
        async with asyncio.timeout_at(deadline):
            connection = await self._dial()
        return await connection.call(request, deadline)

    async def close(self) -> None:
        """Close all connections; calls under way have lost theirs."""
        for connection in list(self._open):
            connection.close()
        self.alarm.cancel()
        await asyncio.sleep(0)  # the event loop closes them in its next turn

    async def _dial(self) -> Connection:
        connected = await dial(self._host, self._port)
        _, connection = await self._loop.create_connection(lambda: Connection(self), sock=connected)
        return connection

    # -- what the connections say ---------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """It is open, for the call that had it opened."""
        self._open.add(connection)

    def rests(self, connection: Connection) -> float:
        """Its answer came, and another call may have it; returns until when it may stay open."""
        self._idle.append(connection)
        ends_at = self._loop.time() + IDLE_S
        self.alarm.set(ends_at)
        return ends_at

    def closed(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    # -- deadlines ------------------------------------------------------------------------------

    def _look(self) -> None:
        """Close the connections that were idle for too long, and end the calls that are past their deadline."""
        now = self._loop.time()
        for connection in [found for found in self._open if found.ends_at <= now]:
            connection.expire()
        first = min((connection.ends_at for connection in self._open), default=inf)
        self.alarm.set(max(first, now + LOOKS_APART_S))


class Connection(asyncio.Protocol):
    """One connection, from when it is open."""

    def __init__(self, connections: Connections) -> None:
        self.ends_at = inf
        """The deadline of the call; of an idle connection, when it was idle for long enough."""
        self._connections = connections
        self._parser = ResponseParser()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Response] | None = None
        """What the call waits for; None while the connection is idle or closed."""

    async def call(self, request: bytes, deadline: float) -> Response:
        """Send a request and wait for its answer. Raises TimeoutError, ConnectionLost, ProtocolError."""
        if self._transport is None:
            raise ConnectionLost(began=False)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self.ends_at = deadline
        self._connections.alarm.set(deadline)
        self._transport.write(request)
        try:
            return await answer
        finally:
            if self._answer is answer:  # cancelled
                self.close()

    def close(self) -> None:
        """Close it at once; a call has lost it."""
        self._end(ConnectionLost(began=self._parser.pending_bytes > 0))

    def expire(self) -> None:
        """Its time is over."""
        self._end(TimeoutError())

    # -- what the event loop calls --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._connections.opened(self)

    def data_received(self, data: bytes) -> None:
        """A part of the answer came, or the last of it, or what nobody asked for."""
        answer = self._answer
        if answer is None:
            self.close()
            return
        try:
            responses = self._parser.feed(data)
        except ProtocolError as error:
            responses = error.responses
            if not responses:
                self._end(error)
                return
        if not responses:
            return
        if len(responses) > 1:
            self._end(ProtocolError("framing", "the API gave two answers to one request", []))
            return
        self._answer = None
        if not answer.done():
            answer.set_result(responses[0])
        if (
            self._parser.closing or not self._parser.between
        ):  # nothing can follow, or something nobody asked for does
            self.close()
        else:
            self.ends_at = self._connections.rests(self)

    def eof_received(self) -> None:
        """The API sends no more; this ends an answer of which the head told no length."""
        self.data_received(b"")
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever."""
        self.close()

    def _end(self, error: Exception) -> None:
        if self._transport is None:
            return
        self._transport.abort()
        self._transport = None
        self._connections.closed(self)
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
