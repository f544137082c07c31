"""What the operator sees."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from typing import Any

import pytest
import structlog
from rich.console import Console

from tests.supervise.conftest import until
from tidemark.config import load
from tidemark.supervise import live
from tidemark.supervise.live import Meter, Row, render, summary, too_few
from tidemark.supervise.screen import Screen
from tidemark.telemetry import configure_logging

STATS: dict[str, Any] = {
    "influencers": 1_000_000,
    "observed": 1_000_000,
    "averageFollowerCount": 98_765.4,
    "observationsTotal": 123_456_789,
    "observationsPerSecond": 16_667.2,
    "coverage": 0.99995,
    "freshnessSeconds": {"p50": 30.04, "p99": 59.4, "max": 61.0},
    "lagBatches": 3,
    "intervalSeconds": 60.0,
}
UNKNOWN = STATS | {
    "averageFollowerCount": None,
    "freshnessSeconds": None,
    "lagBatches": None,
    "coverage": 0.0,
}


def shown(stats: dict[str, Any] | None) -> str:
    rows = [
        Row("serve", "running", 4_242, 0, 12.3, 450 * 2**20),
        Row("poll 1", "waiting", None, 7),
    ]
    out = io.StringIO()
    Console(file=out, width=110).print(render("http://127.0.0.1:8000", rows, stats, 3_700.5))
    return out.getvalue()


def test_the_table() -> None:
    text = shown(STATS)
    for part in ("http://127.0.0.1:8000", "up 1:01:40", "running", "4242", "12", "450", "waiting", "7"):
        assert part in text
    for part in (
        "100.00% of 1,000,000",
        "p50 30.0 s, p99 59.4 s",
        "16,667 observations/s",
        "123,456,789 in all",
    ):
        assert part in text
    assert "average followers 98,765.4" in text
    assert "lag 3 batches" in text


def test_the_table_while_little_is_known() -> None:
    assert "0.00% of 1,000,000" in shown(UNKNOWN)
    assert "serve does not answer at the moment" in shown(None)


def test_the_line_of_each_minute() -> None:
    assert summary(STATS) == {
        "coverage": 1.0,
        "freshness_p50_s": 30.04,
        "freshness_p99_s": 59.4,
        "observations_per_second": 16_667.2,
        "observations_total": 123_456_789,
        "average_followers": 98_765.4,
        "lag_batches": 3,
    }
    assert summary(UNKNOWN)["freshness_p50_s"] is None


def test_what_processes_take() -> None:
    meter = Meter()
    cpu, rss = meter.measure(os.getpid())
    assert cpu is not None
    assert rss
    assert meter.measure(None) == meter.measure(2**22 + 1) == (None, None)


async def test_a_line_a_minute_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [STATS, None]
    monkeypatch.setattr(live, "SUMMARY_S", 0.0)
    monkeypatch.setattr(live, "ask", lambda _: answers.pop(0) if answers else None)
    with structlog.testing.capture_logs() as told:
        watching = asyncio.create_task(live.watch(Screen(as_json=False), "http://127.0.0.1:8000", list))
        await until(lambda: len(told) >= 2, "two lines")
        watching.cancel()
        await asyncio.wait({watching})
    assert (told[0]["event"], told[0]["lag_batches"]) == ("watching", 3)
    assert told[1]["event"] == "serve does not answer at the moment"


async def test_a_log_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SUMMARY_S", 0.0)
    monkeypatch.setattr(live, "ask", lambda _: STATS | {"lagBatches": None, "coverage": 0.0})
    with structlog.testing.capture_logs() as told:
        watching = asyncio.create_task(live.watch(Screen(as_json=False), "http://127.0.0.1:8000", list))
        await until(lambda: len(told) >= 1, "a line")
        watching.cancel()
        await asyncio.wait({watching})
    assert "is NATS up?" in told[0]["event"]


async def test_few_observations_are_a_warning_once_there_was_time_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not too_few(UNKNOWN, 170)
    assert too_few(UNKNOWN, 190)
    assert not too_few(UNKNOWN | {"intervalSeconds": 86_400.0}, 80_000)
    assert not too_few(STATS, 190)
    monkeypatch.setattr(live, "SUMMARY_S", 0.0)
    monkeypatch.setattr(live, "ask", lambda _: UNKNOWN | {"intervalSeconds": 0.0})
    with structlog.testing.capture_logs() as told:
        watching = asyncio.create_task(live.watch(Screen(as_json=False), "http://127.0.0.1:8000", list))
        await until(lambda: len(told) >= 1, "a line")
        watching.cancel()
        await asyncio.wait({watching})
    assert (told[0]["log_level"], told[0]["coverage"]) == ("warning", 0.0)


async def test_nobody_answers() -> None:
    assert await asyncio.to_thread(live.ask, "http://127.0.0.1:9/v1/stats") is None


def test_lines_of_children(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=False)
    assert not screen.has_table
    screen.pass_on("2026 [info] as [bold]it[/bold] is", "poll")
    assert capsys.readouterr().err == "2026 [info] as [bold]it[/bold] is\n"


def test_every_line_is_json_where_that_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    try:
        configure_logging(load(log_format="json"), "up")
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(screen))  # type: ignore[arg-type]
        screen.pass_on('{"event": "mine"}', "poll")
        screen.pass_on("Traceback (most recent call last):", "poll")
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first == {"event": "mine"}
    assert second["line"] == "Traceback (most recent call last):"
    assert second["child"] == "poll"


def test_a_terminal_that_went_away_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", gone)
    screen = Screen(as_json=False)
    screen.pass_on("a line", "poll")
    screen.show("a table")
    screen.close()
