"""Who is asked next, and who again later? (pure: the time is an argument)"""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import Final, Generic, TypeVar

RETRY_MIN_S: Final = 2.0
HAND_BACK_MIN_S: Final = 30.0
HAND_BACK_MAX_S: Final = 3_600.0

Key = TypeVar("Key")


class Agenda(Generic[Key]):
    """The influencers that wait to be asked about; `Key` is whatever comes back with the pk.

    In the order in which they were put down, apart from who comes first; who is to be asked again, as if put down when
    that may be done.
    """

    def __init__(self) -> None:
        self._fresh: deque[tuple[float, int, Key]] = deque()
        self._again: list[tuple[float, int, int, Key]] = []
        """A heap."""
        self._serial = 0
        """Of two with the same moment the first comes first, and keys are never compared."""

    def __len__(self) -> int:
        return len(self._fresh) + len(self._again)

    def put(self, pk: int, key: Key, now: float) -> None:
        """Put down somebody to be asked now (monotonic seconds, never less than before)."""
        self._fresh.append((now, pk, key))

    def put_first(self, pk: int, key: Key) -> None:
        """Put down somebody to be asked before all others."""
        self._fresh.appendleft((0.0, pk, key))

    def put_again(self, pk: int, key: Key, at: float) -> None:
        """Put down somebody to be asked once more, but not before `at`."""
        self._serial += 1
        heapq.heappush(self._again, (at, self._serial, pk, key))

    def next_at(self) -> float:
        """From when on there is somebody to be asked; infinity when nobody waits."""
        fresh_at = self._fresh[0][0] if self._fresh else float("inf")
        return min(fresh_at, self._again[0][0]) if self._again else fresh_at

    def take(self, now: float, *, probe: bool = False) -> tuple[int, Key] | None:
        """Who is to be asked now; None when nobody is.

        As a `probe` of an API that fails, somebody who has not been asked before, if there is one: those who
        have may be what the API cannot cope with.
        """
        if self.next_at() > now:
            return None
        if self._fresh and (probe or not self._again or self._fresh[0][0] <= self._again[0][0]):
            _, pk, key = self._fresh.popleft()
        else:
            _, _, pk, key = heapq.heappop(self._again)
        return pk, key


def retry_delay(attempt: int, chance: random.Random) -> float:
    """Seconds before the attempt after `attempt` (from 1): doubling from 2, half of it by chance."""
    whole = RETRY_MIN_S * 2.0 ** (attempt - 1)
    return chance.uniform(whole / 2, whole)


def hand_back_delay(times: int) -> float:
    """Seconds for which a turn with something left over is put off, when it was handed out `times` times."""
    return min(HAND_BACK_MAX_S, HAND_BACK_MIN_S * 2.0 ** min(times - 1, 16))
