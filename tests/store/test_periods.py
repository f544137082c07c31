from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
import pytest

from tidemark.store.periods import DAY_S, HOUR_S, MARK_SPAN_PKS, Mark, Periods

H = 490_000 * HOUR_S


def inserting(periods: Periods, pk: list[int], at: list[int]) -> AbstractContextManager[tuple[Mark, ...]]:
    return periods.inserting(np.array(pk, np.uint32), np.array(at, np.uint32))


def places(marks: tuple[Mark, ...]) -> list[tuple[int, int, int]]:
    return [(mark.hour_s, mark.first_pk, mark.last_pk) for mark in marks]


def test_an_insert_into_open_hours_leaves_no_mark() -> None:
    periods = Periods({"1h": H}, [])
    with inserting(periods, [1, 2], [H, H + 10]) as marks:
        assert marks == ()
    assert periods.state_of(1, "1h") == (H, [])


def test_late_observations_mark_their_hours_and_pks() -> None:
    periods = Periods({"1h": H, "1d": H // DAY_S * DAY_S}, [])
    at = [H - 1, H - HOUR_S, H - HOUR_S - 1, H, H - 5]
    with inserting(periods, [7, 3, 9, 100, MARK_SPAN_PKS + 4], at) as marks:
        assert places(marks) == [
            (H - 2 * HOUR_S, 9, 9),
            (H - HOUR_S, 3, 7),
            (H - HOUR_S, MARK_SPAN_PKS + 4, MARK_SPAN_PKS + 4),
        ]
        assert len({mark.id for mark in marks}) == 3
    assert periods.state_of(5, "1h") == (H, [H - HOUR_S])
    assert periods.state_of(8, "1d") == (H // DAY_S * DAY_S, [])
    assert periods.state_of(9, "1d")[1] == [H - 2 * HOUR_S]


def test_a_mark_settles_when_its_insert_is_over_whatever_came_of_it() -> None:
    periods = Periods({"1h": H}, [])
    marks: list[Mark] = []

    def insert() -> None:
        with inserting(periods, [1], [H - 1]) as new:
            marks.extend(new)
            assert periods.settled_marks() == []
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        insert()
    assert periods.settled_marks() == marks
    periods.clear(marks)
    assert periods.settled_marks() == []
    assert periods.state_of(1, "1h")[1] == []


def test_a_mark_made_while_an_hour_is_computed_anew_survives_the_clearing() -> None:
    periods = Periods({"1h": H}, [])
    with inserting(periods, [1], [H - 1]):
        pass
    computed = periods.settled_marks()
    with inserting(periods, [1], [H - 2]) as marks:
        periods.clear(computed)
    assert periods.settled_marks() == list(marks)


def test_an_hour_is_not_closed_under_an_insert() -> None:
    periods = Periods({"1h": H}, [])
    with inserting(periods, [1], [H + 5]) as marks:
        assert not periods.begin_close(H + HOUR_S)
        assert periods.begin_close(H)
    assert marks == ()
    assert periods.begin_close(H + HOUR_S)


def test_from_the_moment_that_closing_begins_an_insert_is_late() -> None:
    periods = Periods({}, [])
    assert periods.begin_close(H + HOUR_S)
    with inserting(periods, [1], [H + 5]) as marks:
        assert places(marks) == [(H, 1, 1)]
    assert periods.settled_marks() == []  # the hour is open still: there is nothing to compute anew
    assert periods.closed_until_s("1h") == 0
    periods.set_closed("1h", H + HOUR_S)
    assert periods.settled_marks() == list(marks)


def test_new_marks_never_take_the_name_of_an_old_one() -> None:
    old = Mark(2**62, H - HOUR_S, 1, 1)
    periods = Periods({"1h": H}, [old])
    with inserting(periods, [1], [H - 1]) as marks:
        assert marks[0].id > old.id


def test_what_is_closed_stays_closed() -> None:
    periods = Periods({"1h": H}, [])
    periods.set_closed("1h", H - HOUR_S)
    assert periods.closed_until_s("1h") == H
    assert periods.begin_close(H - HOUR_S)
    with inserting(periods, [1], [H - 1]) as marks:
        assert len(marks) == 1
