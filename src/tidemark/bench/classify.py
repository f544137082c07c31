"""Does the classification hold its rate, what does it take, and does the polling notice?

The stand-in answers every POST after exactly ten seconds, the worst that the API's documentation allows.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from tidemark.bench.fleet import Fleet, fleet
from tidemark.bench.target import target
from tidemark.errors import TidemarkError
from tidemark.telemetry import running

CALL_SECONDS: Final = 10.0
NEEDED_PER_SECOND: Final = 1_000_000 / 86_400
"""A million influencers a day."""
WARM_UP_SECONDS_MAX: Final = 120.0
"""Until everybody was observed once: until then each name is new, which costs more than a later round."""
SETTLE_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 1.0
START_SECONDS: Final = 60.0

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def measure(seconds: float, influencers: str = "1000000-1009999") -> dict[str, Any]:
    """The first sweep, at full concurrency, for so many seconds after the first verdicts."""
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder, _stand_in(influencers) as api:
        flags = ("--api", api, "--influencers", influencers)
        with fleet(*flags, data=Path(folder)) as up:
            classifier = _Classifier(Path(folder))
            began_at, began = classifier.after_a_wave()
            usage = up.usage()
            time.sleep(max(0.0, began_at + seconds - time.monotonic()))
            ended_at, ended = classifier.after_a_wave()
            after, stats = up.usage(), up.stats()
    per_second = (ended - began) / (ended_at - began_at)
    cores = after.cores_since(usage).get("classify", 0.0)
    return {
        "callSeconds": CALL_SECONDS,
        "seconds": ended_at - began_at,
        "verdicts": ended - began,
        "verdictsPerSecond": per_second,
        "neededPerSecond": NEEDED_PER_SECOND,
        "ratioToNeeded": per_second / NEEDED_PER_SECOND,
        "inFlight": stats["classification"]["inFlight"],
        "latencySeconds": stats["classification"]["latencySeconds"],
        "classifierCores": cores,
        "classifierCpuMicrosecondsPerVerdict": cores / per_second * 1e6,
        "classifierRssBytes": after.rss_bytes.get("classify", 0),
    }


def measure_impact(seconds: float, rounds: int, kind: str) -> dict[str, Any]:
    """Observations a second of `tidemark up --interval 0`, without and with the classification, in alternation."""
    rates: dict[str, list[float]] = {"without": [], "with": []}
    verdicts: list[float] = []
    with _stand_in("1000000-1999999") as slow, target(kind, verdicts_from=slow) as api:
        for round_ in range(rounds):
            # Whoever comes first in one round comes last in the next.
            for which in sorted(rates, reverse=round_ % 2 == 0):
                calls = "128" if which == "with" else "0"
                with fleet("--api", api.url, "--interval", "0", "--classify-concurrency", calls) as up:
                    _warm_up(up)
                    rows, known, began = _stored(up)
                    time.sleep(seconds)
                    rows_after, known_after, ended = _stored(up)
                rates[which].append((rows_after - rows) / (ended - began))
                if which == "with":
                    verdicts.append((known_after - known) / (ended - began))
    ratios = [a / b for a, b in zip(rates["with"], rates["without"], strict=True)]
    return {
        "target": api.kind,
        "rounds": rounds,
        "withoutPerSecond": statistics.median(rates["without"]),
        "withPerSecond": statistics.median(rates["with"]),
        "verdictsPerSecond": statistics.median(verdicts),
        "ratio": statistics.median(ratios),
        "ratioMin": min(ratios),
        "ratioMax": max(ratios),
    }


def _warm_up(up: Fleet) -> None:
    give_up_at = time.monotonic() + WARM_UP_SECONDS_MAX
    while (stats := up.stats())["observed"] < stats["influencers"] and time.monotonic() < give_up_at:
        time.sleep(1)
    time.sleep(SETTLE_SECONDS)


def _stored(up: Fleet) -> tuple[int, int, float]:
    """Observations in the store, verdicts known, and when that was (monotonic seconds)."""
    stats = up.stats()
    verdicts = stats["suspicious"]
    return stats["observationsTotal"], verdicts["suspicious"] + verdicts["notSuspicious"], time.monotonic()


@contextmanager
def _stand_in(influencers: str) -> Iterator[str]:
    """An API that takes its time for every verdict; its address."""
    command = [sys.executable, "-m", "tidemark", "simulate", "--port", "0", "--influencers", influencers]
    command += ["--classify-seconds", str(CALL_SECONDS), "--classify-exact"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("ready "):
            raise TidemarkError("the stand-in did not start")
        yield line.split()[1]
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


class _Classifier:
    """The verdicts that a running classifier has got, by its own /metrics."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._url = ""

    def count(self) -> int:
        """How many so far; 0 while it is not there."""
        if not self._url:
            notes = [note for note in running(self._data) if note["role"] == "classify"]
            if not notes:
                return 0
            self._url = notes[0]["metrics"]
        with _direct.open(self._url, timeout=CALL_SECONDS) as answer:
            text = answer.read().decode()
        counts = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "tidemark_classify_seconds_count"
        ]
        return round(sum(counts))

    def after_a_wave(self) -> tuple[float, int]:
        """When (monotonic seconds) the next verdicts had come, and how many there were then.

        Calls that began together end together, every ten seconds: to count from the end of one wave to the
        end of another leaves nothing to chance. Without waves any moment will do.
        """
        count, changed_at = self.count(), 0.0
        give_up_at = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up_at:
            time.sleep(LOOK_SECONDS)
            latest = self.count()
            now = time.monotonic()
            if latest != count:
                count, changed_at = latest, now
                give_up_at = min(give_up_at, now + CALL_SECONDS + QUIET_SECONDS)
            elif changed_at and now - changed_at > QUIET_SECONDS:
                return changed_at, count
        if not changed_at:
            raise TidemarkError("no verdicts come: look whether `tidemark classify` runs")
        return changed_at, count
