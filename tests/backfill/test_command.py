"""`tidemark backfill` on a store that is in use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tidemark.backfill import command
from tidemark.config import load
from tidemark.errors import StoreError
from tidemark.store.clickhouse import Store
from tidemark.store.retention import Retention


def test_a_store_in_use_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    address, one = f"chdb://{tmp_path}/store", np.ones(1, np.uint32)
    store = Store.open(address, retention=Retention(77, 400, 3_650))
    store.insert_observations(one, one * 1_790_000_000, one, one)
    store.close()
    with pytest.raises(StoreError, match="has observations already"):
        command.run(load(store=address, influencers="1-9"), days=0.01, seed=1)
    store = Store.open(address, retain=False)
    definitions = store.query("table_definitions")
    store.close()
    kept = dict(zip(definitions["name"].to_pylist(), definitions["definition"].to_pylist(), strict=True))
    assert "toIntervalDay(77)" in kept["observations"]
