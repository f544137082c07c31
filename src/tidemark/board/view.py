"""What do readers see? The board as it stood at one moment.

All answers of one View belong together: rank, followers and followings of an influencer come from the
same observation, and ranks, leaderboard and average from the same set of observations. Only usernames are
read from the live `Names`, because they hardly ever change: a name may be newer than the view.

A View never changes, so any thread may ask it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from tidemark.board.latest import AHEAD_MAX_MS, UNKNOWN, Values
from tidemark.board.names import Names
from tidemark.board.ranking import Places, Ranking
from tidemark.population import Population

COVERAGE_GRACE_MS: Final = 5_000
"""How much older than the interval an observation may be and still cover it. Between the moment a shard is
due and the view that shows its answers lie the requests, the log and up to a second until the next view."""
COVERAGE_INTERVAL_MS: Final = 60_000
"""The interval that is meant where the setting is 0, as fast as possible."""


class Latest(msgspec.Struct, frozen=True):
    """All there is to say about one influencer at one moment."""

    pk: int
    username: str | None
    """None only for who was restored without a name and not observed since."""
    follower_count: int
    following_count: int
    follower_ratio: float | None
    """followers / followings; None when nobody is followed."""
    rank: int
    percentile: float
    """Of the observed influencers with another follower count, the share with a smaller one, in percent.

    So ties are equal, all who share the most followers have 100 and all who share the fewest 0, and more
    followers always mean a higher percentile. 100 where everybody has as many.
    """
    suspicious: bool | None
    """None: not classified yet."""
    suspicious_checked_at: int | None
    """Unix seconds."""
    observed_at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """The age of the latest observation in seconds, over all influencers observed."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """How many of all watched influencers are what."""

    suspicious: int
    not_suspicious: int
    unknown: int


@dataclass(frozen=True, eq=False)
class View:
    """The board at one moment."""

    population: Population
    published_at_ms: int
    """The moment, in Unix milliseconds; 0 before the first."""
    values: Values
    """The columns, by `pk - population.first`."""
    ranking: Ranking
    names: Names
    follower_sum: int
    """The followers of all observed influencers."""

    @cached_property
    def as_of_s(self) -> int:
        """What moment the values are of, in Unix seconds: that of the newest observation, and of the view at latest.

        While nothing new comes, and while what lies on the log is caught up with, that is not now; a poller's
        clock that is ahead does not count.
        """
        published_s, newest_s = self.published_at_ms // 1_000, int(self.values.observed_at.max())
        return min(published_s, newest_s) if newest_s else published_s

    @property
    def total(self) -> int:
        """How many influencers have been observed: the length of the leaderboard."""
        return len(self.ranking)

    @property
    def average_follower_count(self) -> float | None:
        """The mean over the influencers observed, from their exact sum; None while there are none."""
        return self.follower_sum / self.total if self.total else None

    def latest(self, pk: int) -> Latest | None:
        """One influencer; None when it is not watched or not observed yet. About 6 us."""
        if pk not in self.population:
            return None
        index = pk - self.population.first
        if not self.values.observed_at.item(index):
            return None
        followers = self.values.follower_count.item(index)
        return self._entry(index, followers, self.ranking.rank(followers), self.ranking.fewer(followers))

    def leaderboard(self, limit: int, offset: int = 0, suspicious: bool | None = None) -> list[Latest]:
        """The places `offset` (from 0) to `offset + limit` by followers, ties in the order of pks.

        Of those `listed`; their ranks are those among everybody all the same.
        """
        return self._entries(self.ranking.places(offset, limit, self.listed(suspicious)))

    def latest_of(self, indices: npt.NDArray[np.int64]) -> list[Latest]:
        """The influencers at these indices (n,), in the order given; all of them observed."""
        followers = self.values.follower_count[indices].astype(np.int64)
        return self._entries(self.ranking.places_of(indices, followers))

    def around(self, pk: int, limit: int, suspicious: bool | None = None) -> list[Latest] | None:
        """`limit` places of the leaderboard with `pk`, or where it would be, in the middle, moved inwards at its ends.

        None when `pk` is not watched or not observed yet.
        """
        latest = self.latest(pk)
        if latest is None:
            return None
        listed = self.listed(suspicious)
        place = listed.place(pk - self.population.first, latest.follower_count)
        return self.leaderboard(limit, max(min(place - limit // 2, len(listed) - limit), 0), suspicious)

    def listed(self, suspicious: bool | None = None) -> Ranking:
        """Who is on the leaderboard: everybody, only those who are suspicious, or all but those.

        About 10 ms the first time for a view of a million, unless for everybody.
        """
        if suspicious is None:
            return self.ranking
        return self._suspicious if suspicious else self._without_suspicious

    @cached_property
    def _suspicious(self) -> Ranking:
        return self.ranking.only(self.values.verdict == 1)

    @cached_property
    def _without_suspicious(self) -> Ranking:
        return self.ranking.only(self.values.verdict != 1)

    def search(self, text: str, limit: int) -> list[Latest]:
        """Whom `text` may mean, of those observed, likeliest first: see `Names.search`."""
        indices = self.names.search(text, limit, self.values.observed_at)
        return self.latest_of(np.array(indices, np.int64))

    def coverage(self, now_ms: int, interval_ms: int, grace_ms: int = COVERAGE_GRACE_MS) -> float:
        """The share, 0 to 1, of all watched influencers observed within the last interval and the grace.

        Not later than AHEAD_MAX_MS from now: what a clock was ahead with covers nothing. An interval of 0 means
        COVERAGE_INTERVAL_MS. About 0.6 ms.
        """
        since = max((now_ms - (interval_ms or COVERAGE_INTERVAL_MS) - grace_ms) // 1000, 1)
        observed_at, until = self.values.observed_at, (now_ms + AHEAD_MAX_MS) // 1000
        covered = np.count_nonzero((observed_at >= since) & (observed_at <= until))
        return int(covered) / self.population.size

    def freshness(self, now_ms: int) -> Freshness | None:
        """How old the observations are; None while there are none. About 10 ms, once for each view.

        Percentiles by nearest rank: at least so many percent are no older. Observations count from the
        beginning of their second.
        """
        if not self.total:
            return None
        p50, p99, oldest = (max(now_ms - 1_000 * at, 0) / 1_000 for at in self._observed_at_percentiles)
        return Freshness(p50, p99, oldest)

    @cached_property
    def _observed_at_percentiles(self) -> tuple[int, int, int]:
        """When the median, the 99th percentile and the oldest by age were observed, in Unix seconds."""
        # Who was never observed has a 0 and so comes before all others.
        last = self.population.size
        places = [last - math.ceil(0.50 * self.total), last - math.ceil(0.99 * self.total), last - self.total]
        at = np.partition(self.values.observed_at, places)
        return int(at[places[0]]), int(at[places[1]]), int(at[places[2]])

    def classified(self, since_s: float) -> float:
        """The share, 0 to 1, of all watched influencers with a verdict of this moment (Unix seconds) or later."""
        return int(np.count_nonzero(self.values.verdict_at >= max(since_s, 1))) / self.population.size

    @cached_property
    def oldest_verdict_at(self) -> int | None:
        """When the oldest of everybody's latest verdicts was given, in Unix seconds; None while there are none."""
        at = self.values.verdict_at
        oldest = int(np.min(at, where=at > 0, initial=np.iinfo(np.uint32).max))
        return oldest if self.verdict_counts.unknown < self.population.size else None

    @cached_property
    def verdict_counts(self) -> VerdictCounts:
        """How many are suspicious, over all watched influencers."""
        suspicious = int(np.count_nonzero(self.values.verdict == 1))
        unknown = int(np.count_nonzero(self.values.verdict == UNKNOWN))
        return VerdictCounts(suspicious, self.population.size - suspicious - unknown, unknown)

    def _entries(self, places: Places) -> list[Latest]:
        columns = (places.indices, places.follower_count, places.ranks, places.fewer)
        return [self._entry(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def _entry(self, index: int, followers: int, rank: int, fewer: int) -> Latest:
        values = self.values
        followings = values.following_count.item(index)
        verdict = values.verdict.item(index)
        others = rank - 1 + fewer
        return Latest(
            pk=index + self.population.first,
            username=self.names.name(index),
            follower_count=followers,
            following_count=followings,
            follower_ratio=followers / followings if followings else None,
            rank=rank,
            percentile=100.0 * fewer / others if others else 100.0,
            suspicious=None if verdict == UNKNOWN else verdict == 1,
            suspicious_checked_at=values.verdict_at.item(index) or None,
            observed_at=values.observed_at.item(index),
        )
