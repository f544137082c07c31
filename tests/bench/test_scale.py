"""What `tidemark bench scale` says, without hosts: the plot, the table, wrong numbers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tidemark.bench import scale
from tidemark.bench.plot import draw
from tidemark.bench.usl import fit
from tidemark.errors import CallerError


def report(sizes: tuple[int, ...] = (1, 2, 4)) -> dict[str, Any]:
    runs = [
        {
            "round": round_,
            "pollers": size,
            "observationsPerSecond": 3_990.0 * size,
            "ratioToLimit": 0.9975,
            "cpuMicrosecondsPerObservation": 40.0,
            "cpuMicrosecondsPerObservationByRole": {
                "poll": 20.0,
                "nats": 9.0,
                "serve": 10.0,
                "schedule": 1.0,
            },
            "freshnessSecondsP99": 10.0,
            "readableSecondsP99AtMost": 0.75,
            "hostCpuShare": 0.5 if size < 4 else 0.99,
        }
        for round_ in (1, 2)
        for size in sizes
    ]
    law = fit({size: [3_990.0 * size] * 2 for size in sizes}, seed=1)
    return {
        "seed": 1,
        "seconds": 10.0,
        "rounds": 2,
        "cores": 2,
        "pipeline": 8,
        "apiLimitPerSecond": 4_000,
        "runs": runs,
        "cpu": scale._cost(runs),
        "usl": None if law is None else scale._told(law),
    }


@pytest.mark.parametrize("sizes", [(1,), (1, 2, 4)])
def test_the_plot_is_an_svg_with_each_run(sizes: tuple[int, ...]) -> None:
    drawn = ET.fromstring(draw(report(sizes)))
    assert drawn.tag.endswith("svg")
    circles = [element for element in drawn.iter() if element.tag.endswith("circle")]
    assert len(circles) == 2 * len(sizes) + 1, "and one in the legend"
    for circle in circles:
        assert 0 <= float(circle.attrib["cx"]) <= 720
        assert 0 <= float(circle.attrib["cy"]) <= 420


def test_the_table_shows_which_runs_the_computer_limited(capsys: pytest.CaptureFixture[str]) -> None:
    scale.show(report())
    said = capsys.readouterr().out
    assert said.count("(the limit)") == 1
    assert "15,960" in said
    assert "contention" in said
    assert "0.00 cores for a fleet that is there, and 40.0 us" in said.replace("-0.00", "0.00")
    assert "by pollers: 1: 40.0; 2: 40.0; 4: 40.0" in said
    written = scale.markdown(report())
    assert "| 4 | 16,000 | 15,960 | 0.998 (0.998-0.998) | 40.0 |" in written
    assert {line.count("|") for line in written.splitlines() if line.startswith("|")} == {14}


def test_what_a_fleet_takes_that_is_there_is_told_apart() -> None:
    of = report()
    for run in of["runs"]:
        run["cpuMicrosecondsPerObservation"] = 30.0 + 0.2e6 / run["observationsPerSecond"]
    of["cpu"] = scale._cost(of["runs"])
    assert list(scale.law_lines(of))[-2:] == [
        "CPU 0.20 cores for a fleet that is there, and 30.0 us for each observation",
        "without those cores, us for each observation by pollers: 1: 30.0; 2: 30.0; 4: 30.0",
    ]


@pytest.mark.parametrize("text", ["", "two", "0", "1,1", "1,65"])
def test_wrong_numbers_of_pollers(text: str) -> None:
    with pytest.raises(CallerError, match="1,2,4,8"):
        scale.parse_sizes(text)


def test_where_no_hosts_can_be_made_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ip").write_text("#!/bin/sh\necho 'Operation not permitted' >&2\nexit 1\n")
    (tmp_path / "ip").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ.get('PATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-m", "tidemark", "bench", "scale"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 2
    assert "root" in done.stderr
    assert "--privileged" in done.stderr
    assert "Traceback" not in done.stderr
