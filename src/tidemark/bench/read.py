"""How fast are the readers answered while a million influencers are written every minute?"""

from __future__ import annotations

import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tidemark.bench.fleet import fleet
from tidemark.bench.storage import FIRST_PK, write_history
from tidemark.bench.target import wrk
from tidemark.store.clickhouse import Store

LATEST_CONNECTIONS: Final = 8
SERIES_CONNECTIONS: Final = 2
PACED_RATE: Final = 200
"""Requests a second at which the latency is told: what 10,000 readers an hour make in a minute, and more."""

HISTORY_PKS: Final = 20_000
HISTORY_MINUTES: Final = 1_440
"""Who has a day of history before the benchmark begins: 28.8M rows."""

_LATEST: Final = """
math.randomseed(1)
request = function() return wrk.format("GET", "/v1/influencers/" .. math.random({first}, {last})) end
"""
_SERIES: Final = """
math.randomseed(2)
request = function()
  return wrk.format("GET", "/v1/influencers/" .. math.random({first}, {last}) .. "/series?step=raw&from={since}")
end
"""


def measure(seconds: float, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """A million influencers by the minute with the stand-in; then latest values, and a day's raw series.

    20,000 of them have a day of history, 1,440 observations each, and their series are what is read. Throughput and
    quantiles are wrk's, with as many connections as are named in the report, over random pks.
    """
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        say("writing a day of history for 20,000 influencers")
        now_s = int(time.time()) // 60 * 60
        store = Store.open(f"chdb://{folder}/store")
        write_history(store, HISTORY_PKS, HISTORY_MINUTES, now_s - HISTORY_MINUTES * 60)
        store.close()
        return _read(Path(folder), seconds, rounds, say)


def _read(data: Path, seconds: float, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    with fleet("--interval", "60", data=data) as up:
        say("warming up: the first minute observes everybody once, and yesterday's hours are closed")
        time.sleep(90)
        latest, series, paced = [], [], []
        for _ in range(rounds):
            script = _LATEST.format(first=FIRST_PK, last=1_999_999)
            latest.append(wrk(up.url, seconds, LATEST_CONNECTIONS, "/", script))
            since_s, last = int(time.time()) - 86_400, FIRST_PK + HISTORY_PKS - 1
            script = _SERIES.format(first=FIRST_PK, last=last, since=since_s)
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
