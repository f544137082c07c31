"""How many batches does the log take, when each is on the disk of two of three servers before it is acknowledged?"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from tidemark import telemetry
from tidemark.bench.spread import NATS_HOSTS, Spread, spread
from tidemark.bench.target import POPULATION
from tidemark.config import Settings, load
from tidemark.errors import LogError, TidemarkError
from tidemark.log.client import connect
from tidemark.messages import Batch, string_array
from tidemark.population import SHARD_SIZE_PKS

AT_ONCE: Final = (1, 16, 256)
"""Batches under way: as of one poller that works on one tick, on all of its sixteen, and of sixteen such pollers."""
START_SECONDS: Final = 60.0


def measure(seconds: float) -> dict[str, Any]:
    """Batches a second and CPU microseconds of the servers, by how many are under way, in a cluster of three."""
    report: dict[str, Any] = {"rowsOfABatch": SHARD_SIZE_PKS}
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder, spread(Path(folder)) as fleet:
        fleet.start_nats()
        settings = load(nats=fleet.nats_urls, replicas=len(NATS_HOSTS), log_level="error")
        telemetry.configure_logging(settings, "bench")
        for at_once in AT_ONCE:
            report[f"atOnce{at_once}"] = asyncio.run(_run(settings, fleet, at_once, seconds))
    return report


async def _run(settings: Settings, fleet: Spread, at_once: int, seconds: float) -> dict[str, float]:
    async with connect(settings, "bench") as log:
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            try:
                await log.open()
                break
            except LogError:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(0.5)
        batches = [_batch(shard) for shard in range(POPULATION.shards)]
        published = 0
        usage, began = fleet.usage(), time.monotonic()

        async def publish(first: int) -> None:
            nonlocal published
            number = first
            while time.monotonic() - began < seconds:
                shard = number % POPULATION.shards
                await log.publish_batch(shard, replace(batches[shard], tick_id=f"{at_once} {number}"))
                published += 1
                number += at_once

        async with asyncio.TaskGroup() as group:
            for first in range(at_once):
                group.create_task(publish(first))
        took_s, after = time.monotonic() - began, fleet.usage()
    if not published:
        raise TidemarkError("the log took nothing")
    cores = after.cores_since(usage)["nats"]
    return {
        "batchesPerSecond": published / took_s,
        "observationsPerSecond": published * SHARD_SIZE_PKS / took_s,
        "natsCpuMicrosecondsPerObservation": cores * took_s / (published * SHARD_SIZE_PKS) * 1e6,
    }


def _batch(shard: int) -> Batch:
    random = np.random.default_rng(shard)
    first, last = POPULATION.shard_range(shard)
    pk = np.arange(first, last + 1, dtype=np.uint32)
    followers, followings = (random.integers(0, top, len(pk)).astype(np.uint32) for top in (1_000_000, 5_000))
    at = np.full(len(pk), time.time_ns() // 1_000_000, np.int64)
    return Batch("", pk, at, followers, followings, string_array([f"influencer-{number}" for number in pk]))
