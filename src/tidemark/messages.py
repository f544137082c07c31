"""What travels on the log?

Four messages, all checked when they are read; those in columns carry a version:

- **Tick**: JSON, about 90 bytes: poll these pks now.
- **Batch**: an Arrow IPC stream with one record batch, zstd-compressed: the observations of one tick, or of those of
  it who were answered in time, in columns. docs/architecture.md shows the fields; docs/adr/0003 has the sizes that
  were measured.
- **Turn**: JSON: classify these pks.
- **Verdicts**: as a batch, but small: verdicts on some influencers of one turn.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemark.errors import LogError
from tidemark.population import PK_MAX
from tidemark.times import TIME_MAX_S

VERSION: Final = "1"
COUNT_MAX: Final = 2**32 - 1
"""Counters are stored as UInt32; Instagram's largest account has 0.7 billion followers."""
USERNAME_MAX_CHARACTERS: Final = 64
TIME_MAX_MS: Final = (TIME_MAX_S + 1) * 1_000
VERDICT_PAST_MAX_S: Final = 86_400
"""A verdict waits for the log for minutes; one so old when it comes is of a clock that is not set."""
BATCH_MAX_ROWS: Final = 100_000
"""A batch of one shard holds up to 3,334 rows; a larger one is not ours."""
BATCH_MAX_BYTES: Final = 30_000_000
"""What such a batch becomes when it is decompressed, with names of 64 characters of four bytes."""
TICK_ID_MAX_CHARACTERS: Final = 100
"""Two pks, a time and a checksum are 50 at most; the ids of many batches are remembered."""


class MessageError(LogError):
    """A message on the log is not one of ours; it is set aside, never applied."""


class Tick(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The order to poll the pks `first_pk` to `last_pk` (inclusive), due at `due_ms`."""

    shard: int
    first_pk: int
    last_pk: int
    due_ms: int
    """Unix milliseconds by the timetable: the same for every scheduler that issues this tick."""

    @property
    def id(self) -> str:
        """The deterministic message id: schedulers may repeat a tick, the log keeps one."""
        return f"{self.first_pk}-{self.last_pk}@{self.due_ms}"

    def encode(self) -> bytes:
        """JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Tick:
        """Raises MessageError when `data` is not a tick."""
        try:
            tick = _TICK.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MessageError(f"a message on the tick stream is not a tick: {error}") from error
        if not 0 <= tick.first_pk <= tick.last_pk < min(tick.first_pk + BATCH_MAX_ROWS, PK_MAX + 1):
            raise MessageError(f"a tick asks for the pks {tick.first_pk} to {tick.last_pk}")
        if tick.shard < 0 or not 0 <= tick.due_ms < TIME_MAX_MS:
            raise MessageError(f"a tick is for shard {tick.shard}, due at {tick.due_ms} ms")
        return tick


_TICK = msgspec.json.Decoder(Tick)

_SCHEMA = pa.schema(
    [
        pa.field("pk", pa.uint32(), nullable=False),
        pa.field("observed_at_ms", pa.int64(), nullable=False),
        pa.field("follower_count", pa.uint32(), nullable=False),
        pa.field("following_count", pa.uint32(), nullable=False),
        pa.field("username", pa.string(), nullable=False),
    ]
)
# Without threads: handing five small buffers to a pool takes longer than compressing them.
_WRITE_OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
_READ_OPTIONS = pa.ipc.IpcReadOptions(use_threads=False)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The observations of one tick, in columns of n rows.

    A batch holds what was observed: an influencer whose answer was refused or never came is absent.
    """

    tick_id: str
    """The key by which a repeated batch is recognised: the id of the tick it answers and, where that was answered so
    slowly that it became more than one batch, who is in it, behind a +."""
    pk: npt.NDArray[np.uint32]
    """(n,), strictly increasing."""
    observed_at_ms: npt.NDArray[np.int64]
    """(n,), Unix milliseconds when the answer came."""
    follower_count: npt.NDArray[np.uint32]
    following_count: npt.NDArray[np.uint32]
    username: pa.StringArray
    """(n,), no nulls, 1 to 64 characters each."""

    def __len__(self) -> int:
        return len(self.pk)

    def only(self, rows: npt.NDArray[np.bool_]) -> Batch:
        """The batch with the rows where the mask (n,) is true."""
        return Batch(
            self.tick_id,
            self.pk[rows],
            self.observed_at_ms[rows],
            self.follower_count[rows],
            self.following_count[rows],
            self.username.filter(pa.array(rows)),
        )

    def encode(self) -> bytes:
        """An Arrow IPC stream; the schema's metadata carries the version and the tick's id."""
        columns: list[npt.NDArray[Any]] = [
            self.pk,
            self.observed_at_ms,
            self.follower_count,
            self.following_count,
        ]
        arrays = [*_arrays(columns, _SCHEMA, len(self)), self.username]
        return _write(arrays, _SCHEMA, {"tick": self.tick_id}, _WRITE_OPTIONS)

    @classmethod
    def decode(cls, data: bytes) -> Batch:
        """Raises MessageError when `data` is not a whole, sound batch of a version known here."""
        record, (tick_id,) = _read(data, _SCHEMA, ("tick",), "a batch")
        if len(tick_id) > TICK_ID_MAX_CHARACTERS:
            raise MessageError(f"a batch has an id of {len(tick_id)} characters")
        pk, at, followers, followings = (_numpy(record.column(i)) for i in range(4))
        _check_lengths(record.column(4))
        if len(pk) and not (int(at.min()) > 0 and int(at.max()) < TIME_MAX_MS):
            raise MessageError("a batch has observation times outside 1970 to 2106")
        return cls(tick_id, pk, at, followers, followings, record.column(4))


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The order to classify the pks `first_pk` to `last_pk` (inclusive), each once in this turn.

    Whoever has a verdict that carries this turn's `id`, or one of `since_ms` or later, is done already. So a
    turn may be handed out any number of times, and the record of the verdicts says what is left of it.
    """

    shard: int
    first_pk: int
    last_pk: int
    due_ms: int
    """Unix milliseconds by the timetable: the same for every scheduler that issues this turn."""
    since_ms: int
    """Unix milliseconds. `due_ms`, or earlier where the turn is taken before it is due."""

    @property
    def id(self) -> str:
        """The name of the turn, which its verdicts carry."""
        return f"{self.first_pk}-{self.last_pk}@{self.due_ms}"

    def encode(self) -> bytes:
        """JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Turn:
        """Raises MessageError when `data` is not a turn."""
        try:
            turn = _TURN.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MessageError(f"a message on the classification queue is not a turn: {error}") from error
        if not 0 <= turn.first_pk <= turn.last_pk < min(turn.first_pk + BATCH_MAX_ROWS, PK_MAX + 1):
            raise MessageError(f"a turn asks for the pks {turn.first_pk} to {turn.last_pk}")
        if turn.shard < 0 or not all(0 <= at_ms < TIME_MAX_MS for at_ms in (turn.due_ms, turn.since_ms)):
            raise MessageError(f"a turn is for shard {turn.shard}, due at {turn.due_ms} ms")
        return turn


_TURN = msgspec.json.Decoder(Turn)

IN_FLIGHT_MAX: Final = 1_000_000
"""Calls that one classifier waits for; they are added up over all."""

_VERDICT_SCHEMA = pa.schema(
    [
        pa.field("pk", pa.uint32(), nullable=False),
        pa.field("suspicious", pa.bool_(), nullable=False),
        pa.field("checked_at", pa.uint32(), nullable=False),
        pa.field("took_ms", pa.uint32(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Verdicts on some influencers of one turn, in columns of n rows."""

    turn_id: str
    """The id of the turn they belong to."""
    classifier: str
    """Which process gives them: the same in all that it gives."""
    in_flight: int
    """How many calls that process was waiting for when it gave these."""
    pk: npt.NDArray[np.uint32]
    """(n,), strictly increasing."""
    suspicious: npt.NDArray[np.bool_]
    checked_at: npt.NDArray[np.uint32]
    """(n,), Unix seconds when the verdict came."""
    took_ms: npt.NDArray[np.uint32]
    """(n,), milliseconds that the API took for it."""

    def __len__(self) -> int:
        return len(self.pk)

    def logged_at(self, at_s: int) -> Verdicts:
        """Each of a time that its clock may have shown: not after the log took it (Unix seconds), nor a day before.

        One from the future would keep later ones out, one of the past come too late; both count from when they came.
        """
        possible = (self.checked_at <= at_s) & (self.checked_at.astype(np.int64) > at_s - VERDICT_PAST_MAX_S)
        return replace(self, checked_at=np.where(possible, self.checked_at, np.uint32(at_s)))

    def encode(self) -> bytes:
        """An Arrow IPC stream; the schema's metadata carries what is not a column. About 700 bytes for ten rows."""
        bits = np.packbits(self.suspicious, bitorder="little")
        arrays = _arrays([self.pk, bits, self.checked_at, self.took_ms], _VERDICT_SCHEMA, len(self))
        facts = {"turn": self.turn_id, "classifier": self.classifier, "in_flight": str(self.in_flight)}
        return _write(arrays, _VERDICT_SCHEMA, facts)

    @classmethod
    def decode(cls, data: bytes) -> Verdicts:
        """Raises MessageError when `data` is no sound message of verdicts of a version known here."""
        names = ("turn", "classifier", "in_flight")
        record, facts = _read(data, _VERDICT_SCHEMA, names, "a message of verdicts", "one of verdicts")
        turn_id, classifier, calls = facts
        try:
            in_flight = int(calls)
        except ValueError as error:
            raise MessageError(f"a message of verdicts has {calls[:40]!r} calls in flight") from error
        if not 0 <= in_flight <= IN_FLIGHT_MAX:
            raise MessageError(f"a message of verdicts has {in_flight} calls in flight")
        pk, checked_at, took_ms = (_numpy(record.column(i)) for i in (0, 2, 3))
        if len(pk) and not int(checked_at.min()) > 0:
            raise MessageError("a message of verdicts has times before 1970")
        bits = np.frombuffer(record.column(1).buffers()[1] or b"", np.uint8)
        suspicious = np.unpackbits(bits, count=len(pk), bitorder="little").astype(np.bool_)
        return cls(turn_id, classifier, in_flight, pk, suspicious, checked_at, took_ms)


def _arrays(columns: Sequence[npt.NDArray[Any]], schema: pa.Schema, rows: int) -> list[pa.Array]:
    """Columns as the first fields of a schema, without a copy."""
    # Not pa.array(): its first call imports pandas, a second and 40 MB that a poller has no use for.
    return [
        pa.Array.from_buffers(field.type, rows, [None, pa.py_buffer(np.ascontiguousarray(column))])
        for column, field in zip(columns, schema, strict=False)
    ]


def _write(
    arrays: Sequence[pa.Array],
    schema: pa.Schema,
    facts: Mapping[str, str],
    options: pa.ipc.IpcWriteOptions | None = None,
) -> bytes:
    """An Arrow IPC stream of one record batch; the schema's metadata carries the version and the facts."""
    metadata = {f"tidemark.{name}": value for name, value in {"version": VERSION, **facts}.items()}
    schema = schema.with_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(list(arrays), schema=schema))
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def _read(
    data: bytes, schema: pa.Schema, facts: Sequence[str], what: str, kind: str | None = None
) -> tuple[pa.RecordBatch, list[str]]:
    """What `_write` wrote: whole, of this version and schema, no nulls, its first column strictly increasing.

    `what` names the message in errors, `kind` what a foreign one is not, where that differs. Raises MessageError.
    """
    try:
        with pa.ipc.open_stream(data, options=_READ_OPTIONS) as reader:
            metadata: dict[bytes, bytes] = reader.schema.metadata or {}
            version = metadata.get(b"tidemark.version", b"none").decode(errors="replace")
            if version != VERSION:
                raise MessageError(f"{what} of version {version}; this Tidemark reads {VERSION}: update it")
            if not reader.schema.remove_metadata().equals(schema):
                raise MessageError(f"{what} has other columns than are known here")
            if (size := _becomes_bytes(data)) > BATCH_MAX_BYTES:
                raise MessageError(f"{what} becomes {size} bytes, more than {BATCH_MAX_BYTES}")
            record = reader.read_next_batch()
            record.validate(full=True)
        told = [metadata[f"tidemark.{name}".encode()].decode() for name in facts]
    except MessageError:
        raise
    except (pa.ArrowException, OSError, StopIteration, KeyError, ValueError, struct.error) as error:
        raise MessageError(f"a message on the log is not {kind or what}: {error}") from error
    if any(column.null_count for column in record.columns):
        raise MessageError(f"{what} has missing values")
    pk = _numpy(record.column(0))
    if len(pk) > BATCH_MAX_ROWS:
        raise MessageError(f"{what} has {len(pk)} rows, more than {BATCH_MAX_ROWS}")
    if len(pk) > 1 and not bool((pk[1:] > pk[:-1]).all()):
        raise MessageError(f"the pks of {what} do not increase")
    return record, told


def _becomes_bytes(data: bytes) -> int:
    """How many bytes the first record batch of an Arrow IPC stream says that it becomes, without making it.

    Arrow takes its word for it, and 45 kB may say gigabytes. A compressed buffer begins with its size, an int64 (-1: it
    is not compressed after all); where the buffers lie stands in the message's flatbuffer:
    https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message
    Raises ArrowException, StopIteration, ValueError or struct.error for what is none.
    """
    reader = pa.ipc.MessageReader.open_stream(data)
    reader.read_next_message()  # the schema
    message = reader.read_next_message()
    if message.type != "record batch":
        raise ValueError(f"a {message.type} where a record batch ought to be")
    head, body = message.metadata.to_pybytes(), message.body or b""

    def follow(at: int) -> int:
        return at + int(struct.unpack_from("<I", head, at)[0])

    def field(table: int, number: int) -> int:
        """Where a field of a table lies; 0 where it is left out."""
        names = table - int(struct.unpack_from("<i", head, table)[0])
        place = 4 + 2 * number
        known = place < struct.unpack_from("<H", head, names)[0]
        at = int(struct.unpack_from("<H", head, names + place)[0]) if known else 0
        return table + at if at else 0

    record = follow(field(follow(0), 2))  # Message.header
    if not field(record, 3):  # RecordBatch.compression
        return len(body)
    buffers = follow(field(record, 2))  # RecordBatch.buffers
    (count,) = struct.unpack_from("<I", head, buffers)
    pairs = struct.iter_unpack("<qq", head[buffers + 4 : buffers + 4 + 16 * count])
    return sum(max(length, struct.unpack_from("<q", body, at)[0]) for at, length in pairs if length)


def _check_lengths(usernames: pa.StringArray) -> None:
    """Raises MessageError where one has no character, or too many."""
    bytes_each = np.diff(np.frombuffer(usernames.buffers()[1] or b"", np.int32)[: len(usernames) + 1])
    # A character has a byte at least, so this mostly shows it; counting them takes three times as long.
    if not len(usernames) or 1 <= bytes_each.min() <= bytes_each.max() <= USERNAME_MAX_CHARACTERS:
        return
    lengths = pc.min_max(pc.utf8_length(usernames)).as_py()
    if not 1 <= lengths["min"] <= lengths["max"] <= USERNAME_MAX_CHARACTERS:
        raise MessageError(f"a batch has usernames of {lengths['min']} to {lengths['max']} characters")


def string_array(texts: Sequence[str]) -> pa.StringArray:
    """An Arrow column of these texts."""
    offsets = np.zeros(len(texts) + 1, np.int32)
    joined = "".join(texts)
    if joined.isascii():
        data = joined.encode()
        np.cumsum(np.fromiter(map(len, texts), np.int32, len(texts)), out=offsets[1:])
    else:
        encoded = [text.encode() for text in texts]
        data = b"".join(encoded)
        np.cumsum(np.fromiter(map(len, encoded), np.int32, len(encoded)), out=offsets[1:])
    return string_column(offsets, data)


def string_column(offsets: npt.NDArray[np.int32], texts: bytes | npt.NDArray[np.uint8]) -> pa.StringArray:
    """An Arrow column of n texts in UTF-8, one after the other, of which `offsets` (n + 1) tells where each begins."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(texts)]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)


def _numpy(array: Any) -> npt.NDArray[Any]:
    column: npt.NDArray[Any] = array.to_numpy(zero_copy_only=True)
    return column
