"""How large is a batch on the log, and what does it cost to write and read, in one encoding and another?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from tidemark.messages import Batch, string_array
from tidemark.population import SHARD_SIZE_PKS

ROWS: Final = SHARD_SIZE_PKS
ROUNDS: Final = 200


def measure() -> dict[str, Any]:
    """One batch of a shard as it comes, in four encodings: bytes and microseconds an observation."""
    batch = _batch()
    record = _record(batch)
    rows = [
        dict(zip(("pk", "observedAt", "followers", "followings", "username"), row, strict=True))
        for row in zip(*(column.to_pylist() for column in record.columns), strict=True)
    ]
    columns = [column.to_pylist() for column in record.columns]
    encodings: dict[str, tuple[Callable[[], bytes], Callable[[bytes], object]]] = {
        "arrowZstd (used)": (batch.encode, Batch.decode),
        "arrowPlain": (lambda: _plain(record), _read_plain),
        "jsonRows": (lambda: msgspec.json.encode(rows), msgspec.json.decode),
        "msgpackColumns": (lambda: msgspec.msgpack.encode(columns), msgspec.msgpack.decode),
    }
    report = {}
    for name, (encode, decode) in encodings.items():
        data = encode()
        report[name] = {
            "bytesPerObservation": len(data) / ROWS,
            "encodeMicroseconds": _each_us(encode),
            "decodeMicroseconds": _each_us(lambda data=data, decode=decode: decode(data)),  # type: ignore[misc]
        }
    return report


def _batch() -> Batch:
    rng = np.random.default_rng(1)
    pk = np.arange(1_000_000, 1_000_000 + ROWS, dtype=np.uint32)
    return Batch(
        tick_id=f"{pk[0]}-{pk[-1]}@1700000000000",
        pk=pk,
        observed_at_ms=1_700_000_000_000 + np.sort(rng.integers(0, 15, ROWS)).astype(np.int64),
        follower_count=np.maximum(5_000, rng.normal(100_000, 30_000, ROWS)).astype(np.uint32),
        following_count=np.maximum(50, rng.normal(1_000, 300, ROWS)).astype(np.uint32),
        username=string_array([f"influencer-{number}" for number in pk]),
    )


def _record(batch: Batch) -> pa.RecordBatch:
    columns = [batch.pk, batch.observed_at_ms, batch.follower_count, batch.following_count, batch.username]
    return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names=list("abcde"))


def _plain(record: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, record.schema) as writer:
        writer.write_batch(record)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read_plain(data: bytes) -> object:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_next_batch()


def _each_us(work: Callable[[], object]) -> float:
    """Microseconds an observation, the best of three times ROUNDS: all else only slows it down."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(ROUNDS):
            work()
        best = min(best, time.perf_counter() - start)
    return best / ROUNDS / ROWS * 1e6
