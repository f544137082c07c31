"""Which answers are compressed."""

from __future__ import annotations

import gzip

import pytest
from fastapi import Request, Response

from tidemark.serve.compression import LEAST_BYTES, compressed, reads_gzip


def request(accepts: str | None) -> Request:
    headers = [] if accepts is None else [(b"accept-encoding", accepts.encode())]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("accepts", "reads"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5, br", True),
        ("*", True),
        ("*;q=0, gzip", True),
        ("*, gzip;q=0", False),
        ("br, deflate", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("xgzip", False),
        ("", False),
        (None, False),
    ],
)
def test_who_can_read_it(accepts: str | None, reads: bool) -> None:
    assert reads_gzip(request(accepts)) is reads


async def test_long_answers_only() -> None:
    body = b"57166," * LEAST_BYTES
    answer = await compressed(request("gzip"), Response(body, media_type="application/json"))
    assert gzip.decompress(bytes(answer.body)) == body
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-length"] == str(len(answer.body))
    for accepts, sent in (("br", body), ("gzip", body[:100])):
        answer = await compressed(request(accepts), Response(sent))
        assert answer.body == sent
        assert "content-encoding" not in answer.headers
        assert answer.headers["vary"] == "Accept-Encoding"
