from __future__ import annotations

import numpy as np
import pytest

from tidemark.store.clickhouse import Store
from tidemark.store.native import encode_block


def test_a_block_byte_by_byte() -> None:
    block = encode_block(
        {"pk": ("UInt32", np.array([1, 258], np.uint32)), "x": ("UInt8", np.array([7, 8], np.uint8))}
    )
    assert block == b"\x02\x02\x02pk\x06UInt32\x01\0\0\0\x02\x01\0\0\x01x\x05UInt8\x07\x08"


def test_more_rows_than_fit_one_byte() -> None:
    assert encode_block({"a": ("UInt8", np.zeros(300, np.uint8))}).startswith(b"\x01\xac\x02\x01a")


def test_values_that_are_not_contiguous() -> None:
    every_other = np.arange(6, dtype=np.uint32)[::2]
    assert encode_block({"a": ("UInt32", every_other)}).endswith(b"\0\0\0\0\x02\0\0\0\x04\0\0\0")


def test_what_would_be_misread_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be written as UInt32"):
        encode_block({"a": ("UInt32", np.zeros(3, np.int64))})
    with pytest.raises(ValueError, match="make no block"):
        encode_block({"a": ("UInt8", np.zeros(3, np.uint8)), "b": ("UInt8", np.zeros(2, np.uint8))})


def test_clickhouse_reads_the_ends_of_the_range(store: Store) -> None:
    ends = np.array([0, 2**32 - 1], np.uint32)
    at = np.array([1, 2**32 - 1], np.uint32)
    store.insert_observations(ends, at, ends, ends[::-1])
    found = store.load_newer_than(0)
    assert found.to_pydict() == {
        "pk": ends.tolist(),
        "observed_at": at.tolist(),
        "follower_count": ends.tolist(),
        "following_count": ends[::-1].tolist(),
    }
