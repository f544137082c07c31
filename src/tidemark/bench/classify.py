"""Does the classification hold its rate, what does it take, and does the polling notice?

The stand-in answers every POST after exactly ten seconds, the worst that the API's documentation allows.
"""

from __future__ import annotations

import os
import signal
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

import numpy as np
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
TURN_SECONDS: Final = 1.0
"""For so long the classifier works, then it stands still for as long, and so on. Of turns of 0.5 to 16 seconds these
tell a difference the soonest: in longer ones the machine drifts, in shorter ones a single batch counts."""
IMPACT_CALLS: Final = 34
"""In flight. Each takes up to ten seconds, also while the classifier stands still: so in the turns in which it works,
it does what 12.5 verdicts/s take."""
RESAMPLES: Final = 2_000
VERDICTS: Final = "tidemark_classify_seconds_count"
"""Calls that ended, which are seen at once; verdicts only when they are on the log. Those that failed are told."""
FAILURES: Final = "tidemark_classify_failures_total"
OBSERVATIONS: Final = "tidemark_observations_total"

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def measure(seconds: float, influencers: str = "1000000-1009999") -> dict[str, Any]:
    """The first sweep, at full concurrency, for so many seconds after the first verdicts."""
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder, _stand_in(influencers) as api:
        flags = ("--api", api, "--influencers", influencers)
        with fleet(*flags, data=Path(folder)) as up:
            classifier = _Role(Path(folder), "classify")
            began_at, began = _after_a_wave(classifier)
            usage = up.usage()
            time.sleep(max(0.0, began_at + seconds - time.monotonic()))
            ended_at, ended = _after_a_wave(classifier)
            after, stats, failed = up.usage(), up.stats(), classifier.count(FAILURES)
    per_second = (ended - began) / (ended_at - began_at)
    cores = after.cores_since(usage).get("classify", 0.0)
    return {
        "callSeconds": CALL_SECONDS,
        "seconds": ended_at - began_at,
        "verdicts": ended - began,
        "failedCalls": failed,
        "verdictsPerSecond": per_second,
        "neededPerSecond": NEEDED_PER_SECOND,
        "ratioToNeeded": per_second / NEEDED_PER_SECOND,
        "inFlight": stats["classification"]["inFlight"],
        "latencySeconds": stats["classification"]["latencySeconds"],
        "classifierCores": cores,
        "classifierCpuMicrosecondsPerVerdict": cores / per_second * 1e6,
        "classifierRssBytes": after.rss_bytes.get("classify", 0),
    }


def measure_impact(pairs: int, kind: str) -> dict[str, Any]:
    """Observations a second of `tidemark up --interval 0` while the classifier works and while it stands still.

    One pipeline, in which the classifier is stopped (SIGSTOP) and continued in turn: a machine drifts less from one
    turn to the next than from one run to another. The ratio is the geometric mean over the pairs of turns, its
    interval of 95% from a bootstrap over them.
    """
    rates: dict[str, list[float]] = {"without": [], "with": []}
    flags = ("--interval", "0", "--classify-concurrency", str(IMPACT_CALLS), "--classify-deadline", "60")
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder,
        _stand_in("1000000-1999999", exact=False) as slow,
        target(kind, verdicts_from=slow) as api,
        fleet("--api", api.url, *flags, data=Path(folder)) as up,
    ):
        _warm_up(up)
        poller, classifier = _Role(Path(folder), "poll"), _Role(Path(folder), "classify")
        known = classifier.count(VERDICTS)
        try:
            for number in range(pairs):
                # Whoever comes first in one pair comes last in the next.
                for which in sorted(rates, reverse=number % 2 == 0):
                    polled, began = poller.count(OBSERVATIONS), time.monotonic()
                    # The verdicts that came meanwhile are taken at once: so only now.
                    classifier.signal(signal.SIGCONT if which == "with" else signal.SIGSTOP)
                    time.sleep(TURN_SECONDS)
                    polled_after, ended = poller.count(OBSERVATIONS), time.monotonic()
                    rates[which].append((polled_after - polled) / (ended - began))
        finally:
            classifier.signal(signal.SIGCONT)
        verdicts, lag = classifier.count(VERDICTS) - known, up.stats()["lagBatches"]
        failed = classifier.count(FAILURES)
    changes = np.log(np.array(rates["with"]) / np.array(rates["without"]))
    drawn = np.random.default_rng(1).choice(changes, (RESAMPLES, pairs)).mean(axis=1)
    low, high = np.exp(np.quantile(drawn, (0.025, 0.975))).tolist()
    return {
        "target": api.kind,
        "pairs": pairs,
        "turnSeconds": TURN_SECONDS,
        "withoutPerSecond": statistics.median(rates["without"]),
        "withPerSecond": statistics.median(rates["with"]),
        "verdictsPerSecond": verdicts / (pairs * TURN_SECONDS),
        "ratio": float(np.exp(changes.mean())),
        "ratioLow": low,
        "ratioHigh": high,
        "ratioSpread": float(changes.std()),
        "failedCalls": failed,
        "lagBatches": lag,
    }


def _warm_up(up: Fleet) -> None:
    give_up_at = time.monotonic() + WARM_UP_SECONDS_MAX
    while (stats := up.stats())["observed"] < stats["influencers"] and time.monotonic() < give_up_at:
        time.sleep(1)
    time.sleep(SETTLE_SECONDS)


@contextmanager
def _stand_in(influencers: str, exact: bool = True) -> Iterator[str]:
    """An API that takes ten seconds for every verdict, or (not `exact`) anything up to that; its address."""
    command = [sys.executable, "-m", "tidemark", "simulate", "--port", "0", "--influencers", influencers]
    command += ["--classify-seconds", str(CALL_SECONDS), *(["--classify-exact"] if exact else [])]
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


class _Role:
    """The process of a role in a running pipeline."""

    def __init__(self, data: Path, role: str) -> None:
        self._data = data
        self._role = role
        self._note: dict[str, Any] | None = None

    def count(self, name: str) -> int:
        """A counter of its /metrics, over all labels; 0 while the process is not there."""
        note = self._found()
        if note is None:
            return 0
        with _direct.open(note["metrics"], timeout=CALL_SECONDS) as answer:
            text = answer.read().decode()
        counts = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        ]
        return round(sum(counts))

    def signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        note = self._found()
        if note is not None:
            os.kill(note["pid"], number)

    def _found(self) -> dict[str, Any] | None:
        if self._note is None:
            self._note = next((note for note in running(self._data) if note["role"] == self._role), None)
        return self._note


def _after_a_wave(classifier: _Role) -> tuple[float, int]:
    """When (monotonic seconds) the next verdicts had come, and how many there were then.

    Calls that began together end together, every ten seconds: to count from the end of one wave to the
    end of another leaves nothing to chance. Without waves any moment will do.
    """
    count, changed_at = classifier.count(VERDICTS), 0.0
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at:
        time.sleep(LOOK_SECONDS)
        latest = classifier.count(VERDICTS)
        now = time.monotonic()
        if latest != count:
            count, changed_at = latest, now
            give_up_at = min(give_up_at, now + CALL_SECONDS + QUIET_SECONDS)
        elif changed_at and now - changed_at > QUIET_SECONDS:
            return changed_at, count
    if not changed_at:
        raise TidemarkError("no verdicts come: look whether `tidemark classify` runs")
    return changed_at, count
