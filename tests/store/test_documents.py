"""The SQL of the documents runs as it stands, and says what its comments say."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tidemark.store.clickhouse import Store

from .test_clickhouse import everybody
from .test_queries import RANKS, RANKS_WITHOUT_SUSPICIOUS, seven

DOCUMENTS = Path(__file__).parents[2] / "docs"
HOUR_S = 3_600


def statements(document: str) -> list[str]:
    """All SQL of a document, without the choice of the database, which a store has made."""
    blocks = re.findall(r"```sql\n(.*?)```", (DOCUMENTS / document).read_text(), re.DOTALL)
    found = [text.strip() for block in blocks for text in block.split(";\n")]
    return [text for text in found if text and text != "USE tidemark"]


def ask(store: Store, statement: str) -> pa.Table:
    with store._reader() as handle:
        return handle.ask(statement)


def gains(store: Store) -> pa.Table:
    (statement,) = [text for text in statements("database.md") if "follower_snapshots" in text]
    return ask(store, statement)


@pytest.mark.parametrize("document", ["database.md", "classification.md"])
def test_all_of_it_runs(store: Store, document: str) -> None:
    store.replace_influencers([everybody(10, 5)])
    found = statements(document)
    assert found
    for statement in found:
        ask(store, statement)


@pytest.mark.parametrize("document", ["database.md", "classification.md"])
def test_the_ranks_without_the_suspicious_are_among_who_is_left(store: Store, document: str) -> None:
    store.replace_influencers([seven()])
    (statement,) = [text for text in statements(document) if "rank_without_suspicious" in text]
    found = ask(store, statement)
    ranks = dict(zip(found["pk"].to_pylist(), found["rank_without_suspicious"].to_pylist(), strict=True))
    assert list(ranks.items()) == list(RANKS_WITHOUT_SUSPICIOUS.items())
    assert found["rank"].to_pylist() == [RANKS[pk] for pk in ranks]


def test_gains_are_against_a_snapshot_of_an_hour_ago_or_nothing(store: Store) -> None:
    now = int(time.time())
    pk = np.arange(10, dtype=np.uint32)
    store.replace_influencers([everybody(10, 5)])
    store.insert_snapshot(now - 60, pk, np.zeros(10, np.uint32))
    assert gains(store).num_rows == 0
    store.insert_snapshot(now - HOUR_S - 60, pk, np.zeros(10, np.uint32))
    store.insert_snapshot(now - HOUR_S - 60, pk[:1], np.zeros(1, np.uint32))  # once more, after a failure
    found = gains(store)
    assert sorted(found["pk"].to_pylist()) == pk.tolist()
    assert found["follower_gain"].to_pylist() == found["follower_count"].to_pylist()
