"""What does an answer look like? The JSON and CSV of the HTTP API, made from views and series.

Encoded by msgspec straight from the columns, ten times as fast as models of objects would be; the same
definitions, with the words below their fields, give the OpenAPI schema.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from tidemark.board import Latest
from tidemark.board.gains import Direction
from tidemark.serve.gains import GainWindow
from tidemark.store.changes import Before, ChangeWindow
from tidemark.store.series import AverageSeries, Series, Step
from tidemark.times import rfc3339

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]

_encode = msgspec.json.Encoder().encode


class Influencer(msgspec.Struct, rename="camel"):
    """One influencer as last observed. All fields are of one moment."""

    pk: int
    username: str | None
    follower_count: int
    following_count: int
    follower_ratio: float | None
    """Followers by followings; null when nobody is followed."""
    rank: int
    """1 + how many influencers have strictly more followers."""
    percentile: float
    """Of those with another follower count, the share in percent that has fewer."""
    suspicious: bool | None
    suspicious_checked_at: Time | None
    observed_at: Time

    @classmethod
    def of(cls, latest: Latest) -> Influencer:
        """From the board."""
        checked_at = latest.suspicious_checked_at
        return cls(
            latest.pk,
            latest.username,
            latest.follower_count,
            latest.following_count,
            latest.follower_ratio,
            latest.rank,
            latest.percentile,
            latest.suspicious,
            None if checked_at is None else rfc3339(checked_at),
            rfc3339(latest.observed_at),
        )


class Listing(msgspec.Struct, rename="camel"):
    """Some influencers, of one moment."""

    total: int
    """How many there are in all: everybody observed, or those of them that are listed."""
    items: list[Influencer]


class Found(msgspec.Struct, rename="camel"):
    """Whom a text may mean, likeliest first."""

    items: list[Influencer]
    more: bool
    """Whether there are others beyond `limit`."""


class Gainer(Influencer, rename="camel"):
    """One influencer as last observed, and what it had at the beginning of the window."""

    follower_count_before: int
    follower_gain: int
    """Followers won since then; negative: lost."""

    @classmethod
    def since(cls, latest: Latest, gain: int) -> Gainer:
        """From the board."""
        fields: tuple[Any, ...] = msgspec.structs.astuple(Influencer.of(latest))
        fields += (latest.follower_count - gain, gain)
        return cls(*fields)


class Gainers(msgspec.Struct, rename="camel"):
    """Some influencers by how many followers they won or lost, of one moment."""

    window: GainWindow
    direction: Direction
    """up: the biggest gain first; down: the biggest loss."""
    since: Time | None
    """When everybody's followers were written down from which the gains are counted: the ten minutes nearest to
    the beginning of the window. null while there is nothing from so long ago."""
    as_of: Time
    """The moment of the latest values: that of the newest observation."""
    total: int
    """How many have both a value at `since` and a latest one, or those of them that are listed."""
    items: list[Gainer]


class Change(msgspec.Struct, rename="camel"):
    """By how much an influencer changed over one window. All null where there is nothing to compare with."""

    window: ChangeWindow
    since: Time | None
    """When the observation was that is compared with: the one nearest to the beginning of the window, or before it."""
    follower_count: int | None
    following_count: int | None
    follower_ratio: float | None
    """null too when nobody was followed at one of the two moments."""

    @classmethod
    def of(cls, window: ChangeWindow, latest: Latest, before: Before | None) -> Change:
        """From the board and the store."""
        if before is None:
            return cls(window, None, None, None, None)
        ratio = None
        if latest.follower_ratio is not None and before.following_count:
            ratio = latest.follower_ratio - before.follower_count / before.following_count
        return cls(
            window,
            rfc3339(before.observed_at),
            latest.follower_count - before.follower_count,
            latest.following_count - before.following_count,
            ratio,
        )


class Changes(msgspec.Struct, rename="camel"):
    """By how much an influencer changed, the latest observation compared with earlier ones."""

    pk: int
    as_of: Time
    """When the latest observation was: the windows end there."""
    changes: list[Change]


class Points(msgspec.Struct, rename="camel", omit_defaults=True):
    """One influencer over time, in columns of equal length. Periods without an observation are left out."""

    pk: int
    step: Step
    from_: Time = msgspec.field(name="from")
    to: Time
    time: list[int]
    """Unix seconds: when observed or, for a step, where the period begins."""
    follower_count: list[int]
    """For a step: at the last observation of the period, so that a chart ends with the latest value."""
    following_count: list[int]
    follower_ratio: list[float | None]
    observations: list[int] | None = None
    """For a step, as all that follow: how many there were in the period."""
    follower_count_min: list[int] | None = None
    follower_count_max: list[int] | None = None
    follower_count_average: list[float] | None = None
    following_count_min: list[int] | None = None
    following_count_max: list[int] | None = None
    following_count_average: list[float] | None = None

    @classmethod
    def of(cls, pk: int, series: Series) -> Points:
        """From the store."""
        points = cls(
            pk,
            series.step,
            rfc3339(series.from_s),
            rfc3339(series.to_s),
            series.time.tolist(),
            series.follower_count.tolist(),
            series.following_count.tolist(),
            _nulls(series.follower_ratio),
        )
        if rolled := series.rolled:
            points.observations = rolled.observations.tolist()
            points.follower_count_min = rolled.follower_min.tolist()
            points.follower_count_max = rolled.follower_max.tolist()
            points.follower_count_average = rolled.follower_average.tolist()
            points.following_count_min = rolled.following_min.tolist()
            points.following_count_max = rolled.following_max.tolist()
            points.following_count_average = rolled.following_average.tolist()
        return points


class AveragePoints(msgspec.Struct, rename="camel"):
    """The average over all influencers over time, in columns of equal length."""

    step: Step
    from_: Time = msgspec.field(name="from")
    to: Time
    time: list[int]
    average_follower_count: list[float]
    influencers: list[int]
    """How many the average is over."""
    average_follower_count_min: list[float]
    average_follower_count_max: list[float]

    @classmethod
    def of(cls, series: AverageSeries) -> AveragePoints:
        """From the store."""
        return cls(
            series.step,
            rfc3339(series.from_s),
            rfc3339(series.to_s),
            series.time.tolist(),
            series.average_follower_count.tolist(),
            series.influencers.tolist(),
            series.average_min.tolist(),
            series.average_max.tolist(),
        )


class FreshnessSeconds(msgspec.Struct):
    """The age of the latest observation, over all influencers observed."""

    p50: float
    p99: float
    max: float


class Verdicts(msgspec.Struct, rename="camel"):
    """How many of the watched influencers are what."""

    suspicious: int
    not_suspicious: int
    unknown: int


class LatencySeconds(msgspec.Struct):
    """How long calls took."""

    p50: float
    p99: float
    max: float


class Classification(msgspec.Struct, rename="camel"):
    """How the classification is getting on."""

    share: float
    """The share of the watched influencers with a verdict of the last interval (a day, and a twentieth)."""
    oldest_verdict_seconds: float | None
    """The age of the oldest of everybody's latest verdicts; null while there are none."""
    verdicts_per_second: float
    """Over the last five minutes."""
    in_flight: int
    """Calls for a verdict that all classifiers together wait for."""
    latency_seconds: LatencySeconds | None
    """What calls took in the last five minutes; null when there was none."""


class Stats(msgspec.Struct, rename="camel"):
    """How the influencers stand, and how well they are watched."""

    influencers: int
    """How many are watched."""
    interval_seconds: float
    """How often each is to be observed; 0: as often as the API allows."""
    observed: int
    """How many of them have been observed at least once: the average is over these."""
    average_follower_count: float | None
    observations_total: int
    """Rows in the store."""
    observations_per_second: float
    """Over the last minute."""
    coverage: float
    """The share of the watched influencers observed within the last interval (60 s where it is 0)."""
    freshness_seconds: FreshnessSeconds | None
    suspicious: Verdicts
    classification: Classification
    lag_batches: int | None
    """Batches on the log that the store has not taken yet; null while the log is away."""
    as_of: Time
    """The moment that all of this is of."""


def as_json(answer: msgspec.Struct) -> bytes:
    """The body."""
    return _encode(answer)


def as_csv(answer: Points | AveragePoints) -> bytes:
    """The columns of a series with a header line; times in RFC 3339, nothing where there is no ratio."""
    columns: dict[str, Iterable[Any]] = {
        name: values for name, values in msgspec.to_builtins(answer).items() if isinstance(values, list)
    }
    columns["time"] = np.datetime_as_string(np.array(answer.time, "datetime64[s]"), timezone="UTC").tolist()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return out.getvalue().encode()


def _nulls(values: npt.NDArray[np.float64]) -> list[float | None]:
    """JSON has no NaN."""
    return [None if value != value else value for value in values.tolist()]
