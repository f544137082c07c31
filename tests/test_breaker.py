"""Closed, open, half-open, and back: with a clock that is an argument."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.breaker import Breaker


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    assert breaker.failed(at, breaker.failures_max)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker()
    for _ in range(breaker.failures_max - 1):
        assert not breaker.failed(0.0)
        assert breaker.allows(0.0)
    assert breaker.failed(0.0)
    assert not breaker.closed
    assert not breaker.allows(0.0)


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(10):
        assert not breaker.failed(0.0, breaker.failures_max - 1)
        assert not breaker.succeeded()
    assert breaker.closed


def test_after_the_rest_it_lets_one_through_and_an_answer_closes_it() -> None:
    breaker = opened()
    assert 0 < breaker.retry_at <= breaker.rest_min_s * 1.25
    assert not breaker.allows(breaker.retry_at - 0.001)
    assert not breaker.half_open
    assert breaker.allows(breaker.retry_at)
    assert breaker.half_open
    assert breaker.succeeded()
    assert breaker.closed
    assert breaker.allows(breaker.retry_at)


def test_each_rest_is_twice_as_long_up_to_a_bound() -> None:
    breaker = opened()
    now, rests = 0.0, []
    for _ in range(10):
        rests.append(breaker.retry_at - now)
        now = breaker.retry_at
        assert breaker.allows(now)
        assert not breaker.failed(now)  # it was open already
        assert not breaker.allows(now)
    for place, rest in enumerate(rests):
        expected = min(breaker.rest_max_s, breaker.rest_min_s * 2**place)
        assert 0.75 * expected <= rest <= 1.25 * expected * (1 + 1e-9)
    breaker.allows(breaker.retry_at)
    breaker.succeeded()
    assert breaker.failed(now, breaker.failures_max)
    assert (
        breaker.retry_at - now <= breaker.rest_min_s * 1.25 + 1e-6
    )  # a new failure starts from the shortest


def test_those_who_rest_at_once_do_not_come_back_at_once() -> None:
    breakers = [Breaker() for _ in range(20)]
    for breaker in breakers:
        breaker.failed(100.0, breaker.failures_max)
    assert len({breaker.retry_at for breaker in breakers}) == 20


def test_failures_of_requests_that_were_on_their_way_do_not_prolong_the_rest() -> None:
    breaker = opened()
    retry_at = breaker.retry_at
    assert not breaker.failed(0.1, 500)
    assert breaker.retry_at == retry_at


def test_a_late_answer_closes_it_before_the_rest_is_over() -> None:
    breaker = opened()
    assert breaker.succeeded()
    assert breaker.closed


@given(st.lists(st.sampled_from(["failed", "succeeded", "allows", "wait"]), max_size=200))
def test_it_never_stays_shut(steps: list[str]) -> None:
    """Whatever happened before: a while later it lets a request through, and an answer closes it."""
    breaker = Breaker(failures_max=3)
    now = 0.0
    for step in steps:
        if step == "wait":
            now += 1.0
        elif step == "succeeded":
            breaker.succeeded()
        elif step == "failed":
            breaker.failed(now)
        else:
            breaker.allows(now)
    now += breaker.rest_max_s * 1.25
    assert breaker.allows(now)
    breaker.succeeded()
    assert breaker.closed


@pytest.mark.parametrize("count", [1, 31, 32, 33, 1_000])
def test_failures_that_come_together_count_each(count: int) -> None:
    breaker = Breaker()
    assert breaker.failed(0.0, count) == (count >= breaker.failures_max)
