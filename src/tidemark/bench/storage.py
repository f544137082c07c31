"""How many bytes does an observation take on disk, and how far is that from what it could?

Writes a random walk through the real store, merges it as the store would in time, and reads the sizes
from ClickHouse. Beside each column stands the entropy of its differences within an influencer, which no
codec that treats differences as independent can beat: for the counters they are, by construction.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from tidemark.population import SHARD_SIZE_PKS, Population
from tidemark.store.clickhouse import Store
from tidemark.store.periods import RolledStep
from tidemark.store.retention import FOREVER, Retention
from tidemark.store.rollups import Rollups, Run

FIRST_PK: Final = 1_000_000
MINUTE_S: Final = 60
DAY_S: Final = 86_400
BLOCK_ROWS: Final = 400_000
"""Rows of an insert: merged they lie as those of smaller ones would."""
PHASE_MS: Final = 37_083
"""Between the phases of two shards: the golden section of a minute, so that few are spread like many."""
SPREAD_MS: Final = 300
"""Within how long the requests of a batch are sent, in the order of their pks."""
START_MS: Final = 50
LATENCY_MS: Final = 30
"""Means of when a batch is begun, and of a request: both exponential."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A counter that steps at random, as the API's do."""

    start: int
    step: int
    floor: int


FOLLOWERS: Final = Walk(100_000, 10_000, 5_000)
FOLLOWINGS: Final = Walk(1_000, 100, 50)


def measure(influencers: int, minutes: int) -> dict[str, float]:
    """Bytes an observation by column, merged, with the entropy of what was written; and bytes of the rollups.

    `...Bytes` are compressed bytes on disk of a column by observation, `...Entropy` the entropy in bytes of
    that column's differences. Rollups are by observation that they roll up (`...ByObservation`) and by row.
    Takes a folder of about 4 bytes an observation in the system's folder for temporary files.
    """
    population = Population(FIRST_PK, FIRST_PK + influencers - 1)
    start_s = int(time.time()) // DAY_S * DAY_S - (minutes * MINUTE_S // DAY_S + 2) * DAY_S
    written = {name: Differences() for name in ("observed_at", "follower_count", "following_count")}
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        store = Store.open(f"chdb://{folder}/store", retention=Retention(FOREVER, FOREVER, FOREVER))
        try:
            began_s, used_s = time.perf_counter(), time.process_time()
            inserting_s = _write(store, influencers, minutes, start_s, written)
            report = {
                "observations": float(store.row_count()),
                "insertMicrosecondsByObservation": inserting_s / (influencers * minutes) * 1e6,
            }
            store.execute("widen", {"table": "observations"})
            store.execute("merge", {"table": "observations"})
            report |= _columns(store, written)
            work = Rollups(store, population, grace_s=0)
            rolling_s = time.process_time()
            while work.run() != Run():
                pass
            rolling_s = time.process_time() - rolling_s
            report |= _rollups(store, influencers, start_s, rolling_s)
            report["cpuSeconds"] = time.process_time() - used_s
            report["seconds"] = time.perf_counter() - began_s
            return report
        finally:
            store.close()


@dataclass(slots=True)
class Differences:
    """How often each difference between an influencer's consecutive values came."""

    last: npt.NDArray[np.int64] | None = None
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, values: npt.NDArray[np.int64]) -> None:
        """The next value of everybody, (influencers,)."""
        if self.last is not None:
            steps, times = np.unique(values - self.last, return_counts=True)
            for step, count in zip(steps.tolist(), times.tolist(), strict=True):
                self.counts[step] = self.counts.get(step, 0) + count
        self.last = values

    def entropy_bytes(self) -> float:
        """Of one difference (Shannon, from the frequencies); 0 when there is none."""
        if not self.counts:
            return 0.0
        shares = np.array(list(self.counts.values())) / sum(self.counts.values())
        return float(-(shares * np.log2(shares)).sum() / 8) + 0.0


def write_history(store: Store, influencers: int, minutes: int, start_s: int) -> None:
    """Insert so many minutes of a random walk of the pks from FIRST_PK on, beginning at `start_s`."""
    _write(store, influencers, minutes, start_s, {})


def _write(
    store: Store, influencers: int, minutes: int, start_s: int, written: dict[str, Differences]
) -> float:
    """Insert the walk; returns the seconds of CPU that the inserts took, merges beside them included."""
    pk = np.arange(FIRST_PK, FIRST_PK + influencers, dtype=np.uint32)
    block: list[list[npt.NDArray[np.int64]]] = []
    used_s = 0.0
    for minute, values in enumerate(_walk(influencers, minutes, start_s), 1):
        for differences, value in zip(written.values(), values, strict=False):
            differences.add(value)
        block.append(values)
        if len(block) * influencers >= BLOCK_ROWS or minute == minutes:
            columns = [np.concatenate(column).astype(np.uint32) for column in zip(*block, strict=True)]
            before_s = time.process_time()
            store.insert_observations(np.tile(pk, len(block)), *columns)
            used_s += time.process_time() - before_s
            block = []
    return used_s


def _walk(influencers: int, minutes: int, start_s: int) -> Iterator[list[npt.NDArray[np.int64]]]:
    """Minute after minute: seconds, followers and followings of everybody, each (influencers,)."""
    rng = np.random.default_rng(1)
    shard, place = np.divmod(np.arange(influencers), SHARD_SIZE_PKS)
    shards = int(shard[-1]) + 1
    phase_ms = shard * PHASE_MS % (MINUTE_S * 1_000) + place * SPREAD_MS // SHARD_SIZE_PKS
    counters = [
        np.maximum(walk.floor, rng.normal(walk.start, 0.3 * walk.start, influencers)).astype(np.int64)
        for walk in (FOLLOWERS, FOLLOWINGS)
    ]
    for minute in range(minutes):
        late_ms = rng.exponential(START_MS, shards)[shard] + rng.exponential(LATENCY_MS, influencers)
        at_ms = (start_s + minute * MINUTE_S) * 1_000 + phase_ms + late_ms.astype(np.int64)
        counters = [
            np.maximum(walk.floor, counter + rng.integers(-walk.step, walk.step + 1, influencers))
            for walk, counter in zip((FOLLOWERS, FOLLOWINGS), counters, strict=True)
        ]
        yield [at_ms // 1_000, *counters]


def _columns(store: Store, written: dict[str, Differences]) -> dict[str, float]:
    size = store.sizes()["observations"]
    entropies = {name: differences.entropy_bytes() for name, differences in written.items()}
    entropy = sum(entropies.values())
    report = {
        "bytesByObservation": size.bytes_per_row,
        "entropyByObservation": entropy,
        "bytesByEntropy": size.bytes_per_row / entropy if entropy else 0.0,
    }
    for name, compressed in store.column_bytes("observations").items():
        report[f"{_camel(name)}Bytes"] = compressed / size.rows
        report[f"{_camel(name)}Entropy"] = entropies.get(name, 0.0)
    return report


def _rollups(store: Store, influencers: int, start_s: int, used_s: float) -> dict[str, float]:
    report = {}
    tables: dict[RolledStep, str] = {"1h": "hourly_rollups", "1d": "daily_rollups"}
    for step, table in tables.items():
        closed_s = store.periods.closed_until_s(step) - start_s
        if closed_s <= 0:
            continue
        store.execute("merge", {"table": table})
        size = store.sizes()[table]
        name = _camel(table.removesuffix("_rollups"))
        report[f"{name}BytesByObservation"] = size.bytes / (influencers * closed_s / MINUTE_S)
        report[f"{name}BytesByRow"] = size.bytes_per_row
        if step == "1h":
            report["rollupMicrosecondsByObservation"] = used_s / (influencers * closed_s / MINUTE_S) * 1e6
    return report


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
