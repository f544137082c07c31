"""Hosts come, go, die and are cut off: nobody is left out, nothing is lost, and the replicas stay one.

One fleet for all of them, because to start it takes longer than most. Each test leaves it whole.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.acceptance.test_pipeline import is_subsequence
from tests.faults.conftest import (
    EXTRA_CALLS_MAX,
    FIRST,
    LAST,
    POLLERS,
    REPLICAS,
    SCHEDULERS,
    Fleet,
    Witness,
    now_ms,
    slots_since,
    stop_all,
    store_of,
)
from tidemark.messages import Batch
from tidemark.store.clickhouse import Store

pytestmark = pytest.mark.timeout(600)
"""For what takes a minute on an idle machine."""

ALL = "SELECT pk, toUnixTimestamp(observed_at) AS at, follower_count, following_count FROM observations ORDER BY pk, at"


def test_pollers_come_and_go_and_die_and_are_cut_off(fleet: Fleet) -> None:
    since_ms, asked = now_ms(), fleet.calls()
    for host in ("p2", "p3"):
        fleet.start(host)
    fleet.works("p2", "p3")
    fleet.running["p2"].kill()
    fleet.spread.hosts["p3"].unplug()
    fleet.goes_on(*REPLICAS)
    fleet.spread.hosts["p3"].plug()
    fleet.works("p3")
    assert fleet.running["p1"].stop() == 0, "in order"
    fleet.goes_on(*REPLICAS)
    fleet.check_nobody_was_left_out(since_ms)
    fleet.check_nobody_was_asked_too_often(asked, slots_since(since_ms))
    for host in ("p1", "p2"):
        fleet.start(host)
    fleet.works("p1", "p2")


def test_the_leader_of_the_log_is_killed_and_the_next_is_cut_off(fleet: Fleet, tmp_path: Path) -> None:
    fleet.all_in_step()
    since_ms, asked = now_ms(), fleet.calls()
    with Witness(fleet, tmp_path / "acknowledged") as witness:
        killed = fleet.leader()
        fleet.running[killed].kill()
        fleet.goes_on(*REPLICAS)
        fleet.start(killed)
        fleet.all_in_step()
        cut_off = fleet.leader()
        fleet.spread.hosts[cut_off].unplug()
        fleet.goes_on(*REPLICAS)
        fleet.leader(other_than=cut_off)
        fleet.spread.hosts[cut_off].plug()
        fleet.all_in_step()
    fleet.check_nobody_was_left_out(since_ms)
    fleet.check_nobody_was_asked_too_often(asked, slots_since(since_ms))
    assert witness.acknowledged()
    assert witness.acknowledged() <= {batch.tick_id for batch in fleet.log()}


def test_a_replica_is_killed_and_readers_go_on_at_the_other(fleet: Fleet) -> None:
    fleet.running["s1"].kill()
    before = fleet.stored("s2")
    fleet.goes_on("s2")
    assert fleet.spread.get("s2", f"/v1/influencers/{FIRST}")["rank"] >= 1
    fleet.start("s1")
    fleet.spread.await_ready(fleet.running["s1"])
    fleet.until(lambda: fleet.stored("s1") > before, "what the replica missed")


def test_every_process_is_restarted_machine_by_machine(fleet: Fleet) -> None:
    since_ms = now_ms()
    for machine in (("c1", "p1", "s1", "n1"), ("c2", "p2", "s2", "n2"), ("p3", "n3")):
        fleet.all_in_step()
        stop_all(fleet, machine)
        for host in machine:
            fleet.start(host)
        fleet.works(*(host for host in machine if host[0] in "cp"))
        fleet.spread.await_ready(*(fleet.running[host] for host in machine if host[0] == "s"))
    fleet.goes_on(*REPLICAS)
    fleet.check_nobody_was_left_out(since_ms)


def test_nothing_was_lost_and_the_replicas_agree_exactly(fleet: Fleet) -> None:
    stop_all(fleet, [*SCHEDULERS, *POLLERS])
    batches = fleet.log()
    assert len({batch.tick_id for batch in batches}) == len(batches), "no tick counts twice"
    logged = len({row[:2] for row in rows_of(batches)})
    fleet.until(
        lambda: all(fleet.stored(host) == logged for host in REPLICAS), "all of the log in both replicas"
    )
    for path in answers():  # the view that readers see follows the store
        fleet.until(lambda path=path: agree(fleet, path), f"one answer of both replicas to {path}")
    stop_all(fleet, REPLICAS)
    tables = [table_of(fleet, host) for host in REPLICAS]
    assert tables[0].equals(tables[1])
    check_the_log_is_stored(rows(tables[0]), batches)
    check_the_api_said_so(fleet, tables[0])


def agree(fleet: Fleet, path: str) -> bool:
    """Whether both replicas say the same."""
    one, other = (timeless(fleet.spread.get(host, path)) for host in REPLICAS)
    return bool(one == other)


def answers() -> list[str]:
    """What readers ask for."""
    some = range(FIRST, LAST + 1, 97)
    return [
        "/v1/stats",
        "/v1/leaderboard?limit=1000",
        f"/v1/leaderboard?around={FIRST + 1_234}",
        *(f"/v1/influencers/{pk}" for pk in some),
        *(f"/v1/influencers/{pk}/series?step=raw" for pk in some),
        *(f"/v1/influencers/{pk}/series?step=1m" for pk in some),
    ]


def timeless(answer: Any) -> Any:
    """Without what depends on when it was asked, or since when the replica runs."""
    passing = (
        "asOf",
        "freshnessSeconds",
        "coverage",
        "observationsPerSecond",
        "from",
        "to",
        "classification",
    )
    return {name: value for name, value in answer.items() if name not in passing}


def table_of(fleet: Fleet, host: str) -> pa.Table:
    """The whole table of a replica that was stopped."""
    store = Store.open(f"chdb://{store_of(fleet, host)}")
    try:
        with store._reader() as handle:
            return handle.ask(ALL, None)
    finally:
        store.close()


def rows(table: pa.Table) -> list[tuple[int, ...]]:
    """(pk, second, followers, followings)."""
    return list(zip(*(table.column(i).to_pylist() for i in range(4)), strict=True))


def rows_of(batches: list[Batch]) -> set[tuple[int, ...]]:
    """The same of batches."""
    return {
        row
        for batch in batches
        for row in zip(
            batch.pk.tolist(),
            (batch.observed_at_ms // 1_000).tolist(),
            batch.follower_count.tolist(),
            batch.following_count.tolist(),
            strict=True,
        )
    }


def check_the_log_is_stored(stored: list[tuple[int, ...]], batches: list[Batch]) -> None:
    """Each observation that was acknowledged to a poller is in the store, once, and nothing else is.

    Of two of the same influencer in the same second - one that came late, and the next - one is kept.
    """
    on_the_log = rows_of(batches)
    seconds = [row[:2] for row in stored]
    assert len(set(seconds)) == len(seconds)
    assert set(seconds) == {row[:2] for row in on_the_log}
    assert set(stored) <= on_the_log


def check_the_api_said_so(fleet: Fleet, table: pa.Table) -> None:
    """Each observation is an answer that the API gave, in the order in which it gave them.

    Only where somebody was asked twice at once, by two pollers of which one was cut off or stalled, the answer that was
    given first may have come last.
    """
    by_pk: dict[int, list[tuple[int, int]]] = {}
    for pk, _, followers, followings in rows(table):
        by_pk.setdefault(pk, []).append((followers, followings))
    assert len(by_pk) == LAST - FIRST + 1
    for pk, observed in by_pk.items():
        given = fleet.api.record.given[pk]
        assert Counter(observed) <= Counter(given), pk
        assert any(
            is_subsequence([one for i, one in enumerate(observed) if i not in late], given)
            for count in range(EXTRA_CALLS_MAX + 1)
            for late in combinations(range(len(observed)), count)
        ), pk
