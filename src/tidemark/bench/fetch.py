"""How fast is the poller's client alone, beside wrk against the same server?"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from typing import Any, Final

import uvloop

from tidemark.bench.target import CONNECTIONS, POPULATION, ratios_to_wrk, target, wrk_per_second
from tidemark.config import load
from tidemark.poll.pool import Pool
from tidemark.process import GC_THRESHOLDS

PIPELINES: Final = (1, 8)
SHARDS: Final = POPULATION.size // POPULATION.shard_size
"""The whole ones."""
SHARDS_AT_ONCE: Final = 3


def measure(seconds: float, rounds: int, kind: str) -> dict[str, Any]:
    """wrk and the client in alternation, medians over the rounds; the client also with 8 requests pipelined.

    Both have 64 connections at most to the same server; wrk has one request in flight on each, and the ratios are
    against that. The client checks each answer, and makes and encodes batches: everything but publishing them.
    """
    wrk_rates: list[float] = []
    runs: dict[int, list[dict[str, float]]] = {pipeline: [] for pipeline in PIPELINES}
    with target(kind) as api:
        for _ in range(rounds):
            wrk_rates.append(wrk_per_second(api.url, seconds))
            for pipeline in PIPELINES:
                runs[pipeline].append(_client_process(api.url, pipeline, seconds))
    report: dict[str, Any] = {
        "target": api.kind,
        "rounds": rounds,
        "wrkPerSecond": statistics.median(wrk_rates),
    }
    for pipeline, results in runs.items():
        rates = [result["perSecond"] for result in results]
        report[f"pipeline{pipeline}"] = {
            "perSecond": statistics.median(rates),
            **ratios_to_wrk(rates, wrk_rates),
            "cpuMicrosecondsPerObservation": statistics.median(result["cpuUs"] for result in results),
        }
    return report


def _client_process(url: str, pipeline: int, seconds: float) -> dict[str, float]:
    """The client in a process of its own, so that its CPU time is its own."""
    command = [sys.executable, "-m", "tidemark.bench.fetch", url, str(pipeline), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


async def _client(url: str, pipeline: int, seconds: float) -> dict[str, float]:
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    pool = Pool(load(api=(url,), pipeline=pipeline, max_in_flight=CONNECTIONS * pipeline))
    refused: Counter[str] = Counter()
    observations = 0
    shard = 0

    async def work(until: float) -> None:
        nonlocal observations, shard
        while time.monotonic() < until:
            (first_pk, _), shard = POPULATION.shard_range(shard), (shard + 1) % SHARDS
            with pool.begin(first_pk, POPULATION.shard_size) as round_:
                pool.ask(round_, range(POPULATION.shard_size))
                await round_.done
                refused.update(round_.refused())
                batch = round_.batch("bench")
            batch.encode()
            observations += len(batch)

    async def timed(seconds: float) -> tuple[float, float]:
        start, cpu = time.monotonic(), _cpu_s()
        await asyncio.gather(*(work(start + seconds) for _ in range(SHARDS_AT_ONCE)))
        return time.monotonic() - start, _cpu_s() - cpu

    await timed(0.5)  # connections opened, code warm
    observations = 0
    wall_s, cpu_s = await timed(seconds)
    await pool.close()
    if refused:
        raise RuntimeError(f"the target refused: {dict(refused)}")
    return {"perSecond": observations / wall_s, "cpuUs": cpu_s / observations * 1e6}


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_client(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
