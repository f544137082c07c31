"""The parser of answers, without sockets: the same whatever pieces the bytes come in, and bounded."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.http1 import (
    BODY_MAX_BYTES,
    HEAD_MAX_BYTES,
    ProtocolError,
    Response,
    ResponseParser,
    request_around_pk,
    request_before_length,
)

OBSERVATION = b'{"pk":1000001,"username":"a","followerCount":2,"followingCount":1}'


def answer(body: bytes = OBSERVATION, status: int = 200, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Some\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


@dataclass(frozen=True)
class Said:
    """Bytes on the wire, and what is to be understood."""

    wire: bytes
    responses: list[Response]
    closing: bool


BODIES = st.one_of(st.binary(max_size=300), st.just(OBSERVATION), st.just(b"HTTP/1.1 200 OK\r\n\r\n"))
HEADERS = st.lists(
    st.sampled_from(
        [
            b'ETag: W/"55"\r\n',
            b"Keep-Alive: timeout=5\r\n",
            b"X-Empty:\r\n",
            b"content-TYPE: application/json; charset=utf-8\r\n",
        ]
    ),
    max_size=3,
    unique=True,
).map(b"".join)
STATUSES = st.sampled_from([200, 200, 201, 301, 404, 429, 500, 503, 599])
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@st.composite
def one_answer(draw: st.DrawFn) -> tuple[bytes, Response]:
    status, body, headers = draw(STATUSES), draw(BODIES), draw(HEADERS)
    before = b"".join(draw(st.lists(st.sampled_from([CONTINUE, INTERIM]), max_size=2)))
    framing = draw(st.sampled_from(["length", "chunks", "none"]))
    if framing == "none":
        status = draw(st.sampled_from([204, 304]))
        return before + b"HTTP/1.1 %d Some\r\n%b\r\n" % (status, headers), (status, b"")
    if framing == "length":
        return before + answer(body, status, headers), (status, body)
    chunks = b""
    rest = body
    while rest:
        size = draw(st.integers(1, len(rest)))
        extension = draw(st.sampled_from([b"", b";a=b"]))
        chunks += b"%x%b\r\n%b\r\n" % (size, extension, rest[:size])
        rest = rest[size:]
    trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n"]))
    head = b"HTTP/1.1 %d Some\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (status, headers)
    return before + head + chunks + b"0\r\n" + trailer + b"\r\n", (status, body)


@st.composite
def conversations(draw: st.DrawFn) -> Said:
    answers = draw(st.lists(one_answer(), min_size=1, max_size=4))
    closing = draw(st.booleans())
    wire = b"".join(wire for wire, _ in answers)
    responses = [response for _, response in answers]
    if closing:
        wire += answer(b"bye", 503, b"Connection: close\r\n")
        responses.append((503, b"bye"))
    return Said(wire, responses, closing)


def pieces(data: st.DataObject, wire: bytes) -> list[bytes]:
    """The same bytes, cut anywhere; sometimes one by one."""
    if data.draw(st.integers(0, 9)) == 0:
        return [wire[i : i + 1] for i in range(len(wire))]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=12)))
    return [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True) if a < b]


@given(conversations(), st.data())
def test_the_pieces_do_not_matter(said: Said, data: st.DataObject) -> None:
    whole = ResponseParser()
    assert whole.feed(said.wire) == said.responses
    assert whole.closing == said.closing
    assert whole.pending_bytes == 0

    parser = ResponseParser()
    taken = [response for piece in pieces(data, said.wire) for response in parser.feed(piece)]
    assert taken == said.responses
    assert parser.closing == said.closing
    assert parser.pending_bytes == 0


@given(conversations(), st.data())
def test_what_is_cut_off_is_known_to_be(said: Said, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(said.wire) - 1))
    parser = ResponseParser()
    taken = [response for byte in said.wire[:length] for response in parser.feed(bytes([byte]))]
    assert taken == said.responses[: len(taken)]
    assert len(taken) < len(said.responses)
    rest = said.wire[length:]
    if not parser.pending_bytes:  # between two answers: the rest stands alone
        assert ResponseParser().feed(rest) == said.responses[len(taken) :]
    assert parser.feed(rest) == said.responses[len(taken) :]


# With H, I or R an answer may begin: llhttp also reads those of Icecast (ICE) and RTSP.
@given(conversations(), st.binary(min_size=1, max_size=40).filter(lambda noise: noise[:1] not in b"\r\nHIR"))
def test_noise_after_answers_is_refused(said: Said, noise: bytes) -> None:
    parser = ResponseParser()
    assert parser.feed(said.wire) == said.responses
    with pytest.raises(ProtocolError) as refused:
        parser.feed(noise)
    assert refused.value.reason == "framing"


@given(st.binary(max_size=400), st.data())
def test_any_bytes_give_responses_or_a_protocol_error(noise: bytes, data: st.DataObject) -> None:
    wire = data.draw(st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", answer()])) + noise
    parser = ResponseParser()
    for piece in pieces(data, wire):
        try:
            assert all(200 <= status <= 999 for status, _ in parser.feed(piece))
        except ProtocolError:
            break


@pytest.mark.parametrize(
    "wire",
    [
        b"hello\r\n\r\n",
        b"<html>",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_what_is_no_answer(wire: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        ResponseParser().feed(wire)
    assert refused.value.reason == "framing"


@given(conversations())
def test_what_came_whole_before_noise_counts(said: Said) -> None:
    parser = ResponseParser()
    with pytest.raises(ProtocolError) as refused:
        parser.feed(said.wire + b"<html>")
    assert refused.value.responses == said.responses
    assert parser.closing


def test_an_answer_after_the_last_is_refused() -> None:
    parser = ResponseParser()
    assert parser.feed(answer(b"", 200, b"Connection: close\r\n")) == [(200, b"")]
    assert parser.closing
    with pytest.raises(ProtocolError):
        parser.feed(answer())


def test_http_1_0_closes_after_its_answer() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab") == [(200, b"ab")]
    assert parser.closing


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n"])
@pytest.mark.parametrize("piece_bytes", [1, 7, 1_000])
def test_a_body_without_a_length_ends_with_the_connection(head: bytes, piece_bytes: int) -> None:
    parser = ResponseParser()
    wire = head + b"Content-Type: application/json\r\n\r\n" + OBSERVATION
    for at in range(0, len(wire), piece_bytes):
        assert parser.feed(wire[at : at + piece_bytes]) == []
    assert parser.pending_bytes > 0
    assert parser.feed(b"") == [(200, OBSERVATION)]
    assert parser.closing
    assert not parser.pending_bytes


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nConnection: cl",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 80\r\n\r\n" + OBSERVATION,
        b"HTTP/1.0 200 OK\r\nCONTENT-LENGTH: 80\r\n\r\n" + OBSERVATION,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n42\r\n" + OBSERVATION,
    ],
)
def test_what_the_end_of_the_connection_cut_off_is_no_answer(wire: bytes) -> None:
    parser = ResponseParser()
    if wire:
        assert parser.feed(wire) == []
    assert parser.feed(b"") == []
    assert parser.closing
    assert bool(parser.pending_bytes) == bool(wire)


def test_a_body_too_large_in_one_piece_is_refused_and_those_before_it_are_taken() -> None:
    parser = ResponseParser()
    wire = answer() + answer(b"x" * (BODY_MAX_BYTES + 1)) + answer()
    with pytest.raises(ProtocolError) as refused:
        parser.feed(wire)
    assert refused.value.reason == "oversized"
    assert refused.value.responses == [(200, OBSERVATION)]
    assert parser.closing


ENDLESS = {
    "head": [b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 1_000 + b"\r\n"],
    "name of a header": [b"HTTP/1.1 200 OK\r\n", b"x" * 1_000],
    "reason": [b"HTTP/1.1 200 ", b"x" * 1_000],
    "body": [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", b"x" * 1_000],
    "chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + b"x" * 1_000 + b"\r\n"],
    "tiny chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 200],
    "chunk extension": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1_000],
    "until the end": [b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_000],
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_is_bounded(what: str) -> None:
    beginning, more = ENDLESS[what]
    parser = ResponseParser()
    fed = len(beginning)
    assert parser.feed(beginning) == []
    with pytest.raises(ProtocolError) as refused:  # noqa: PT012 - which piece is one too many is not said
        while fed <= HEAD_MAX_BYTES + BODY_MAX_BYTES + len(more):
            assert parser.feed(more) == []
            fed += len(more)
    assert refused.value.reason in ("oversized", "framing")
    assert fed <= HEAD_MAX_BYTES + BODY_MAX_BYTES + len(more)


def test_the_largest_body() -> None:
    body = b"x" * BODY_MAX_BYTES
    parser = ResponseParser()
    wire = answer(body)
    taken = [response for at in range(0, len(wire), 4_096) for response in parser.feed(wire[at : at + 4_096])]
    assert taken == [(200, body)]


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        ("http://api:3000", b"GET /api/v1/influencers/1000001 HTTP/1.1\r\nHost: api:3000\r\n"),
        ("http://[::1]:80/base", b"GET /base/api/v1/influencers/1000001 HTTP/1.1\r\nHost: [::1]:80\r\n"),
    ],
)
def test_a_request(api: str, expected: bytes) -> None:
    before_pk, after_pk = request_around_pk(api)
    request = before_pk + b"1000001" + after_pk
    assert request.startswith(expected)
    assert request.endswith(b"\r\n\r\n")
    assert request.count(b"\r\n\r\n") == 1
    assert b"content-length" not in request.lower()


def test_a_post() -> None:
    request = request_before_length("http://api:3000/base") + b"2\r\n\r\n{}"
    assert request.startswith(b"POST /base/api/v1/influencers/is_suspicious HTTP/1.1\r\nHost: api:3000\r\n")
    assert request.endswith(b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    assert request.count(b"\r\n\r\n") == 1
