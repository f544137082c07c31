"""Who is asked next, with a clock that is an argument."""

import random

from tidemark.classify.agenda import (
    HAND_BACK_MAX_S,
    HAND_BACK_MIN_S,
    Agenda,
    hand_back_delay,
    retry_delay,
)


def agenda_of(*pks: int, now: float = 0.0) -> Agenda[str]:
    agenda: Agenda[str] = Agenda()
    for pk in pks:
        agenda.put(pk, f"turn of {pk}", now)
    return agenda


def test_in_the_order_in_which_they_were_put_down() -> None:
    agenda = agenda_of(3, 1, 2)
    assert [agenda.take(0.0) for _ in range(4)] == [
        (3, "turn of 3"),
        (1, "turn of 1"),
        (2, "turn of 2"),
        None,
    ]


def test_somebody_to_be_asked_again_waits_until_then() -> None:
    agenda = agenda_of()
    agenda.put_again(1, "x", 5.0)
    assert (len(agenda), agenda.next_at(), agenda.take(4.9)) == (1, 5.0, None)
    assert agenda.take(5.0) == (1, "x")
    assert (len(agenda), agenda.next_at()) == (0, float("inf"))


def test_those_who_came_since_do_not_put_off_who_is_asked_again() -> None:
    agenda = agenda_of(1, now=1.0)
    agenda.put_again(9, "x", 2.0)
    agenda.put(2, "y", 3.0)
    assert [found[0] for _ in range(3) if (found := agenda.take(10.0))] == [1, 9, 2]


def test_an_api_that_fails_is_tried_with_somebody_new() -> None:
    agenda = agenda_of()
    agenda.put_again(9, "x", 0.0)
    agenda.put(1, "y", 5.0)
    assert agenda.take(10.0, probe=True) == (1, "y")
    assert agenda.take(10.0, probe=True) == (9, "x")


def test_pauses_double_up_to_a_bound_and_half_of_them_is_chance() -> None:
    chance = random.Random(1)
    for attempt, whole in [(1, 2.0), (2, 4.0), (3, 8.0)]:
        pauses = [retry_delay(attempt, chance) for _ in range(100)]
        assert whole / 2 <= min(pauses) < max(pauses) <= whole
    assert hand_back_delay(1) == HAND_BACK_MIN_S
    assert hand_back_delay(2) == 2 * HAND_BACK_MIN_S
    assert hand_back_delay(1_000_000) == HAND_BACK_MAX_S
