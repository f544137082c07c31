"""What goes wrong with an answer, and how does that look?

Decisions only. A garbage answer carries the counts below, which lie under the floors of the walk: found
anywhere behind the API, they prove that somebody took garbage for an observation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import cycle
from random import Random
from typing import Final

from tidemark.errors import CallerError

GARBAGE_FOLLOWERS: Final = 4_321
GARBAGE_FOLLOWINGS: Final = 21
OVERSIZED_BYTES: Final = 1 << 20
"""Of the oversized body: a hundred would do for a reader with a limit, this hurts one without."""

DELAY_MAX_MS: Final = 3_600_000


class Fault(Enum):
    """What becomes of one GET. The names from HTML on are the kinds of garbage."""

    NONE = auto()
    CHUNKED = auto()  # a good answer in chunks, without a Content-Length
    ERROR = auto()  # status 500
    RESET = auto()  # the connection is reset instead of an answer
    HTML = auto()  # an error page with status 200
    TRUNCATED = auto()  # half the JSON, with the Content-Length of the half
    OTHER_PK = auto()  # a good observation of somebody else
    NEGATIVE = auto()
    FRACTIONAL = auto()
    ENORMOUS = auto()  # 2^32, the first number that a UInt32 turns into 0
    ASTRONOMICAL = auto()  # 10^30, more than any integer type of a database
    OVERSIZED = auto()  # a good observation inside 1 MiB of JSON
    CUT_OFF = auto()  # the connection is closed in the middle of the body


GARBAGE: Final = tuple(Fault)[tuple(Fault).index(Fault.HTML) :]


@dataclass(frozen=True, slots=True)
class Faults:
    """How much of what goes wrong. Shares are of all GETs, from 0 to 1, and add up to 1 at most.

    Raises CallerError where they do not.
    """

    error_share: float = 0.0
    reset_share: float = 0.0
    garbage_share: float = 0.0
    chunked_share: float = 0.0
    delay_ms: float = 0.0
    """Added to every GET, whatever becomes of it."""
    seed: int | None = None

    def __post_init__(self) -> None:
        shares = (self.error_share, self.reset_share, self.garbage_share, self.chunked_share)
        if not all(0.0 <= share <= 1.0 for share in shares) or sum(shares) > 1.0 + 1e-9:
            raise CallerError(
                f"shares of faults {shares} are not possible: give each from 0 to 1, 1 in sum at most"
            )
        if not 0.0 <= self.delay_ms <= DELAY_MAX_MS:
            raise CallerError(f"a delay of {self.delay_ms} ms is not possible: give 0 to {DELAY_MAX_MS}")

    def __bool__(self) -> bool:
        """Whether anything goes wrong at all."""
        return bool(
            self.error_share or self.reset_share or self.garbage_share or self.chunked_share or self.delay_ms
        )

    def dice(self) -> Callable[[], Fault]:
        """A function that says what becomes of the next GET; with a seed always the same sequence."""
        random = Random(self.seed).random
        garbage = cycle(GARBAGE)
        reset_from = self.error_share
        garbage_from = reset_from + self.reset_share
        chunked_from = garbage_from + self.garbage_share
        fine_from = chunked_from + self.chunked_share

        def roll() -> Fault:
            at = random()
            if at >= fine_from:
                return Fault.NONE
            if at >= chunked_from:
                return Fault.CHUNKED
            if at >= garbage_from:
                return next(garbage)
            return Fault.RESET if at >= reset_from else Fault.ERROR

        return roll


@dataclass(frozen=True, slots=True)
class Garbage:
    """A body that answers with status 200 and is wrong."""

    body: bytes
    content_type: bytes = b"application/json; charset=utf-8"
    missing_bytes: int = 0
    """How much more the Content-Length promises than the body has; the connection is closed after it."""


def garbage(fault: Fault, pk: int) -> Garbage:
    """The garbage of one kind in answer to a GET of `pk`. Raises ValueError for a fault that is none."""
    match fault:
        case Fault.HTML:
            page = b"<!DOCTYPE html>\n<html><body><h1>502 Bad Gateway</h1><hr>nginx</body></html>\n"
            return Garbage(page, b"text/html; charset=utf-8")
        case Fault.TRUNCATED:
            whole = _observation(pk)
            return Garbage(whole[: len(whole) // 2])
        case Fault.OTHER_PK:
            return Garbage(_observation(pk + 1))
        case Fault.NEGATIVE:
            return Garbage(_observation(pk, b"-4321"))
        case Fault.FRACTIONAL:
            return Garbage(_observation(pk, b"4321.5"))
        case Fault.ENORMOUS:
            return Garbage(_observation(pk, b"%d" % 2**32))
        case Fault.ASTRONOMICAL:
            return Garbage(_observation(pk, b"1" + b"0" * 30))
        case Fault.OVERSIZED:
            return Garbage(_observation(pk)[:-1] + b',"padding":"' + b"x" * OVERSIZED_BYTES + b'"}')
        case Fault.CUT_OFF:
            whole = _observation(pk)
            return Garbage(whole[:-10], missing_bytes=10)
        case _:
            raise ValueError(f"{fault} is no garbage")


def _observation(pk: int, followers: bytes = b"%d" % GARBAGE_FOLLOWERS) -> bytes:
    return b'{"pk":%d,"username":"influencer-%d","followerCount":%b,"followingCount":%d}' % (
        pk,
        pk,
        followers,
        GARBAGE_FOLLOWINGS,
    )
