"""How does one request follow another? The way of the ordinary answer, compiled.

`exchange` waits on all connections and reads what came. An ordinary answer (see there) goes straight into the columns
of its round, and the next request onto the connection, without an object of Python's in between. What is not ordinary
is handed to `pool.Connection` as it came.
"""

from __future__ import annotations

import platform
import select
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import types

from tidemark.poll.compiled import compiled, copy
from tidemark.poll.ordinary import read_answer
from tidemark.poll.tables import (
    ENDED,
    EVENTS_MAX,
    FAILED,
    OBSERVED,
    ORDINARY,
    READ_BYTES,
    STUCK,
    UNUSUAL,
    Bytes,
    Ints,
    Tables,
    tables,
    with_descriptor,
    with_rows,
)

PATIENCE_MS: Final = 1
"""How long the next answers are waited for here, when they are due at any moment: going back to the event loop costs
more than most of them. What else the loop does waits meanwhile."""
STAY_NS: Final = 5_000_000
"""When the event loop is to have its turn while answers keep coming: after what came at once then, and a nap. Its
turn, with the way back here, costs what ten answers do (docs/adr/0015)."""
WATCHED: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
"""What is registered for a connection. Edge-triggered: the kernel need not look at each again after it was read."""
WHAT_ORDINARILY_COMES: Final = select.EPOLLIN
NAP_READY_MAX: Final = 7
"""A nap is taken when so few connections had an answer, and so many more answers are due, as network cards do it:
what comes meanwhile shares a wake-up, and pipelined answers a read (docs/adr/0015 has what that saves)."""
NAP_IN_FLIGHT_MIN: Final = 32

_INT: Final = types.int32
_ADDRESS: Final = types.intp  # a pointer; and what is as long, such as size_t


def _foreign(name: str, *arguments: Any) -> Any:
    """A function of the C library, by its symbol; the first argument is what it returns."""
    returns: Any = arguments[0]
    return types.ExternalFunction(name, returns(*arguments[1:]))


_recv = _foreign("recv", _ADDRESS, _INT, _ADDRESS, _ADDRESS, _INT)
_send = _foreign("send", _ADDRESS, _INT, _ADDRESS, _ADDRESS, _INT)
_epoll_wait = _foreign("epoll_wait", _INT, _INT, _ADDRESS, _INT, _INT)
_epoll_ctl = _foreign("epoll_ctl", _INT, _INT, _INT, _INT, _ADDRESS)
_clock_gettime = _foreign("clock_gettime", _INT, _INT, _ADDRESS)
_nanosleep = _foreign("nanosleep", _INT, _ADDRESS, _ADDRESS)

_CLOCK_MONOTONIC: Final = 1
_EPOLL_CTL_MOD: Final = 3
_MSG_DONTWAIT: Final = 0x40
_MSG_NOSIGNAL: Final = 0x4000
# struct epoll_event is packed on x86-64 alone; Python's select.epoll puts the descriptor into its data.
_PACKED: Final = platform.machine() == "x86_64"
_EVENT_WORDS: Final = 3 if _PACKED else 4
_DESCRIPTOR_WORD: Final = 1 if _PACKED else 2


# Where reports.counts has what.
_ENDED: Final = 0
_PIECES: Final = 1
_PIECE_BYTES: Final = 2

_ZERO: Final = 48


@compiled
def _monotonic_ns(x: Tables) -> int:
    time = x.workspace.time
    _clock_gettime(_CLOCK_MONOTONIC, time.ctypes.data)
    return int(time[0]) * 1_000_000_000 + int(time[1])


@compiled
def _settle(x: Tables, row: int, outcome: int) -> None:
    """This request has its outcome; the end of its round is reported."""
    answers, reports = x.answers, x.reports
    answers.outcome[row] = outcome
    first = answers.round[row]
    answers.awaited[first] -= 1
    if answers.awaited[first] == 0:
        reports.ended[reports.counts[_ENDED]] = first
        reports.counts[_ENDED] += 1


@compiled
def _write_request(x: Tables, address: int, pk: int, at: int) -> int:
    """Write a request to workspace.outgoing[at:]; returns its end."""
    outgoing, addresses = x.workspace.outgoing, x.addresses
    at = copy(outgoing, at, addresses.before_pk[address], 0, addresses.before_pk_bytes[address])
    digits = 1
    bound = 10
    while pk >= bound:
        digits += 1
        bound *= 10
    for place in range(digits):
        outgoing[at + digits - 1 - place] = _ZERO + pk % 10
        pk //= 10
    return copy(outgoing, at + digits, addresses.after_pk[address], 0, addresses.after_pk_bytes[address])


@compiled
def send_next(x: Tables, descriptor: int, now: float) -> None:
    """Send as many requests on this connection as pipeline, limit and allowance let."""
    queue, connections, addresses = x.queue, x.connections, x.addresses
    address = connections.address[descriptor]
    pipeline = connections.row.shape[1]
    room = min(
        pipeline - connections.sent[descriptor], addresses.allowed[address] - addresses.in_flight[address]
    )
    if queue.tokens[0] < room:
        room = int(queue.tokens[0])
        addresses.short[address] = True
    if queue.place[1] < room:
        room = queue.place[1]
        addresses.short[address] = True
    if room <= 0:
        if connections.sent[descriptor] == 0:
            connections.idled[descriptor] = True
        return
    end = 0
    for _ in range(room):
        row = queue.row[queue.place[0]]
        queue.place[0] = (queue.place[0] + 1) % len(queue.row)
        place = (connections.oldest[descriptor] + connections.sent[descriptor]) % pipeline
        connections.row[descriptor, place] = row
        connections.sent_at[descriptor, place] = now
        connections.sent[descriptor] += 1
        end = _write_request(x, address, x.answers.pk[row], end)
    queue.place[1] -= room
    queue.tokens[0] -= room
    addresses.in_flight[address] += room
    if _send(descriptor, x.workspace.outgoing.ctypes.data, end, _MSG_DONTWAIT | _MSG_NOSIGNAL) != end:
        # The API closed it, or reads nothing of what it is sent.
        connections.state[descriptor] = STUCK
        x.reports.stuck[0] += 1


@compiled
def send_on_idle(x: Tables, address: int, now: float) -> int:
    """Put waiting requests on this address's idle connections; returns how many of these are left."""
    connections, addresses, queue = x.connections, x.addresses, x.queue
    left = 0
    for descriptor in range(len(connections.state)):
        if (
            connections.state[descriptor] == ORDINARY
            and connections.address[descriptor] == address
            and connections.sent[descriptor] == 0
        ):
            if (
                queue.place[1] > 0
                and queue.tokens[0] >= 1
                and addresses.in_flight[address] < addresses.allowed[address]
            ):
                connections.used_at[descriptor] = now
                send_next(x, descriptor, now)
            else:
                left += 1
    return left


@compiled
def _take_answers(x: Tables, descriptor: int, length: int, now: float, wall_offset_s: float) -> int:
    """Take the ordinary answers at the beginning of workspace.incoming[:length]; returns where they end."""
    answers, connections, addresses = x.answers, x.connections, x.addresses
    address = connections.address[descriptor]
    at = taken = 0
    while at < length and connections.sent[descriptor] > 0:
        oldest = connections.oldest[descriptor]
        row = connections.row[descriptor, oldest]
        end = read_answer(x.workspace.incoming, at, length, answers, row)
        if end < 0:
            break
        at = end
        taken += 1
        addresses.waited_s[address] += now - connections.sent_at[descriptor, oldest]
        answers.observed_at[row] = now + wall_offset_s
        connections.oldest[descriptor] = (oldest + 1) % connections.row.shape[1]
        connections.sent[descriptor] -= 1
        _settle(x, row, OBSERVED)
    if taken:
        connections.answered[descriptor] += taken
        connections.used_at[descriptor] = now
        addresses.answered[address] += taken
        addresses.in_flight[address] -= taken
    return at


@compiled
def _hand_over(x: Tables, descriptor: int, begin: int, length: int) -> None:
    """Report workspace.incoming[begin:length], or that there is none, as a piece that is not ordinary."""
    reports = x.reports
    place, filled = reports.counts[_PIECES], reports.counts[_PIECE_BYTES]
    reports.descriptor[place] = descriptor
    reports.length[place] = length - begin
    reports.counts[_PIECES] = place + 1
    if length > begin:
        reports.counts[_PIECE_BYTES] = copy(
            reports.pieces, filled, x.workspace.incoming, begin, length - begin
        )


@compiled
def exchange(x: Tables, epoll: int, wall_offset_s: float) -> None:
    """Take answers and send the next requests until there is something to report, no answer comes, or it took too long.

    `wall_offset_s`: Unix time minus the monotonic clock. What `reports` holds is to be taken out before the next call.
    """
    connections, reports, workspace = x.connections, x.reports, x.workspace
    stay_until = _monotonic_ns(x) + STAY_NS
    patience_ms = 0  # the loop called because something came
    while True:
        ready = _epoll_wait(epoll, workspace.events.ctypes.data, EVENTS_MAX, patience_ms)
        if ready <= 0:
            return
        now_ns = _monotonic_ns(x)
        now = now_ns * 1e-9
        for event in range(ready):
            word = event * _EVENT_WORDS
            descriptor = int(workspace.events[word + _DESCRIPTOR_WORD])
            length = _recv(descriptor, workspace.incoming.ctypes.data, READ_BYTES, _MSG_DONTWAIT)
            if length == READ_BYTES or (length > 0 and workspace.events[word] != WHAT_ORDINARILY_COMES):
                # There may be more, or the end, of which an edge-triggered epoll has told already: let it tell again.
                workspace.events[word] = WATCHED
                _epoll_ctl(epoll, _EPOLL_CTL_MOD, descriptor, workspace.events[word:].ctypes.data)
            if length <= 0:
                connections.state[descriptor] = (
                    UNUSUAL  # nothing is to be sent on it before that is looked at
                )
                _hand_over(x, descriptor, 0, ENDED if length == 0 else FAILED)
                continue
            at = 0
            if connections.state[descriptor] == ORDINARY:
                at = _take_answers(x, descriptor, length, now, wall_offset_s)
                if at == length:
                    if 2 * connections.sent[descriptor] <= connections.row.shape[1]:
                        send_next(x, descriptor, now)
                    continue
                connections.state[descriptor] = UNUSUAL
            _hand_over(x, descriptor, at, length)
        if reports.counts[_ENDED] or reports.counts[_PIECES] or reports.stuck[0] or now_ns > stay_until:
            return
        in_flight = x.addresses.in_flight.sum()
        patience_ms = PATIENCE_MS if in_flight else 0
        if ready <= NAP_READY_MAX and in_flight >= NAP_IN_FLIGHT_MIN:
            _nanosleep(workspace.nap.ctypes.data, 0)


@compiled
def _pack(column: Bytes, rows: npt.NDArray[np.int64], offsets: Ints, texts: Bytes) -> None:
    for place in range(len(rows)):
        begin = offsets[place]
        copy(texts, begin, column[rows[place]], 0, offsets[place + 1] - begin)


def pack(column: Bytes, lengths: Ints, rows: npt.NDArray[np.int64]) -> tuple[Ints, Bytes]:
    """The texts of these rows one after the other: where each begins, with the end of the last, and the bytes."""
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(lengths[rows], out=offsets[1:])
    texts = np.empty(offsets[-1], np.uint8)
    _pack(column, rows, offsets, texts)
    return offsets, texts


def compile_ahead() -> None:
    """Compile all this, or load what was compiled: a quarter of a minute, or half a second."""
    x = with_descriptor(with_rows(tables([(b"GET /", b"\r\n\r\n")], 1, np.inf), 1), 0)
    nowhere = -1
    exchange(x, nowhere, 0.0)
    send_next(x, 0, 0.0)
    send_on_idle(x, 0, 0.0)
    pack(x.answers.username, x.answers.username_bytes, np.zeros(1, np.int64))
