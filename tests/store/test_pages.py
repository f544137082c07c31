"""Everything is read once, in order, whatever the length of a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tidemark.errors import StoreError, StoreInUseError
from tidemark.store.clickhouse import Store
from tidemark.store.pages import Pages
from tidemark.store.retention import FOREVER, Retention

from .conftest import DAY_S, MONDAY_S, History

MEMORY_BYTES = 500_000_000


def read(path: Path, pk: int | None, from_s: int, to_s: int, page_rows: int) -> list[tuple[int, ...]]:
    pages = Pages(f"chdb://{path}", pk, from_s, to_s, memory_bytes=MEMORY_BYTES, page_rows=page_rows)
    try:
        tables = list(pages)
    finally:
        pages.close()
    assert all(0 < table.num_rows <= page_rows for table in tables)
    rows: list[tuple[int, ...]] = []
    for table in tables:
        rows += zip(*(column.to_pylist() for column in table.columns), strict=True)
    return rows


def test_all_rows_once_in_the_order_of_pk_and_time(tmp_path: Path, history: History) -> None:
    folder = tmp_path / "store"
    store = Store.open(f"chdb://{folder}", retention=Retention(FOREVER, FOREVER, FOREVER))
    for day in range(3):  # parts that lie beside and over one another
        at = MONDAY_S + day * DAY_S + np.arange(0, DAY_S, 7_000)
        store.insert_observations(*history.add(np.arange(5, 10)[:, None], at))
        store.insert_observations(*history.add(np.arange(7, 12)[:, None], at + 1))
    with pytest.raises(StoreInUseError, match="in use by process"):
        Pages(f"chdb://{folder}", None, 0, 1, memory_bytes=MEMORY_BYTES)
    store.close()
    everything = sorted(
        zip(
            history.pk.tolist(),
            history.at.tolist(),
            history.followers.tolist(),
            history.followings.tolist(),
            strict=True,
        )
    )
    for page_rows in (1_000, len(everything), 50):
        assert read(folder, None, 0, 2**32 - 1, page_rows) == everything
    from_s, to_s = MONDAY_S + 7_000, MONDAY_S + DAY_S + 7_001
    some = [row for row in everything if row[0] == 8 and from_s <= row[1] < to_s]
    for page_rows in (7, len(some)):
        assert read(folder, 8, from_s, to_s, page_rows) == some
    assert read(folder, 99, 0, 2**32 - 1, 7) == []


def test_what_is_no_store_is_told_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        Pages(f"chdb://{tmp_path}/none", None, 0, 1, memory_bytes=MEMORY_BYTES)
    assert list(tmp_path.iterdir()) == []


def test_the_retention_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    Store.open(f"chdb://{folder}", retention=Retention(77, 400, 3_650)).close()
    assert read(folder, None, 0, 2**32 - 1, 7) == []
    store = Store.open(f"chdb://{folder}", retention=Retention(77, 400, 3_650))
    definition: pa.Table = store._maintenance.ask("SHOW CREATE TABLE observations")
    assert "toIntervalDay(77)" in definition[0][0].as_py()
    store.close()
