"""Which connection carries which request? The connections to the API addresses, and the queue before them.

The hot path is `Connection.data_received`: it takes answers and sends the next requests on the same
connection, without a task, a future or a timer for a request (figures: `tidemark bench fetch`).
Deadlines, idle connections, limits and breakers are looked after by a sweep four times a second.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import monotonic, time
from typing import Final, cast
from urllib.parse import urlsplit

import structlog
from aiohappyeyeballs import AddrInfoType, start_connection

from tidemark import telemetry
from tidemark.breaker import Breaker
from tidemark.config import Settings
from tidemark.poll.http1 import OBSERVATION_MAX_BYTES, ProtocolError, RequestWriter, ResponseParser
from tidemark.poll.pacing import Allowance, InFlightLimit

SWEEP_SECONDS: Final = 0.25
IDLE_SECONDS: Final = 4.0
"""Node closes a connection that was idle for 5 s; we close it first, so that no request meets that."""
REFILL_SECONDS: Final = 0.005
"""With `--max-rps`: how often requests that had to wait are let go."""
NEXT_ADDRESS_S: Final = 0.25
"""Of a host with several IP addresses the next is tried after so long, beside the silent one (RFC 8305)."""
SAID: Final = {
    "connection": "it closed the connection",
    "cut_off": "it closed the connection within an answer",
    "framing": "it does not speak HTTP/1.1",
    "oversized": "its answers are too large",
    "timeout": "no answer within the deadline",
}
"""What the log says of the reasons for which a connection is given up."""

logger = structlog.get_logger("tidemark.poll")


class Round:
    """Some influencers of one tick, asked once each. `await round.done` until each has an answer or a failure."""

    __slots__ = ("bodies", "done", "final", "first_pk", "refused", "remaining", "repeated", "times")

    def __init__(self, first_pk: int, size: int, asked: int) -> None:
        self.first_pk = first_pk
        self.bodies: list[bytes | None] = [None] * size
        """By position in the tick; None where there is no answer to be read."""
        self.times: list[float] = [0.0] * size
        """Unix seconds when the answer came."""
        self.remaining = asked
        self.refused: Counter[str] = Counter()
        """How many failed, by reason."""
        self.final: set[int] = set()
        """Positions that need not be asked again: the API says there is no such influencer."""
        self.repeated: set[int] = set()
        """Positions sent again because the API had closed the idle connection they were first sent on."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not asked:
            self.finish()

    def fail(self, position: int, reason: str) -> None:
        """This one has no answer, and will have none in this round."""
        self.refused[reason] += 1
        self.remaining -= 1
        if not self.remaining:
            self.finish()

    def finish(self) -> None:
        """Each has its answer or failure."""
        if not self.done.done():
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """One connection: the requests sent on it, in order, and the parser of their answers."""

    __slots__ = ("_transport", "address", "answered", "broken", "idled", "parser", "sent", "used_at", "write")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.parser = ResponseParser()
        self.sent: deque[tuple[Round, int, float]] = deque()
        """(round, position, monotonic seconds when sent) of the requests that wait for their answers."""
        self.answered = 0
        self.idled = False
        """Whether it was ready before there was a request for it."""
        self.used_at = 0.0
        self.broken = ""
        """Which rule the API broke behind the answers that were just taken."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, not a subclass
        self.write = self._transport.write
        self.address.opened(self)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: the hot path."""
        try:
            responses = self.parser.feed(data)
        except ProtocolError as error:
            self.broken = error.reason
            responses = error.responses
            if not responses:
                self.abandon(self.broken)
        if not responses:
            return
        sent = self.sent
        if len(responses) > len(sent):
            self.abandon("framing")  # an answer that nobody asked for
            return
        address = self.address
        now = monotonic()
        observed_at = now + address.pool.wall_offset_s
        for status, body in responses:
            round_, position, sent_at = sent.popleft()
            address.waited_s += now - sent_at
            if status == 200 and len(body) <= OBSERVATION_MAX_BYTES:
                round_.bodies[position] = body
                round_.times[position] = observed_at
                round_.remaining -= 1
                if not round_.remaining:
                    round_.finish()
            else:
                address.refused(status)
                if status == 404:
                    round_.final.add(position)
                round_.fail(position, f"status_{status // 100}xx" if status != 200 else "oversized")
        count = len(responses)
        self.answered += count
        self.used_at = now
        address.answered += count
        if count == 1 and address.plain and not address.troubled:
            # As fill does, for the case that is nearly every one: the next request takes the place of the last. Without
            # this, 6% fewer requests a second (`tidemark bench fetch`, 25 runs of each in alternation).
            queue = address.queue
            if queue and not self.parser.closing and address.in_flight <= address.allowed:
                round_, position = queue.popleft()
                sent.append((round_, position, now))
                self.write(address.get(round_.first_pk + position))
                return
        address.in_flight -= count
        if address.troubled:
            address.recover(now)
        if not self.parser.closing:
            address.fill(self, now)
        elif self.broken:
            self.abandon(self.broken)
        else:
            self.close()

    def eof_received(self) -> None:
        """Called by the event loop: the API sends no more. It closes the connection after this."""
        self.data_received(b"")

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop: the API, or we, closed it."""
        self._give_up("cut_off" if self.parser.pending_bytes else "connection")

    def abandon(self, reason: str) -> None:
        """Close it because the API broke the rules or was too slow: the first request in flight is counted so."""
        self._give_up(reason)
        self._transport.abort()

    def close(self) -> None:
        """Close it in good order; requests in flight are sent again elsewhere."""
        self._give_up("connection")
        self._transport.close()

    def _give_up(self, reason: str) -> None:
        address = self.address
        sent, self.sent = self.sent, deque()
        address.closed(self, len(sent))
        failed = 0
        for place, (round_, position, _) in enumerate(sent):
            # The first one may have been cut off; those pipelined behind it, and all on a connection that the
            # API closed while it was idle, are innocent: sent once more.
            innocent = place > 0 or ((self.answered > 0 or self.idled) and reason == "connection")
            if innocent and position not in round_.repeated:
                round_.repeated.add(position)
                address.pool.queue.appendleft((round_, position))
            else:
                failed += 1
                round_.fail(position, reason)
        if failed:
            address.failed(failed, SAID[reason])
        if sent:
            address.pool.dispatch()


async def _look_up(host: str, port: int) -> Sequence[AddrInfoType]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Address:
    """One API address: its connections, its limit, its breaker."""

    def __init__(self, pool: Pool, api: str, settings: Settings) -> None:
        parts = urlsplit(api)
        self.pool = pool
        self.api = api
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self.get = RequestWriter(api).get
        self._pipeline = settings.pipeline
        self._deadline_s = settings.request_deadline
        self._limit = InFlightLimit(settings.max_in_flight)
        self._breaker = Breaker()
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self.allowed = self._limit.value
        """How many may be in flight now: the limit, or what the breaker allows."""
        self.in_flight = 0
        self.queue = pool.queue
        self.plain = not settings.max_rps
        """Whether there is no allowance to look after."""
        self.troubled = False
        """Whether there were failures since the last answer: then the breaker is told of the next one."""
        self.overloaded = False
        """Whether the last piece of data held an answer with 5xx or 429."""
        # Of the window since the last sweep:
        self.answered = 0
        self.waited_s = 0.0
        """The sum of the seconds from request to answer."""
        self._refused = 0
        """Answers that say that the API cannot; they are among `answered` and among `_failed`."""
        self._failed = 0
        self._short = False
        """Whether a connection had room and found too few requests waiting, or no allowance for them."""

    # -- what the connections say ---------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """A connection is ready."""
        now = monotonic()
        connection.used_at = now
        self._connections.add(connection)
        self.fill(connection, now)

    def closed(self, connection: Connection, in_flight: int) -> None:
        """A connection is gone, with so many requests unanswered."""
        self.in_flight -= in_flight
        if connection in self._connections:
            self._connections.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)

    def refused(self, status: int) -> None:
        """An answer came that is none; 5xx and 429 say that the API cannot."""
        if status >= 500 or status == 429:
            self.failed(1, f"status {status}")
            self._refused += 1
            self.overloaded = True

    def recover(self, now: float) -> None:
        """Answers came after failures: the breaker closes, unless the answers are themselves failures."""
        if self.overloaded:
            self.overloaded = False
            return
        self.troubled = False
        if self._breaker.succeeded():
            logger.info("the API answers again", api=self.api)
        self._allow(now)
        self.pool.dispatch()

    def failed(self, count: int, why: str) -> None:
        """So many requests have no answer; `why`, in words for the log, the last of them has none."""
        self._failed += count
        self.troubled = True
        now = monotonic()
        if self._breaker.failed(now, count):
            logger.warning("the API fails; it is asked again after a rest", api=self.api, why=why)
        self._allow(now)

    # -- what goes out --------------------------------------------------------------------------

    def fill(self, connection: Connection, now: float) -> None:
        """Send as many requests on this connection as the pipeline, the limit and the allowance let."""
        pool = self.pool
        queue = pool.queue
        sent = connection.sent
        room = self._pipeline - len(sent)
        free = self.allowed - self.in_flight
        if free < room:
            room = free
        if pool.tokens < room:
            room = int(pool.tokens)
            self._short = True
        if len(queue) < room:
            room = len(queue)
            self._short = True
        if room <= 0:
            if not sent:
                connection.idled = True
                self._idle.append(connection)
            return
        pool.tokens -= room
        self.in_flight += room
        get = self.get
        if room == 1:
            round_, position = queue.popleft()
            sent.append((round_, position, now))
            connection.write(get(round_.first_pk + position))
            return
        requests = []
        for _ in range(room):
            round_, position = queue.popleft()
            sent.append((round_, position, now))
            requests.append(get(round_.first_pk + position))
        connection.write(b"".join(requests))

    def spread(self) -> None:
        """Put waiting requests on idle connections, and open those that are missing."""
        now = monotonic()
        queue = self.pool.queue
        while queue and self._idle and self.in_flight < self.allowed and self.pool.tokens >= 1:
            connection = self._idle.pop()
            connection.used_at = now
            self.fill(connection, now)
        free = self.allowed - self.in_flight
        waiting = int(min(len(queue), self.pool.tokens))
        missing = -(-min(free, waiting) // self._pipeline) - len(self._idle) - len(self._opening)
        missing = min(
            missing, -(-self.allowed // self._pipeline) - len(self._connections) - len(self._opening)
        )
        if not self._connections:
            missing = min(missing, 1 - len(self._opening))  # one shows whether the host is there at all
        for _ in range(missing):
            task = asyncio.ensure_future(self._open())
            self._opening.add(task)
            task.add_done_callback(self._tried)

    def _tried(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self.pool.dispatch()

    async def _open(self) -> None:
        connection = Connection(self)
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._connect(connection)
        except (
            Exception
        ) as error:  # as a name that no host can have, a ValueError: requests wait for a word of it
            connection.connection_lost(None)  # the loop does not say so when the time was up as it opened
            # When no other connection is open either, the host is not there, and need not be tried often to know it.
            self.failed(1 if self._connections else self._breaker.failures_max, self._words(error))

    async def _connect(self, connection: Connection) -> None:
        # Not by create_connection alone: uvloop's leaves a lookup behind that outlasts the deadline, and complains of
        # it later; and it never tries a host's second address while the first one is silent.
        found = await _look_up(self._host, self._port)
        connected = await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_S)
        await asyncio.get_running_loop().create_connection(lambda: connection, sock=connected)

    def _words(self, error: Exception) -> str:
        """Why no connection could be opened."""
        if isinstance(error, TimeoutError):
            return f"cannot connect to {self._host}:{self._port} within {self._deadline_s:g} s"
        if isinstance(error, (socket.gaierror, ValueError)):
            return f"cannot look up {self._host}: {getattr(error, 'strerror', None) or error}"
        told = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return f"cannot connect to {self._host}:{self._port}: {told}"

    # -- what the sweep does --------------------------------------------------------------------

    def sweep(self, now: float, seconds: float) -> None:
        """Deadlines, idle connections, the limit; `seconds` since the last sweep."""
        for connection in list(self._connections):
            if connection.sent:
                if now - connection.sent[0][2] > self._deadline_s:
                    connection.abandon("timeout")
            elif now - connection.used_at > IDLE_SECONDS:
                connection.close()
        # That it is full now, and was never short of work since the last sweep, shows that the limit held it back.
        full = bool(self.pool.queue) and self.in_flight >= self.allowed and self._breaker.closed
        good = self.answered - self._refused
        self._limit.update(now, good, self._failed, seconds, saturated=full and not self._short)
        self._allow(now)
        telemetry.ANSWERS.labels(self.api).inc(self.answered)
        telemetry.IN_FLIGHT_LIMIT.labels(self.api).set(self.allowed)
        telemetry.BREAKER_OPEN.labels(self.api).set(not self._breaker.closed)
        if self.answered:
            telemetry.LATENCY.labels(self.api).set(self.waited_s / self.answered)
        self.answered = self._refused = self._failed = 0
        self.waited_s = 0.0
        self._short = False

    def _allow(self, now: float) -> None:
        if self._breaker.closed:
            self.allowed = self._limit.value
        else:
            self.allowed = 1 if self._breaker.allows(now) else 0

    async def close(self) -> None:
        """Close all connections."""
        for task in list(self._opening):
            task.cancel()
        for connection in list(self._connections):
            connection.close()


class Pool:
    """All API addresses behind one queue: whichever has room takes the next request."""

    def __init__(self, settings: Settings) -> None:
        self.queue: deque[tuple[Round, int]] = deque()
        """(round, position) of the requests not sent yet; bounded by the ticks that the poller takes."""
        self._allowance = Allowance(settings.max_rps)
        self.tokens = self._allowance.refill(monotonic(), 0.0)
        """How many requests may go before the allowance is refilled."""
        self.wall_offset_s = time() - monotonic()
        """Unix time minus the monotonic clock, renewed with each sweep."""
        self.addresses = [Address(self, api, settings) for api in settings.api]
        self.reachable = asyncio.Event()
        """Set while at least one address may be asked."""
        self.reachable.set()
        self._closed = False
        self._turn = 0
        self._swept_at = monotonic()
        self._tasks = [asyncio.ensure_future(self._every(SWEEP_SECONDS, self._sweep))]
        if settings.max_rps:
            self._tasks.append(asyncio.ensure_future(self._every(REFILL_SECONDS, self._refill)))

    @property
    def allowed(self) -> int:
        """How many requests may be in flight over all addresses."""
        return sum(address.allowed for address in self.addresses)

    def ask(self, first_pk: int, size: int, positions: Sequence[int]) -> Round:
        """Ask for the influencers `first_pk + position`; await `done` of what this returns."""
        round_ = Round(first_pk, size, len(positions))
        self.queue.extend([(round_, position) for position in positions])
        self.dispatch()
        return round_

    def dispatch(self) -> None:
        """Send what may be sent; where no address may be asked, the waiting requests fail at once.

        So every round ends: a request that waits has an address that may be asked, one that was sent has
        a deadline, and a connection that is lost gives back what it carried.
        """
        addresses = self.addresses
        self._turn = (self._turn + 1) % len(addresses)
        for address in addresses[self._turn :] + addresses[: self._turn]:
            if not self.queue or self._closed:
                break
            address.spread()
        if any(address.allowed for address in addresses) and not self._closed:
            self.reachable.set()
        else:
            self.reachable.clear()
            while self.queue:
                round_, position = self.queue.popleft()
                round_.fail(position, "unreachable")

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                work()
            except Exception as error:  # without sweeps no request has a deadline, and its tick never ends
                logger.error("a sweep failed", error=str(error), exc_info=error)

    def _sweep(self) -> None:
        now = monotonic()
        self.wall_offset_s = time() - now
        seconds, self._swept_at = now - self._swept_at, now
        for address in self.addresses:
            address.sweep(now, seconds)
        self.dispatch()

    def _refill(self) -> None:
        self.tokens = self._allowance.refill(monotonic(), self.tokens)
        if self.tokens >= 1 and self.queue:
            self.dispatch()

    async def close(self) -> None:
        """Close all connections; what was not answered has failed."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for address in self.addresses:
            await address.close()
        self.dispatch()
