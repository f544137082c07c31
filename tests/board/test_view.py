"""What a view says about simple boards, worked out by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from tidemark.board import Board, Freshness, Latest, VerdictCounts, View
from tidemark.messages import Batch
from tidemark.population import Population

POPULATION = Population(100, 109, shard_size=4)
BatchOf = Callable[..., Batch]


@pytest.fixture
def board(batch_of: BatchOf) -> Board:
    """Six of ten observed: two share the most followers, two the fewest."""
    board = Board(POPULATION)
    counts = {100: (5, 2), 101: (9, 0), 102: (0, 4), 104: (9, 3), 107: (0, 0), 108: (7, 7)}
    board.apply(batch_of([(pk, 60_000 + pk, *pair, f"name{pk}") for pk, pair in counts.items()]))
    return board


@pytest.fixture
def view(board: Board) -> View:
    return board.publish(61_000)


def test_latest_has_everything(board: Board) -> None:
    board.apply_verdicts(np.array([100]), np.array([True]), np.array([55]))
    latest = board.publish(61_000).latest(100)
    assert latest is not None
    assert latest.pk == 100
    assert latest.username == "name100"
    assert (latest.follower_count, latest.following_count, latest.follower_ratio) == (5, 2, 2.5)
    assert latest.rank == 4
    assert latest.percentile == 40.0
    assert (latest.suspicious, latest.suspicious_checked_at, latest.observed_at) == (True, 55, 60)


def test_latest_without_followings_or_verdict(view: View) -> None:
    latest = view.latest(101)
    assert latest is not None
    assert latest.follower_ratio is None
    assert latest.suspicious is None
    assert latest.suspicious_checked_at is None


@pytest.mark.parametrize("pk", [99, 103, 110, -1, 2**40])
def test_who_is_not_observed_or_not_watched_has_no_latest(view: View, pk: int) -> None:
    assert view.latest(pk) is None
    assert view.around(pk, 3) is None


def test_ties_are_equal_in_rank_and_percentile(view: View) -> None:
    board = view.leaderboard(10)
    assert [one.pk for one in board] == [101, 104, 108, 100, 102, 107]
    assert [one.rank for one in board] == [1, 1, 3, 4, 5, 5]
    assert [one.percentile for one in board] == [100, 100, 60, 40, 0, 0]
    assert board == [view.latest(one.pk) for one in board]


def test_everybody_alike_is_at_the_top(batch_of: BatchOf) -> None:
    board = Board(POPULATION)
    board.apply(batch_of([(pk, 1_000, 3, 1, "x") for pk in (100, 101)]))
    assert [(one.rank, one.percentile) for one in board.publish(1).leaderboard(5)] == [(1, 100), (1, 100)]


def test_average_is_over_the_observed(view: View) -> None:
    assert view.total == 6
    assert view.average_follower_count == 5.0


@pytest.mark.parametrize(("pk", "places"), [(101, [0, 1, 2]), (108, [1, 2, 3]), (107, [3, 4, 5])])
def test_around_stays_on_the_leaderboard(view: View, pk: int, places: list[int]) -> None:
    everybody = view.leaderboard(10)
    assert view.around(pk, 3) == [everybody[place] for place in places]
    assert view.around(pk, 50) == everybody


def test_coverage_is_of_all_that_are_watched(view: View) -> None:
    assert view.coverage(60_000, 60_000) == 0.6
    assert view.coverage(60_999 + 30_000, 30_000, grace_ms=0) == 0.6
    assert view.coverage(62_000 + 30_000, 30_000, grace_ms=0) == 0.0
    assert view.coverage(124_000, 0) == 0.6
    assert view.coverage(1, 60_000) == 0.6, "who was never observed does not count, however early it is"


def test_freshness_by_nearest_rank(batch_of: BatchOf) -> None:
    board = Board(Population(0, 399))
    board.apply(batch_of([(pk, 1_000 * (pk + 1), 0, 0, "x") for pk in range(200)]))
    assert board.publish(1).freshness(201_000) == Freshness(p50=100, p99=198, max=200)
    assert board.view.freshness(0) == Freshness(0, 0, 0), (
        "a clock that is behind makes nobody younger than new"
    )


def test_freshness_is_told_to_the_millisecond(batch_of: BatchOf) -> None:
    """Times of today as fractions of seconds, one less the other, are 6.999000072479248."""
    board, at_ms = Board(Population(0, 9)), 1_795_780_000_000
    board.apply(batch_of([(1, at_ms, 0, 0, "x")]))
    assert board.publish(1).freshness(at_ms + 6_999) == Freshness(6.999, 6.999, 6.999)


def test_freshness_of_some_who_were_not_observed_for_days(batch_of: BatchOf) -> None:
    board = Board(Population(0, 399))
    ages_s = [*range(198), 40 * 86_400, 50 * 86_400]
    now_s = 100 * 86_400
    board.apply(batch_of([(pk, 1_000 * (now_s - age_s), 0, 0, "x") for pk, age_s in enumerate(ages_s)]))
    assert board.publish(1).freshness(1_000 * now_s) == Freshness(p50=99, p99=197, max=50 * 86_400)


def test_verdicts_are_counted_over_all_that_are_watched(board: Board) -> None:
    board.apply_verdicts(np.array([103, 100, 101]), np.array([True, False, True]), np.array([5, 5, 5]))
    assert board.publish(1).verdict_counts == VerdictCounts(suspicious=2, not_suspicious=1, unknown=7)


def test_an_empty_view_answers(batch_of: BatchOf) -> None:
    view = Board(POPULATION).view
    assert view.total == 0
    assert view.average_follower_count is None
    assert view.freshness(1) is None
    assert view.leaderboard(10) == []
    assert view.coverage(60_000, 60_000) == 0.0
    assert view.verdict_counts == VerdictCounts(0, 0, 10)


def test_search_answers_with_who_is_observed(board: Board, view: View) -> None:
    board.names.reindex()
    assert [one.pk for one in view.search("NAME10", 3)] == [100, 101, 102]
    assert [one.pk for one in view.search("103", 3)] == []
    assert [one.pk for one in view.search("10", 10)] == [pk for pk in range(100, 110) if view.latest(pk)]


def test_a_leaderboard_of_some_keeps_the_ranks_among_all(board: Board) -> None:
    pks = np.array([101, 108, 107, 103])
    board.apply_verdicts(pks, np.array([True, True, False, True]), np.full(4, 55))
    view = board.publish(61_000)

    def places(listed: list[Latest] | None) -> list[tuple[int, int]]:
        assert listed is not None
        return [(one.pk, one.rank) for one in listed]

    assert places(view.leaderboard(10, suspicious=True)) == [(101, 1), (108, 3)]
    assert places(view.leaderboard(10, suspicious=False)) == [(104, 1), (100, 4), (102, 5), (107, 5)]
    assert places(view.leaderboard(2, 1, suspicious=False)) == [(100, 4), (102, 5)]
    assert len(view.listed(True)) == 2, "103 was never observed"
    assert len(view.listed(False)) == 4
    assert view.listed() is view.ranking
    assert places(view.around(100, 1, suspicious=True)) == [(108, 3)], "the end, for 100 would come after it"
    assert places(view.around(108, 2, suspicious=False)) == [(104, 1), (100, 4)]


def test_how_far_the_classification_is(board: Board) -> None:
    assert board.view.oldest_verdict_at is None
    assert board.view.classified(0) == 0
    board.apply_verdicts(np.array([100, 101, 102]), np.array([True, False, True]), np.array([55, 60, 70]))
    view = board.publish(61_000)
    assert view.oldest_verdict_at == 55
    assert [view.classified(since) for since in (0, 55, 56, 61, 71)] == [0.3, 0.3, 0.2, 0.1, 0.0]
