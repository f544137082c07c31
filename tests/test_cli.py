"""The command line: exit statuses, one line of complaint, help that lists every flag."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tidemark.cli import main


def tidemark(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="tidemark")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["up", "--no-such-flag"], "No such option"),
        (["nonsense"], "No such command"),
        (["poll"], "which API?"),
        (["classify"], "which API?"),
        (["up", "--interval", "minute"], "is not a valid float"),
        (["up", "--interval", "-1"], "setting interval"),
        (["up", "--influencers", "5-1"], "setting influencers"),
        (["serve", "--port", "70000"], "setting port"),
        (["up", "--log-hours", "49", "--raw-days", "3"], "give --raw-days 4"),
        (["poll", "--api", "mockstagram"], "setting api"),
        (["up", "--replicas", "3"], "name them with --nats"),
        (["serve", "--store", "mysql://x"], "setting store"),
        (["simulate", "--error-share", "2"], "share"),
        (["backfill", "--interval", "0"], "whole number of seconds"),
        (["backfill", "--days", "31"], "--raw-days 31"),
        (["bench", "steady", "--influencers", "abc"], "'abc' is no range of pks"),
        (["bench", "merges", "--blocks", "1"], "--blocks"),
    ],
)
def test_a_wrong_flag_is_status_2_and_says_which(arguments: list[str], says: str) -> None:
    done = tidemark(*arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert isinstance(done.exception, SystemExit)
    assert done.stdout == ""


@pytest.mark.parametrize(
    "command",
    ["up", "schedule", "poll", "classify", "serve", "simulate", "status", "backfill", "export", "replay"],
)
def test_help_teaches(command: str) -> None:
    done = tidemark(command, "--help")
    assert done.exit_code == 0
    assert f"Usage: tidemark {command}" in done.stdout
    assert "--" in done.stdout


def test_up_has_the_flags_that_other_programs_rely_on() -> None:
    said = tidemark("up", "--help").stdout
    for flag in [
        "api",
        "influencers",
        "interval",
        "nats",
        "store",
        "data",
        "host",
        "port",
        "pollers",
        "pipeline",
        "max-rps",
        "classify-concurrency",
        "classify-interval",
    ]:
        assert f"--{flag} " in said


def test_a_replay_makes_no_store_where_none_was(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tidemark", "replay", "--data", str(tmp_path / "mistyped")],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"there is no store in {tmp_path / 'mistyped' / 'store'}" in done.stderr
    assert not (tmp_path / "mistyped").exists()


def test_benchmarks_are_listed() -> None:
    said = tidemark("bench", "--help").stdout
    for name in ("fetch", "e2e", "steady", "read", "storage", "classify"):
        assert f"  {name} " in said
