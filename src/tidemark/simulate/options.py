"""What does the operator want of the stand-in?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tidemark.errors import CallerError
from tidemark.simulate.faults import Faults

PK_MAX_DIGITS: Final = 10
"""Longer numbers in a path are not even looked at."""

PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What the stand-in does. Raises CallerError for what it cannot do."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 picks a free one."""
    first: int = 1_000_000
    last: int = 1_999_999
    """The influencers that exist, both inclusive."""
    seed: int | None = None
    """Makes the counts of each influencer and the times of the classification repeatable."""
    max_rps: float = 0.0
    """GETs answered in a second, at most; 0: as many as can be."""
    classify_seconds: float = 10.0
    """The longest time that a classification takes; the times are spread evenly from 0."""
    classify_exact: bool = False
    """Each takes exactly `classify_seconds`."""
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last < 10**PK_MAX_DIGITS:
            raise CallerError(
                f"influencers {self.first}-{self.last} are no range: give two pks, the smaller first"
            )
        if not 0 <= self.port <= PORT_MAX:
            raise CallerError(
                f"port {self.port} does not exist: give one from 1 to 65535, or 0 for a free one"
            )
        if not (self.max_rps >= 0 and self.classify_seconds >= 0):
            raise CallerError("a rate or a time cannot be negative: give 0 or more")
