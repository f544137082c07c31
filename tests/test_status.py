"""What `tidemark status` finds out, and how it tells it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tidemark.config import load
from tidemark.status import Look, parse, report, show, tables
from tidemark.telemetry import running

PATIENCE_S = 60
API = "http://127.0.0.1:3000"

POLL = """\
# TYPE tidemark_observations_total counter
tidemark_observations_total {observations}
# TYPE tidemark_tick_delay_seconds histogram
tidemark_tick_delay_seconds_bucket{{le="+Inf"}} {ticks}
tidemark_tick_delay_seconds_count {ticks}
tidemark_tick_delay_seconds_sum 1
# TYPE tidemark_refused_total counter
tidemark_refused_total{{reason="status"}} 3
tidemark_refused_total{{reason="timeout"}} {timeouts}
# TYPE tidemark_in_flight_limit gauge
tidemark_in_flight_limit{{api="http://127.0.0.1:3000"}} 128
# TYPE tidemark_breaker_open gauge
tidemark_breaker_open{{api="http://127.0.0.1:3000"}} {open}
# TYPE tidemark_request_seconds gauge
tidemark_request_seconds{{api="http://127.0.0.1:3000"}} 0.0025
"""
SERVE = """\
# TYPE tidemark_stored_total counter
tidemark_stored_total {stored}
# TYPE tidemark_insert_seconds histogram
tidemark_insert_seconds_bucket{{le="0.01"}} {inserts}
tidemark_insert_seconds_bucket{{le="+Inf"}} {inserts}
tidemark_insert_seconds_count {inserts}
tidemark_insert_seconds_sum {seconds}
"""
STATS: dict[str, Any] = {
    "influencers": 1_000_000,
    "averageFollowerCount": 98_765.4,
    "observationsTotal": 123_456_789,
    "coverage": 0.9876,
    "freshnessSeconds": {"p50": 30.04, "p99": 59.4, "max": 61.0},
    "lagBatches": 3,
}


def look(role: str, pid: int, at: float, text: str | None, cpu_s: float = 0, **more: Any) -> Look:
    return Look(role, pid, at, 100 + at, cpu_s, 50 * 2**20, None if text is None else parse(text), **more)


def poll(pid: int, at: float, observations: int, *, timeouts: int = 0, broken: int = 0) -> Look:
    text = POLL.format(observations=observations, ticks=observations // 1_000, timeouts=timeouts, open=broken)
    return look("poll", pid, at, text, cpu_s=at / 4)


def serve(at: float, stored: int, inserts: int, seconds: float) -> Look:
    return look("serve", 30, at, SERVE.format(stored=stored, inserts=inserts, seconds=seconds), stats=STATS)


def found() -> dict[str, Any]:
    before = [poll(10, 0, 50_000), poll(11, 0, 7_000), look("nats", 20, 0, None), serve(0, 90_000, 9, 0.9)]
    after = [
        poll(10, 2, 70_000, timeouts=4, broken=1),
        poll(11, 2, 17_000),
        look("nats", 20, 2, None),
        serve(2, 120_000, 11, 0.92),
        poll(12, 2, 0),  # started meanwhile
    ]
    return report(before, after)


def test_rates_are_what_happened_between_two_looks() -> None:
    told = found()
    assert told["observationsPerSecond"] == 15_000
    minute = {**STATS, "observationsPerSecond": 16.7}
    told = report(*[[look("serve", 30, at, "", stats=minute)] for at in (0, 2)])
    assert told["observationsPerSecond"] == 16.7, "of a thousand influencers, most seconds see no tick at all"
    nothing = {**STATS, "observationsPerSecond": 0.0}
    told = report(*[[poll(10, at, at * 100), look("serve", 30, at, "", stats=nothing)] for at in (0, 2)])
    assert told["observationsPerSecond"] == 0, "what is polled and not stored is not told as stored"
    told = found()
    assert told["ticksPerSecond"] is None  # no scheduler runs here
    assert (told["coverage"], told["lagBatches"], told["observationsTotal"]) == (0.9876, 3, 123_456_789)
    assert told["freshnessSeconds"] == STATS["freshnessSeconds"]
    assert told["refused"] == {"status": 9, "timeout": 4}


def test_each_process_tells_what_is_its_own() -> None:
    nats, first, second, history = found()["processes"]
    assert nats == {
        "role": "nats",
        "pid": 20,
        "uptimeSeconds": 102.0,
        "cpuPercent": 0.0,
        "memoryBytes": 50 * 2**20,
    }
    assert (first["cpuPercent"], first["observationsPerSecond"], first["ticksPerSecond"]) == (
        25.0,
        10_000,
        10,
    )
    assert first["refused"] == {"status": 3, "timeout": 4}
    assert first["api"] == [{"url": API, "inFlightLimit": 128, "breaker": "open", "requestSeconds": 0.0025}]
    assert second["api"][0]["breaker"] == "closed"
    assert history["insertSeconds"] == pytest.approx(0.01)
    assert (history["storedPerSecond"], history["stored"], history["lagBatches"]) == (15_000, 120_000, 3)
    assert (first["observations"], first["ticks"]) == (70_000, 70)


def test_what_the_store_cannot_read_stands_out() -> None:
    assert found()["damagedParts"] == {}
    assert "damaged" not in shown(found())
    before, after = (
        [
            look("serve", pid, at, f'tidemark_damaged_parts{{table="observations"}} {parts}\n', stats=STATS)
            for pid, parts in ((30, 2), (31, 3))
        ]
        for at in (0, 2)
    )
    told = report(before, after)
    assert told["damagedParts"] == {"observations": 3}
    assert "parts of the store that cannot be read: observations 3" in shown(told)


def test_without_an_insert_between_the_looks_the_mean_of_all_is_told() -> None:
    told = report([serve(0, 1, 8, 0.4)], [serve(1, 1, 8, 0.4)])
    assert told["processes"][0]["insertSeconds"] == pytest.approx(0.05)
    told = report([serve(0, 0, 0, 0)], [serve(1, 0, 0, 0)])
    assert told["processes"][0]["insertSeconds"] is None


def test_a_process_that_does_not_answer_is_told_of() -> None:
    silent = report([look("poll", 10, 0, None)], [look("poll", 10, 1, None)])
    assert silent["processes"][0]["role"] == "poll"
    assert silent["observationsPerSecond"] is None
    assert silent["coverage"] is None


def shown(told: dict[str, Any]) -> str:
    out = io.StringIO()
    for table in tables(told):
        Console(file=out, width=150).print(table)
    return out.getvalue()


def test_the_tables() -> None:
    text = shown(found())
    for part in (
        "70,000 observations of 70 ticks, refused: status 3, timeout 4",
        f"{API}: 128 in flight at most, breaker open, 2.5 ms a request",
        "120,000 stored, 10.0 ms an insert, lag 3 batches",
        "0:01:42",
        "98.76%",
        "p50 30.0 s, p99 59.4 s, max 61.0 s",
        "15,000 observations, over the last minute",
        "123,456,789 observations",
    ):
        assert part in text
    assert "?" in shown(report([look("poll", 10, 0, None)], [look("poll", 10, 1, None)]))


def test_what_is_wrong_stands_out() -> None:
    assert "not running" not in shown(found())
    away = {**STATS, "lagBatches": None}
    looks = [[look("up", 5, at, None), look("serve", 30, at, "", stats=away)] for at in (0, 2)]
    told = report(*looks)
    assert told["missing"] == ["schedule", "poll"]
    text = shown(told)
    assert "schedule, poll: the lines of `up` say why" in text
    assert "nothing new arrives: is NATS up?" in text
    assert report(*[[look("serve", 30, at, "", stats=STATS)] for at in (0, 2)])["missing"] == []


def test_a_rate_of_less_than_a_minute_is_told_as_such() -> None:
    told = report(*[[look("serve", 30, at, "", stats=STATS)] for at in (0, 2)])
    told["processes"][0]["uptimeSeconds"] = 13.0
    assert "observations, since the start" in shown(told)


def classify(at: float, verdicts: int) -> Look:
    text = f"""
# TYPE tidemark_verdicts counter
tidemark_verdicts_total{{suspicious="true"}} {verdicts // 10}
tidemark_verdicts_total{{suspicious="false"}} {verdicts - verdicts // 10}
# TYPE tidemark_classifying gauge
tidemark_classifying 128
# TYPE tidemark_classify_breaker_open gauge
tidemark_classify_breaker_open{{api="{API}"}} 1
"""
    return look("classify", 40, at, text)


@pytest.mark.parametrize(
    ("unknown", "says"),
    [(1_000, "50.0%: 90 suspicious, 910 not, 1,000 to go"), (0, "90 suspicious, 910 not")],
)
def test_the_first_sweep_has_a_bar(unknown: int, says: str) -> None:
    stats = {**STATS, "suspicious": {"suspicious": 90, "notSuspicious": 910, "unknown": unknown}}
    of_serve = [look("serve", 30, at, "", stats=stats) for at in (0, 2)]
    told = report([classify(0, 100), of_serve[0]], [classify(2, 125), of_serve[1]])
    assert told["verdictsPerSecond"] == 12.5
    text = shown(told)
    assert f"12.5 verdicts/s, 128 calls in flight, given a rest: {API}" in text
    assert says in text
    assert ("━" in text) == bool(unknown)


def test_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    # A note that was left behind, whose pid is another program's by now: this one's.
    (tmp_path / "run" / "serve-1.json").write_text(
        json.dumps({"role": "serve", "pid": os.getpid(), "since": 0})
    )
    for data in (tmp_path, tmp_path / "missing"):
        assert show(load(data=data), as_json=True) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == (
            f"tidemark: nothing runs on the data folder {data}: start it with `tidemark up`,"
            " or name the folder of what runs with --data\n"
        )


def test_a_role_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load(data=tmp_path)
    command = [
        sys.executable,
        "-m",
        "tidemark",
        "schedule",
        "--nats",
        "nats://127.0.0.1:9",
        "--data",
        str(tmp_path),
    ]
    path = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}) as role:
        try:
            give_up_at = time.monotonic() + PATIENCE_S
            while not running(tmp_path):
                assert time.monotonic() < give_up_at
                assert role.poll() is None
                time.sleep(0.02)
            assert show(settings, as_json=True) == 0
            told = json.loads(capsys.readouterr().out)
            assert show(settings, as_json=False) == 0
            assert "schedule" in capsys.readouterr().out
        finally:
            role.terminate()
    [process] = told["processes"]
    assert (process["role"], process["pid"], process["ticksPerSecond"]) == ("schedule", role.pid, 0)
    assert process["uptimeSeconds"] > 0
    assert process["memoryBytes"] > 0
    assert told["ticksPerSecond"] == 0
    assert told["observationsPerSecond"] is None
