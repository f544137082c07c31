"""How is the stand-in started and stopped?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from tidemark.config import http_url
from tidemark.errors import TidemarkError
from tidemark.simulate.connection import Clients, Connection
from tidemark.simulate.options import SimulateOptions
from tidemark.simulate.service import Service, Steps
from tidemark.simulate.walk import Walk

BACKLOG_CONNECTIONS: Final = 4_096
"""Connections that the kernel may hold before they are accepted; pollers open theirs all at once."""


class Mockstagram:
    """The stand-in, inside a running event loop.

    `walk` says where the counts come from, by default a `Walk` with the seed of the options.
    """

    def __init__(self, options: SimulateOptions, walk: Steps | None = None) -> None:
        self._options = options
        self._walk = walk
        self._server: asyncio.Server | None = None
        self._clients: Clients | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._ticked_s = 0
        """The second that began at the last tick."""

    @property
    def service(self) -> Service:
        """The counters `served`, `spoiled`, `refused`, `classified` and `classifying`; kept after `stop`."""
        if self._clients is None:
            raise RuntimeError("the stand-in was not started")
        return self._clients.service

    @property
    def served(self) -> int:
        """GETs answered with an observation."""
        return self.service.served

    @property
    def classified(self) -> int:
        """POSTs answered with a verdict."""
        return self.service.classified

    async def start(self) -> str:
        """Listen, and return the address as http://host:port. Raises TidemarkError if that is not possible."""
        options = self._options
        loop = asyncio.get_running_loop()
        walk = self._walk or Walk(options.first, options.last, options.seed)
        clients = Clients(Service(options, walk, loop))
        try:
            self._server = await loop.create_server(
                lambda: Connection(clients), options.host, options.port, backlog=BACKLOG_CONNECTIONS
            )
        except OSError as error:
            raise TidemarkError(
                f"cannot listen on {options.host} port {options.port} ({error.strerror or error}):"
                " stop what uses it, or give another host or port (0 picks a free port)"
            ) from error
        self._clients = clients
        self._ticked_s = 0
        self._tick(clients)
        return http_url(*self._server.sockets[0].getsockname()[:2])

    async def stop(self) -> None:
        """Stop listening and drop every connection. Does nothing when it does not run."""
        server, self._server = self._server, None
        if server is None or self._clients is None or self._ticking is None:
            return
        self._ticking.cancel()
        server.close()
        for connection in list(self._clients.connections):
            connection.abort()
        await server.wait_closed()

    def _tick(self, clients: Clients) -> None:
        """Once a second: the Date of the answers, and the connections that nobody uses."""
        now_s = time.time()
        if int(now_s) != self._ticked_s:  # a timer may fire a little before its time
            self._ticked_s = int(now_s)
            clients.service.answers.tick(now_s)
            for connection in list(clients.connections):
                connection.tick()
        self._ticking = asyncio.get_running_loop().call_later(1.0 - now_s % 1.0, self._tick, clients)


async def serve(
    options: SimulateOptions, *, stop: asyncio.Event, ready: Callable[[str], None] | None = None
) -> None:
    """Run the stand-in until `stop` is set. `ready` is called with the address once it answers."""
    mockstagram = Mockstagram(options)
    address = await mockstagram.start()
    try:
        if ready is not None:
            ready(address)
        await stop.wait()
    finally:
        await mockstagram.stop()
