from __future__ import annotations

import re
import time

import numpy as np
import pyarrow as pa
import pytest

from tidemark.population import Population
from tidemark.store import sql
from tidemark.store.clickhouse import Store
from tidemark.store.rollups import Rollups

from .conftest import DAY_S, MONDAY_S, History
from .test_clickhouse import everybody

TAKEN_AT = int(time.time()) // 600 * 600
"""Snapshots are kept for a day."""

PARAMETERS = {
    "taken_at": TAKEN_AT,
    "pk": 1,
    "since": MONDAY_S,
    "from": MONDAY_S,
    "to": MONDAY_S + DAY_S,
    "limit": 100,
    "offset": 0,
    "step": "1h",
    "step_s": 60,
    "closed_until": MONDAY_S + 3_600,
    "reopened": [MONDAY_S],
    "first_pk": 0,
    "last_pk": 9,
    "after_pk": 0,
    "after": 0,
    "table": "observations",
}


def ask(store: Store, name: str) -> pa.Table:
    wanted = set(re.findall(r"\{(\w+):", sql.named("queries.sql")[name]))
    return store.query(name, {key: value for key, value in PARAMETERS.items() if key in wanted})


def test_every_question_runs_as_it_stands_in_an_empty_and_in_a_full_store(
    store: Store, history: History
) -> None:
    for name in sql.named("queries.sql"):
        ask(store, name)
    store.insert_observations(*history.add(np.arange(10)[:, None], MONDAY_S + np.arange(0, 2 * DAY_S, 1_800)))
    store.insert_usernames(np.array([1], np.uint32), pa.array(["anna"]), np.array([MONDAY_S], np.uint32))
    store.insert_average(MONDAY_S, 10, 5.5)
    store.insert_verdicts(np.array([1], np.uint32), np.array([MONDAY_S], np.uint32), np.array([True]))
    store.replace_influencers([everybody(10, 5)])
    store.insert_snapshot(TAKEN_AT, np.arange(10, dtype=np.uint32), np.arange(10, dtype=np.uint32))
    work = Rollups(store, Population(0, 9))
    while work.run().hours_closed:
        pass
    store.insert_observations(*history.add(1, MONDAY_S + 7))
    assert ask(store, "damaged_parts").num_rows == 0, "nothing is damaged: test_clickhouse.py damages files"
    for name in sql.named("queries.sql").keys() - {"damaged_parts"}:
        assert ask(store, name).num_rows > 0, name


def test_rank_and_average_from_the_history(store: Store) -> None:
    """Equals share a rank, and only the latest observation of each counts."""
    pk = np.arange(6, dtype=np.uint32)
    followers = np.array([10, 30, 30, 20, 10, 40], np.uint32)
    store.insert_observations(pk, np.full(6, MONDAY_S, np.uint32), followers + np.uint32(7), pk)
    store.insert_observations(pk, np.full(6, MONDAY_S + 60, np.uint32), followers, pk)
    ranks = [
        store.query("rank_by_pk_now", {"pk": number, "since": MONDAY_S})["rank"].to_pylist()[0]
        for number in pk.tolist()
    ]
    assert ranks == [5, 2, 2, 4, 5, 1]
    average = store.query("average_now", {"since": MONDAY_S})
    assert average.to_pylist() == [
        {"influencers": 6, "average_follower_count": pytest.approx(followers.mean())}
    ]
    (latest,) = store.query("latest_observation_by_pk", {"pk": 2, "since": MONDAY_S}).to_pylist()
    assert (latest["follower_count"], latest["follower_ratio"]) == (30, 15.0)
    (latest,) = store.query("latest_observation_by_pk", {"pk": 0, "since": MONDAY_S}).to_pylist()
    assert latest["follower_ratio"] is None


FOLLOWERS = [50, 70, 70, 50, 90, 10, 50]
SUSPICIOUS = [None, True, False, False, True, None, True]
RANKS = [4, 2, 2, 4, 1, 7, 4]
RANKS_WITHOUT_SUSPICIOUS = {2: 1, 0: 2, 3: 2, 5: 4}
"""Of who is left, in the order of the leaderboard."""


def seven() -> pa.RecordBatch:
    """Seven influencers with ties, three of them suspicious and two not classified yet."""
    rows = [
        row | {"follower_count": followers, "rank": rank, "suspicious": suspicious}
        for row, followers, rank, suspicious in zip(
            everybody(7, 0).to_pylist(), FOLLOWERS, RANKS, SUSPICIOUS, strict=True
        )
    ]
    return pa.RecordBatch.from_pylist(rows, schema=everybody(7, 0).schema)


def test_the_leaderboard_with_and_without_the_suspicious(store: Store) -> None:
    store.replace_influencers([seven()])
    page = {"limit": 100, "offset": 0}
    assert store.query("leaderboard", page)["pk"].to_pylist() == [4, 1, 2, 0, 3, 6, 5]
    assert store.query("leaderboard", {"limit": 2, "offset": 3})["pk"].to_pylist() == [0, 3]
    without = store.query("leaderboard_without_suspicious", page)
    assert without["pk"].to_pylist() == list(RANKS_WITHOUT_SUSPICIOUS)
    assert without["rank"].to_pylist() == [RANKS[pk] for pk in RANKS_WITHOUT_SUSPICIOUS]
    ranked = store.query("ranks_without_suspicious", page)
    assert (
        dict(zip(ranked["pk"].to_pylist(), ranked["rank_without_suspicious"].to_pylist(), strict=True))
        == RANKS_WITHOUT_SUSPICIOUS
    )
    assert store.query("verdicts").to_pylist() == [{"suspicious": 3, "not_suspicious": 2, "unknown": 2}]
    assert [store.query("rank_by_pk", {"pk": pk})["rank"].to_pylist() for pk in range(7)] == [
        [rank] for rank in RANKS
    ]
    # Whoever is suspicious gets the rank they would have.
    would_have = RANKS_WITHOUT_SUSPICIOUS | {4: 1, 1: 1, 6: 2}
    for pk, rank in would_have.items():
        found = store.query("rank_without_suspicious_by_pk", {"pk": pk}).to_pylist()
        assert found == [{"known": 1, "rank_without_suspicious": rank}], pk
    (unknown,) = store.query("rank_without_suspicious_by_pk", {"pk": 99})["known"].to_pylist()
    assert unknown == 0


def test_the_state_of_the_rollups_is_that_of_one_influencer(store: Store, history: History) -> None:
    store.insert_observations(*history.add([[1], [2]], MONDAY_S + np.array([0, DAY_S])))
    work = Rollups(store, Population(0, 9))
    while work.run().hours_closed:
        pass
    store.insert_observations(*history.add(1, MONDAY_S + 7))

    def state(pk: int) -> tuple[int, list[int]]:
        (found,) = store.query("rollup_state", {"pk": pk, "step": "1h"}).to_pylist()
        return found["closed_until"], found["reopened"]

    closed = {row["step"]: row["closed_until_s"] for row in store.query("rollup_progress").to_pylist()}
    assert closed["1h"] >= MONDAY_S + 3_600
    assert state(1) == (closed["1h"], [MONDAY_S])
    assert state(2) == (closed["1h"], []), "only who was written to is read from the observations"


def test_every_table_is_durable(store: Store) -> None:
    definitions = store.query("table_definitions").to_pylist()
    tables = [row for row in definitions if "MergeTree" in row["definition"]]
    assert len(tables) > 10
    for row in tables:
        assert "fsync_after_insert = 1, fsync_part_directory = 1" in row["definition"], row["name"]
