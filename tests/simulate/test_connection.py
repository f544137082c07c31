"""A connection on a transport that only notes what is done with it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tidemark.simulate import Faults, SimulateOptions
from tidemark.simulate.answers import KEEP_ALIVE_S
from tidemark.simulate.connection import (
    PENDING_MAX_ANSWERS,
    PLAIN_HEADERS_MAX,
    REQUEST_MAX_S,
    Clients,
    Connection,
)
from tidemark.simulate.service import Service

from .conftest import Recorder, get, post
from .test_service import Later

PK = 1_000_001
POST = post(b'{"pk":%d}' % PK)


class Wire:
    """In place of a transport."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.reading = True
        self.ended = ""

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.writes.append(data)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def statuses(self) -> list[int]:
        return [int(part.split(b" ")[0]) for part in b"".join(self.writes).split(b"HTTP/1.1 ")[1:]]


class Line:
    """A connection, its wire and what is behind it."""

    def __init__(self, **options: Any) -> None:
        self.later = Later()
        self.walk = Recorder()
        self.clients = Clients(Service(SimulateOptions(**options), self.walk, cast(Any, self.later)))
        self.wire = Wire()
        self.connection = Connection(self.clients)
        self.connection.connection_made(cast(asyncio.BaseTransport, self.wire))

    def receive(self, data: bytes) -> None:
        self.connection.data_received(data)

    def later_happens(self) -> None:
        calls, self.later.calls = self.later.calls, []
        for _, happen in calls:
            happen()


def test_one_write_for_all_that_was_read() -> None:
    line = Line()
    line.receive(get(PK) + get(PK + 1) + get(5) + get(PK))
    assert len(line.wire.writes) == 1
    assert line.wire.statuses == [200, 200, 404, 200]
    assert line.walk.calls == [PK, PK + 1, PK]


@pytest.mark.parametrize("options", [{}, {"faults": Faults(delay_ms=1)}])
def test_any_split_gives_the_same_answers(options: dict[str, Any]) -> None:
    data = (
        get(PK)
        + POST
        + get(PK + 1, "Host: y\r\nX: 1\r\n")
        + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        + get(PK + 2)
    )
    for at in range(1, len(data)):
        line = Line(**options)
        line.receive(data[:at])
        line.receive(data[at:])
        line.later_happens()
        assert line.wire.statuses == [200, 200, 200, 404, 200]
        assert line.walk.calls == [PK, PK + 1, PK + 2]


def test_a_body_is_never_taken_for_a_request() -> None:
    line = Line()
    smuggled = get(PK)
    line.receive(get(PK + 1, f"Host: x\r\nContent-Length: {len(smuggled)}\r\n") + smuggled + get(PK + 2))
    assert line.walk.calls == [PK + 1, PK + 2]
    assert line.wire.statuses == [200, 200]


def test_who_waits_for_a_verdict_holds_up_the_rest() -> None:
    line = Line()
    line.receive(get(PK) + POST + get(PK + 1))
    line.receive(get(PK + 2))
    assert line.wire.statuses == [200]
    line.later_happens()
    answers = b"".join(line.wire.writes)
    assert line.wire.statuses == [200, 200, 200, 200]
    assert answers.index(b"suspicious") < answers.index(b"influencer-%d" % (PK + 1))
    assert answers.index(b"influencer-%d" % (PK + 1)) < answers.index(b"influencer-%d" % (PK + 2))


def test_a_client_with_too_many_questions_is_not_read_from() -> None:
    line = Line()
    line.receive(POST * (PENDING_MAX_ANSWERS - 1))
    assert line.wire.reading
    line.receive(get(PK))
    assert not line.wire.reading
    line.later_happens()
    assert line.wire.reading
    assert len(line.wire.statuses) == PENDING_MAX_ANSWERS


def test_a_client_that_does_not_take_answers_is_not_read_from() -> None:
    line = Line()
    line.connection.pause_writing()
    assert not line.wire.reading
    line.connection.resume_writing()
    assert line.wire.reading


def test_the_last_answer_closes() -> None:
    line = Line()
    line.receive(get(PK) + get(PK + 1, "Host: x\r\nConnection: close\r\n") + get(PK + 2))
    line.receive(get(PK + 3))
    assert line.walk.calls == [PK, PK + 1]
    assert line.wire.writes[-1].count(b"Connection: close") == 1
    assert line.wire.ended == "closed"


@pytest.mark.parametrize("oddity", [b"\x00\x01\x02\r\n\r\n", get(1, "A: " + "b" * 40_000 + "\r\n")])
def test_nonsense_is_answered_after_the_rest_and_closes(oddity: bytes) -> None:
    line = Line()
    line.receive(POST + oddity)
    assert line.wire.ended == ""
    line.later_happens()
    assert line.wire.statuses[0] == 200
    assert line.wire.statuses[1] in (400, 431)
    assert line.wire.ended == "closed"


def test_a_client_that_ended_still_gets_its_verdict() -> None:
    line = Line()
    line.receive(POST)
    assert line.connection.eof_received()
    line.later_happens()
    assert line.wire.statuses == [200]
    assert line.wire.ended == "closed"
    assert not Line().connection.eof_received()


def test_a_client_that_left_gets_nothing() -> None:
    line = Line()
    line.receive(POST)
    line.connection.connection_lost(None)
    line.later_happens()
    assert line.wire.writes == []
    assert not line.clients.connections


def test_a_cut_off_answer_is_the_last() -> None:
    line = Line(faults=Faults(garbage_share=1))
    line.receive(get(PK) * 50)
    assert line.wire.ended == "closed"
    assert len(line.wire.statuses) == 9  # the ninth kind of garbage is the cut off


@pytest.mark.parametrize(
    ("data", "patience_s"),
    [(get(PK), KEEP_ALIVE_S), (b"", REQUEST_MAX_S), (get(PK) + b"GET / HT", REQUEST_MAX_S)],
)
def test_idle_connections_are_closed(data: bytes, patience_s: int) -> None:
    line = Line()
    line.receive(data)
    for _ in range(patience_s):
        line.connection.tick()
    assert line.wire.ended == ""
    line.connection.tick()
    assert line.wire.ended == "closed"


def test_waiting_for_a_verdict_is_not_idle() -> None:
    line = Line()
    line.receive(POST)
    for _ in range(2 * REQUEST_MAX_S):
        line.connection.tick()
    assert line.wire.ended == ""


def test_idle_and_clogged_is_given_up() -> None:
    line = Line()
    line.receive(get(PK))
    line.connection.pause_writing()
    for _ in range(KEEP_ALIVE_S + 1):
        line.connection.tick()
    assert line.wire.ended == "aborted"


def test_no_more_headers_are_remembered_than_allowed() -> None:
    line = Line()
    for number in range(2 * PLAIN_HEADERS_MAX):
        line.receive(get(PK, f"Host: {number}\r\n"))
    assert len(line.clients.plain_headers) == PLAIN_HEADERS_MAX
    assert line.wire.statuses == [200] * 2 * PLAIN_HEADERS_MAX
