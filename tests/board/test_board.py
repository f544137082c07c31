"""The whole board against a model that is too simple to be wrong."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark.board import Board, Latest, View
from tidemark.messages import Batch
from tidemark.population import Population

POPULATION = Population(100, 118, shard_size=5)
PKS = st.integers(97, 121)
"""Some are not watched."""
COUNTS = st.sampled_from([0, 0, 1, 2, 1_000, 2**32 - 1])
TIMES = st.integers(1_000, 9_999)
NAMES = st.sampled_from(["ann", "bob", "数据", "🌊"])
ROW = st.tuples(TIMES, COUNTS, COUNTS, NAMES)
RUNS = st.builds(lambda first, rows: dict(enumerate(rows, first)), PKS, st.lists(ROW, max_size=12))
ROWS = st.dictionaries(PKS, ROW) | RUNS
STEPS = st.one_of(
    st.tuples(st.just("apply"), ROWS),
    st.tuples(st.just("again"), st.none()),
    st.tuples(st.just("restore"), ROWS),
    st.tuples(st.just("verdicts"), st.dictionaries(PKS, st.tuples(st.booleans(), st.integers(0, 9)))),
    st.tuples(st.just("publish"), st.none()),
)


@dataclass
class Model:
    """Dictionaries, and every answer counted out from all of them."""

    rows: dict[int, tuple[int, int, int, str | None]] = field(default_factory=dict)
    verdicts: dict[int, tuple[bool, int]] = field(default_factory=dict)
    restored: set[int] = field(default_factory=set)
    """Whose time is known to the second only: what is observed in it is newer."""

    def apply(self, rows: dict[int, tuple[int, int, int, str]]) -> list[int]:
        renamed = []
        for pk, row in sorted(rows.items()):
            at, *_, name = self.rows.get(pk, (-1, None))
            if pk in POPULATION and row[0] >= at + (pk not in self.restored):
                if name != row[3]:
                    renamed.append(pk - POPULATION.first)
                self.rows[pk] = row
                self.restored.discard(pk)
        return renamed

    def restore(self, rows: dict[int, tuple[int, int, int, str]]) -> int:
        count = 0
        for pk, (at, followers, followings, _) in rows.items():
            known_at, *_, name = self.rows.get(pk, (-1, None))
            if pk in POPULATION and at // 1_000 * 1_000 > known_at:
                self.rows[pk] = (at // 1_000 * 1_000, followers, followings, name)
                self.restored.add(pk)
                count += 1
        return count

    def check(self, verdicts: dict[int, tuple[bool, int]]) -> None:
        for pk, (suspicious, at) in verdicts.items():
            if pk in POPULATION and at > self.verdicts.get(pk, (False, 0))[1]:
                self.verdicts[pk] = (suspicious, at)

    def latest(self, pk: int) -> Latest:
        at, followers, followings, name = self.rows[pk]
        more = sum(other[1] > followers for other in self.rows.values())
        fewer = sum(other[1] < followers for other in self.rows.values())
        suspicious, checked_at = self.verdicts.get(pk, (None, None))
        return Latest(
            pk=pk,
            username=name,
            follower_count=followers,
            following_count=followings,
            follower_ratio=followers / followings if followings else None,
            rank=1 + more,
            percentile=100.0 * fewer / (fewer + more) if fewer + more else 100.0,
            suspicious=suspicious,
            suspicious_checked_at=checked_at,
            observed_at=at // 1000,
        )

    def leaderboard(self) -> list[Latest]:
        return [self.latest(pk) for pk in sorted(self.rows, key=lambda pk: (-self.rows[pk][1], pk))]


def column(rows: list[tuple[Any, ...]], place: int, dtype: Any) -> np.ndarray:
    return np.array([row[place] for row in rows], dtype)


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=25), st.integers(0, 20), st.integers(1, 20))
def test_the_board_against_a_model(
    batch_of: Callable[..., Batch], steps: list[tuple[str, Any]], offset: int, limit: int
) -> None:
    board, model = Board(POPULATION), Model()
    last: dict[int, tuple[int, int, int, str]] = {}
    views: list[tuple[View, list[Latest]]] = []
    for step, what in [*steps, ("publish", None)]:
        match step:
            case "apply" | "again":
                last = last if step == "again" else what
                renamed = board.apply(batch_of([(pk, *row) for pk, row in last.items()]))
                assert renamed.tolist() == model.apply(last)
            case "restore":
                rows = [(pk, row[0] // 1000, *row[1:]) for pk, row in what.items()]
                restored = board.restore(
                    column(rows, 0, np.uint32),
                    column(rows, 2, np.uint64),
                    column(rows, 3, np.uint32),
                    column(rows, 1, np.uint32),
                )
                assert restored == model.restore(what)
            case "verdicts":
                verdicts = [(pk, *verdict) for pk, verdict in what.items()]
                board.apply_verdicts(
                    column(verdicts, 0, np.int64),
                    column(verdicts, 1, np.bool_),
                    column(verdicts, 2, np.int64),
                )
                model.check(what)
            case _:
                view, expected = board.publish(1), model.leaderboard()
                assert view.leaderboard(100) == expected
                assert view.leaderboard(limit, offset) == expected[offset : offset + limit]
                assert view.total == len(expected)
                assert view.follower_sum == sum(one.follower_count for one in expected)
                for place, one in enumerate(expected):
                    assert view.latest(one.pk) == one
                    start = max(min(place - limit // 2, len(expected) - limit), 0)
                    assert view.around(one.pk, limit) == expected[start : start + limit]
                views.append((view, [unnamed(one) for one in expected]))
    for view, then in views:
        assert [unnamed(one) for one in view.leaderboard(100)] == then, "a view must not change"


def unnamed(latest: Latest) -> Latest:
    """Without the name: that is the one thing a view reads live."""
    return Latest(**{name: getattr(latest, name) for name in Latest.__struct_fields__} | {"username": None})


def test_a_board_starts_with_an_empty_view() -> None:
    assert Board(POPULATION).view.total == 0


def test_publishing_replaces_the_view(batch_of: Callable[..., Batch]) -> None:
    board = Board(POPULATION)
    board.apply(batch_of([(100, 1_000, 1, 1, "a")]))
    assert board.view.latest(100) is None
    view = board.publish(77)
    assert board.view is view
    assert view.published_at_ms == 77


def test_an_old_batch_does_not_bring_an_old_name_back(batch_of: Callable[..., Batch]) -> None:
    board = Board(POPULATION)
    board.apply(batch_of([(100, 5_000, 1, 1, "new"), (101, 1_000, 1, 1, "x")]))
    assert board.apply(batch_of([(100, 4_000, 1, 1, "old"), (101, 2_000, 1, 1, "y")])).tolist() == [1]
    assert board.names.name(0) == "new"


def test_unwatched_pks_are_counted(batch_of: Callable[..., Batch]) -> None:
    board = Board(POPULATION)
    assert board.apply(batch_of([(1, 1_000, 1, 1, "a"), (100, 1_000, 1, 1, "b")])).tolist() == [0]
    assert board.outside == 1
    columns = (np.array(values, np.uint32) for values in ([1, 100], [1, 1], [1, 1], [1, 2]))
    board.restore(*columns)
    assert board.outside == 1, "who was watched before a start with others is no stranger"


def test_restore_takes_the_newest_of_rows_in_any_order_and_is_idempotent() -> None:
    board = Board(POPULATION)

    def restore() -> int:
        return board.restore(
            np.array([105, 101, 105, 999]),
            np.array([20, 1, 30, 4]),
            np.array([1, 1, 2, 1]),
            np.array([50, 50, 60, 50]),
            verdict=np.array([0, -1, 1, 1]),
            verdict_at=np.array([10, 0, 11, 10]),
        )

    assert restore() == 2
    first = board.publish(1).leaderboard(10)
    assert [(one.pk, one.follower_count, one.suspicious) for one in first] == [
        (105, 30, True),
        (101, 1, None),
    ]
    assert restore() == 0
    assert board.publish(2).leaderboard(10) == first


def test_restored_names_stand_until_the_log_brings_newer_ones(batch_of: Callable[..., Batch]) -> None:
    board = Board(POPULATION)
    board.restore_names(np.array([101]), pa.array(["stale"]))
    assert board.restore_names(np.array([103, 101, 7]), pa.array(["c", "a", "x"])) == 2
    assert [board.names.name(index) for index in (1, 3)] == ["a", "c"]
    assert board.apply(batch_of([(101, 6_000, 1, 1, "a"), (103, 6_000, 1, 1, "cc")])).tolist() == [3]


def test_restoring_nothing_is_nothing() -> None:
    board = Board(POPULATION)
    none = np.empty(0, np.int64)
    assert board.restore(none, none, none, none) == 0
    assert board.restore_names(none, pa.array([], pa.string())) == 0
    assert board.apply_verdicts(none, none, none) == 0
    assert board.publish(1).total == 0


@pytest.mark.parametrize("first", [0, 2**32 - 20_000])
def test_applying_while_publishing_shows_no_half_batch(first: int) -> None:
    """In every batch all have equally many followers, twice that of followings, as many as seconds."""
    population = Population(first, first + 19_999)
    board, rounds = Board(population), 60
    names = pa.array(["x"] * population.size)
    done = threading.Event()
    views: list[View] = []

    def publish() -> None:
        while not done.is_set():
            views.append(board.publish(len(views)))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        pk = np.arange(population.first, population.last + 1, dtype=np.uint32)
        for second in range(1, rounds + 1):
            counts = np.full(len(pk), 2 * second, np.uint32)
            board.apply(Batch("t", pk, np.full(len(pk), 1_000 * second), counts, counts // 2, names))
    finally:
        done.set()
        thread.join()
    views.append(board.publish(0))
    assert views[-1].average_follower_count == 2 * rounds
    for view in views:
        latest = view.latest(population.first)
        if latest is None:
            assert view.total == 0
            continue
        assert view.total == population.size
        assert view.average_follower_count == latest.follower_count == 2 * latest.observed_at
        assert (view.values.follower_count == latest.follower_count).all()
        assert (view.values.following_count == latest.observed_at).all()
        assert (view.values.observed_at == latest.observed_at).all()
        assert view.ranking.rank(latest.follower_count) == 1


def test_the_second_an_influencer_was_observed_last_is_recognised(batch_of: Callable[..., Batch]) -> None:
    board = Board(Population(10, 19))
    board.apply(batch_of([(10, 5_200, 1, 1, "a"), (11, 6_900, 1, 1, "b")]))
    again = batch_of(
        [(9, 5_000, 1, 1, "z"), (10, 5_999, 2, 2, "a"), (11, 7_000, 2, 2, "b"), (12, 5_000, 1, 1, "c")]
    )
    assert board.same_second(again).tolist() == [False, True, False, False]
    assert board.overtaken(again)
    later = batch_of([(9, 1_000, 1, 1, "z"), (10, 6_000, 2, 2, "a"), (12, 1_000, 1, 1, "c")])
    assert not board.overtaken(later)
    assert board.outside == 0
