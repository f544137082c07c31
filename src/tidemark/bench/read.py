"""How fast are the readers answered while a million influencers are written every minute?"""

from __future__ import annotations

import statistics
import time
import urllib.request
from collections.abc import Callable
from typing import Any, Final

from tidemark.bench.fleet import fleet
from tidemark.bench.target import wrk

LATEST_CONNECTIONS: Final = 8
SERIES_CONNECTIONS: Final = 2
PACED_RATE: Final = 200
"""Requests a second at which the latency is told: what 10,000 readers an hour make in a minute, and more."""

_LATEST: Final = """
math.randomseed(1)
request = function() return wrk.format("GET", "/v1/influencers/" .. math.random({first}, {last})) end
"""
_SERIES: Final = """
math.randomseed(2)
request = function() return wrk.format("GET", "/v1/influencers/" .. math.random({first}, {last}) .. "/series?step=raw&from={since}") end
"""


def measure(seconds: float, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """A million influencers by the minute with the stand-in; then latest values and a day's raw series.

    Throughput and quantiles are wrk's, with as many connections as are named in the report, over random pks.
    """
    with fleet("--interval", "60") as up:
        say("warming up: the first minute observes everybody once")
        time.sleep(75)
        latest, series, paced = [], [], []
        for _ in range(rounds):
            latest.append(
                wrk(up.url, seconds, LATEST_CONNECTIONS, "/", _LATEST.format(first=1_000_000, last=1_999_999))
            )
            script = _SERIES.format(first=1_000_000, last=1_999_999, since=int(time.time()) - 86_400)
            series.append(wrk(up.url, seconds, SERIES_CONNECTIONS, "/", script))
            paced.append(_paced(up.url, seconds))
        stats = up.stats()
        return {
            "observationsPerSecond": stats["observationsPerSecond"],
            "rows": stats["observationsTotal"],
            "latest": {
                "connections": LATEST_CONNECTIONS,
                "perSecond": statistics.median(run.per_second for run in latest),
                "p50Ms": statistics.median(run.p50_ms for run in latest),
                "p99Ms": statistics.median(run.p99_ms for run in latest),
            },
            "latestPaced": {
                "perSecond": PACED_RATE,
                "p50Ms": statistics.median(run[0] for run in paced),
                "p99Ms": statistics.median(run[1] for run in paced),
            },
            "series": {
                "connections": SERIES_CONNECTIONS,
                "perSecond": statistics.median(run.per_second for run in series),
                "p50Ms": statistics.median(run.p50_ms for run in series),
                "p99Ms": statistics.median(run.p99_ms for run in series),
            },
        }


def _paced(url: str, seconds: float) -> tuple[float, float]:
    """p50 and p99 in milliseconds of latest values at a steady rate, counted from when each was due."""
    waits = []
    start = time.monotonic()
    for i in range(int(seconds * PACED_RATE)):
        due = start + i / PACED_RATE
        time.sleep(max(0.0, due - time.monotonic()))
        with urllib.request.urlopen(
            f"{url}/v1/influencers/{1_000_000 + i * 7919 % 1_000_000}", timeout=10
        ) as answer:
            answer.read()
        waits.append((time.monotonic() - due) * 1_000)
    ordered = sorted(waits)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
