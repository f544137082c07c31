"""What is put on the log comes off it unchanged, and what is not ours never comes off at all."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark.messages import (
    BATCH_MAX_ROWS,
    COUNT_MAX,
    TICK_ID_MAX_CHARACTERS,
    TIME_MAX_MS,
    USERNAME_MAX_CHARACTERS,
    Batch,
    MessageError,
    Tick,
    string_array,
)
from tidemark.population import PK_MAX

PKS = st.integers(0, PK_MAX)
COUNTS = st.integers(0, COUNT_MAX)
TIMES = st.integers(1, TIME_MAX_MS - 1)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=USERNAME_MAX_CHARACTERS)
ROWS = st.dictionaries(PKS, st.tuples(TIMES, COUNTS, COUNTS, NAMES), max_size=20)
Row = tuple[int, int, int, int, str]


def batch(*rows: Row, tick_id: str = "1-2@3") -> Batch:
    return Batch(
        tick_id,
        np.array([row[0] for row in rows], np.uint32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.uint32),
        np.array([row[3] for row in rows], np.uint32),
        string_array([row[4] for row in rows]),
    )


def rows_of(read: Batch) -> list[Row]:
    columns = (read.pk, read.observed_at_ms, read.follower_count, read.following_count)
    return list(zip(*(column.tolist() for column in columns), read.username.to_pylist(), strict=True))


SOUND = batch((7, 1_700_000_000_123, 1, 0, "ann"), (9, 1_700_000_000_456, COUNT_MAX, 5, "数据"))


@st.composite
def ticks(draw: st.DrawFn) -> Tick:
    first = draw(PKS)
    last = draw(st.integers(first, min(PK_MAX, first + BATCH_MAX_ROWS - 1)))
    return Tick(draw(st.integers(0, 2**31)), first, last, draw(st.integers(0, TIME_MAX_MS - 1)))


@given(ticks())
def test_a_tick_comes_back(tick: Tick) -> None:
    assert Tick.decode(tick.encode()) == tick
    assert len(tick.encode()) < 130


def test_the_id_of_a_tick_names_its_pks_and_its_time() -> None:
    assert Tick(3, 1_003_000, 1_003_999, 1_700_000_000_000).id == "1003000-1003999@1700000000000"


def test_a_tick_is_json_that_others_can_write() -> None:
    assert json.loads(Tick(3, 10, 19, 5).encode()) == {"shard": 3, "first_pk": 10, "last_pk": 19, "due_ms": 5}


FIELDS = st.one_of(st.integers(-(10**30), 10**30), st.floats(), st.text(), st.none(), st.booleans())


@given(
    st.one_of(
        st.binary(max_size=200),
        st.dictionaries(
            st.sampled_from(["shard", "first_pk", "last_pk", "due_ms", "other"]), FIELDS, max_size=5
        ).map(lambda fields: json.dumps(fields).encode()),
    )
)
def test_what_is_no_tick(data: bytes) -> None:
    try:
        tick = Tick.decode(data)
    except MessageError:
        pass
    else:
        assert 0 <= tick.first_pk <= tick.last_pk <= PK_MAX


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b'{"\xff":1}',
        b"[" * 100_000,
        b'{"shard":' * 100_000,
        b'{"shard":0,"first_pk":5,"last_pk":4,"due_ms":0}',
        b'{"shard":0,"first_pk":-5,"last_pk":4,"due_ms":0}',
        b'{"shard":0,"first_pk":0,"last_pk":100000,"due_ms":0}',
        b'{"shard":0,"first_pk":4294967296,"last_pk":4294967296,"due_ms":0}',
        b'{"shard":-1,"first_pk":0,"last_pk":0,"due_ms":0}',
        b'{"shard":0,"first_pk":0,"last_pk":0,"due_ms":1e5}',
        b'{"shard":0,"first_pk":0,"last_pk":0,"due_ms":' + b"9" * 400 + b"}",
        b'{"shard":0,"first_pk":0,"last_pk":0,"due_ms":0,"more":1}',
    ],
)
def test_ticks_that_would_do_harm(data: bytes) -> None:
    with pytest.raises(MessageError):
        Tick.decode(data)


@given(ROWS, st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_a_batch_comes_back(rows: dict[int, tuple[int, int, int, str]], tick_id: str) -> None:
    expected = [(pk, *row) for pk, row in sorted(rows.items())]
    read = Batch.decode(batch(*expected, tick_id=tick_id).encode())
    assert rows_of(read) == expected
    assert read.tick_id == tick_id
    assert len(read) == len(expected)
    assert [column.dtype for column in (read.pk, read.observed_at_ms, read.follower_count)] == [
        np.uint32,
        np.int64,
        np.uint32,
    ]


@given(ROWS, st.data())
def test_a_part_of_a_batch(rows: dict[int, tuple[int, int, int, str]], data: st.DataObject) -> None:
    everything = [(pk, *row) for pk, row in sorted(rows.items())]
    mask = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    part = batch(*everything).only(np.array(mask, np.bool_))
    assert rows_of(part) == [row for row, kept in zip(everything, mask, strict=True) if kept]
    assert rows_of(Batch.decode(part.encode())) == rows_of(part)


def test_a_thousand_influencers_take_some_ten_kilobytes() -> None:
    names = [f"influencer-{pk}" for pk in range(1_000_000, 1_001_000)]
    rows = [
        (1_000_000 + i, 1_700_000_000_000 + i * 7, i * 7919 % 1_000_003, i * 31 % 5_003, name)
        for i, name in enumerate(names)
    ]
    assert len(batch(*rows).encode()) < 16_000


@given(st.data())
@settings(max_examples=300)
def test_damaged_bytes_give_an_error_or_a_sound_batch(data: st.DataObject) -> None:
    damaged = bytearray(SOUND.encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        kind = data.draw(st.sampled_from(["change", "cut", "insert", "delete"]))
        if kind == "change":
            damaged[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del damaged[at:]
        elif kind == "insert":
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            del damaged[at : at + data.draw(st.integers(1, 9))]
        if not damaged:
            break
    try:
        read = Batch.decode(bytes(damaged))
    except MessageError:
        return
    assert_sound(read)


@given(st.binary(max_size=300))
def test_any_bytes_give_an_error(data: bytes) -> None:
    with pytest.raises(MessageError):
        Batch.decode(data)


@pytest.mark.parametrize("length", range(0, 200, 7))
def test_a_batch_that_was_cut_short(length: int) -> None:
    with pytest.raises(MessageError):
        Batch.decode(SOUND.encode()[:length])


def assert_sound(read: Batch) -> None:
    rows = rows_of(read)
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    assert all(0 < row[1] < TIME_MAX_MS for row in rows)
    assert all(1 <= len(row[4]) <= USERNAME_MAX_CHARACTERS for row in rows)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([(5, 1, 1, 1, "a"), (5, 1, 1, 1, "b")], "increase"),
        ([(6, 1, 1, 1, "a"), (5, 1, 1, 1, "b")], "increase"),
        ([(5, 0, 1, 1, "a")], "times"),
        ([(5, -1, 1, 1, "a")], "times"),
        ([(5, TIME_MAX_MS, 1, 1, "a")], "times"),
        ([(5, 1, 1, 1, "")], "usernames"),
        ([(5, 1, 1, 1, "x" * (USERNAME_MAX_CHARACTERS + 1))], "usernames"),
        ([(5, 1, 1, 1, "数" * (USERNAME_MAX_CHARACTERS + 1)), (6, 1, 1, 1, "a")], "1 to 65"),
    ],
)
def test_a_batch_that_is_not_sound(rows: Sequence[Row], complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        Batch.decode(batch(*rows).encode())


def written(table: pa.Table | pa.RecordBatch, **metadata: str) -> bytes:
    """An Arrow stream as somebody else would write it."""
    sink = pa.BufferOutputStream()
    schema = table.schema.with_metadata({f"tidemark.{name}": text for name, text in metadata.items()})
    with pa.ipc.new_stream(sink, schema) as writer:
        for record in table.cast(schema).to_batches() if isinstance(table, pa.Table) else [table]:
            writer.write_batch(pa.RecordBatch.from_arrays(record.columns, schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def record(**columns: pa.Array) -> pa.RecordBatch:
    """The record batch of `SOUND`, with other columns."""
    read = pa.ipc.open_stream(SOUND.encode()).read_next_batch()
    arrays = {name: read.column(name) for name in read.schema.names} | columns
    fields = [
        pa.field(name, array.type, nullable=name not in read.schema.names) for name, array in arrays.items()
    ]
    return pa.RecordBatch.from_arrays(list(arrays.values()), schema=pa.schema(fields))


def test_an_arrow_stream_as_ours_is_read() -> None:
    assert rows_of(Batch.decode(written(record(), version="1", tick="1-2@3"))) == rows_of(SOUND)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (written(record(), tick="1-2@3"), "version none"),
        (written(record(), version="2", tick="1-2@3"), "version 2"),
        (written(record(), version="1"), "not a batch"),
        (written(record(more=pa.array([1, 2])), version="1", tick="1-2@3"), "columns"),
        (written(record(pk=pa.array([7, 9], pa.int64())), version="1", tick="1-2@3"), "columns"),
        (written(record().select(["pk"]), version="1", tick="1-2@3"), "columns"),
        (written(record(username=pa.array(["a", None])), version="1", tick="1-2@3"), "missing|not a batch"),
        (written(pa.table({"pk": [1]}), version="1", tick="1-2@3"), "columns"),
    ],
)
def test_arrow_streams_that_are_not_ours(data: bytes, complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        Batch.decode(data)


def test_a_batch_of_too_many_rows() -> None:
    n = BATCH_MAX_ROWS + 1
    ones = np.ones(n, np.uint32)
    too_many = Batch(
        "t", np.arange(n, dtype=np.uint32), np.ones(n, np.int64), ones, ones, string_array(["a"] * n)
    )
    with pytest.raises(MessageError, match="rows"):
        Batch.decode(too_many.encode())


def test_a_small_message_does_not_become_a_large_batch() -> None:
    n = 1_500_000
    zeros = np.zeros(n, np.uint32)
    bomb = Batch("t", zeros, np.zeros(n, np.int64), zeros, zeros, pa.repeat("", n)).encode()
    assert len(bomb) < 10_000
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(MessageError, match="becomes 36000"):
        Batch.decode(bomb)
    assert pa.default_memory_pool().max_memory() == before


def test_a_batch_with_an_id_that_is_too_long_to_be_remembered() -> None:
    long = replace(SOUND, tick_id="1" * (TICK_ID_MAX_CHARACTERS + 1))
    with pytest.raises(MessageError, match="characters"):
        Batch.decode(long.encode())


def test_a_username_that_is_no_utf8() -> None:
    data = pa.py_buffer(b"a\xffz")
    offsets = pa.py_buffer(np.array([0, 1, 3], np.int32))
    broken = pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])
    with pytest.raises(MessageError):
        Batch.decode(written(record(username=broken), version="1", tick="1-2@3"))


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=20))
def test_texts_become_an_arrow_column(texts: list[str]) -> None:
    column = string_array(texts)
    column.validate(full=True)
    assert column.to_pylist() == texts
