"""The clock is an argument: nothing here depends on how fast the machine is."""

from __future__ import annotations

import pytest

from tidemark.simulate.pacing import BURST_S, Pacer, Turn


def test_the_first_goes_at_once_and_the_next_waits() -> None:
    pacer: Pacer[str] = Pacer(10, now_s=50.0)
    assert pacer.arrive("a", 50.0) is Turn.NOW
    assert pacer.arrive("b", 50.0) is Turn.WAIT
    assert pacer.wait_s() == pytest.approx(0.1)
    assert pacer.release(50.05) == []
    assert pacer.release(50.1001) == ["b"]
    assert pacer.waiting == 0


def test_nobody_overtakes() -> None:
    pacer: Pacer[int] = Pacer(1_000, now_s=0.0)
    sent = [pacer.arrive(0, 0.0) is Turn.NOW and 0]
    assert [pacer.arrive(number, 0.0) for number in range(1, 30)] == [Turn.WAIT] * 29
    # A token is there, but others came before.
    assert pacer.arrive(30, 0.015) is Turn.WAIT
    now_s = 0.015
    while pacer.waiting:
        sent += pacer.release(now_s)
        now_s += 0.001
    assert sent == list(range(31))


@pytest.mark.parametrize("rps", [7, 100, 16_667, 250_000])
@pytest.mark.parametrize("lag_s", [0.001, 0.007, 0.3])
def test_no_window_has_more_than_its_share(rps: float, lag_s: float) -> None:
    """With more requests than it may take, released every `lag_s` seconds, for two seconds."""
    pacer: Pacer[None] = Pacer(rps, now_s=0.0, waiting_max=10**6)
    went: list[tuple[float, int]] = []
    for number in range(int(2 / lag_s)):
        now_s = number * lag_s
        count = len(pacer.release(now_s))
        for _ in range(int(rps * lag_s) + 2 - min(pacer.waiting, int(rps * lag_s))):
            count += pacer.arrive(None, now_s) is Turn.NOW
        went.append((now_s, count))
    window_s = 0.1
    for begin_s, _ in went[:: max(1, len(went) // 50)]:
        inside = sum(count for at_s, count in went if begin_s <= at_s < begin_s + window_s)
        assert inside <= rps * (window_s + BURST_S) + 1
    if lag_s < BURST_S:  # and what it may take, it takes
        assert sum(count for _, count in went) >= rps * (2 - 2 * lag_s) - 2


def test_too_many_are_refused() -> None:
    pacer: Pacer[int] = Pacer(1, now_s=0.0, waiting_max=2)
    assert [pacer.arrive(n, 0.0) for n in range(4)] == [Turn.NOW, Turn.WAIT, Turn.WAIT, Turn.REFUSED]
    assert pacer.release(1.0) == [1]
    assert pacer.arrive(4, 1.0) is Turn.WAIT
