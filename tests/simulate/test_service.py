"""Decisions about answers, with a clock that stands still: what is put off is only noted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest

from tidemark.simulate import Faults, SimulateOptions, is_suspicious
from tidemark.simulate.faults import GARBAGE
from tidemark.simulate.pacing import WAITING_MAX_REQUESTS
from tidemark.simulate.service import After, Service

from .conftest import Recorder

PK = 1_000_001


class Later:
    """In place of the event loop: notes what is to happen, and when."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> None:
        self.calls.append((delay_s, lambda: callback(*args)))


class Answered:
    """A slot that keeps what it is filled with."""

    def __init__(self) -> None:
        self.answers: list[tuple[bytes, After]] = []

    def fill(self, answer: bytes, after: After = After.KEEP) -> None:
        self.answers.append((answer, after))

    @property
    def status(self) -> int:
        return int(self.answers[0][0].split(b" ")[1])

    @property
    def json(self) -> Any:
        return json.loads(self.answers[0][0].partition(b"\r\n\r\n")[2])


def service(later: Later, walk: Recorder | None = None, **options: Any) -> Service:
    return Service(SimulateOptions(**options), walk or Recorder(), cast(Any, later))


def test_a_plain_get() -> None:
    plain = service(Later())
    slot = Answered()
    plain.get(PK, slot)
    assert plain.plain
    assert plain.served == 1
    assert slot.json == {
        "pk": PK,
        "username": f"influencer-{PK}",
        "followerCount": 10_001,
        "followingCount": 1,
    }


@pytest.mark.parametrize("exact", [True, False])
def test_how_long_a_classification_takes(exact: bool) -> None:
    later = Later()
    busy = service(later, classify_seconds=8, classify_exact=exact, seed=2)
    slots = [Answered() for _ in range(200)]
    for slot in slots:
        busy.post(b'{"pk":%d}' % PK, slot)
    delays_s = [delay_s for delay_s, _ in later.calls]
    assert busy.classifying == 200
    if exact:
        assert set(delays_s) == {8}
    else:
        assert 0 <= min(delays_s) < 1
        assert 7 < max(delays_s) <= 8
    for _, happen in later.calls:
        happen()
    assert (busy.classifying, busy.classified) == (0, 200)
    assert all(slot.json == {"pk": PK, "suspicious": is_suspicious(PK)} for slot in slots)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"[1000001]", 400),
        (b"{}", 400),
        (b'{"pk":"1000001"}', 400),
        (b'{"pk":true}', 400),
        (b'{"pk":1000001.5}', 400),
        (b'{"pk":5}', 404),
    ],
)
def test_bodies_that_name_nobody(body: bytes, status: int) -> None:
    later, slot = Later(), Answered()
    service(later).post(body, slot)
    assert slot.status == status
    assert "error" in slot.json
    assert later.calls == []


def test_a_saturated_server_lets_others_wait_and_then_refuses() -> None:
    later = Later()
    slow = service(later, max_rps=0.001)  # the next one is due in a quarter of an hour
    slots = [Answered() for _ in range(WAITING_MAX_REQUESTS + 3)]
    for slot in slots:
        slow.get(PK, slot)
    assert not slow.plain
    assert slots[0].status == 200
    assert not any(slot.answers for slot in slots[1:-2])
    assert [slot.status for slot in slots[-2:]] == [503, 503]
    assert (slow.served, slow.refused) == (1, 2)
    # One timer for all who wait, and another one each time it was too early.
    (delay_s, happen), *more = later.calls
    assert not more
    assert 900 < delay_s <= 1_000
    happen()
    assert len(later.calls) == 2


def test_a_delay_is_added_to_the_answer() -> None:
    later, slot = Later(), Answered()
    service(later, faults=Faults(delay_ms=250)).get(PK, slot)
    assert slot.answers == []
    (delay_s, happen), *_ = later.calls
    assert delay_s == 0.25
    happen()
    assert slot.status == 200


def test_an_error_and_a_reset_touch_no_counts() -> None:
    for faults, status, after in (
        (Faults(error_share=1), 500, After.KEEP),
        (Faults(reset_share=1), None, After.RESET),
    ):
        walk, slot = Recorder(), Answered()
        wrong = service(Later(), walk, faults=faults)
        wrong.get(PK, slot)
        assert slot.answers[0][1] is after
        assert status is None or slot.status == status
        assert walk.calls == []
        assert (wrong.served, wrong.spoiled) == (0, 1)


def test_all_kinds_of_garbage_come_and_touch_no_counts() -> None:
    walk = Recorder()
    wrong = service(Later(), walk, faults=Faults(garbage_share=1))
    slots = [Answered() for _ in GARBAGE]
    for slot in slots:
        wrong.get(PK, slot)
    assert {slot.status for slot in slots} == {200}
    assert len({slot.answers[0][0] for slot in slots}) == len(GARBAGE)
    assert Counter(slot.answers[0][1] for slot in slots)[After.CLOSE] == 1
    assert walk.calls == []
    assert (wrong.served, wrong.spoiled) == (0, len(GARBAGE))


def test_a_chunked_answer_is_a_good_one() -> None:
    walk, slot = Recorder(), Answered()
    chunked = service(Later(), walk, faults=Faults(chunked_share=1))
    chunked.get(PK, slot)
    answer = slot.answers[0][0]
    assert b"Transfer-Encoding: chunked" in answer
    assert b"Content-Length" not in answer
    assert walk.calls == [PK]
    assert (chunked.served, chunked.spoiled) == (1, 0)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(error_share=1),
        Faults(garbage_share=1),
        Faults(reset_share=1),
        Faults(chunked_share=1),
    ],
)
def test_nobody_is_always_unknown(faults: Faults) -> None:
    walk, slot = Recorder(), Answered()
    service(Later(), walk, faults=faults).get(999_999, slot)
    assert slot.status == 404
    assert walk.calls == []
