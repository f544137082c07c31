"""What can this machine do at all? Without this, an absolute figure of another benchmark says little.

Two cores of a machine in a cloud may be two threads of one, and what its neighbours do makes it twice as fast in one
second as in the next: a second of CPU that a benchmark counts is worth as much less.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Final

from tidemark.bench.target import target, wrk_per_second

ROUNDS: Final = 7
TURN_S: Final = 0.5
"""How long each process counts."""
TOGETHER_S: Final = 0.2
"""They begin together, so long from now: each has its order by then."""
TURN_DEADLINE_S: Final = 30
"""A process that says nothing for so long has died or starves."""
WRK_SECONDS: Final = 3


def measure(kind: str) -> dict[str, Any]:
    """A loop of Python on one core, then on all at once, in alternation; and wrk, beside the server that it asks."""
    cores = len(os.sched_getaffinity(0))
    alone, together, wrk_rates = [], [], []
    with ProcessPoolExecutor(cores, get_context("spawn")) as processes, target(kind) as api:
        _turns(processes, cores)  # the first order starts a process
        for _ in range(ROUNDS):
            alone.append(_turns(processes, 1))
            together.append(_turns(processes, cores))
            wrk_rates.append(wrk_per_second(api.url, WRK_SECONDS))
    shares = [every / one for every, one in zip(together, alone, strict=True)]
    return {
        "cores": cores,
        "loopNanoseconds": 1e9 / statistics.median(alone),
        "loopNanosecondsMin": 1e9 / max(alone),
        "loopNanosecondsMax": 1e9 / min(alone),
        "coreShareWhenAllAreBusy": statistics.median(shares),
        "coreShareMin": min(shares),
        "coreShareMax": max(shares),
        "target": api.kind,
        "wrkPerSecond": statistics.median(wrk_rates),
        "wrkMin": min(wrk_rates),
        "wrkMax": max(wrk_rates),
    }


def _turns(processes: ProcessPoolExecutor, count: int) -> float:
    """Steps of the loop a second and process, so many processes at a time."""
    begin_at = time.monotonic() + TOGETHER_S
    turns = [processes.submit(_count, begin_at) for _ in range(count)]
    return statistics.mean(turn.result(TURN_DEADLINE_S) for turn in turns)


def _count(begin_at: float) -> float:
    """Steps of a loop a second, counted for TURN_S from this time of the monotonic clock on."""
    time.sleep(max(0.0, begin_at - time.monotonic()))
    steps, start = 0, time.monotonic()
    while time.monotonic() < start + TURN_S:
        for _ in range(1_000):
            steps += 1
    return steps / (time.monotonic() - start)
