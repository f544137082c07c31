"""What does `tidemark backfill` do, and show while it does it?"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from tidemark.backfill.history import Filled, backfill, check_disk, check_empty
from tidemark.backfill.plan import Plan
from tidemark.config import Settings
from tidemark.errors import CallerError
from tidemark.store.clickhouse import Store


def run(settings: Settings, days: float, seed: int) -> None:
    """Make the history that the settings name, with a bar on standard error. Raises TidemarkError."""
    plan = Plan.until(int(time.time()), days, settings.interval, settings.population, seed)
    if 0 < settings.raw_days < days:
        raise CallerError(
            f"{days:g} days are longer than observations are kept: give --raw-days {days:g} here and to `serve`, or"
            f" at most --days {settings.raw_days}"
        )
    check_disk(settings.store_dsn, plan)
    store = Store.configured(settings, retain=False)  # nothing of a store that is in use may change
    console = Console(stderr=True)
    try:
        check_empty(store)
        store.retain()
        with _stopped_by_signals() as stop, _bar(console) as bar:
            task = bar.add_task(f"{plan.population.size:,} influencers, {days:g} days", total=plan.rows)
            filled = backfill(store, plan, stop, lambda rows: bar.update(task, completed=rows))
            bar.update(task, total=filled.rows, completed=filled.rows)
    finally:
        store.close()
    console.print(_told(filled, plan, settings), highlight=False, soft_wrap=True)


def _told(filled: Filled, plan: Plan, settings: Settings) -> str:
    rate = filled.rows / max(filled.seconds, 0.001)
    done = f"{filled.rows:,} observations in {filled.seconds:,.0f} s, {rate:,.0f}/s"
    if not filled.whole:
        if not filled.rows:
            return "stopped before the first observation was stored"
        ends = datetime.fromtimestamp(filled.to_s, UTC)
        return f"stopped: {done}; the history ends at {ends:%Y-%m-%d %H:%M:%S} UTC and is consistent"
    where = f"--store {settings.store}" if settings.store else f"--data {settings.data}"
    return f"{done}; now: tidemark up {where} --influencers {plan.population} --interval {plan.interval_s}"


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, instead of what they do otherwise."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Rate(ProgressColumn):
    """Observations a second."""

    def render(self, task: Task) -> Text:
        """As many as there were lately."""
        return Text(f"{task.speed or 0:,.0f}/s")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} observations"),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
    )
