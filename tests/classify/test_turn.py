"""What is left of a turn by the record, and what was not told yet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.classify.turn import ATTEMPTS, TurnInWork, Verdict, remaining
from tidemark.messages import Turn, Verdicts

DAY_MS = 86_400_000
DUE_MS = 20_000 * DAY_MS
DUE_S = DUE_MS // 1_000
TURN = Turn(0, 100, 109, DUE_MS, DUE_MS)


def verdicts(turn_id: str, rows: dict[int, int]) -> Verdicts:
    """Rows: pk -> when the verdict was given, in seconds after TURN was due."""
    pks = sorted(rows)
    return Verdicts(
        turn_id=turn_id,
        classifier="x",
        in_flight=1,
        pk=np.array(pks, np.uint32),
        suspicious=np.zeros(len(pks), np.bool_),
        checked_at=np.array([DUE_S + rows[pk] for pk in pks], np.uint32),
        took_ms=np.zeros(len(pks), np.uint32),
    )


def test_everybody_without_a_record() -> None:
    assert remaining(TURN, []) == list(range(100, 110))


def test_who_has_a_verdict_since_the_turn_was_due_is_done() -> None:
    record = [verdicts("another", dict.fromkeys(range(100, 105), -1) | {105: 0, 106: 1})]
    assert remaining(TURN, record) == [107, 108, 109, 100, 101, 102, 103, 104]


def test_who_has_a_verdict_of_the_turn_from_before_it_was_due_is_done() -> None:
    record = [verdicts(TURN.id, {100: -50_000}), verdicts("another", {101: -50_000})]
    assert 100 not in remaining(TURN, record)
    assert 101 in remaining(TURN, record)


def test_a_turn_taken_early_leaves_out_who_has_a_verdict_of_the_interval() -> None:
    early = Turn(0, 100, 109, DUE_MS, DUE_MS - DAY_MS)
    assert early.id == TURN.id
    record = [verdicts("another", {100: -86_401, 101: -86_400, 102: -5})]
    assert remaining(early, record) == [103, 104, 105, 106, 107, 108, 109, 100]


def test_first_who_has_none_at_all_then_the_oldest() -> None:
    record = [verdicts("x", {100: -10, 101: -30}), verdicts("x", {100: -40, 102: -20, 103: -30})]
    assert remaining(TURN, record) == [*range(104, 110), 101, 103, 102, 100]


def test_verdicts_on_others_do_not_matter() -> None:
    record = [verdicts(TURN.id, {1: 5, 99: 5, 110: 5, 2**32 - 1: 5})]
    assert remaining(TURN, record) == list(range(100, 110))


@given(st.lists(st.dictionaries(st.integers(95, 115), st.integers(-200_000, 1_000), min_size=1), max_size=6))
def test_left_are_those_who_are_not_done(rows: list[dict[int, int]]) -> None:
    record = [verdicts(TURN.id if number % 2 else "x", row) for number, row in enumerate(rows)]
    done = {pk for number, row in enumerate(rows) for pk, at in row.items() if number % 2 or at >= 0}
    left = remaining(TURN, record)
    assert len(left) == len(set(left))
    assert set(left) == set(range(100, 110)) - done


def test_a_turn_in_work_from_beginning_to_end() -> None:
    work = TurnInWork(TURN, [100, 101, 102])
    assert not work.settled
    assert work.untold("x", 5) is None
    work.give(Verdict(101, True, DUE_S + 3, 900))
    work.give(Verdict(100, False, DUE_S + 4, 10_000))
    message = work.untold("x", 5)
    assert message is not None
    assert (message.turn_id, message.classifier, message.in_flight) == (TURN.id, "x", 5)
    assert message.pk.tolist() == [100, 101]
    assert message.suspicious.tolist() == [False, True]
    assert message.checked_at.tolist() == [DUE_S + 4, DUE_S + 3]
    assert message.took_ms.tolist() == [10_000, 900]
    assert not work.told
    work.give(Verdict(102, False, DUE_S + 5, 1))
    work.tell(message)
    assert work.settled
    assert not work.told
    last = work.untold("x", 0)
    assert last is not None
    assert last.pk.tolist() == [102]
    work.tell(last)
    assert work.told
    assert not work.left_over


def test_who_fails_too_often_is_left_over() -> None:
    work = TurnInWork(TURN, [100, 101])
    assert [work.fail(100) for _ in range(ATTEMPTS)] == [*range(1, ATTEMPTS), None]
    assert (work.left_over, work.wants(100), work.wants(101)) == (1, False, True)
    assert work.fail(101, again=False) is None
    assert (work.left_over, work.settled) == (2, True)
    assert work.fail(101) is None
    assert work.left_over == 2


def test_a_verdict_counts_once_and_only_for_who_is_wanted() -> None:
    work = TurnInWork(TURN, [100])
    for _ in range(2):
        work.give(Verdict(100, True, DUE_S, 1))
    work.give(Verdict(7, True, DUE_S, 1))
    message = work.untold("x", 0)
    assert message is not None
    assert message.pk.tolist() == [100]


def test_what_another_classifier_told_is_left_out() -> None:
    work = TurnInWork(TURN, [100, 101, 102, 103])
    work.give(Verdict(100, True, DUE_S + 9, 1))
    work.give(Verdict(101, True, DUE_S + 9, 1))
    work.compare([verdicts(TURN.id, {100: 5, 102: 5})])
    message = work.untold("x", 0)
    assert message is not None
    assert message.pk.tolist() == [101]
    assert [pk for pk in range(100, 104) if work.wants(pk)] == [103]


def test_leaving() -> None:
    work = TurnInWork(TURN, [100, 101, 102])
    work.give(Verdict(100, True, DUE_S, 1))
    work.leave()
    assert (work.settled, work.left_over, work.told) == (True, 2, False)


@pytest.mark.parametrize("pks", [[], [100]])
def test_a_turn_of_which_nothing_is_left(pks: list[int]) -> None:
    assert TurnInWork(TURN, pks).settled is (not pks)
