from __future__ import annotations

from http import HTTPStatus

import pytest

from tidemark.simulate.requests import BODY_MAX_BYTES, HEAD_MAX_BYTES, RequestReader, is_plain

from .conftest import get, post


def test_one_byte_at_a_time() -> None:
    reader = RequestReader()
    found = []
    for byte in post(b'{"pk":1}') + get(5):
        found += reader.feed(bytes([byte]))
    first, second = found
    assert (first.method, first.path, first.body) == (
        b"POST",
        b"/api/v1/influencers/is_suspicious",
        b'{"pk":1}',
    )
    assert first.is_json
    assert (second.method, second.path, second.body) == (b"GET", b"/api/v1/influencers/5", b"")
    assert not second.is_json
    assert not reader.within_request
    assert reader.refusal is None


def test_many_at_once() -> None:
    reader = RequestReader()
    count = 3 * HEAD_MAX_BYTES // len(get(1))
    assert len(reader.feed(get(1) * count)) == count
    assert reader.refusal is None


def test_the_query_is_no_part_of_the_path() -> None:
    assert RequestReader().feed(get("1?x=2"))[0].path == b"/api/v1/influencers/1"


def test_a_chunked_body() -> None:
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert RequestReader().feed(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")[0].body == b"abcde"


@pytest.mark.parametrize(
    ("request_bytes", "last"),
    [
        (get(1), False),
        (get(1, "Host: x\r\nConnection: close\r\n"), True),
        (b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", True),
    ],
)
def test_who_is_the_last(request_bytes: bytes, last: bool) -> None:
    assert RequestReader().feed(request_bytes)[0].last is last


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/1.1\r\nno colon here\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (get(1, "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"), HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", HTTPStatus.BAD_REQUEST),
        (get("1" * HEAD_MAX_BYTES), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (get(1, "A: b\r\n" * 5_000), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (get(1, "A: " + "b" * 3 * HEAD_MAX_BYTES + "\r\n"), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (post(b" " * (BODY_MAX_BYTES + 1)), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    ],
)
def test_what_is_refused(data: bytes, status: HTTPStatus) -> None:
    """In one piece and in small ones; what came before is still good."""
    for size in (len(data), 1_000):
        reader = RequestReader()
        assert len(reader.feed(get(1))) == 1
        for at in range(0, len(data), size):
            assert reader.feed(data[at : at + size]) == []
            if reader.refusal is not None:
                break
        assert reader.refusal is status


def test_an_endless_header_is_noticed_before_it_ends() -> None:
    reader = RequestReader()
    reader.feed(b"GET / HTTP/1.1\r\nA: ")
    fed = 0
    while reader.refusal is None:
        reader.feed(b"b" * 1_000)
        fed += 1_000
        assert fed < 3 * HEAD_MAX_BYTES
    assert reader.refusal is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


@pytest.mark.parametrize(
    ("headers", "plain"),
    [
        (b" HTTP/1.1\r\nHost: x", True),
        (b" HTTP/1.1\r\nHost: x\r\nAccept: */*", True),
        (b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0", True),
        (b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3", False),
        (b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked", False),
        (b" HTTP/1.1\r\nHost: x\r\nConnection: close", False),
        (b" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c", False),
        (b" HTTP/1.0\r\nHost: x", False),
        (b" and more HTTP/1.1\r\nHost: x", False),
        (b" HTTP/1.1\r\nA: " + b"b" * HEAD_MAX_BYTES, False),
        (b"", False),
    ],
)
def test_which_headers_are_plain(headers: bytes, plain: bool) -> None:
    assert is_plain(headers) is plain
