"""How does one connection take requests, and give answers in the order of the requests?

Two ways in. A read that holds whole GETs whose headers were seen before is cut up right here: that is
nearly all the traffic. Anything else goes through `RequestReader`, with its limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from typing import Final, cast

from tidemark.simulate.answers import KEEP_ALIVE_S, last_on_connection, without_body
from tidemark.simulate.options import PK_MAX_DIGITS
from tidemark.simulate.requests import Request, RequestReader, is_plain
from tidemark.simulate.service import After, Service

PENDING_MAX_ANSWERS: Final = 1_024
"""Requests without an answer; past it a connection is not read from until half of them are answered."""

REQUEST_MAX_S: Final = 60
"""How long a client may take to send a request that it began, or its first."""

PLAIN_HEADERS_MAX: Final = 64
"""Header blocks remembered as plain. A client sends one and the same each time."""

_PATH: Final = b"/api/v1/influencers/"
_SUSPICIOUS_PATH: Final = _PATH + b"is_suspicious"
_GET: Final = b"GET " + _PATH
_PK_AT: Final = len(_GET)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Clients:
    """What the connections of one server share."""

    def __init__(self, service: Service) -> None:
        self.service = service
        # Those that are open.
        self.connections: set[Connection] = set()
        # Header blocks that `is_plain` found plain.
        self.plain_headers: set[bytes] = set()

    def learn(self, headers: bytes) -> bool:
        """Whether headers not seen before are plain, and can be remembered as such."""
        if len(self.plain_headers) >= PLAIN_HEADERS_MAX or not is_plain(headers):
            return False
        self.plain_headers.add(headers)
        return True


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._service = clients.service
        self._transport: asyncio.Transport | None = None
        # Answers to come, in the order of their requests.
        self._pending: deque[_Slot] = deque()
        # Present while a request is being read that is not plain or not whole.
        self._reader: RequestReader | None = None
        # No further request is read: the answer of the last one closes the connection.
        self._finished = False
        # The client does not take what was written.
        self._clogged = False
        self._reading = True
        # Seconds without anything read or written, and whether anything was ever written.
        self._idle_s = 0
        self._used = False

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._clients.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; answers to come have nowhere to go."""
        self._transport = None
        self._pending.clear()
        self._clients.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Answer every whole request, and keep the rest."""
        if self._transport is None or self._finished:
            return
        self._idle_s = 0
        done = 0 if self._reader else self._read_plain(data, self._transport)
        if done < len(data) and not self._finished:
            self._read(data[done:] if done else data)

    def eof_received(self) -> bool:
        """The client sends no more; answers to come are still given."""
        self._finished = True
        if self._pending:
            self._pending[-1].last = True
        return bool(self._pending)

    def pause_writing(self) -> None:
        """The client does not take its answers: take no more requests from it."""
        self._clogged = True
        self._throttle()

    def resume_writing(self) -> None:
        """The client took its answers."""
        self._clogged = False
        self._throttle()

    # What the server calls

    def tick(self) -> None:
        """A second went by: close the connection if it has been idle for too long, as Node does."""
        if self._pending or self._transport is None:
            return
        self._idle_s += 1
        if self._idle_s > (KEEP_ALIVE_S if self._used and self._reader is None else REQUEST_MAX_S):
            if self._clogged:  # an orderly end would wait for the client for ever
                self._transport.abort()
            else:
                self._transport.close()

    def abort(self) -> None:
        """Close without sending what waits."""
        if self._transport is not None:
            self._transport.abort()

    # From bytes to requests

    def _read_plain(self, data: bytes, transport: asyncio.Transport) -> int:
        """Answer the plain GETs at the beginning of `data`; return how many bytes they take."""
        service = self._service
        plain_headers = self._clients.plain_headers
        answer_now = service.plain and not self._pending
        answers: list[bytes] = []
        start, length = 0, len(data)
        while start < length:
            end = data.find(b"\r\n\r\n", start)
            space = data.find(b" ", start + _PK_AT, end)
            if end < 0 or space < 0 or data[start : start + _PK_AT] != _GET:
                break
            pk, headers = data[start + _PK_AT : space], data[space:end]
            if not _is_pk(pk) or (headers not in plain_headers and not self._clients.learn(headers)):
                break
            start = end + 4
            if answer_now:
                answers.append(service.get_now(int(pk)))
            else:
                service.get(int(pk), self._slot())
                if self._finished:
                    break
        if answers:
            self._used = True
            transport.write(answers[0] if len(answers) == 1 else b"".join(answers))
        if self._pending:
            self._throttle()
        return start

    def _read(self, data: bytes) -> None:
        """Answer any requests, of which `data` is the next part."""
        reader = self._reader = self._reader or RequestReader()
        for request in reader.feed(data):
            self._finished = request.last
            self._route(request)
            if self._finished:
                return
        if reader.refusal is not None:
            self._finished = True
            self._slot(last=True).fill(self._service.answers.error(reader.refusal, reader.refusal.phrase))
        elif not reader.within_request:
            self._reader = None
        self._throttle()

    def _route(self, request: Request) -> None:
        slot = self._slot(request.last, request.method == b"HEAD")
        pk = request.path[len(_PATH) :]
        if request.method == b"POST" and request.path == _SUSPICIOUS_PATH:
            # Express parses no other content, and goes on with an empty object.
            self._service.post(request.body if request.is_json else b"{}", slot)
        elif request.method in (b"GET", b"HEAD") and request.path.startswith(_PATH) and _is_pk(pk):
            self._service.get(int(pk), slot)
        else:
            slot.fill(self._service.answers.not_found())

    # From answers to bytes

    def _slot(self, last: bool = False, bodiless: bool = False) -> _Slot:
        slot = _Slot(self, last, bodiless)
        self._pending.append(slot)
        return slot

    def flush(self) -> None:
        """Write the answers that are there and whose turn it is."""
        if self._transport is None or self._transport.is_closing():
            return
        answers: list[bytes] = []
        after = After.KEEP
        while self._pending and self._pending[0].answer is not None and after is After.KEEP:
            slot = self._pending.popleft()
            after = After.CLOSE if slot.last and slot.after is After.KEEP else slot.after
            answers.append(slot.on_the_wire())
        if not answers:
            return
        self._idle_s = 0
        self._used = True
        self._finished |= after is not After.KEEP
        if after is After.RESET:
            # Without lingering the kernel sends a reset instead of an orderly end.
            with contextlib.suppress(OSError):
                self._transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
                )
            self._transport.abort()
            return
        self._transport.write(b"".join(answers))
        if after is After.CLOSE:
            self._transport.close()
        self._throttle()

    def _throttle(self) -> None:
        """Read from the client, or not, depending on what it has been sent and what it waits for."""
        limit = PENDING_MAX_ANSWERS if self._reading else PENDING_MAX_ANSWERS // 2
        reading = not self._clogged and len(self._pending) < limit
        if reading != self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()


def _is_pk(text: bytes) -> bool:
    return text.isdigit() and len(text) <= PK_MAX_DIGITS


class _Slot:
    """The place of one answer among those of a connection."""

    __slots__ = ("_bodiless", "_connection", "after", "answer", "last")

    def __init__(self, connection: Connection, last: bool, bodiless: bool) -> None:
        self._connection = connection
        self._bodiless = bodiless
        self.last = last
        self.answer: bytes | None = None
        self.after = After.KEEP

    def fill(self, answer: bytes, after: After = After.KEEP) -> None:
        """Give the answer, once."""
        self.answer = answer
        self.after = after
        self._connection.flush()

    def on_the_wire(self) -> bytes:
        """The answer as this connection sends it."""
        answer = self.answer or b""
        if self.last:
            answer = last_on_connection(answer)
        return without_body(answer) if self._bodiless else answer
