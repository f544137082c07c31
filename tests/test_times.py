"""What people write for a time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.errors import CallerError
from tidemark.times import TIME_MAX_S, rfc3339, seconds

NOON = 1_769_860_800


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        ("0", 0),
        (str(TIME_MAX_S), TIME_MAX_S),
        (f"{NOON}", NOON),
        (f"{NOON}.", NOON),
        (f"{NOON}.000", NOON),
        (f"{NOON}.0000000001", NOON + 1),
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31T12:00:00", NOON),
        ("2026-01-31 12:00:00", NOON),
        ("2026-01-31T13:30:00+01:30", NOON),
        ("2026-01-31T12:00:00.000Z", NOON),
        ("2026-01-31T12:00:00.000001Z", NOON + 1),
        ("2026-01-31", NOON - 43_200),
    ],
)
def test_the_first_second_that_is_not_before(text: str, at_s: int) -> None:
    assert seconds(text) == at_s


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "-1", "1e9", "nan", "٣", "12:00", "2026-02-30", "2026-01-31T12:00:61Z"),
        *("1969-12-31T23:59:59Z", "0001-01-01T00:00:00+23:00", "9999-12-31"),
        *(str(TIME_MAX_S + 1), f"{TIME_MAX_S}.5", "99999999999"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(CallerError, match=r"is no time: write 2026-01-31T12:00:00Z or Unix seconds"):
        seconds(text)


@given(st.integers(0, TIME_MAX_S))
def test_there_and_back(at_s: int) -> None:
    assert seconds(rfc3339(at_s)) == seconds(str(at_s)) == at_s
    assert rfc3339(at_s) == datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
