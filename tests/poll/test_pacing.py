"""The limit, with servers that are formulas: how many answer, and how many fail, with so many in flight?"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.poll.pacing import (
    BURST_SECONDS,
    IN_FLIGHT_START,
    PROBE_SECONDS,
    Allowance,
    InFlightLimit,
    retry_delay,
)

WINDOW_S = 0.25
Server = Callable[[int], tuple[float, float]]
"""With so many in flight: good answers and failures a second."""


def queueing(latency_s: float, per_second: float) -> Server:
    """Answers in `latency_s` until it is busy; from then on requests wait in its queue."""
    return lambda in_flight: (min(in_flight / latency_s, per_second), 0.0)


def refusing(latency_s: float, places: int) -> Server:
    """Refuses at once whatever is more than it has places for."""
    return lambda in_flight: (min(in_flight, places) / latency_s, max(0, in_flight - places) / 0.001)


def collapsing(latency_s: float, places: int, deadline_s: float) -> Server:
    """Too many in its queue, and hardly an answer comes before the deadline."""

    def server(in_flight: int) -> tuple[float, float]:
        if in_flight <= places:
            return in_flight / latency_s, 0.0
        return places / latency_s * (places / in_flight) ** 3, in_flight / deadline_s

    return server


def flawed(server: Server, share: float) -> Server:
    """So many of its answers are errors, however few are asked for."""
    return lambda in_flight: (server(in_flight)[0] * (1 - share), server(in_flight)[0] * share)


class Asking:
    """A limit that asks a server as much as it may, from second 0 on."""

    def __init__(self, maximum: int = 512) -> None:
        self.limit = InFlightLimit(maximum)
        self.now = 0.0
        self._good = self._failed = 0.0
        self.highest = 0

    def ask(self, server: Server, seconds: float, saturated: bool = True) -> int:
        """Returns the limit after so many seconds."""
        for _ in range(round(seconds / WINDOW_S)):
            good, failed = server(self.limit.value)
            self._good += good * WINDOW_S
            self._failed += failed * WINDOW_S
            whole_good, whole_failed = int(self._good), int(self._failed)
            self._good -= whole_good
            self._failed -= whole_failed
            self.now += WINDOW_S
            self.limit.update(self.now, whole_good, whole_failed, WINDOW_S, saturated)
            self.highest = max(self.highest, self.limit.value)
        return self.limit.value


@pytest.mark.parametrize(
    ("latency_s", "per_second"), [(0.05, 4_000), (0.02, 10_000), (0.2, 1_000), (0.5, 500), (0.1, 900)]
)
def test_it_finds_the_plateau(latency_s: float, per_second: float) -> None:
    asking = Asking()
    server = queueing(latency_s, per_second)
    limit = asking.ask(server, 120)
    assert server(limit)[0] >= 0.9 * per_second
    enough = max(IN_FLIGHT_START, latency_s * per_second)
    assert limit <= enough * 1.25
    assert asking.highest <= enough * 1.6


def test_a_server_that_is_busy_with_few_is_asked_by_few() -> None:
    assert Asking().ask(queueing(0.0005, 80_000), 120) == IN_FLIGHT_START


@pytest.mark.parametrize("latency_s", [0.05, 0.3, 2.0])
def test_a_server_far_away_is_asked_by_as_many_as_may(latency_s: float) -> None:
    asking = Asking(maximum=300)
    assert asking.ask(queueing(latency_s, 1e9), 30 + 60 * latency_s) == 300


def test_answers_that_come_in_bursts_are_judged_over_round_trips() -> None:
    """Two seconds to answer: most windows are without an answer, and one has them all."""
    limit = InFlightLimit(300)
    in_flight: list[tuple[float, int]] = []
    now = 0.0
    for _ in range(1_000):
        now += WINDOW_S
        good = sum(count for at, count in in_flight if at <= now - 2.0)
        in_flight = [(at, count) for at, count in in_flight if at > now - 2.0]
        in_flight.append((now, limit.value - sum(count for _, count in in_flight)))
        limit.update(now, good, 0, WINDOW_S, True)
    assert limit.value == 300


def test_it_grows_only_when_the_limit_holds_back() -> None:
    asking = Asking()
    assert asking.ask(queueing(0.05, 1e9), 60, saturated=False) == IN_FLIGHT_START


def test_a_step_after_which_work_runs_out_stays() -> None:
    asking = Asking()
    asking.ask(queueing(0.05, 1e9), 1.25)
    grown = asking.limit.value
    assert grown > IN_FLIGHT_START
    assert asking.ask(queueing(0.05, 1e9), 60, saturated=False) == grown


@pytest.mark.parametrize("places", [1, 4, 16, 40])
def test_it_backs_off_from_refusals(places: int) -> None:
    asking = Asking()
    server = refusing(0.05, places)
    asking.ask(server, 30)
    refusals = 0.0
    for _ in range(400):
        asking.ask(server, WINDOW_S)
        good, refused = server(asking.limit.value)
        refusals += refused > 0
        assert good >= 0.6 * places / 0.05
    assert refusals < 400 / 3  # only while it tries whether the API takes more by now


def test_it_backs_off_from_a_queue_that_is_too_long() -> None:
    asking = Asking()
    server = collapsing(0.05, places=30, deadline_s=5)
    limit = asking.ask(server, 120)
    assert server(limit) == (limit / 0.05, 0.0)
    assert limit >= 15


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_errors_that_are_not_for_too_many_requests_do_not_stop_it(share: float) -> None:
    asking = Asking()
    asking.ask(flawed(queueing(0.05, 4_000), share), 120)
    rates = []
    for _ in range(400):
        asking.ask(flawed(queueing(0.05, 4_000), share), WINDOW_S)
        rates.append(min(asking.limit.value / 0.05, 4_000))
    assert sum(rates) / len(rates) >= 0.75 * 4_000
    assert min(rates) >= 0.4 * 4_000


def test_while_nothing_is_answered_no_more_are_asked() -> None:
    asking = Asking()
    asking.ask(queueing(0.001, 1e5), 1)
    before = asking.limit.value
    assert asking.ask(lambda in_flight: (0.0, 0.0), 60) <= before
    assert asking.ask(lambda in_flight: (0.0, in_flight / 5), 300) < before / 4


def test_after_a_failure_it_grows_again() -> None:
    asking = Asking()
    asking.ask(queueing(0.05, 4_000), 60)
    asking.ask(refusing(0.05, 2), 60)
    assert asking.limit.value <= 4
    asking.ask(queueing(0.05, 4_000), 60)
    assert asking.limit.value / 0.05 >= 0.9 * 4_000


def test_a_single_failure_among_many_changes_nothing() -> None:
    limit = InFlightLimit(512)
    for window in range(40):
        limit.update(window * WINDOW_S, 1_000, 5, WINDOW_S, False)
    assert limit.value == IN_FLIGHT_START


def test_some_failures_without_work_for_the_limit_do_not_raise_it() -> None:
    limit = InFlightLimit(512)
    for second in range(1, 60):
        limit.update(second, 990, 10, 1.0, saturated=False)
    assert limit.value == IN_FLIGHT_START


def test_a_step_down_from_a_time_with_little_work_is_taken_back_if_as_many_fail() -> None:
    """The rate of that time tells nothing: there was less to answer."""
    limit = InFlightLimit(512)
    assert limit.update(1.0, 950, 50, 1.0, saturated=False) < IN_FLIGHT_START
    limit.update(2.0, IN_FLIGHT_START, 0, 1.0, saturated=True)  # of before the step
    assert limit.update(3.0, 950, 50, 1.0, saturated=True) == IN_FLIGHT_START


def test_the_plateau_is_probed_now_and_then() -> None:
    asking = Asking()
    asking.ask(queueing(0.05, 4_000), 60)
    found = asking.limit.value
    asking.ask(queueing(0.05, 8_000), 3 * PROBE_SECONDS)
    assert asking.limit.value > found


@pytest.mark.parametrize("maximum", [1, 2, 63])
def test_it_starts_at_the_most_that_is_allowed(maximum: int) -> None:
    assert InFlightLimit(maximum).value == maximum


@given(
    st.integers(1, 600),
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(0, 600), st.floats(0.001, 3), st.booleans()), max_size=80
    ),
)
def test_whatever_happens_it_stays_in_its_bounds(
    maximum: int, windows: list[tuple[int, int, float, bool]]
) -> None:
    limit = InFlightLimit(maximum)
    now = 0.0
    for good, failed, seconds, saturated in windows:
        now += seconds
        before = limit.value
        after = limit.update(now, good, failed, seconds, saturated)
        assert after == limit.value
        assert 1 <= after <= maximum
        assert before // 2 <= after <= before * 1.5 + 1


@given(
    st.floats(0.05, 50_000),
    st.lists(st.tuples(st.floats(-0.5, 2), st.integers(0, 5_000)), max_size=60),
)
def test_the_allowance_is_never_exceeded(per_second: float, asked: list[tuple[float, int]]) -> None:
    allowance = Allowance(per_second)
    tokens = allowance.refill(100.0, 0.0)
    now, latest, taken = 100.0, 100.0, 0
    burst = max(1.0, per_second * BURST_SECONDS)
    for step_s, wanted in asked:
        now += step_s
        latest = max(latest, now)
        tokens = allowance.refill(latest if step_s >= 0 else now, tokens)
        assert 0 <= tokens <= burst
        take = min(wanted, int(tokens))
        tokens -= take
        taken += take
    stepped_back_s = sum(-step_s for step_s, _ in asked if step_s < 0)
    assert taken <= burst + per_second * (latest - 100.0 + stepped_back_s) * (1 + 1e-9) + 1e-6


def test_the_allowance_is_used_up() -> None:
    allowance = Allowance(16_667)
    tokens = allowance.refill(0.0, 0.0)
    taken = 0
    for window in range(1, 2_001):
        tokens = allowance.refill(window * 0.005, tokens)
        taken += int(tokens)
        tokens -= int(tokens)
    assert taken == pytest.approx(166_670, rel=0.001)


def test_less_than_one_a_second_is_still_some() -> None:
    allowance = Allowance(0.1)
    tokens = allowance.refill(0.0, 0.0)
    assert tokens < 1
    assert allowance.refill(10.0, tokens) == pytest.approx(1.0)
    assert allowance.refill(1_000.0, 1.0) == 1.0


def test_no_bound_is_no_bound() -> None:
    assert Allowance(0).refill(5.0, 3.0) == float("inf")


@pytest.mark.parametrize(
    ("attempt", "longest_s"), [(1, 0.2), (2, 0.4), (3, 0.8), (4, 1.6), (5, 2.0), (40, 2.0)]
)
def test_retries_wait_longer_each_time_up_to_two_seconds(attempt: int, longest_s: float) -> None:
    chance = random.Random(1)
    pauses_s = [retry_delay(attempt, chance) for _ in range(1_000)]
    assert 0 <= min(pauses_s) < 0.05 * longest_s
    assert 0.95 * longest_s < max(pauses_s) <= longest_s
    assert sum(pauses_s) / len(pauses_s) == pytest.approx(longest_s / 2, rel=0.1)
