"""How is everything doing? A table in the terminal, renewed each second, or a line a minute where there is none."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import psutil
import structlog
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tidemark import telemetry
from tidemark.supervise.screen import Screen

REFRESH_S: Final = 1.0
SUMMARY_S: Final = 60.0
ASK_S: Final = 2.0
COVERAGE_LEAST: Final = 0.9
"""With less, somebody should look. Worth a warning, once there was time for two rounds."""
MIB: Final = 2**20

_STYLES: Final = {"running": "green", "stopped": "dim", "waiting": "red"}

logger = structlog.get_logger("tidemark.up")


@dataclass(frozen=True, slots=True)
class Row:
    """One program in the table."""

    name: str
    state: str
    pid: int | None
    restarts: int
    cpu_percent: float | None = None
    """Of one core, since the last look."""
    rss_bytes: int | None = None


class Meter:
    """What do processes take? Remembers what they had taken at the last look."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def measure(self, pid: int | None) -> tuple[float | None, int | None]:
        """Percent of a core since the last look, and bytes of memory; None where there is no such process."""
        if pid is None:
            return None, None
        try:
            if pid not in self._processes:
                self._processes = {known: one for known, one in self._processes.items() if one.is_running()}
            process = self._processes.setdefault(pid, psutil.Process(pid))
            return process.cpu_percent(), int(process.memory_info().rss)
        except psutil.Error:
            self._processes.pop(pid, None)
            return None, None


def ask(url: str) -> dict[str, Any] | None:
    """The answer to GET `url` as JSON, or None: serve may be starting again."""
    with suppress(ValueError):
        if text := telemetry.ask(url, ASK_S):
            found: dict[str, Any] = json.loads(text)
            return found
    return None


def summary(stats: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that tell how it goes, of an answer of /v1/stats."""
    freshness = stats["freshnessSeconds"] or {}
    return {
        "coverage": round(stats["coverage"], 4),
        "freshness_p50_s": freshness.get("p50"),
        "freshness_p99_s": freshness.get("p99"),
        "observations_per_second": stats["observationsPerSecond"],
        "observations_total": stats["observationsTotal"],
        "average_followers": stats["averageFollowerCount"],
        "lag_batches": stats["lagBatches"],
    }


def too_few(stats: Mapping[str, Any], up_s: float) -> bool:
    """Whether many were not observed in time, although there was time enough since the start."""
    return bool(stats["coverage"] < COVERAGE_LEAST and up_s > SUMMARY_S + 2 * stats["intervalSeconds"])


def render(url: str, rows: Sequence[Row], stats: Mapping[str, Any] | None, up_s: float) -> RenderableType:
    """The table, and how well the influencers are watched."""
    table = Table("", "state", box=None, pad_edge=False, header_style="dim")
    for title in ("pid", "restarts", "CPU %", "MiB"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            Text(row.state, _STYLES.get(row.state, "yellow")),
            _number(row.pid, "d"),
            _number(row.restarts or None, "d"),
            _number(row.cpu_percent, ".0f"),
            _number(row.rss_bytes and row.rss_bytes / MIB, ",.0f"),
        )
    head = Text.assemble((f"\ntidemark {url}", "bold"), f"   up {timedelta(seconds=int(up_s))}")
    if stats is None:
        return Group(head, table, Text("serve does not answer at the moment", "yellow"))
    figures = summary(stats)
    watched = Text.assemble(
        "coverage ",
        (f"{figures['coverage']:.2%}", "bold red" if too_few(stats, up_s) else "bold"),
        f" of {stats['influencers']:,}   freshness p50 ",
        _number(figures["freshness_p50_s"], ".1f"),
        " s, p99 ",
        _number(figures["freshness_p99_s"], ".1f"),
        f" s\n{figures['observations_per_second']:,.0f} observations/s   ",
        f"{figures['observations_total']:,} in all   average followers ",
        _number(figures["average_followers"], ",.1f"),
        "   lag ",
        _number(figures["lag_batches"], ","),
        " batches",
    )
    return Group(head, table, watched)


async def watch(screen: Screen, url: str, look: Callable[[], Sequence[Row]]) -> None:
    """Tell how it goes, until cancelled. `look` gives the programs, without what they take."""
    await (_table(screen, url, look) if screen.has_table else _lines(url))


async def _lines(url: str) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(SUMMARY_S)
        stats = await asyncio.to_thread(ask, f"{url}/v1/stats")
        if stats is None:
            logger.warning("serve does not answer at the moment", url=url)
        elif stats["lagBatches"] is None:
            logger.warning("the log is away, and nothing new arrives: is NATS up?", **summary(stats))
        elif too_few(stats, time.monotonic() - began):
            logger.warning(
                "many are not observed in time; what poll says, and the API, tell why", **summary(stats)
            )
        else:
            logger.info("watching", **summary(stats))


async def _table(screen: Screen, url: str, look: Callable[[], Sequence[Row]]) -> None:
    began = time.monotonic()
    meter = Meter()
    stats: dict[str, Any] | None = None

    def show() -> None:
        rows = [
            replace(row, cpu_percent=cpu, rss_bytes=rss)
            for row in look()
            for cpu, rss in [meter.measure(row.pid)]
        ]
        screen.show(render(url, rows, stats, time.monotonic() - began))

    try:
        while True:
            stats = await asyncio.to_thread(ask, f"{url}/v1/stats")
            show()
            await asyncio.sleep(REFRESH_S)
    finally:
        show()


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
