"""The columns: newest wins, sums stay exact, what changed is remembered."""

from collections.abc import Callable

import numpy as np
import pytest

from tidemark.board.latest import UNKNOWN, LatestColumns, Newer, Values
from tidemark.board.memory import Spares
from tidemark.messages import Batch
from tidemark.population import Population

POPULATION = Population(100, 119, shard_size=5)
BatchOf = Callable[..., Batch]


@pytest.fixture
def columns() -> LatestColumns:
    return LatestColumns(POPULATION)


def put(columns: LatestColumns, batch: Batch) -> Newer:
    slots, rows = columns.find(batch.pk)
    return columns.put(
        slots, batch.observed_at_ms[rows], batch.follower_count[rows], batch.following_count[rows]
    )


def rows(*pks: int, at: int = 1_000, followers: int = 10) -> list[tuple[int, int, int, int, str]]:
    return [(pk, at, followers, 2, "x") for pk in pks]


@pytest.mark.parametrize("pks", [range(100, 105), range(100, 120), [100, 102, 119], [107]])
def test_a_batch_is_applied_once(columns: LatestColumns, batch_of: BatchOf, pks: list[int]) -> None:
    batch = batch_of(rows(*pks))
    assert len(put(columns, batch)) == len(pks)
    assert len(put(columns, batch)) == 0
    assert columns.follower_sum == 10 * len(pks)


def test_a_late_batch_changes_only_what_is_older(columns: LatestColumns, batch_of: BatchOf) -> None:
    put(columns, batch_of(rows(101, 103, at=2_000, followers=7)))
    newer = put(columns, batch_of(rows(*range(100, 105), at=1_999)))
    assert np.asarray(newer.rows).tolist() == [0, 2, 4]
    assert np.asarray(newer.slots).tolist() == [0, 2, 4]
    assert columns.follower_sum == 44
    newer = put(columns, batch_of(rows(101, 104, at=2_000, followers=1)))
    assert np.asarray(newer.slots).tolist() == [4]
    assert columns.follower_sum == 35


@pytest.mark.parametrize(
    ("pks", "inside"),
    [([98, 99, 100, 101], 2), ([118, 119, 120], 2), ([1, 2], 0), ([500], 0), ([99, 105, 130], 1)],
)
def test_pks_outside_the_population_are_ignored(
    columns: LatestColumns, batch_of: BatchOf, pks: list[int], inside: int
) -> None:
    assert len(put(columns, batch_of(rows(*pks)))) == inside
    assert columns.follower_sum == 10 * inside


def test_an_empty_batch_is_nothing(columns: LatestColumns, batch_of: BatchOf) -> None:
    assert len(put(columns, batch_of([]))) == 0


def test_what_would_round_to_never_is_ignored(columns: LatestColumns, batch_of: BatchOf) -> None:
    assert len(put(columns, batch_of([(100, 999, 1, 1, "x"), (101, 1_000, 1, 1, "x")]))) == 1
    assert columns.follower_sum == 1


def test_the_sum_is_exact_where_a_float_is_not(columns: LatestColumns, batch_of: BatchOf) -> None:
    put(columns, batch_of(rows(*range(100, 120), followers=2**32 - 1)))
    put(columns, batch_of(rows(100, at=2_000, followers=2**32 - 2)))
    assert columns.follower_sum == 20 * (2**32 - 1) - 1


def test_changes_are_taken_once_and_hold_the_values_of_that_moment(
    columns: LatestColumns, batch_of: BatchOf
) -> None:
    put(columns, batch_of(rows(110, 102)))
    changes = columns.take_changes()
    put(columns, batch_of(rows(102, at=3_000, followers=99)))
    assert changes.indices.tolist() == [2, 10]
    assert changes.follower_count.tolist() == [10, 10]
    assert changes.verdict is None
    assert changes.follower_sum == 20
    assert columns.take_changes().indices.tolist() == [2]
    assert columns.take_changes().indices.tolist() == []


def test_newer_verdicts_win(columns: LatestColumns) -> None:
    def check(suspicious: list[bool], at: list[int]) -> int:
        return columns.put_verdicts(slice(3, 5), np.array(suspicious), np.array(at, np.uint32))

    assert check([True, False], [50, 50]) == 2
    assert check([False, True], [49, 51]) == 1
    assert check([False, False], [50, 51]) == 0
    changes = columns.take_changes()
    assert changes.indices.tolist() == [3, 4]
    assert changes.verdict is not None
    assert changes.verdict.tolist() == [1, 1]
    assert columns.take_changes().verdict is None


def test_values_share_what_did_not_change(columns: LatestColumns, batch_of: BatchOf) -> None:
    nothing = Values.nothing(POPULATION.size)
    memory = Spares()
    assert nothing.after(columns.take_changes(), memory) is nothing
    put(columns, batch_of(rows(101, at=1_999)))
    values = nothing.after(columns.take_changes(), memory)
    assert values.observed_at.tolist()[:3] == [0, 1, 0]
    assert values.verdict is nothing.verdict
    assert nothing.observed_at.tolist() == [0] * 20
    columns.put_verdicts(slice(0, 1), np.array([True]), np.array([9], np.uint32))
    later = values.after(columns.take_changes(), memory)
    assert later.verdict.tolist()[:2] == [1, UNKNOWN]
    with pytest.raises(ValueError, match="read-only"):
        later.verdict[0] = 0
