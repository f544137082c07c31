"""How fast are the readers answered while a million influencers are written every minute?"""

from __future__ import annotations

import http.client
import statistics
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from tidemark.bench.fleet import fleet
from tidemark.bench.storage import FIRST_PK, write_history
from tidemark.bench.target import Wrk, wrk
from tidemark.store.clickhouse import Store

LATEST_CONNECTIONS: Final = 8
SERIES_CONNECTIONS: Final = 2
LATEST_RATE: Final = 200
SERIES_RATE: Final = 20
"""Requests a second at which the latency is told: 10,000 readers an hour are 3 a second, a chart or a few each."""

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
        latest, latest_paced, series, series_paced = [], [], [], []
        last = FIRST_PK + HISTORY_PKS - 1
        for _ in range(rounds):
            script = _LATEST.format(first=FIRST_PK, last=1_999_999)
            latest.append(wrk(up.url, seconds, LATEST_CONNECTIONS, "/", script))
            latest_paced.append(_paced(up.url, LATEST_RATE, seconds, _latest_path))
            since_s = int(time.time()) - 86_400
            script = _SERIES.format(first=FIRST_PK, last=last, since=since_s)
            series.append(wrk(up.url, seconds, SERIES_CONNECTIONS, "/", script))
            series_paced.append(_paced(up.url, SERIES_RATE, seconds, partial(_series_path, since_s)))
        stats = up.stats()
        return {
            "observationsPerSecond": stats["observationsPerSecond"],
            "rows": stats["observationsTotal"],
            "latest": {"connections": LATEST_CONNECTIONS} | _medians(latest),
            "latestPaced": _medians(latest_paced),
            "series": {"connections": SERIES_CONNECTIONS} | _medians(series),
            "seriesPaced": _medians(series_paced),
        }


def _latest_path(i: int) -> str:
    return f"/v1/influencers/{FIRST_PK + i * 7919 % 1_000_000}"


def _series_path(since_s: int, i: int) -> str:
    return f"/v1/influencers/{FIRST_PK + i * 7919 % HISTORY_PKS}/series?step=raw&from={since_s}"


def _paced(url: str, rate: float, seconds: float, path: Callable[[int], str]) -> Wrk:
    """As wrk says it, of reads on one connection, so many a second; latency is counted from when each was due."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    waits = []
    start = time.monotonic()
    for i in range(int(seconds * rate)):
        due = start + i / rate
        time.sleep(max(0.0, due - time.monotonic()))
        connection.request("GET", path(i))
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path(i)} was answered with {answer.status}")
        waits.append((time.monotonic() - due) * 1_000)
    connection.close()
    waits.sort()
    return Wrk(rate, statistics.median(waits), waits[int(len(waits) * 0.99)])


def _medians(runs: list[Wrk]) -> dict[str, float]:
    return {
        "perSecond": statistics.median(run.per_second for run in runs),
        "p50Ms": statistics.median(run.p50_ms for run in runs),
        "p99Ms": statistics.median(run.p99_ms for run in runs),
    }
