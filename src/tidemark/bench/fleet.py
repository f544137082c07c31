"""How is a whole pipeline run for a benchmark, and what does each of its processes take?"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tidemark.errors import TidemarkError

START_SECONDS: Final = 60
STOP_SECONDS: Final = 90
CALL_SECONDS: Final = 10

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is not asked through a proxy, whatever the environment says."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of each role have taken so far."""

    at: float
    """Monotonic seconds."""
    cpu_s: dict[str, float]
    rss_bytes: dict[str, int]

    def cores_since(self, before: Usage) -> dict[str, float]:
        """CPU seconds a second, by role."""
        wall_s = self.at - before.at
        return {role: (cpu - before.cpu_s.get(role, 0.0)) / wall_s for role, cpu in self.cpu_s.items()}


class Fleet:
    """A running `tidemark up`."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url

    def stats(self) -> dict[str, Any]:
        """GET /v1/stats."""
        found: dict[str, Any] = json.loads(self.get("/v1/stats"))
        return found

    def get(self, path: str) -> bytes:
        """The body of a GET."""
        with _direct.open(self.url + path, timeout=CALL_SECONDS) as answer:
            body: bytes = answer.read()
            return body

    def histogram(self, name: str) -> dict[float, float]:
        """The cumulative buckets of a histogram of `serve`: upper bound -> count."""
        buckets: dict[float, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics").decode()):
            if family.name == name:
                for sample in family.samples:
                    if sample.name.endswith("_bucket"):
                        buckets[float(sample.labels["le"])] = sample.value
        return buckets

    def usage(self) -> Usage:
        """CPU and memory of every process, by role; the stand-in is `simulate`, the supervisor `up`."""
        cpu_s: dict[str, float] = defaultdict(float)
        rss: dict[str, int] = defaultdict(int)
        parent = psutil.Process(self._process.pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                role = "up" if process.pid == parent.pid else _role(process.cmdline())
                times = process.cpu_times()
                cpu_s[role] += times.user + times.system
                rss[role] += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return Usage(time.monotonic(), dict(cpu_s), dict(rss))


def _role(command: list[str]) -> str:
    if any("nats-server" in part for part in command[:2]):
        return "nats"
    roles = ("serve", "poll", "schedule", "classify", "simulate")
    return next((part for part in command if part in roles), "other")


@contextmanager
def fleet(*flags: str, data: Path | None = None) -> Iterator[Fleet]:
    """Start `tidemark up` with these flags in a folder of its own, and stop it in order. Raises TidemarkError."""
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        command = [
            sys.executable,
            "-m",
            "tidemark",
            "up",
            "--data",
            str(data or folder),
            "--port",
            "0",
            *flags,
        ]
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                yield Fleet(process, _ready(process, log))
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _ready(process: subprocess.Popen[str], log: Any) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("ready "):
        process.wait(START_SECONDS)
        log.seek(0)
        raise TidemarkError(f"the pipeline did not start: {log.read().strip().splitlines()[-1:] or line}")
    return line.split()[1]


def quantile(buckets: dict[float, float], share: float) -> float:
    """The upper bound of the bucket that the quantile lies in: no better than the buckets, never too low."""
    total = max(buckets.values(), default=0.0)
    return next((bound for bound, count in sorted(buckets.items()) if count >= share * total), float("inf"))


def since(after: dict[float, float], before: dict[float, float]) -> dict[float, float]:
    """The buckets of what happened in between."""
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
