from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tidemark.errors import CallerError
from tidemark.simulate.faults import GARBAGE, OVERSIZED_BYTES, Fault, Faults, garbage
from tidemark.simulate.walk import FOLLOWERS_FLOOR

PK = 1_000_001


def test_nothing_goes_wrong_unasked() -> None:
    assert not Faults()
    assert not Faults(seed=3)
    assert {Faults().dice()() for _ in range(100)} == {Fault.NONE}


@pytest.mark.parametrize("name", ["error_share", "reset_share", "garbage_share", "chunked_share", "delay_ms"])
def test_anything_asked_for_is_a_fault(name: str) -> None:
    wrong: dict[str, Any] = {name: 0.5}
    assert Faults(**wrong)


def test_shares_are_kept() -> None:
    roll = Faults(error_share=0.1, reset_share=0.2, garbage_share=0.3, chunked_share=0.15, seed=1).dice()
    size = 20_000
    seen = Counter(roll() for _ in range(size))
    assert seen[Fault.ERROR] / size == pytest.approx(0.1, abs=0.02)
    assert seen[Fault.RESET] / size == pytest.approx(0.2, abs=0.02)
    assert seen[Fault.CHUNKED] / size == pytest.approx(0.15, abs=0.02)
    assert seen[Fault.NONE] / size == pytest.approx(0.25, abs=0.02)
    kinds = [seen[kind] for kind in GARBAGE]
    assert sum(kinds) / size == pytest.approx(0.3, abs=0.02)
    assert max(kinds) - min(kinds) <= 1  # they take turns


@pytest.mark.parametrize("name", ["error_share", "reset_share", "garbage_share", "chunked_share"])
def test_a_share_of_one_is_everything(name: str) -> None:
    all_of_it: dict[str, Any] = {name: 1.0}
    roll = Faults(**all_of_it).dice()
    assert Fault.NONE not in {roll() for _ in range(1_000)}


def test_a_seed_repeats() -> None:
    faults = Faults(error_share=0.3, garbage_share=0.3, seed=9)
    one, two = faults.dice(), faults.dice()
    assert [one() for _ in range(200)] == [two() for _ in range(200)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"error_share": 1.1},
        {"reset_share": -0.1},
        {"error_share": 0.6, "garbage_share": 0.6},
        {"delay_ms": -1},
    ],
)
def test_impossible_shares_are_the_callers_fault(wrong: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match="give"):
        Faults(**wrong)


@pytest.mark.parametrize("kind", GARBAGE)
def test_each_kind_of_garbage_is_wrong(kind: Fault) -> None:
    """Whatever passes as JSON of the right person has counts that no walk ever has."""
    made = garbage(kind, PK)
    try:
        body = json.loads(made.body)
    except ValueError:
        assert kind in (Fault.HTML, Fault.TRUNCATED, Fault.CUT_OFF)
        return
    followers = body["followerCount"]
    assert followers < FOLLOWERS_FLOOR or followers >= 2**32
    assert (body["pk"] == PK) == (kind is not Fault.OTHER_PK)
    assert (len(made.body) > OVERSIZED_BYTES) == (kind is Fault.OVERSIZED)


def test_cut_off_promises_more_than_it_has() -> None:
    assert garbage(Fault.CUT_OFF, PK).missing_bytes > 0
    assert all(garbage(kind, PK).missing_bytes == 0 for kind in GARBAGE if kind is not Fault.CUT_OFF)


@pytest.mark.parametrize("kind", [kind for kind in Fault if kind not in GARBAGE])
def test_the_others_are_no_garbage(kind: Fault) -> None:
    with pytest.raises(ValueError, match="no garbage"):
        garbage(kind, PK)
