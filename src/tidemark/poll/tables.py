"""What is known of requests, answers and connections? Columns, so that compiled code takes them as they are.

`exchange` fills them, `rounds` reads from them what became of a tick, `pool` looks after the connections in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tidemark.messages import USERNAME_MAX_CHARACTERS

READ_BYTES: Final = 32_768
"""Read from a connection at once: a full pipeline of 64 answers of Express, each 340 bytes."""
EVENTS_MAX: Final = 128
"""Connections looked after between two looks at the clock."""
EVENT_WORDS_MAX: Final = 4
"""Of 32 bits, in what the kernel tells of one of them."""
REQUEST_PART_MAX_BYTES: Final = 2_048
"""The longest request as far as the pk, or with it and behind it: the API's address is all that is long in it."""
NAP_NS: Final = 100_000
"""A rest of `exchange`, see there; the kernel adds its timer's slack of 50 us."""
USERNAME_MAX_BYTES: Final = 4 * USERNAME_MAX_CHARACTERS

WAITING: Final = 0
"""Outcome of a request that has none yet."""
OBSERVED: Final = 1
"""Outcome of one whose observation is in the columns. Higher ones are reasons, as `rounds.REASONS` has them."""

CLOSED: Final = 0
"""State of a descriptor that is no connection."""
ORDINARY: Final = 1
"""The next byte on this connection begins an answer."""
UNUSUAL: Final = 2
"""The next byte belongs to an answer that is read elsewhere."""
STUCK: Final = 3
"""The connection did not take a whole request; nothing can follow."""

ENDED: Final = 0
"""Length of a piece: the API ended the connection."""
FAILED: Final = -1
"""Length of a piece: nothing could be read."""

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


class Answers(NamedTuple):
    """A row for each influencer of the rounds under way; those of a round are neighbours."""

    pk: npt.NDArray[np.uint32]
    round: Ints
    """The first row of its round."""
    awaited: Ints
    """On the first row of a round: how many of it have no outcome yet."""
    outcome: Bytes
    """WAITING, OBSERVED or a reason."""
    repeated: npt.NDArray[np.bool_]
    """Whether it was sent again because the API had closed the connection it was first sent on."""
    observed_at: Floats
    """Unix seconds."""
    follower_count: npt.NDArray[np.uint32]
    following_count: npt.NDArray[np.uint32]
    username: Bytes
    """(rows, USERNAME_MAX_BYTES)"""
    username_bytes: Ints


class Queue(NamedTuple):
    """The requests that wait for a connection, and the allowance for them."""

    row: Ints
    """A ring as long as `Answers`: each row waits once at most."""
    place: Ints
    """Where the ring begins, and how many wait."""
    tokens: Floats
    """(1,): how many may be sent before the allowance is renewed; infinite without `--max-rps`."""


class Connections(NamedTuple):
    """By descriptor. The requests sent and not answered stand in a ring of `--pipeline` places."""

    state: Bytes
    address: Ints
    sent: Ints
    """How many wait for their answers."""
    oldest: Ints
    """Where the ring begins."""
    row: Ints
    """(descriptors, pipeline): which they are."""
    sent_at: Floats
    """(descriptors, pipeline): monotonic seconds."""
    answered: npt.NDArray[np.int64]
    used_at: Floats
    """Monotonic seconds of the last answer, or of its opening."""
    idled: npt.NDArray[np.bool_]
    """Whether it was ready before there was a request for it."""


class Addresses(NamedTuple):
    """By API address."""

    allowed: Ints
    """How many may be in flight: the limit, or what the breaker allows."""
    in_flight: Ints
    answered: npt.NDArray[np.int64]
    """Since the last sweep."""
    waited_s: Floats
    """Since the last sweep: the sum of the seconds from request to answer."""
    short: npt.NDArray[np.bool_]
    """Since the last sweep: whether a connection had room and found too few requests, or no allowance for them."""
    before_pk: Bytes
    """(addresses, REQUEST_PART_MAX_BYTES): the request as far as the pk."""
    before_pk_bytes: Ints
    after_pk: Bytes
    after_pk_bytes: Ints


class Reports(NamedTuple):
    """What `exchange` leaves to be looked at."""

    counts: Ints
    """How many rounds have ended, how many pieces were not ordinary, and how many bytes these have."""
    ended: Ints
    """First rows of rounds."""
    descriptor: Ints
    """Of each piece."""
    length: Ints
    """Of each piece, in bytes: ENDED and FAILED have none."""
    pieces: Bytes
    """One after the other."""
    stuck: Ints
    """(1,): how many connections became STUCK."""


class Workspace(NamedTuple):
    """Room for one system call's arguments."""

    events: npt.NDArray[np.uint32]
    incoming: Bytes
    outgoing: Bytes
    time: npt.NDArray[np.int64]
    nap: npt.NDArray[np.int64]


class Tables(NamedTuple):
    """All that is known about requests and connections; arrays, so that it costs nothing to pass on."""

    answers: Answers
    queue: Queue
    connections: Connections
    addresses: Addresses
    reports: Reports
    workspace: Workspace


def tables(requests: list[tuple[bytes, bytes]], pipeline: int, tokens: float) -> Tables:
    """Tables without rounds or connections, for one address for each request (as far as the pk, and behind it)."""
    addresses = len(requests)
    before, after = (np.zeros((addresses, REQUEST_PART_MAX_BYTES), np.uint8) for _ in range(2))
    for place, (head, tail) in enumerate(requests):
        before[place, : len(head)] = np.frombuffer(head, np.uint8)
        after[place, : len(tail)] = np.frombuffer(tail, np.uint8)
    return Tables(
        _answers(0),
        Queue(np.zeros(0, np.int32), np.zeros(2, np.int32), np.array([tokens])),
        _connections(0, pipeline),
        Addresses(
            allowed=np.zeros(addresses, np.int32),
            in_flight=np.zeros(addresses, np.int32),
            answered=np.zeros(addresses, np.int64),
            waited_s=np.zeros(addresses),
            short=np.zeros(addresses, np.bool_),
            before_pk=before,
            before_pk_bytes=np.array([len(head) for head, _ in requests], np.int32),
            after_pk=after,
            after_pk_bytes=np.array([len(tail) for _, tail in requests], np.int32),
        ),
        Reports(
            counts=np.zeros(3, np.int32),
            ended=np.zeros(EVENTS_MAX * pipeline, np.int32),
            descriptor=np.zeros(EVENTS_MAX, np.int32),
            length=np.zeros(EVENTS_MAX, np.int32),
            pieces=np.zeros(EVENTS_MAX * READ_BYTES, np.uint8),
            stuck=np.zeros(1, np.int32),
        ),
        Workspace(
            events=np.zeros(EVENTS_MAX * EVENT_WORDS_MAX, np.uint32),
            incoming=np.zeros(READ_BYTES, np.uint8),
            outgoing=np.zeros(pipeline * 2 * REQUEST_PART_MAX_BYTES, np.uint8),
            time=np.zeros(2, np.int64),
            nap=np.array([0, NAP_NS], np.int64),
        ),
    )


def with_rows(of: Tables, rows: int) -> Tables:
    """The same with at least so many rows for answers."""
    had = len(of.answers.pk)
    if rows <= had:
        return of
    more = max(rows, 2 * had) - had
    answers = Answers(*_longer(of.answers, _answers(more)))
    ring = np.zeros(had + more, np.int32)
    first, count = of.queue.place.tolist()
    ring[:count] = np.roll(of.queue.row, -first)[:count]
    place = np.array([0, count], np.int32)
    return of._replace(answers=answers, queue=of.queue._replace(row=ring, place=place))


def with_descriptor(of: Tables, descriptor: int) -> Tables:
    """The same with a place for this descriptor."""
    had, pipeline = of.connections.row.shape
    if descriptor < had:
        return of
    more = _connections(max(descriptor + 1, 2 * had) - had, pipeline)
    return of._replace(connections=Connections(*_longer(of.connections, more)))


def _longer(columns: Iterable[Any], more: Iterable[Any]) -> Iterator[npt.NDArray[Any]]:
    return (np.concatenate(pair) for pair in zip(columns, more, strict=True))


def _answers(rows: int) -> Answers:
    return Answers(
        pk=np.zeros(rows, np.uint32),
        round=np.zeros(rows, np.int32),
        awaited=np.zeros(rows, np.int32),
        outcome=np.zeros(rows, np.uint8),
        repeated=np.zeros(rows, np.bool_),
        observed_at=np.zeros(rows),
        follower_count=np.zeros(rows, np.uint32),
        following_count=np.zeros(rows, np.uint32),
        username=np.zeros((rows, USERNAME_MAX_BYTES), np.uint8),
        username_bytes=np.zeros(rows, np.int32),
    )


def _connections(descriptors: int, pipeline: int) -> Connections:
    return Connections(
        state=np.full(descriptors, CLOSED, np.uint8),
        address=np.zeros(descriptors, np.int32),
        sent=np.zeros(descriptors, np.int32),
        oldest=np.zeros(descriptors, np.int32),
        row=np.zeros((descriptors, pipeline), np.int32),
        sent_at=np.zeros((descriptors, pipeline)),
        answered=np.zeros(descriptors, np.int64),
        used_at=np.zeros(descriptors),
        idled=np.zeros(descriptors, np.bool_),
    )


def reported(x: Tables) -> tuple[list[int], list[tuple[int, bytes | None]]]:
    """Take out what `exchange` has left: the first rows of the rounds that ended, and what was not ordinary.

    That is the descriptor and what came on it: empty where the API ended it, None where reading failed.
    """
    reports = x.reports
    ended, count, _ = reports.counts.tolist()
    reports.counts[:] = 0
    pieces: list[tuple[int, bytes | None]] = []
    at = 0
    for descriptor, length in zip(
        reports.descriptor[:count].tolist(), reports.length[:count].tolist(), strict=True
    ):
        if length == FAILED:
            pieces.append((descriptor, None))
        else:
            pieces.append((descriptor, reports.pieces[at : at + length].tobytes()))
            at += length
    return reports.ended[:ended].tolist(), pieces
