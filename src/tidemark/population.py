"""Which influencers are watched, and how are they cut into shards?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tidemark.errors import CallerError

SHARD_SIZE_PKS = 3_334
"""Pks in a shard: one tick, one batch, about 37 kB on the log. 1M influencers make 300 shards, five of them due in each
second of a minute. docs/adr/0016 has what smaller and larger ones cost."""

PK_MAX = 2**32 - 1
"""Pks are stored as UInt32."""

POPULATION_MAX_PKS = 2**28
"""The ranking keeps the position of an influencer in 28 bits of its sort key."""


@dataclass(frozen=True, slots=True)
class Population:
    """The watched pks `first` to `last`, both inclusive, cut into contiguous shards.

    Shard i holds the pks from `first + i * shard_size`; the last shard may be shorter. Each pk is
    in exactly one shard.
    """

    first: int
    last: int
    shard_size: int = SHARD_SIZE_PKS

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= PK_MAX:
            raise CallerError(
                f"influencers {self.first}-{self.last} is no range of pks:"
                f" give two whole numbers from 0 to {PK_MAX}, the smaller first"
            )
        if self.size > POPULATION_MAX_PKS:
            raise CallerError(
                f"{self.size} influencers are more than the {POPULATION_MAX_PKS} one board holds"
            )

    @classmethod
    def parse(cls, text: str) -> Population:
        """Read `A-B`, for example `1000000-1999999`. Raises CallerError."""
        found = re.fullmatch(r"(\d{1,10})-(\d{1,10})", text.strip())
        if not found:
            raise CallerError(f"{text!r} is no range of pks: write it as 1000000-1999999")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def __contains__(self, pk: int) -> bool:
        return self.first <= pk <= self.last

    @property
    def size(self) -> int:
        """How many influencers."""
        return self.last - self.first + 1

    @property
    def shards(self) -> int:
        """How many shards."""
        return -(-self.size // self.shard_size)

    def index(self, pk: int) -> int:
        """The position of `pk`, from 0; the caller has checked that it is watched."""
        return pk - self.first

    def shard_range(self, shard: int) -> tuple[int, int]:
        """The first and last pk of a shard, both inclusive."""
        first = self.first + shard * self.shard_size
        return first, min(first + self.shard_size - 1, self.last)
