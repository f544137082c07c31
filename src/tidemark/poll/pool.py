"""Which connection carries which request? The connections to the API addresses, and the queue before them.

What is ordinary goes its way in `exchange`, without a task, a future, a timer or an object for a request (figures:
`tidemark bench fetch`). Here stands the rest: connections are opened and given up, answers that are not ordinary are
read, and a sweep four times a second looks after deadlines, idle connections, limits and breakers.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from time import monotonic, time
from typing import Final
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import structlog

from tidemark import telemetry
from tidemark.breaker import Breaker
from tidemark.config import Settings
from tidemark.dial import IDLE_S, Unreachable, dial
from tidemark.http1 import ProtocolError, ResponseParser, request_around_pk
from tidemark.mockstagram import Answer, parse
from tidemark.poll.exchange import WATCHED, exchange, send_next, send_on_idle
from tidemark.poll.ordinary import OBSERVATION_MAX_BYTES
from tidemark.poll.pacing import Allowance, InFlightLimit
from tidemark.poll.rounds import OUTCOMES, Round, Rounds
from tidemark.poll.tables import (
    CLOSED,
    OBSERVED,
    ORDINARY,
    READ_BYTES,
    STUCK,
    UNUSUAL,
    reported,
    tables,
    with_descriptor,
)

SWEEP_SECONDS: Final = 0.25
REFILL_SECONDS: Final = 0.005
"""With `--max-rps`: how often requests that had to wait are let go."""
_OF_THE_API: Final = frozenset((401, 403, 407, 429))
"""Refusals that are not about one influencer: who we are, or how much we ask."""
UNKNOWN_TOLD: Final = 1_000
"""So many 404 in a row, and nothing else, are more likely a wrong path than influencers that are not known."""
SAID: Final = {
    "connection": "it closed the connection",
    "cut_off": "it closed the connection within an answer",
    "framing": "it does not speak HTTP/1.1",
    "oversized": "its answers are too large",
    "timeout": "no answer within the deadline",
}
"""What the log says of the reasons for which a connection is given up."""

logger = structlog.get_logger("tidemark.poll")


class Connection:
    """One connection, and the answers on it that are not ordinary."""

    def __init__(self, address: Address, connected: socket.socket) -> None:
        self.address = address
        self.descriptor = connected.fileno()
        self._socket = connected
        self._parser = ResponseParser()

    def take(self, piece: bytes) -> None:
        """Read what is not ordinary; nothing: the API sends no more."""
        address, pool = self.address, self.address.pool
        broken = ""
        try:
            responses = self._parser.feed(piece)
        except ProtocolError as error:
            broken, responses = error.reason, error.responses
            if not responses:
                self.give_up(broken)
        if not responses:
            if self._parser.between and not self._parser.closing:  # an empty line, an interim response
                self._go_on(monotonic())
            return
        known = pool.rounds.tables
        connections = known.connections
        descriptor = self.descriptor
        if len(responses) > connections.sent[descriptor]:
            self.give_up("framing")  # an answer that nobody asked for
            return
        now = monotonic()
        for status, body in responses:
            row, sent_at = pool.take_sent(descriptor)
            address.account(now - sent_at)
            outcome = self._read(row, status, body, time())
            pool.rounds.settle(row, outcome)
        connections.answered[descriptor] += len(responses)
        connections.used_at[descriptor] = now
        if address.troubled:
            address.recover(now)
        if self._parser.closing:
            self.give_up(broken or "connection")
            return
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Where an answer ended, the next may be ordinary; send what there is room for."""
        known = self.address.pool.rounds.tables
        if known.connections.state[self.descriptor] != UNUSUAL:
            return  # given up meanwhile, or about to be
        if self._parser.between:
            known.connections.state[self.descriptor] = ORDINARY
        send_next(known, self.descriptor, now)

    def _read(self, row: int, status: int, body: bytes, observed_at: float) -> int:
        """The outcome of an answer; an observation goes into the columns."""
        if status != 200:
            self.address.refused(status)
            return OUTCOMES["status_404" if status == 404 else f"status_{min(status // 100, 5)}xx"]
        if len(body) > OBSERVATION_MAX_BYTES:
            return OUTCOMES["oversized"]
        answers = self.address.pool.rounds.answers
        answer = parse(body, int(answers.pk[row]))
        if not isinstance(answer, Answer):
            return OUTCOMES[answer]
        username = np.frombuffer(answer.username.encode(), np.uint8)
        answers.username[row, : len(username)] = username
        answers.username_bytes[row] = len(username)
        answers.follower_count[row] = answer.followerCount
        answers.following_count[row] = answer.followingCount
        answers.observed_at[row] = observed_at
        return OBSERVED

    def heed(self, piece: bytes | None) -> None:
        """What `exchange` reports of it: bytes, none where the API ended it, None where reading failed."""
        if piece is None:
            self._fail()
        elif piece:
            self.take(piece)
        else:
            self._end()

    def _end(self) -> None:
        """The API ended it: so does an answer without a length."""
        self.take(b"")
        self.give_up("cut_off" if self._parser.pending_bytes else "connection")

    def _fail(self) -> None:
        """Reading failed; or there was nothing to read."""
        try:
            piece = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            self._go_on(monotonic())
            return
        except OSError:
            piece = b""
        self.take(piece) if piece else self._end()

    def give_up(self, reason: str) -> None:
        """Close it, for a reason of `SAID`. Requests in flight are sent again elsewhere, or have failed."""
        address, pool = self.address, self.address.pool
        connections = pool.rounds.tables.connections
        descriptor = self.descriptor
        if not address.forget(self):
            return
        connections.state[descriptor] = CLOSED
        self._socket.close()
        served = connections.answered[descriptor] > 0 or connections.idled[descriptor]
        sent = [pool.take_sent(descriptor)[0] for _ in range(connections.sent[descriptor])]
        address.in_flight -= len(sent)
        again, failed = [], 0
        for place, row in enumerate(sent):
            # The first one may have been cut off; those pipelined behind it, and all on a connection that the
            # API closed while it was idle, are innocent: sent once more.
            innocent = place > 0 or (served and reason == "connection")
            if innocent and not pool.rounds.answers.repeated[row]:
                again.append(row)
            else:
                failed += 1
                pool.rounds.settle(row, OUTCOMES[reason])
        for row in again:
            pool.rounds.repeat(row)
        if failed:
            address.failed(failed, SAID[reason])
        if sent:
            pool.dispatch()


class Address:
    """One API address: its connections, its limit, its breaker."""

    def __init__(self, pool: Pool, place: int, api: str, settings: Settings) -> None:
        parts = urlsplit(api)
        self.pool = pool
        self.api = api
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self._place = place
        """In the table of addresses."""
        self._table = pool.rounds.tables.addresses
        self._pipeline = settings.pipeline
        self._deadline_s = settings.request_deadline
        self._limit = InFlightLimit(settings.max_in_flight)
        self._breaker = Breaker()
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self.allowed = self._limit.value
        self.troubled = False
        """Whether there were failures since the last answer: then the breaker is told of the next one."""
        self.overloaded = False
        """Whether the last piece held an answer that says that the API does not serve us."""
        # Of the window since the last sweep:
        self._refused = 0
        """Answers that say that the API cannot; they are among `answered` and among `_failed`."""
        self._failed = 0
        self._unknown = 0
        """Answers 404; they are among `answered`."""
        self._unknown_in_a_row = 0
        """Up to the last sweep: answers 404 since there was another one."""

    @property
    def allowed(self) -> int:
        """How many may be in flight now: the limit, or what the breaker allows."""
        return int(self._table.allowed[self._place])

    @allowed.setter
    def allowed(self, count: int) -> None:
        self._table.allowed[self._place] = count

    @property
    def trusted(self) -> bool:
        """Whether the breaker has no say."""
        return self._breaker.closed

    @property
    def in_flight(self) -> int:
        """How many requests wait for their answers."""
        return int(self._table.in_flight[self._place])

    @in_flight.setter
    def in_flight(self, count: int) -> None:
        self._table.in_flight[self._place] = count

    @property
    def answered(self) -> int:
        """How many were answered since the last sweep."""
        return int(self._table.answered[self._place])

    # -- what the connections say ---------------------------------------------------------------

    def _opened(self, connected: socket.socket) -> None:
        """A connection is ready."""
        now = monotonic()
        connection = Connection(self, connected)
        self._connections.add(connection)
        self.pool.watch(connection, self._place, now)
        send_next(self.pool.rounds.tables, connection.descriptor, now)
        self.pool.give_up_stuck()

    def forget(self, connection: Connection) -> bool:
        """A connection is gone; returns whether it was there."""
        if connection not in self._connections:
            return False
        self._connections.discard(connection)
        self.pool.unwatch(connection)
        return True

    def account(self, waited_s: float) -> None:
        """An answer came, after so long."""
        self._table.answered[self._place] += 1
        self._table.waited_s[self._place] += waited_s
        self._table.in_flight[self._place] -= 1

    def refused(self, status: int) -> None:
        """An answer came that is none. Some are about one influencer, the others about the API."""
        self._unknown += status == 404
        if status >= 500 or status < 400 or status in _OF_THE_API:
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

    def spread(self) -> None:
        """Put waiting requests on idle connections, and open those that are missing."""
        queue = self.pool.rounds.tables.queue
        idle = send_on_idle(self.pool.rounds.tables, self._place, monotonic())
        waiting = int(min(queue.place[1], queue.tokens[0]))
        free = self.allowed - self.in_flight
        missing = -(-min(free, waiting) // self._pipeline) - idle - len(self._opening)
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
        try:
            async with asyncio.timeout(self._deadline_s):
                connected = await dial(self._host, self._port)
        except TimeoutError:
            self._failed_to_open(f"cannot connect to {self._host}:{self._port} within {self._deadline_s:g} s")
        except Unreachable as error:
            self._failed_to_open(str(error))
        else:
            self._opened(connected)

    def _failed_to_open(self, why: str) -> None:
        # When no other connection is open either, the host is not there, and need not be tried often to know it.
        self.failed(1 if self._connections else self._breaker.failures_max, why)

    # -- what the sweep does --------------------------------------------------------------------

    def sweep(self, now: float, seconds: float) -> None:
        """Deadlines, idle connections, the limit; `seconds` since the last sweep."""
        connections = self.pool.rounds.tables.connections
        for connection in list(self._connections):
            descriptor = connection.descriptor
            if connections.sent[descriptor]:
                sent_at = connections.sent_at[descriptor, connections.oldest[descriptor]]
                if now - sent_at > self._deadline_s:
                    connection.give_up("timeout")
            elif now - connections.used_at[descriptor] > IDLE_S:
                connection.give_up("connection")
        # That it is full now, and was never short of work since the last sweep, shows that the limit held it back.
        # Pipelined, a connection is filled up when half of its places are free.
        free = len(self._connections) * ((self._pipeline - 1) // 2)
        full = self.pool.waiting > 0 and self.in_flight >= self.allowed - free and self._breaker.closed
        short = bool(self._table.short[self._place])
        answered = self.answered
        self._limit.update(now, answered - self._refused, self._failed, seconds, saturated=full and not short)
        self._allow(now)
        telemetry.ANSWERS.labels(self.api).inc(answered)
        telemetry.IN_FLIGHT_LIMIT.labels(self.api).set(self.allowed)
        telemetry.BREAKER_OPEN.labels(self.api).set(not self._breaker.closed)
        if answered:
            telemetry.LATENCY.labels(self.api).set(self._table.waited_s[self._place] / answered)
        self._heed_unknown()
        self._refused = self._failed = self._unknown = 0
        for column in (self._table.answered, self._table.waited_s, self._table.short):
            column[self._place] = 0

    def _heed_unknown(self) -> None:
        """Say that it knows nobody; again when it has known somebody."""
        told = self._unknown_in_a_row >= UNKNOWN_TOLD
        self._unknown_in_a_row += self._unknown
        if self.answered > self._unknown:
            self._unknown_in_a_row = 0
        elif self._unknown_in_a_row >= UNKNOWN_TOLD and not told:
            logger.warning(
                "the API knows none of those it is asked for (404): is something missing from its address,"
                " or are --influencers others?",
                api=self.api,
                asked=self._unknown_in_a_row,
            )

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
            connection.give_up("connection")


class Pool:
    """All API addresses behind one queue: whichever has room takes the next request."""

    def __init__(self, settings: Settings) -> None:
        self._allowance = Allowance(settings.max_rps)
        tokens = self._allowance.refill(monotonic(), 0.0)
        requests = [request_around_pk(api) for api in settings.api]
        self.rounds = Rounds(tables(requests, settings.pipeline, tokens))
        """All that is under way; what waits is bounded by the ticks that the poller takes."""
        self.addresses = [Address(self, place, api, settings) for place, api in enumerate(settings.api)]
        self.reachable = asyncio.Event()
        """Set while at least one address may be asked."""
        self.reachable.set()
        self._connections: dict[int, Connection] = {}
        """By descriptor."""
        self._giving_up = False
        self._closed = False
        self._turn = 0
        self._swept_at = monotonic()
        self._epoll = select.epoll()
        asyncio.get_running_loop().add_reader(self._epoll, self._exchange)
        self._tasks = [asyncio.ensure_future(self._every(SWEEP_SECONDS, self._sweep))]
        if settings.max_rps:
            self._tasks.append(asyncio.ensure_future(self._every(REFILL_SECONDS, self._refill)))

    @property
    def allowed(self) -> int:
        """How many requests may be in flight over all addresses."""
        return sum(address.allowed for address in self.addresses)

    @property
    def on_trial(self) -> bool:
        """Whether no address may be asked more than one thing, which is to show whether it answers again."""
        return not any(address.trusted for address in self.addresses)

    @property
    def waiting(self) -> int:
        """How many requests are not sent yet."""
        return int(self.rounds.tables.queue.place[1])

    def begin(self, first_pk: int, size: int) -> AbstractContextManager[Round]:
        """A round of the influencers from `first_pk` on, for the length of a block; see `ask`."""
        return self.rounds.begin(first_pk, size)

    def ask(self, round_: Round, positions: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Ask for the influencers `first_pk + position`, then await `done` of the round."""
        self.rounds.ask(round_, positions)
        self.dispatch()

    def dispatch(self) -> None:
        """Send what may be sent; where no address may be asked, the waiting requests fail at once.

        So every round ends: a request that waits has an address that may be asked, one that was sent has
        a deadline, and a connection that is lost gives back what it carried.
        """
        addresses = self.addresses
        self._turn = (self._turn + 1) % len(addresses)
        for address in addresses[self._turn :] + addresses[: self._turn]:
            if not self.waiting or self._closed:
                break
            address.spread()
        if any(address.allowed for address in addresses) and not self._closed:
            self.reachable.set()
        else:
            self.reachable.clear()
            self.rounds.drop(OUTCOMES["unreachable"])
        self.give_up_stuck()

    # -- what the connections say ---------------------------------------------------------------

    def watch(self, connection: Connection, place: int, now: float) -> None:
        """A connection is ready, to the address at this place."""
        descriptor = connection.descriptor
        self._connections[descriptor] = connection
        self.rounds.tables = with_descriptor(self.rounds.tables, descriptor)
        connections = self.rounds.tables.connections
        connections.state[descriptor] = ORDINARY
        connections.address[descriptor] = place
        connections.used_at[descriptor] = now
        for column in (connections.sent, connections.answered, connections.idled):
            column[descriptor] = 0
        self._epoll.register(descriptor, WATCHED)

    def unwatch(self, connection: Connection) -> None:
        """A connection is about to be closed, which ends the watch by itself."""
        del self._connections[connection.descriptor]

    def take_sent(self, descriptor: int) -> tuple[int, float]:
        """The oldest request without an answer on this connection, and when it was sent."""
        connections = self.rounds.tables.connections
        oldest = int(connections.oldest[descriptor])
        connections.oldest[descriptor] = (oldest + 1) % connections.row.shape[1]
        connections.sent[descriptor] -= 1
        return int(connections.row[descriptor, oldest]), float(connections.sent_at[descriptor, oldest])

    def _exchange(self) -> None:
        """Something came: called by the event loop."""
        answered = [address.answered for address in self.addresses]
        exchange(self.rounds.tables, self._epoll.fileno(), time() - monotonic())
        ended, pieces = reported(self.rounds.tables)
        for first in ended:
            self.rounds.finish(first)
        # What was sound may have come before or behind each of the others: the breaker counts failures in a row.
        sound = {
            address
            for address, before in zip(self.addresses, answered, strict=True)
            if address.answered > before
        }
        self._recover(sound)
        for descriptor, piece in pieces:
            connection = self._connections.get(descriptor)
            if connection is None:
                continue  # given up for what came before
            try:
                connection.heed(piece)
            except Exception as error:  # the others' answers are not to be lost with it
                logger.error("an answer could not be read", error=str(error), exc_info=error)
                connection.give_up("framing")
            self._recover(sound)
        self.give_up_stuck()

    def _recover(self, sound: set[Address]) -> None:
        for address in sound:
            if address.troubled:
                address.recover(monotonic())

    def give_up_stuck(self) -> None:
        """Give up the connections that took no whole request, one after the other: each may have others send."""
        if self._giving_up:
            return
        self._giving_up = True
        reports = self.rounds.tables.reports
        while reports.stuck[0]:
            reports.stuck[0] = 0
            while len(stuck := np.flatnonzero(self.rounds.tables.connections.state == STUCK)):
                self._connections[int(stuck[0])].give_up("connection")
        self._giving_up = False

    # -- what comes by itself -------------------------------------------------------------------

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                work()
            except Exception as error:  # without sweeps no request has a deadline, and its tick never ends
                logger.error("a sweep failed", error=str(error), exc_info=error)

    def _sweep(self) -> None:
        now = monotonic()
        seconds, self._swept_at = now - self._swept_at, now
        for address in self.addresses:
            address.sweep(now, seconds)
        self.dispatch()

    def _refill(self) -> None:
        tokens = self.rounds.tables.queue.tokens
        tokens[0] = self._allowance.refill(monotonic(), float(tokens[0]))
        if tokens[0] >= 1 and self.waiting:
            self.dispatch()

    async def close(self) -> None:
        """Close all connections; what was not answered has failed."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for address in self.addresses:
            await address.close()
        self.dispatch()
        asyncio.get_running_loop().remove_reader(self._epoll)
        self._epoll.close()
