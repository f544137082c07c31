"""What was asked for? The parameters of the HTTP API, and what they mean."""

from __future__ import annotations

import re
import time
from typing import Annotated, Final, Literal

from fastapi import Path, Query

from tidemark.errors import CallerError
from tidemark.population import Population
from tidemark.serve.problems import Problem
from tidemark.times import rfc3339, seconds

LIMIT_MAX: Final = 1_000
LIVE_PKS_MAX: Final = 10
"""In one stream: an influencer's page has two of them, and nobody makes a stream the size of the board."""
DEFAULT_RANGE_S: Final = 86_400

Pk = Annotated[str, Path(description="The influencer's pk.", examples=["1000001"])]
LivePks = Annotated[
    list[str] | None,
    Query(max_length=LIVE_PKS_MAX, description="An influencer's pk; repeatable."),
]
WithStats = Annotated[bool, Query(description="Also what `GET /v1/stats` answers, once a second.")]
From = Annotated[
    str | None, Query(alias="from", description="RFC 3339 or Unix seconds; default: a day before `to`.")
]
To = Annotated[str | None, Query(description="RFC 3339 or Unix seconds, exclusive; default: now.")]
WantedStep = Annotated[
    Literal["auto", "raw", "1m", "1h", "1d"],
    Query(description="auto: the finest that gives at most about 2,000 points."),
]
Format = Annotated[Literal["json", "csv"], Query(description="The form of the answer.")]
Search = Annotated[
    str, Query(min_length=1, max_length=64, description="A pk or the beginning of a username.")
]
Around = Annotated[str | None, Query(description="A pk that is to be in the middle, instead of `offset`.")]
Offset = Annotated[int, Query(ge=0, le=2**28, description="How many places to leave out.")]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="How many at most.")]
Suspicious = Annotated[
    Literal["exclude", "only"] | None,
    Query(description="Leave out who is known to be suspicious, or everybody else; ranks stay as they are."),
]


def watched(text: str, population: Population) -> int:
    """The pk, if it is watched. Problem 422 for anything else."""
    if re.fullmatch(r"[0-9]{1,10}", text) and int(text) in population:
        return int(text)
    raise Problem(
        422, "Not a watched pk", f"{text[:40]!r} is not among the watched influencers, {population}"
    )


def time_range(from_: str | None, to: str | None) -> tuple[int, int]:
    """The time asked for, in Unix seconds, from (inclusive) to (exclusive). Problem 422 where there is none."""
    to_s = _time(to) if to is not None else int(time.time()) + 1
    from_s = _time(from_) if from_ is not None else max(0, to_s - DEFAULT_RANGE_S)
    if from_s >= to_s:
        raise Problem(422, "Not a time range", f"from {rfc3339(from_s)} is not before to {rfc3339(to_s)}")
    return from_s, to_s


def _time(text: str) -> int:
    # A plus sign in a query means a space: mend the zone of those who did not encode it.
    mended = text.replace(" ", "+") if "T" in text.upper() else text
    try:
        return seconds(mended)
    except CallerError as error:
        raise Problem(422, "Not a time", str(error)) from error
