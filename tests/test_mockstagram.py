"""What the API says about an influencer is an answer, or a reason for refusing it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.mockstagram import Answer, parse, parse_verdict, question


def test_the_details_go_back_to_the_api_as_they_came() -> None:
    body = b'{"pk":1000001,"username":"influencer-100001","followerCount":57166,"followingCount":1328}'
    details = parse(body, 1_000_001)
    assert isinstance(details, Answer)
    assert question(details) == body


@pytest.mark.parametrize("suspicious", [True, False])
def test_a_verdict(suspicious: bool) -> None:
    assert parse_verdict(json.dumps({"pk": 7, "suspicious": suspicious, "more": 1}).encode(), 7) is suspicious


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "json"),
        (b"<html>", "json"),
        (b"[]", "json"),
        (b'{"pk": 7, "suspicious": true', "json"),
        (b"[" * 100_000, "json"),
        (b"{}", "fields"),
        (b'{"pk": 7}', "fields"),
        (b'{"suspicious": true}', "fields"),
        (b'{"pk": 7, "suspicious": null}', "fields"),
        (b'{"pk": 7, "suspicious": 1}', "fields"),
        (b'{"pk": 7, "suspicious": "not_suspicious"}', "fields"),
        (b'{"pk": "7", "suspicious": true}', "fields"),
        (b'{"pk": 7.5, "suspicious": true}', "range"),
        (b'{"pk": -7, "suspicious": true}', "range"),
        (b'{"pk": 8, "suspicious": true}', "pk"),
    ],
)
def test_what_is_no_verdict(body: bytes, reason: str) -> None:
    assert parse_verdict(body, 7) == reason


@given(st.binary(max_size=60))
def test_any_bytes_are_refused(body: bytes) -> None:
    assert isinstance(parse_verdict(body, 7), str)
