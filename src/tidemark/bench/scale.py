"""Do N machines do N times what one does? Hosts in network namespaces, one poller and one API of limited rate each.

Each API host answers so many requests a second and no more, as a machine of the task's example does. Each poller
host asks the API host of its own: what two pollers share is then only what is Tidemark's, the queue, the log and
the stores, which is what is to be measured. The ticks are shared out by JetStream, not by us.

The watched influencers grow with the pollers, so that each is asked about as often at all sizes, and the interval
is 0, so that the API is what limits a poller. Everything runs on one computer: a run that its processors limit
shows in `hostCpuShare`.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from tidemark.bench.fleet import quantile, since
from tidemark.bench.hosts import traffic
from tidemark.bench.spread import Spread, spread
from tidemark.bench.usl import Estimate, Usl, fit
from tidemark.errors import CallerError, TidemarkError
from tidemark.population import SHARD_SIZE_PKS

API_RPS: Final = 4_000
"""What the task says one machine does."""
FIRST_PK: Final = 1_000_000
INFLUENCERS_BY_POLLER: Final = 40_000
"""Ten seconds' work: well over the second in which nobody is asked about twice, and a short warm-up."""
REPLICAS: Final = ("s1", "s2")
SCHEDULER: Final = "c1"
BATCH_ROWS: Final = SHARD_SIZE_PKS // 3
"""About: a tick that is answered at `API_RPS` goes on the log in parts, twice a second."""
WARM_UP_SECONDS_MAX: Final = 120.0
SETTLE_SECONDS: Final = 5.0
SETTLE_SECONDS_MAX: Final = 30.0
SAMPLE_SECONDS: Final = 0.5
DRAIN_SECONDS_MAX: Final = 60.0
BUSY_SHARE: Final = 0.95
"""A run in which the processors were busier was limited by them."""
TABLE_CHARACTERS: Final = 180
READABLE: Final = "tidemark_readable_seconds"
OURS: Final = ("schedule", "poll", "nats", "serve")
"""The roles that are Tidemark; the stand-in is the API."""


def measure(
    seconds: float,
    rounds: int,
    pollers: Sequence[int],
    pipeline: int,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Runs of each number of pollers, in an order drawn anew for each round, and the law through them."""
    order = random.Random(seed)
    runs = []
    for round_ in range(1, rounds + 1):
        sizes = list(pollers)
        order.shuffle(sizes)
        say(f"round {round_} of {rounds}: {', '.join(map(str, sizes))} pollers (seed {seed})")
        for size in sizes:
            with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
                run = {"round": round_} | _run(Path(folder), size, seconds, pipeline)
            say(
                f"  {size} pollers: {run['observationsPerSecond']:,.0f}/s, {run['ratioToLimit']:.3f} of the limit,"
                f" host {run['hostCpuShare']:.0%} busy"
            )
            runs.append(run)
    rates: dict[int, list[float]] = {}
    for run in runs:
        rates.setdefault(run["pollers"], []).append(run["observationsPerSecond"])
    law = fit(rates, seed)
    return {
        "seed": seed,
        "seconds": seconds,
        "rounds": rounds,
        "pipeline": pipeline,
        "apiLimitPerSecond": API_RPS,
        "cores": psutil.cpu_count(),
        "runs": runs,
        "cpu": _cost(runs),
        "usl": None if law is None else _told(law),
    }


def _cost(runs: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Cores of Tidemark as a line over the rate: what a fleet takes that is there, and what each observation adds.

    None with runs of one size only.
    """
    if len({run["pollers"] for run in runs}) < 2:
        return None
    rates = np.array([run["observationsPerSecond"] for run in runs])
    cores = rates * [run["cpuMicrosecondsPerObservation"] for run in runs] / 1e6
    slope, fixed = np.polyfit(rates, cores, 1)
    return {"fixedCores": float(fixed), "microsecondsPerObservation": float(slope * 1e6)}


def _told(law: Usl) -> dict[str, Any]:
    def told(estimate: Estimate) -> dict[str, float]:
        return {"value": estimate.value, "low": estimate.low, "high": estimate.high}

    return {"lambda": told(law.rate), "sigma": told(law.sigma), "kappa": told(law.kappa)}


def _run(folder: Path, pollers: int, seconds: float, pipeline: int) -> dict[str, Any]:
    last = FIRST_PK + pollers * INFLUENCERS_BY_POLLER - 1
    watched = ("--influencers", f"{FIRST_PK}-{last}")
    apis = [f"a{number}" for number in range(1, pollers + 1)]
    names = [f"p{number}" for number in range(1, pollers + 1)]
    with spread(folder, *REPLICAS, SCHEDULER, *apis, *names) as fleet:
        fleet.start_nats()
        limit = ("--max-rps", str(API_RPS), *watched)
        urls = [fleet.start_api(host, *limit) for host in apis]
        fleet.await_ready(*(one for one in fleet.running if one.role == "simulate"))
        replicas = [fleet.start_serve(host, "--interval", "0", *watched) for host in REPLICAS]
        fleet.await_ready(*replicas)
        for host, url in zip(names, urls, strict=True):
            fleet.start("poll", host, "--api", url, "--pipeline", str(pipeline))
        fleet.start("schedule", SCHEDULER, "--interval", "0", *watched)
        fleet.until(lambda: _all_observed(fleet), "everybody's first observation", WARM_UP_SECONDS_MAX)
        time.sleep(SETTLE_SECONDS)
        with suppress(TidemarkError):  # a computer that is too small for the fleet: they may never come after
            fleet.until(lambda: _up_to_date(fleet, pollers), "stores that are up to date", SETTLE_SECONDS_MAX)
        measured = _window(fleet, seconds)
        _check_alive(fleet)
        _stop_in_order(fleet)
        totals = [fleet.get(host, "/v1/stats")["observationsTotal"] for host in REPLICAS]
    per_second = measured["observationsPerSecond"]
    return {
        "pollers": pollers,
        "apiHosts": pollers,
        "influencers": pollers * INFLUENCERS_BY_POLLER,
        "ratioToLimit": per_second / (API_RPS * pollers),
        "observationsTotal": totals,
        **measured,
    }


def _all_observed(fleet: Spread) -> bool:
    stats = [fleet.get(host, "/v1/stats") for host in REPLICAS]
    return all(one["observed"] == one["influencers"] for one in stats)


def _up_to_date(fleet: Spread, pollers: int) -> bool:
    """Whether both stores have everything but the last second or two."""
    few = 2 * pollers * API_RPS // BATCH_ROWS
    lags = [fleet.get(host, "/v1/stats")["lagBatches"] for host in REPLICAS]
    return all(lag is not None and lag <= few for lag in lags)


def _window(fleet: Spread, seconds: float) -> dict[str, Any]:
    """What happens in a while; the rate of each replica is the slope through many samples of its total.

    A total grows once a second, by all that came in it: the difference of two samples would be wrong by up to
    a second's observations at either end. Where the log grew more slowly than the store, the log's slope counts: what
    a store only catches up with was not observed in this while.
    """
    processors, usage, sent = psutil.cpu_times(), fleet.usage(), _traffic(fleet)
    readable = [_histogram(fleet, host) for host in REPLICAS]
    stored: dict[str, list[tuple[float, int]]] = {host: [] for host in REPLICAS}
    logged: dict[str, list[tuple[float, int]]] = {host: [] for host in REPLICAS}
    fresh: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for host in REPLICAS:
            stats = fleet.get(host, "/v1/stats")
            at, total, lag = time.monotonic(), stats["observationsTotal"], stats["lagBatches"]
            stored[host].append((at, total))
            if lag is not None:  # the log can be read
                logged[host].append((at, total + lag * BATCH_ROWS))
            fresh.append(stats["freshnessSeconds"]["p99"])
        time.sleep(SAMPLE_SECONDS)
    after, processors_after, sent_after = fleet.usage(), psutil.cpu_times(), _traffic(fleet)
    rates = [min(_slope(stored[host]), _slope(logged[host])) for host in REPLICAS]
    per_second = statistics.mean(rates)
    cpu_us = {role: cores / per_second * 1e6 for role, cores in after.cores_since(usage).items()}
    idle = processors_after.idle - processors.idle + processors_after.iowait - processors.iowait
    all_ = sum(processors_after) - sum(processors) - (processors_after.guest - processors.guest)
    observations = per_second * (after.at - usage.at)
    readable_after = [
        since(_histogram(fleet, host), before) for host, before in zip(REPLICAS, readable, strict=True)
    ]
    return {
        "observationsPerSecond": per_second,
        "observationsPerSecondByReplica": rates,
        "cpuMicrosecondsPerObservation": sum(cpu_us.get(role, 0.0) for role in OURS),
        "cpuMicrosecondsPerObservationByRole": cpu_us,
        "networkBytesPerObservationByRole": {
            role: (count - sent[role]) / observations for role, count in sent_after.items()
        },
        "rssBytesByRole": after.rss_bytes,
        "hostCpuShare": 1 - idle / all_,
        "freshnessSecondsP99": statistics.median(fresh),
        "readableSecondsP99AtMost": max(quantile(buckets, 0.99) for buckets in readable_after),
    }


def _traffic(fleet: Spread) -> dict[str, int]:
    """Bytes in and out of the hosts of each role so far. What goes from one role to another counts at both."""
    by_host = traffic(fleet.hosts.values())
    counts: dict[str, int] = {}
    for one in fleet.running:
        counts[one.role] = counts.get(one.role, 0) + sum(by_host[one.host.name])
    return counts


def _slope(samples: Sequence[tuple[float, int]]) -> float:
    """Of the line through them, by least squares."""
    at, total = np.array(samples, np.float64).T
    return float(np.polyfit(at - at[0], total, 1)[0])


def _histogram(fleet: Spread, host: str) -> dict[float, float]:
    """The cumulative buckets of how soon observations were readable: upper bound -> count."""
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(fleet.read(host, "/metrics").decode())
        if family.name == READABLE
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }


def _check_alive(fleet: Spread) -> None:
    for one in fleet.running:
        if not one.alive:
            raise TidemarkError(f"{one.role} on {one.host.name} ended: {one.said()}")


def _stop_in_order(fleet: Spread) -> None:
    """First nobody orders more, then what was ordered is observed, then both replicas have stored the same."""
    for role in ("schedule", "poll"):
        for one in fleet.running:
            if one.role == role:
                one.stop()
    fleet.until(lambda: _agree(fleet), "the same in both replicas", DRAIN_SECONDS_MAX)


def _agree(fleet: Spread) -> bool:
    one, other = (fleet.get(host, "/v1/stats") for host in REPLICAS)
    same = ("observationsTotal", "averageFollowerCount", "observed")
    return one["lagBatches"] == other["lagBatches"] == 0 and all(one[name] == other[name] for name in same)


HEADINGS: Final = (
    "pollers",
    "limit/s",
    "stored/s",
    "of the limit",
    "CPU us",
    "poll",
    "nats",
    "serve",
    "schedule",
    "(API)",
    "freshness p99",
    "readable p99",
    "host busy",
)
"""CPU us: microseconds of CPU for an observation, of Tidemark in all and of each role; medians over the rounds."""


def rows(report: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row under HEADINGS for each number of pollers."""
    for pollers in sorted({run["pollers"] for run in report["runs"]}):
        runs = [run for run in report["runs"] if run["pollers"] == pollers]
        roles = [run["cpuMicrosecondsPerObservationByRole"] for run in runs]
        ratios = [run["ratioToLimit"] for run in runs]
        busy = max(run["hostCpuShare"] for run in runs)
        yield (
            str(pollers),
            f"{report['apiLimitPerSecond'] * pollers:,}",
            f"{_median(runs, 'observationsPerSecond'):,.0f}",
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})",
            f"{_median(runs, 'cpuMicrosecondsPerObservation'):.1f}",
            *(f"{_median(roles, role):.1f}" for role in ("poll", "nats", "serve", "schedule", "simulate")),
            f"{_median(runs, 'freshnessSecondsP99'):.1f} s",
            f"<= {_median(runs, 'readableSecondsP99AtMost'):.2f} s",
            f"{busy:.0%}{' (the limit)' if busy >= BUSY_SHARE else ''}",
        )


def _median(of: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.median(one.get(name, 0.0) for one in of)


def law_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What the law says, a line for each coefficient; and what an observation costs."""
    if law := report["usl"]:
        for name, text in (("lambda", "/s of one poller"), ("sigma", "contention"), ("kappa", "coherence")):
            found = law[name]
            yield f"{name} {found['value']:.5g} ({found['low']:.5g} to {found['high']:.5g}) {text}"
    if cost := report["cpu"]:
        fixed, each = cost["fixedCores"], cost["microsecondsPerObservation"]
        yield f"CPU {fixed:.2f} cores for a fleet that is there, and {each:.1f} us for each observation"
        beyond = "; ".join(f"{pollers}: {us:.1f}" for pollers, us in _beyond(report["runs"], fixed))
        yield f"without those cores, us for each observation by pollers: {beyond}"


def _beyond(runs: Sequence[Mapping[str, Any]], fixed_cores: float) -> Iterator[tuple[int, float]]:
    """By number of pollers, the microseconds of CPU for an observation without those of a fleet that is there."""
    for pollers in sorted({run["pollers"] for run in runs}):
        yield (
            pollers,
            statistics.median(
                run["cpuMicrosecondsPerObservation"] - fixed_cores * 1e6 / run["observationsPerSecond"]
                for run in runs
                if run["pollers"] == pollers
            ),
        )


def show(report: Mapping[str, Any]) -> None:
    """Print the rows and the law."""
    title = f"scale: {report['rounds']} round(s) of {report['seconds']:.0f} s on {report['cores']} cores"
    table = Table(title=title, title_justify="left")
    for name in HEADINGS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows(report):
        table.add_row(*row)
    console = Console(width=TABLE_CHARACTERS)
    console.print(table)
    for line in law_lines(report):
        console.print(f"  {line}")


def markdown(report: Mapping[str, Any]) -> str:
    """The same, for docs/scaling.md."""
    lines = [
        f"{report['rounds']} round(s) of {report['seconds']:.0f} s, {report['pipeline']} pipelined,"
        f" seed {report['seed']}, {report['cores']} cores:",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---:|' * len(HEADINGS)}",
        *(f"| {' | '.join(row)} |" for row in rows(report)),
        "",
        *(f"- {line}" for line in law_lines(report)),
    ]
    return "\n".join(lines) + "\n"


def parse_sizes(text: str) -> list[int]:
    """Numbers of pollers, `1,2,4,8`. Raises CallerError."""
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or len(set(sizes)) < len(sizes) or not all(1 <= size <= 64 for size in sizes):
        raise CallerError(f"{text!r} are no numbers of pollers: write them as 1,2,4,8, each from 1 to 64")
    return sizes
