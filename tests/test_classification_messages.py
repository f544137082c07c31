"""Turns and verdicts come back as they were, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.messages import (
    BATCH_MAX_ROWS,
    VERDICT_PAST_MAX_S,
    Batch,
    MessageError,
    Turn,
    Verdicts,
    string_array,
)
from tidemark.population import PK_MAX

COUNTS = st.integers(0, 2**32 - 1)


def verdicts(rows: dict[int, tuple[bool, int, int]]) -> Verdicts:
    """Rows: pk -> (suspicious, checked_at, took_ms)."""
    pks = sorted(rows)
    columns = zip(*(rows[pk] for pk in pks), strict=True) if rows else ([], [], [])
    suspicious, checked_at, took_ms = columns
    return Verdicts(
        turn_id="1-9@5",
        classifier="host-1-ab",
        in_flight=7,
        pk=np.array(pks, np.uint32),
        suspicious=np.array(suspicious, np.bool_),
        checked_at=np.array(checked_at, np.uint32),
        took_ms=np.array(took_ms, np.uint32),
    )


@given(
    st.dictionaries(COUNTS, st.tuples(st.booleans(), st.integers(1, 2**32 - 1), COUNTS), max_size=40),
)
def test_verdicts_come_back(rows: dict[int, tuple[bool, int, int]]) -> None:
    sent = verdicts(rows)
    got = Verdicts.decode(sent.encode())
    assert (got.turn_id, got.classifier, got.in_flight) == ("1-9@5", "host-1-ab", 7)
    for column in ("pk", "suspicious", "checked_at", "took_ms"):
        assert getattr(got, column).dtype == getattr(sent, column).dtype
        assert getattr(got, column).tolist() == getattr(sent, column).tolist()
    assert len(got) == len(rows)


@pytest.mark.parametrize("calls", [-1, 10**30])
def test_calls_in_flight_that_cannot_be(calls: int) -> None:
    with pytest.raises(MessageError, match="calls in flight"):
        Verdicts.decode(replace(verdicts({1: (True, 5, 6)}), in_flight=calls).encode())


def test_verdicts_of_a_clock_that_is_not_set_count_from_when_they_came() -> None:
    times = [
        1,
        2_000_000_000 - VERDICT_PAST_MAX_S,
        2_000_000_000 - VERDICT_PAST_MAX_S + 1,
        2_000_000_000,
        2**32 - 1,
    ]
    sent = verdicts({pk: (True, at_s, 1) for pk, at_s in enumerate(times)})
    taken = sent.logged_at(2_000_000_000).checked_at
    assert taken.tolist() == [2_000_000_000, 2_000_000_000, times[2], 2_000_000_000, 2_000_000_000]
    assert taken.dtype == np.uint32
    assert sent.checked_at.tolist() == times


def test_a_dozen_verdicts_take_about_a_kilobyte() -> None:
    assert len(verdicts(dict.fromkeys(range(1000, 1012), (True, 2000000000, 10000))).encode()) < 1_100


@given(st.data())
def test_damaged_bytes_give_an_error_or_sound_verdicts(data: st.DataObject) -> None:
    encoded = bytearray(verdicts({pk: (pk % 2 == 0, 9, 1) for pk in range(20)}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = Verdicts.decode(bytes(encoded[: data.draw(st.integers(0, len(encoded)))]))
    except MessageError:
        return
    assert (np.diff(got.pk.astype(np.int64)) > 0).all()
    assert len(got.pk) == len(got.suspicious) == len(got.checked_at) == len(got.took_ms)


def bad_verdicts() -> dict[str, bytes]:
    good = {1: (True, 5, 1), 2: (False, 6, 1)}
    unsorted = verdicts(good)
    unsorted.pk[:] = [2, 1]
    ones = np.ones(1, np.uint32)
    batch = Batch("1-1@1", ones, np.ones(1, np.int64), ones, ones, string_array(["a"]))
    many = BATCH_MAX_ROWS + 1
    return {
        "do not increase": unsorted.encode(),
        "before 1970": verdicts({1: (True, 0, 1)}).encode(),
        "other columns": batch.encode(),
        "not one of verdicts": b"",
        "rows": Verdicts(
            "t",
            "c",
            0,
            np.arange(many, dtype=np.uint32),
            np.zeros(many, np.bool_),
            np.ones(many, np.uint32),
            np.ones(many, np.uint32),
        ).encode(),
        "version none": _without_metadata(verdicts(good).encode()),
    }


def _without_metadata(data: bytes) -> bytes:
    with pa.ipc.open_stream(data) as reader:
        record = reader.read_next_batch().replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, record.schema) as writer:
        writer.write_batch(record)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


@pytest.mark.parametrize("complaint", bad_verdicts())
def test_what_are_no_verdicts(complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        Verdicts.decode(bad_verdicts()[complaint])


@given(
    st.integers(0, 99),
    st.integers(0, PK_MAX),
    st.integers(0, 999),
    st.integers(0, 2**41),
    st.integers(0, 2**41),
)
def test_a_turn_comes_back(shard: int, first: int, more: int, due_ms: int, since_ms: int) -> None:
    turn = Turn(shard, first, min(first + more, PK_MAX), due_ms, since_ms)
    assert Turn.decode(turn.encode()) == turn


def test_a_turn_taken_early_has_the_same_name() -> None:
    assert Turn(0, 5, 9, 100, 0).id == Turn(0, 5, 9, 100, 100).id == "5-9@100"


TURN = {"shard": 0, "first_pk": 1, "last_pk": 9, "due_ms": 5, "since_ms": 5}


@pytest.mark.parametrize(
    "change",
    [
        {"first_pk": 10},
        {"first_pk": -1},
        {"last_pk": PK_MAX + 1},
        {"last_pk": 1 + BATCH_MAX_ROWS},
        {"shard": -1},
        {"due_ms": -1},
        {"since_ms": 2**60},
        {"due_ms": "now"},
        {"more": 1},
    ],
)
def test_turns_that_would_do_harm(change: dict[str, object]) -> None:
    assert Turn.decode(json.dumps(TURN).encode()).last_pk == 9
    with pytest.raises(MessageError):
        Turn.decode(json.dumps(TURN | change).encode())


@given(st.binary(max_size=40))
def test_any_bytes_give_an_error(data: bytes) -> None:
    with pytest.raises(MessageError):
        Turn.decode(data)
    with pytest.raises(MessageError):
        Verdicts.decode(data)
