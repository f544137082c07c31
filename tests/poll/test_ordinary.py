"""What is read as an ordinary answer, llhttp and msgspec read alike; and ordinary answers are read as such."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.test_mockstagram import PK, bodies, body
from tidemark.http1 import ProtocolError, ResponseParser
from tidemark.mockstagram import Answer, parse
from tidemark.poll.ordinary import OBSERVATION_MAX_BYTES, read_answer
from tidemark.poll.tables import Answers, tables, with_rows

EXPRESS = (
    b"X-Powered-By: Express\r\nContent-Type: application/json; charset=utf-8\r\n"
    b'ETag: W/"56-Fv+8"\r\nDate: Tue, 24 Nov 2026 21:48:21 GMT\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n'
)
NGINX = b"Server: nginx/1.22.1\r\nDate: Tue, 24 Nov 2026 21:48:21 GMT\r\nConnection: Keep-Alive\r\n"


def answer(content: bytes, headers: bytes = EXPRESS, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(content), content)


def in_a_chunk(content: bytes, headers: bytes = NGINX) -> bytes:
    head = b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n" % headers
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)


@dataclass(frozen=True)
class Read:
    """What was found, and where it ended."""

    end: int
    answer: Answer


def one_row() -> Answers:
    answers = with_rows(tables([(b"GET /", b"\r\n\r\n")], 1, np.inf), 1).answers
    answers.pk[0] = PK
    return answers


def ordinary(wire: bytes, begin: int = 0) -> Read | None:
    answers = one_row()
    end = read_answer(np.frombuffer(wire, np.uint8).copy(), begin, len(wire), answers, 0)
    if end < 0:
        return None
    username = answers.username[0, : answers.username_bytes[0]].tobytes().decode()
    return Read(end, Answer(PK, username, int(answers.follower_count[0]), int(answers.following_count[0])))


def general(wire: bytes) -> Read | None:
    """The same by parsers that are not ours; None where the first answer is no observation, or the connection ends."""
    for end in range(1, len(wire) + 1):
        parser = ResponseParser()
        try:
            responses = parser.feed(wire[:end])
        except ProtocolError:
            return None
        if responses:
            ((status, content),) = responses
            found = parse(content, PK)
            sound = status == 200 and isinstance(found, Answer) and len(content) <= OBSERVATION_MAX_BYTES
            return Read(end, found) if sound and isinstance(found, Answer) and not parser.closing else None
    return None


FRAMES = (answer, in_a_chunk)


@pytest.mark.parametrize(("frame", "headers"), list(product(FRAMES, (EXPRESS, NGINX, b""))))
def test_what_such_servers_say_is_ordinary(frame: Callable[[bytes, bytes], bytes], headers: bytes) -> None:
    wire = frame(body(followers=2**32 - 1), headers)
    read = ordinary(wire + b"HTTP/1.1 200 OK\r\n")
    assert read == Read(len(wire), Answer(PK, "ann", 2**32 - 1, 0))


def test_it_is_read_from_the_middle_of_what_came() -> None:
    first = answer(body())
    read = ordinary(first + answer(body(followers=7)), len(first))
    assert read is not None
    assert read.answer.followerCount == 7


PARTS = st.sampled_from(
    [
        EXPRESS,
        NGINX,
        b"Content-Length: 5\r\n",
        b"content-length: 60 \r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive, upgrade\r\n",
        b"Proxy-Connection: close\r\n",
        b"Upgrade: h2c\r\n",
        b"X-Folded: a\r\n b\r\n",
        b"X-Empty:\r\n",
        b"X-Tab:\ta\tb\r\n",
        b"X-\xc3\xa4: \xc3\xa4\r\n",
        b"No colon\r\n",
        b"Space before : colon\r\n",
        b"X-Bare: \n",
        b"X_Y: z\r\n",
        b": nameless\r\n",
    ]
)


@st.composite
def wires(draw: st.DrawFn) -> bytes:
    """An answer, or what looks like one, with damage here and there, and more behind it."""
    content = draw(st.one_of(bodies(), st.just(body()), st.just(body(followers=1, username='"x y"'))))
    headers = b"".join(draw(st.lists(PARTS, max_size=3)))
    status = draw(st.sampled_from([b"200 OK", b"200 ", b"200", b"404 Not Found", b"200 \xff"]))
    wire = answer(content, headers, status) if draw(st.booleans()) else in_a_chunk(content, headers)
    damaged = bytearray(wire)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(damaged)))
        damaged[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(damaged) + draw(st.sampled_from([b"", b"\r\n", answer(body())]))


@settings(max_examples=400)
@given(wires())
@example(answer(body(), b"X\r-Y: z\r\n"))
@example(answer(body(), b"X\x10: z\r\n"))
def test_what_is_read_is_read_alike_by_the_general_parsers(wire: bytes) -> None:
    read = ordinary(wire)
    if read is not None:
        assert read == general(wire)


@given(st.binary(max_size=300))
def test_any_bytes_behind_a_sound_head_are_read_alike(content: bytes) -> None:
    for wire in (answer(content), in_a_chunk(content or b"x")):
        read = ordinary(wire)
        if read is not None:
            assert read == general(wire)


def test_half_an_answer_is_not_read() -> None:
    for frame in FRAMES:
        wire = frame(body())
        assert ordinary(wire) is not None
        assert all(ordinary(wire[:end]) is None for end in range(len(wire)))


@pytest.mark.parametrize(
    "content",
    [
        body().replace(b"{", b" {\n\t").replace(b":", b" : ").replace(b",", b" ,\r\n") + b"\n",
        b'{"followingCount":0,"followerCount":5,"username":"ann","pk":%d}' % PK,
        body()[:-1] + b',"isPrivate":false,"bio":"","posts":12,"category":null,"verified":true}',
        body(username='"' + "x" * 64 + '"'),
        body(followers=0, followings=2**32 - 1),
    ],
)
def test_ordinary_bodies(content: bytes) -> None:
    read = ordinary(answer(content))
    assert read is not None
    assert read.answer == parse(content, PK)


@pytest.mark.parametrize(
    "content",
    [
        body(pk=PK + 1),
        body(followers=2**32),
        body(followers=-1),
        body(followers="05"),
        body(followers="1.0"),
        body(followers="1e3"),
        body(followers='"5"'),
        body(followings="null"),
        body(username='"ä"'),
        body(username=r'"\u0041"'),
        body(username='""'),
        body(username='"' + "x" * 65 + '"'),
        body(username="5"),
        body()[:-1],
        body() + b",",
        body()[:-1] + b",}",
        body()[:-1] + b',"more":{}}',
        body()[:-1] + b',"more":[1]}',
        body()[:-1] + b',"more":1.5}',
        body()[:-1] + b',"more":nul}',
        body()[:-1] + b',"followerCount":5}',
        body()[:-1] + b',"bio":"' + b"x" * OBSERVATION_MAX_BYTES + b'"}',
        b"{}",
        b"[]",
        b"",
    ],
)
def test_what_is_left_to_others(content: bytes) -> None:
    assert ordinary(answer(content)) is None
