"""How fast does the whole pipeline go, from the API to a row in the store and on the board, beside wrk?"""

from __future__ import annotations

import statistics
import time
from typing import Any, Final

from tidemark.bench.fetch import PIPELINES
from tidemark.bench.fleet import fleet
from tidemark.bench.target import ratios_to_wrk, target, wrk_per_second

WARM_UP_SECONDS_MAX: Final = 120.0
"""Until everybody was observed once: until then each name is new, which costs more than a later round."""


def measure(seconds: float, rounds: int, kind: str, pollers: int) -> dict[str, Any]:
    """wrk and `tidemark up --interval 0` in alternation against the same server, medians over the rounds.

    Observations a second are rows that the store has more at the end than at the beginning of each run, so
    polling, the log with its fsyncs, inserts, merges and the board are all in it. Everything shares the machine.
    """
    wrk_rates: list[float] = []
    runs: dict[int, list[dict[str, Any]]] = {pipeline: [] for pipeline in PIPELINES}
    with target(kind) as api:
        for _ in range(rounds):
            wrk_rates.append(wrk_per_second(api.url, min(seconds, 5)))
            for pipeline in PIPELINES:
                runs[pipeline].append(_run(api.url, pipeline, seconds, pollers))
    report: dict[str, Any] = {
        "target": api.kind,
        "rounds": rounds,
        "pollers": pollers,
        "wrkPerSecond": statistics.median(wrk_rates),
    }
    for pipeline, results in runs.items():
        rates = [result["perSecond"] for result in results]
        report[f"pipeline{pipeline}"] = {
            "observationsPerSecond": statistics.median(rates),
            **ratios_to_wrk(rates, wrk_rates),
            "cpuMicrosecondsPerObservation": {
                role: statistics.median(result["cpuUs"].get(role, 0.0) for result in results)
                for role in results[0]["cpuUs"]
            },
        }
    return report


def _run(api: str, pipeline: int, seconds: float, pollers: int) -> dict[str, Any]:
    flags = ("--api", api, "--interval", "0", "--pipeline", str(pipeline), "--pollers", str(pollers))
    with fleet(*flags) as up:
        give_up_at = time.monotonic() + WARM_UP_SECONDS_MAX
        while (stats := up.stats())["observed"] < stats["influencers"] and time.monotonic() < give_up_at:
            time.sleep(1)
        time.sleep(5)
        rows, usage = up.stats()["observationsTotal"], up.usage()
        time.sleep(seconds)
        rows_after, usage_after = up.stats()["observationsTotal"], up.usage()
        wall_s = usage_after.at - usage.at
        per_second = (rows_after - rows) / wall_s
        cores = usage_after.cores_since(usage)
        return {
            "perSecond": per_second,
            "cpuUs": {role: core / per_second * 1e6 for role, core in cores.items()},
        }
