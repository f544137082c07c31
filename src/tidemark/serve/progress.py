"""How is the classification getting on? (pure: the time is an argument)"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

from tidemark.messages import Verdicts

WINDOW_S: Final = 300
"""Rate and latency are told over the last five minutes, or since the first call for a verdict that is known of."""
SPAN_MIN_S: Final = 1.0
"""A rate is told over so long at least."""
MESSAGES_MAX: Final = 10_000
"""Messages remembered: many more than come in five minutes."""
HEARD_S: Final = 30
"""A classifier that has given no verdict for this long is not believed to wait for any."""


class Progress:
    """What the verdicts of the last minutes say. Older ones, that a new store reads, say nothing."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        """Seconds between two verdicts on one influencer."""
        self._recent: deque[Verdicts] = deque(maxlen=MESSAGES_MAX)
        self._began_s = math.inf
        """Unix seconds when the first call began that a verdict came of."""
        self._last_at = 0
        """When the latest verdict of all was given."""
        self._latest: dict[str, tuple[int, int]] = {}
        """Classifier -> (when it gave its latest verdict, how many calls it waited for then)."""

    def add(self, verdicts: Verdicts) -> None:
        """Verdicts came."""
        if not len(verdicts):
            return
        at = int(verdicts.checked_at.max())
        self._recent.append(verdicts)
        self._began_s = min(self._began_s, float((verdicts.checked_at - verdicts.took_ms / 1_000).min()))
        self._last_at = max(self._last_at, at)
        if at >= self._latest.get(verdicts.classifier, (0, 0))[0]:
            self._latest[verdicts.classifier] = (at, verdicts.in_flight)

    def _rows(self, now_s: float) -> npt.NDArray[np.uint32]:
        """Milliseconds that each verdict of the window took."""
        since = now_s - WINDOW_S
        while self._recent and int(self._recent[0].checked_at.max()) < since:
            self._recent.popleft()
        took = [verdicts.took_ms[verdicts.checked_at >= since] for verdicts in list(self._recent)]
        return np.concatenate(took) if took else np.empty(0, np.uint32)

    def per_second(self, now_s: float) -> float:
        """Verdicts a second (`now_s` in Unix seconds)."""
        span_s = min(WINDOW_S, max(now_s - self._began_s, SPAN_MIN_S))
        return len(self._rows(now_s)) / span_s

    def latency_s(self, now_s: float) -> tuple[float, float, float] | None:
        """Seconds that a call took: median, 99th percentile, longest; None when there was none."""
        took = self._rows(now_s)
        if not len(took):
            return None
        p50, p99 = np.percentile(took, (50, 99), method="inverted_cdf") / 1_000
        return float(p50), float(p99), float(took.max()) / 1_000

    def in_flight(self, now_s: float) -> int:
        """Calls that all classifiers together waited for, when they were last heard of."""
        self._latest = {name: heard for name, heard in self._latest.items() if heard[0] >= now_s - HEARD_S}
        return sum(calls for _, calls in self._latest.values())

    def under_way(self, now_s: float) -> bool:
        """Whether anybody has classified within the last interval."""
        return self._last_at >= now_s - self.interval_s
