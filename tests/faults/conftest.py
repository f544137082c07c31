"""Tidemark on hosts of its own, of which any can die or be cut off; and an API that remembers what it answered."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import nats
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.conftest import Api
from tests.log.server import batches_on_the_log
from tidemark.bench import hosts
from tidemark.bench.spread import NATS_HOSTS, Running, Spread, spread
from tidemark.log import streams
from tidemark.messages import Batch
from tidemark.population import SHARD_SIZE_PKS

FIRST, SHARDS = 1_000_000, 5
"""A tick every 2.4 s. With one every 2 s, which is how long a poller waits for one before it asks anew, all may go to
one poller that has time for them."""
LAST = FIRST + SHARDS * SHARD_SIZE_PKS - 1
INTERVAL_S = 12
"""Longer than NATS takes to elect, as the minute of real use is: nobody misses a turn for that."""
METRICS_PORT = 9_100
SCHEDULERS = ("c1", "c2")
POLLERS = ("p1", "p2", "p3")
REPLICAS = ("s1", "s2")
PATIENCE_S = 100
"""For what takes seconds on an idle machine; nothing here passes or fails by its speed."""
SLOTS_MAX = 2
"""Intervals from one observation of an influencer to the next, at most, whatever happens in between."""
EXTRA_CALLS_MAX = 2
"""How often anybody is asked more than once an interval, in all: for two intervals at most."""


@dataclass
class Fleet:
    """Everything that runs, and what it is to have done."""

    spread: Spread
    api: Api
    running: dict[str, Running] = field(default_factory=dict)
    """By host: its one role of Tidemark, or its NATS server."""

    def start(self, host: str) -> None:
        """Start what belongs on this host."""
        watched = ("--influencers", f"{FIRST}-{LAST}", "--interval", str(INTERVAL_S))
        metrics = ("--host", self.spread.hosts[host].address, "--metrics-port", str(METRICS_PORT))
        match host[0]:
            case "n":
                self.running[host] = self.spread.start_nats_on(host)
            case "s":
                self.running[host] = self.spread.start_serve(host, *watched)
            case "c":
                self.running[host] = self.spread.start("schedule", host, *watched, *metrics)
            case _:
                self.running[host] = self.spread.start(
                    "poll", host, "--api", self.api.url, "--request-deadline", "20", *metrics
                )

    def until(self, reached: Any, what: str) -> None:
        """Wait for it, with patience."""
        self.spread.until(reached, what, PATIENCE_S)

    def stored(self, host: str) -> int:
        """Observations that a replica has stored."""
        total: int = self.spread.get(host, "/v1/stats")["observationsTotal"]
        return total

    def goes_on(self, *replicas: str) -> None:
        """Until as much more was observed as once everybody, as these replicas see it."""
        wanted = {host: self.stored(host) + (LAST - FIRST + 1) for host in replicas}
        self.until(
            lambda: all(self.stored(host) >= wanted[host] for host in replicas), "further observations"
        )

    def calls(self) -> dict[int, int]:
        """How often the API was asked about each."""
        return {pk: len(self.api.record.given[pk]) for pk in range(FIRST, LAST + 1)}

    def done(self, host: str) -> float:
        """How many ticks a scheduler, or batches a poller, has put on the log since it runs."""
        url = f"http://{self.spread.hosts[host].address}:{METRICS_PORT}/metrics"
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.spread.read_url(url).decode())
            for sample in family.samples
            if sample.name in ("tidemark_ticks_total", "tidemark_batches_total")
        )

    def works(self, *hosts: str) -> None:
        """Until each of these schedulers and pollers has done more than it had."""
        before = {}
        for host in hosts:
            try:
                before[host] = self.done(host)
            except OSError:
                before[host] = 0  # it has not begun
        self.until(lambda: all(self.done(host) > before[host] for host in hosts), f"work of {hosts}")

    def log(self) -> list[Batch]:
        """Every batch on the log: what was acknowledged to a poller."""
        found: list[Batch] = []

        def read() -> bool:
            found[:] = asyncio.run(self._batches())
            return True

        self.until(read, "every batch on the log")
        return found

    def leader(self, other_than: str = "") -> str:
        """The NATS host that leads the stream of the observations, as soon as there is one."""
        leads = ""

        def led() -> bool:
            nonlocal leads
            leads = asyncio.run(self._observations())[0]
            return leads not in ("", other_than)

        self.until(led, "a leader of the log")
        return leads

    def in_step(self) -> bool:
        """Whether all three NATS hosts have every stream and every reader's position as they are.

        As `/healthz` of each says. Before that another must not go: one that has just come back has no ticks, which
        are in memory, and does not count in an election about them.
        """
        return asyncio.run(self._observations())[1]

    def all_in_step(self) -> None:
        """Until then."""
        self.until(self.in_step, "a NATS cluster in step")

    async def _connected(self) -> Any:
        servers = self.spread.nats_urls
        try:
            return await nats.connect(servers, connect_timeout=2, max_reconnect_attempts=2, ping_interval=1)
        except nats.errors.Error as error:
            raise OSError(str(error)) from error

    async def _observations(self) -> tuple[str, bool]:
        client = await self._connected()
        try:
            jetstream = client.jetstream(timeout=5)
            infos: list[Any] = []
            for name in (streams.OBSERVATIONS, streams.TICKS, streams.CLASSIFICATIONS, streams.VERDICTS):
                infos += [await jetstream.stream_info(name), *await jetstream.consumers_info(name)]
            leader = infos[0].cluster.leader or ""
            return leader, all(_in_step(info.cluster) for info in infos)
        except nats.errors.Error as error:  # as long as they elect
            raise OSError(str(error)) from error
        finally:
            await client.close()

    async def _batches(self) -> list[Batch]:
        client = await self._connected()
        try:
            return await batches_on_the_log(client)
        except nats.errors.Error as error:  # as long as they elect
            raise OSError(str(error)) from error
        finally:
            await client.close()

    def due(self) -> dict[int, list[int]]:
        """By pk: when the observations on the log were due, in Unix milliseconds."""
        due: dict[int, list[int]] = {pk: [] for pk in range(FIRST, LAST + 1)}
        for batch in self.log():
            due_ms = int(batch.tick_id.rpartition("@")[2].partition("+")[0])
            for pk in batch.pk.tolist():
                due[pk].append(due_ms)
        return due

    def check_nobody_was_left_out(self, since_ms: float) -> None:
        """Nobody has a gap of more than two intervals, by when the observations were due, since then.

        By the timetable and not by the clock: a slow machine observes late, but leaves nobody out. Who is left out
        for good has no second end of a gap: so first everybody is observed once more.
        """
        newest_ms = max(max(times, default=0) for times in self.due().values())
        due: dict[int, list[int]] = {}

        def once_more() -> bool:
            due.update(self.due())
            return all(max(times, default=0) >= newest_ms for times in due.values())

        self.until(once_more, "another observation of everybody")
        for pk, times in due.items():
            seen = sorted({at for at in times if at >= since_ms - SLOTS_MAX * INTERVAL_S * 1_000})
            assert len(seen) > 1
            gaps = [(after - before) / 1_000 / INTERVAL_S for before, after in pairwise(seen)]
            assert max(gaps) <= SLOTS_MAX, f"{pk} was left out: intervals {gaps}"

    def check_nobody_was_asked_too_often(self, before: dict[int, int], slots: int) -> None:
        """Since `before`, in so many intervals, everybody was asked once in each, but for two of them."""
        asked = {pk: count - before[pk] for pk, count in self.calls().items()}
        assert max(asked.values()) <= slots + EXTRA_CALLS_MAX


def _in_step(cluster: Any) -> bool:
    """Whether a stream or a consumer has a leader, and two more servers that are as far."""
    replicas = (cluster and cluster.replicas) or []
    return bool(
        cluster
        and cluster.leader
        and len(replicas) == 2
        and all(one.current and not one.offline for one in replicas)
    )


class Witness:
    """A program that puts numbered batches on the log, and writes down what was acknowledged (witness.py)."""

    def __init__(self, fleet: Fleet, path: Path) -> None:
        self._path = path
        program = Path(__file__).with_name("witness.py")
        self._command = [sys.executable, str(program), *fleet.spread.nats_urls]

    def __enter__(self) -> Witness:
        with self._path.open("w") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()

    def acknowledged(self) -> set[str]:
        """The ids of the batches."""
        return {line for line in self._path.read_text().splitlines() if line.startswith("witness ")}


def now_ms() -> float:
    """Unix milliseconds."""
    return time.time() * 1_000


def slots_since(since_ms: float) -> int:
    """How many ticks a shard had since then, at most."""
    return int((now_ms() - since_ms) / 1_000 / INTERVAL_S) + 1


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """NATS on three hosts, two schedulers, a poller, two replicas; hosts for two pollers more."""
    if reason := hosts.impossible():
        pytest.skip(reason)
    with spread(tmp_path_factory.mktemp("fleet"), *SCHEDULERS, *POLLERS, *REPLICAS) as made:
        api = Api(FIRST, LAST, host=made.hosts["p1"].computer)
        try:
            fleet = Fleet(made, api)
            for host in (*NATS_HOSTS, *REPLICAS, *SCHEDULERS, "p1"):
                fleet.start(host)
            made.await_ready(*(fleet.running[host] for host in REPLICAS))
            fleet.until(lambda: all(covered(fleet, host) for host in REPLICAS), "everybody's observation")
            yield fleet
        finally:
            api.stop()


def covered(fleet: Fleet, host: str) -> bool:
    """Whether everybody was observed."""
    stats = fleet.spread.get(host, "/v1/stats")
    return bool(stats["observed"] == stats["influencers"])


def stop_all(fleet: Fleet, hosts: Sequence[str]) -> None:
    """In order; each says that it had nothing to complain of."""
    for host in hosts:
        if fleet.running[host].alive:
            assert fleet.running[host].stop() == 0, fleet.running[host].said()


def store_of(fleet: Fleet, host: str) -> Path:
    """The folder of a replica's store."""
    return fleet.spread.folder / host / "store"
