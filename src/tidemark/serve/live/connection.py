"""What do connections need that uvicorn and ASGI do not have? Limits for requests and readers, streams' transport.

uvicorn bounds neither the size of a request's head nor the time it may take to arrive, with this parser: one
reader who never ends a header line would take all memory. Nor does it give up a reader who takes no answer, or hang up
on one too many.

A stream has to see what is unsent, and to drop its connection. ASGI has neither. `transport.close()`, which is what an
exception comes to, waits until the reader has taken everything: for one who is stuck, for ever. So the connections of
`serve` hand the transport over as an extension of the scope.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import Callable
from typing import Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidemark import telemetry

EXTENSION: Final = "tidemark.transport"

SEND_BUFFER_BYTES: Final = 16_384
"""What the kernel keeps of a stream's for a reader who takes nothing; Linux doubles it. Left to itself it keeps
megabytes, and what lies there is no longer the newest. 10,000 stuck readers make 330 MB at the most, not 25 GB."""

REQUEST_MAX_BYTES: Final = 65_536
"""Of a whole request, after the piece in which it begins. Nobody has anything to upload; a browser sends 1 kB."""
REQUEST_S: Final = 30.0
"""As long a request may take to arrive, and the first one to begin."""
TAKE_S: Final = 30.0
"""A reader who takes nothing of its answer for so long is dropped: the rest lies in memory, up to megabytes."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol over httptools, with limits, and with its transport in the scope."""

    connections_max = sys.maxsize
    """How many there may be at once: each takes an open file, and the store and the log need some."""
    _begun = False
    """Whether a request has begun that has not arrived whole."""
    _arrived_bytes = 0
    """Of that request, without the piece in which it began."""
    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    """While an answer waits for its reader."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            telemetry.CONNECTIONS_REFUSED.inc()
            transport.abort()
            return
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._stop_waiting()
        self._stop_looking()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by the event loop: the reader is slower than the answer."""
        super().pause_writing()
        self._look_again(self._untaken())

    def resume_writing(self) -> None:
        """Called by the event loop: the reader has taken nearly all."""
        self._stop_looking()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._begun:
            self._arrived_bytes += len(data)
            if self._arrived_bytes > REQUEST_MAX_BYTES:
                self.transport.abort()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self.transport}  # type: ignore[dict-item]
        self._begun, self._arrived_bytes = True, 0
        if self._deadline is None:
            self._await_request()

    def on_message_complete(self) -> None:
        """A request has arrived."""
        self._begun = False
        self._stop_waiting()
        super().on_message_complete()

    def _untaken(self) -> int:
        """Bytes of the answer that the reader's machine has not taken, here and in the kernel.

        The kernel lets the transport send more only when a third of its megabytes is free: to look at what is here
        would take who is slow for stuck.
        """
        queued = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    def _look_again(self, untaken: int) -> None:
        self._taking = self.loop.call_later(TAKE_S, self._look, untaken)

    def _look(self, untaken_before: int) -> None:
        """Go on waiting for who is slow, not for who is stuck."""
        untaken = self._untaken()
        if untaken < untaken_before:
            self._look_again(untaken)
        else:
            self.transport.abort()

    def _stop_looking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _await_request(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def handles(scope: Scope) -> tuple[Callable[[], None], Callable[[], int]]:
    """How to drop the connection of this request, and how to see what is unsent in this process, in bytes.

    Prepares it for a stream: from now on a write waits as soon as the kernel takes no more.
    """
    transport: asyncio.Transport = scope["extensions"][EXTENSION]
    transport.set_write_buffer_limits(0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return transport.abort, transport.get_write_buffer_size
