"""What do earlier merges cost, and how many parts do they leave? The schema's rule beside ClickHouse's own.

The sink inserts a block a second, each a part; ClickHouse merges parts in the background, and a series looks
into every part that is left: how long that takes while a million are polled, `tidemark bench read` says.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any, Final

import numpy as np

from tidemark.bench.storage import FIRST_PK, FOLLOWERS, FOLLOWINGS
from tidemark.errors import CallerError
from tidemark.store.clickhouse import Store

BLOCKS_BY_MINUTE: Final = 60
BLOCK_ROWS: Final = 16_667
"""A second's observations of a million influencers by the minute."""
BLOCKS_BY_SECOND: Final = 10
"""Ten times as fast as the sink, so that the parts of a quarter of an hour are there sooner."""
LOOK_BLOCKS: Final = 5
"""After so many blocks the parts are counted."""
SETTLE_BLOCKS: Final = 100
"""Before that there are hardly parts to merge."""


def measure(blocks: int, rounds: int) -> dict[str, Any]:
    """Insert `blocks` of 16,667 observations each into a fresh store, by each rule in turn; medians of the rounds.

    Rows merged for each that was inserted, CPU of inserting and merging (microseconds an observation), parts. Raises
    CallerError for too few blocks.
    """
    if blocks < 2 * SETTLE_BLOCKS:
        raise CallerError(
            f"--blocks {blocks} are too few for merges to be seen: give {2 * SETTLE_BLOCKS} or more"
        )
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "clickhouseDefault": []}
    for _ in range(rounds):
        for rule, found in runs.items():
            found.append(_run(blocks, rule))
    return {"observations": blocks * BLOCK_ROWS} | {
        rule: {name: statistics.median(run[name] for run in found) for name in found[0]}
        for rule, found in runs.items()
    }


def _run(blocks: int, rule: str) -> dict[str, float]:
    rng = np.random.default_rng(1)
    parts = []
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        store = Store.open(f"chdb://{folder}/store")
        try:
            if rule == "clickhouseDefault":
                store.execute("merge_by_default")
            first_s = int(time.time()) // 86_400 * 86_400
            merged = store.merged_rows()
            used_s, began = time.process_time(), time.monotonic()
            for block in range(blocks):
                pk = FIRST_PK + block % BLOCKS_BY_MINUTE * BLOCK_ROWS + np.arange(BLOCK_ROWS, dtype=np.uint32)
                store.insert_observations(
                    pk,
                    np.full(BLOCK_ROWS, first_s + block, np.uint32),
                    rng.integers(FOLLOWERS.floor, 2 * FOLLOWERS.start, BLOCK_ROWS, np.uint32),
                    rng.integers(FOLLOWINGS.floor, 2 * FOLLOWINGS.start, BLOCK_ROWS, np.uint32),
                )
                if block >= SETTLE_BLOCKS and block % LOOK_BLOCKS == 0:
                    parts.append(store.sizes()["observations"].parts)
                time.sleep(max(0.0, began + (block + 1) / BLOCKS_BY_SECOND - time.monotonic()))
            rows = blocks * BLOCK_ROWS
            return {
                "mergedByInserted": (store.merged_rows() - merged) / rows,
                "cpuMicrosecondsByObservation": (time.process_time() - used_s) / rows * 1e6,
                "partsMean": statistics.mean(parts),
                "partsMax": max(parts),
            }
        finally:
            store.close()
