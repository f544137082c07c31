"""How do the counts of an influencer move from one call to the next?

Each count is a slow walk below the surface, seen through a floor. Every call adds a uniform step and
pulls the hidden value back by 1/600 of its distance from its home:

    hidden += uniform(-step, step) - (hidden - home) / 600        seen = max(floor, hidden)

This is an AR(1) process, mean-reverting: its long-run spread is step / sqrt(3) / sqrt(2 / 600) = 10
steps. So the followers stay distributed as Normal(100,000, 100,000) for ever, 17% of them below the
floor of 5,000, and the followings as Normal(1,000, 1,000) with as many below 50. The walk begins in
that distribution. An influencer on the floor stays there for a while: its hidden value is below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

FOLLOWERS_HOME: Final = 100_000
FOLLOWERS_STEP: Final = 10_000
FOLLOWERS_FLOOR: Final = 5_000
FOLLOWINGS_HOME: Final = 1_000
FOLLOWINGS_STEP: Final = 100
FOLLOWINGS_FLOOR: Final = 50
PULL: Final = 600
SPREAD_STEPS: Final = 10
"""The long-run standard deviation of a hidden value, in steps; it follows from PULL."""

TABLE_SIZE: Final = 1 << 14
"""Pairs of steps drawn at once: small enough to stay in the processor's cache. A power of two."""

SUSPICIOUS_PERCENT: Final = 10

Step = Callable[[int], tuple[int, int]]


class Walk:
    """The counts of the influencers `first` to `last`, both inclusive; 80 bytes each, 120 with a seed.

    With a seed, the sequence of a pk depends on the seed, the pk and the number of the call only.
    """

    step: Step
    """Moves one influencer and returns its (followers, followings). The caller has checked the pk."""

    def __init__(self, first: int, last: int, seed: int | None = None) -> None:
        self._seed = seed
        self.step = _drawn(first, last) if seed is None else _seeded(first, last, seed)

    def expected(self, pk: int, calls: int) -> list[tuple[int, int]]:
        """What the first `calls` calls of `step(pk)` return. Raises ValueError for a walk without a seed."""
        if self._seed is None:
            raise ValueError("a walk without a seed cannot be foretold")
        step = _seeded(pk, pk, self._seed)
        return [step(pk) for _ in range(calls)]


def is_suspicious(pk: int) -> bool:
    """The verdict on a pk: always the same, true for about 10% of them."""
    return ((pk * 2_654_435_761 & 0xFFFF_FFFF) >> 16) % 100 < SUSPICIOUS_PERCENT


# The two `step` below run once for each request, in about half a microsecond. Hence local names, lists
# and Python integers, and no objects of numpy; `array.array` made a call up to half as long again.


def _drawn(first: int, last: int) -> Step:
    """Steps drawn at random, a block at a time, and taken in turn by whoever is called."""
    random = np.random.default_rng()
    followers, followings = _start(random.integers(2**63).item(), first, last)
    draw = chain.from_iterable(_blocks(random)).__next__

    def step(pk: int) -> tuple[int, int]:
        index = pk - first
        more_followers, more_followings = draw()
        follower = followers[index]
        followers[index] = follower = follower + more_followers - follower // PULL
        following = followings[index]
        followings[index] = following = following + more_followings - following // PULL
        return (
            follower if follower > FOLLOWERS_FLOOR else FOLLOWERS_FLOOR,
            following if following > FOLLOWINGS_FLOOR else FOLLOWINGS_FLOOR,
        )

    return step


def _seeded(first: int, last: int, seed: int) -> Step:
    """Steps from one table, in which each pk has a place to begin at and a stride of its own."""
    table = list(next(_blocks(np.random.default_rng(abs(seed)))))
    followers, followings = _start(seed, first, last)
    places = _integers(TABLE_SIZE * _uniform(seed, first, last, 3))

    def step(pk: int) -> tuple[int, int]:
        index = pk - first
        # An odd stride visits the whole table. Were it the same for all, those who share a place would be
        # pulled to the same counts in time.
        places[index] = place = places[index] + pk + pk + 1 & TABLE_SIZE - 1
        more_followers, more_followings = table[place]
        follower = followers[index]
        followers[index] = follower = follower + more_followers - follower // PULL
        following = followings[index]
        followings[index] = following = following + more_followings - following // PULL
        return (
            follower if follower > FOLLOWERS_FLOOR else FOLLOWERS_FLOOR,
            following if following > FOLLOWINGS_FLOOR else FOLLOWINGS_FLOOR,
        )

    return step


def _blocks(random: np.random.Generator) -> Iterator[Iterator[tuple[int, int]]]:
    """Blocks of TABLE_SIZE steps of (followers, followings), with the part of the pull that is constant."""
    while True:
        yield zip(
            _steps(random, FOLLOWERS_STEP, FOLLOWERS_HOME),
            _steps(random, FOLLOWINGS_STEP, FOLLOWINGS_HOME),
            strict=True,
        )


def _steps(random: np.random.Generator, step: int, home: int) -> list[int]:
    steps = random.uniform(-step, step, TABLE_SIZE)
    steps += home / PULL - steps.mean()  # a table used again and again must not drift
    # Rounding down here takes half a unit off on average, as does rounding down `hidden // PULL` there.
    whole: list[int] = np.floor(steps).astype(np.int64).tolist()
    return whole


def _start(seed: int, first: int, last: int) -> tuple[list[int], list[int]]:
    """Hidden followers and hidden followings of each pk, before the first call."""
    # Two normal variables from two uniform ones: Box and Muller, 1958.
    radius = SPREAD_STEPS * np.sqrt(-2.0 * np.log(1.0 - _uniform(seed, first, last, 1)))
    angle = 2.0 * np.pi * _uniform(seed, first, last, 2)
    return (
        _integers(FOLLOWERS_HOME + FOLLOWERS_STEP * radius * np.cos(angle)),
        _integers(FOLLOWINGS_HOME + FOLLOWINGS_STEP * radius * np.sin(angle)),
    )


def _uniform(seed: int, first: int, last: int, salt: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each pk, by the mixing function of splitmix64 (Steele et al., 2014)."""
    salted = np.uint64((seed * 0xD1B5_4A32_D192_ED03 + salt) % 2**64)
    mixed = np.arange(first, last + 1, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15) + salted
    for _ in range(2):  # twice: neighbouring pks and seeds differ in few bits
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _integers(values: NDArray[np.float64]) -> list[int]:
    whole: list[int] = np.floor(values).astype(np.int64).tolist()
    return whole
