"""Does it keep its promise for long: everybody, every minute, on a small machine?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from tidemark.bench.fleet import fleet, quantile, since

HISTOGRAM: Final = "tidemark_readable_seconds"
NOT_OURS: Final = ("simulate",)
"""The stand-in is the API, not Tidemark."""


def measure(minutes: int, influencers: str, pipeline: int, say: Callable[[str], None]) -> dict[str, Any]:
    """`tidemark up --interval 60` with the stand-in: one interval to warm up, then so many minutes.

    Coverage and freshness are asked for each second, the worst of each minute is told. CPU and memory are of
    all of Tidemark's processes and its NATS, without the stand-in.
    """
    with fleet("--influencers", influencers, "--interval", "60", "--pipeline", str(pipeline)) as up:
        say("warming up: the first minute observes everybody once")
        time.sleep(75)
        buckets, first = up.histogram(HISTOGRAM), up.usage()
        before, rows = first, up.stats()["observationsTotal"]
        by_minute = []
        for minute in range(1, minutes + 1):
            samples = []
            end = time.monotonic() + 60
            while time.monotonic() < end:
                samples.append(up.stats())
                time.sleep(1)
            usage, rows_now = up.usage(), up.stats()["observationsTotal"]
            cores = usage.cores_since(before)
            row = {
                "minute": minute,
                "coverage": min(sample["coverage"] for sample in samples),
                "freshnessP99": max(sample["freshnessSeconds"]["p99"] for sample in samples),
                "observationsPerSecond": (rows_now - rows) / (usage.at - before.at),
                "cores": sum(core for role, core in cores.items() if role not in NOT_OURS),
                "rssBytes": sum(rss for role, rss in usage.rss_bytes.items() if role not in NOT_OURS),
            }
            by_minute.append(row)
            say(f"minute {minute}: coverage {row['coverage']:.4f}, {row['cores']:.3f} cores")
            before, rows = usage, rows_now
        readable = since(up.histogram(HISTOGRAM), buckets)
        cores = before.cores_since(first)
        return {
            "influencers": influencers,
            "pipeline": pipeline,
            "minutes": by_minute,
            "coverageMin": min(row["coverage"] for row in by_minute),
            "freshnessP99Max": max(row["freshnessP99"] for row in by_minute),
            "readableSecondsP99AtMost": quantile(readable, 0.99),
            "coresByRole": {role: core for role, core in cores.items() if role not in NOT_OURS},
            "cores": sum(core for role, core in cores.items() if role not in NOT_OURS),
            "rssBytesMax": max(row["rssBytes"] for row in by_minute),
        }
