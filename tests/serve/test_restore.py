"""What does a board know after a restart?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tidemark.board import Board
from tidemark.board.table import record_batches
from tidemark.messages import string_array
from tidemark.population import Population
from tidemark.serve.role import restore
from tidemark.store.clickhouse import Store

POPULATION = Population(1_000, 1_009)
NOW_S = int(time.time()) // 60 * 60 - 600


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"chdb://{tmp_path}/store")
    yield store
    store.close()


def test_what_came_after_the_last_minute_is_restored_also_when_a_poller_was_ahead(
    store: Store,
) -> None:
    board, pk = Board(POPULATION), np.array([1_000, 1_001], np.uint32)
    at = np.array([NOW_S + 1_800, NOW_S - 5], np.uint32)
    board.restore(pk, pk, pk, at)
    view = board.publish(NOW_S * 1_000)
    store.replace_influencers(record_batches(view))
    store.insert_average(NOW_S, view.total, 1.0)
    # Between that and a kill:
    store.insert_observations(pk[1:], at[1:] + 6, np.array([99], np.uint32), pk[1:])
    store.insert_verdicts(pk[1:], at[1:] + 6, np.array([True]))
    restored = Board(POPULATION)
    restore(restored, store, 60, 86_400)
    latest = restored.view.latest(1_001)
    assert latest is not None
    assert (latest.follower_count, latest.suspicious) == (99, True)


def test_who_was_not_watched_for_a_while_is_restored(store: Store) -> None:
    now_s = int(time.time())
    pk = np.array([1_000, 1_001], np.uint32)
    store.insert_observations(pk, np.array([now_s - 10, now_s - 3_000], np.uint32), pk, pk)
    fewer = Board(Population(1_000, 1_000))
    restore(fewer, store, 3_600, 86_400)
    store.replace_influencers(record_batches(fewer.view))
    store.insert_average(now_s, fewer.view.total, 1.0)
    wider = Board(POPULATION)
    restore(wider, store, 3_600, 86_400)
    assert [one.pk for one in wider.view.leaderboard(10)] == [1_001, 1_000]


def test_the_board_is_restored_from_the_store(store: Store) -> None:
    pk = np.arange(1_000, 1_009, dtype=np.uint32)
    followers = np.array([100, 300, 300, 200, 5, 5, 5, 5, 0], np.uint32)
    at = np.full(9, NOW_S, np.uint32)
    store.insert_usernames(pk, string_array([f"influencer-{number}" for number in pk]), at)
    store.insert_observations(pk, at, followers, pk)
    board = Board(POPULATION)
    restore(board, store, 60, 86_400)
    latest = board.view.latest(1_003)
    assert latest is not None
    assert (latest.username, latest.follower_count, latest.rank) == ("influencer-1003", 200, 3)
    assert board.view.latest(1_009) is None
