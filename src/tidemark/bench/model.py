"""What does a fleet need for so many influencers at such an interval? Plain arithmetic on measured coefficients (pure).

Each coefficient stands beside the command that measures it; take your own machine's figures from there. All are per
observation or per influencer, so every row of the table is a product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tidemark.population import SHARD_SIZE_PKS

DAY_S: Final = 86_400
CASES: Final = tuple((millions * 1_000_000, interval) for interval in (60, 10) for millions in (1, 10, 100))


@dataclass(frozen=True, slots=True)
class Coefficients:
    """As measured on the machine of the README."""

    poll_cpu_us: float = 5.0
    """`tidemark bench steady`: cores of the poller by observations a second."""
    serve_cpu_us: float = 5.7
    """`tidemark bench steady`, as above: insert, merges, board, views; one replica."""
    nats_cpu_us: float = 2.0
    """`tidemark bench scale`, 8 pollers: a third of `nats`, for one of the three servers."""
    api_bytes: float = 546.0
    """`tidemark bench scale --pipeline 1`: in and out of a poller host; frames. 498 with 8 pipelined."""
    nats_bytes: float = 43.0
    """`tidemark bench scale`, 8 pollers: in and out of one of the three servers; each batch comes once, goes to the
    other two and to both replicas."""
    batch_bytes: float = 10.6
    """`tidemark bench encoding`: on the log."""
    raw_bytes: float = 2.96
    """`tidemark bench storage`: in the store."""
    hourly_bytes: float = 0.35
    """The same: hourly rollups, at an interval of a minute; they are by influencer and hour."""
    board_bytes: float = 96.0
    """`tidemark bench board`: by influencer."""
    log_batches_per_second: float = 1_243.0
    """`tidemark bench log`, 256 under way: each on the disks of the cluster before it is acknowledged."""
    serve_per_second: float = 193_000.0
    """`tidemark bench e2e --seconds 20`, 8 pipelined: what one replica was seen to store beside all else."""
    connections: int = 128
    """Of one poller to one API address: where the limit begins and, on a fast API, stays."""


def need(influencers: int, interval_s: float, known: Coefficients) -> dict[str, float]:
    """What of each resource, by figure; CPU in cores, network in Mbit/s, disk in GB a day, memory in GB."""
    rate = influencers / interval_s
    batches = rate / SHARD_SIZE_PKS
    pollers = max(1, -(-rate * known.poll_cpu_us // 1_000_000))
    logs = max(1, -(-batches // known.log_batches_per_second))
    ranges = max(1, -(-rate // known.serve_per_second))
    return {
        "observations/s": rate,
        "poller cores": rate * known.poll_cpu_us / 1e6,
        "cores of a serve replica": rate * known.serve_cpu_us / 1e6,
        "cores of each NATS server": rate * known.nats_cpu_us / 1e6,
        "Mbit/s pollers and API": rate * known.api_bytes * 8 / 1e6,
        "Mbit/s in and out of each NATS server": rate * known.nats_bytes * 8 / 1e6,
        "batches/s on the log": batches,
        "log, GB a day on each server": rate * known.batch_bytes * DAY_S / 1e9,
        "store, GB a day of a replica": (rate * known.raw_bytes + influencers / 60 * known.hourly_bytes)
        * DAY_S
        / 1e9,
        "board of a replica, GB": influencers * known.board_bytes / 1e9,
        "connections to the API": pollers * known.connections,
        "poller processes (a core each)": pollers,
        "fleets by batches on a log": logs,
        "fleets by what a serve stores": ranges,
    }


def table(known: Coefficients) -> dict[str, Any]:
    """A column for each case, by the figure's name."""
    return {
        f"{influencers // 1_000_000}M every {interval} s": need(influencers, interval, known)
        for influencers, interval in CASES
    }


def markdown(known: Coefficients) -> str:
    """The same, for docs/scaling.md."""
    return "\n".join(_lines(table(known))) + "\n"


def _lines(columns: dict[str, Any]) -> Iterator[str]:
    yield "| | " + " | ".join(columns) + " |"
    yield "|---|" + "---:|" * len(columns)
    for figure in next(iter(columns.values())):
        yield f"| {figure} | " + " | ".join(_short(column[figure]) for column in columns.values()) + " |"


def _short(value: float) -> str:
    """Two significant digits or whole numbers: it is a model."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
