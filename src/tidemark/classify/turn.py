"""What is left of a turn, and which verdicts were not told yet? (pure)

The record of a shard - all verdicts on it that the log has - is the only state there is. A turn that is handed
out again, because its classifier died or because somebody could not be classified, goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from tidemark.messages import Turn, Verdicts

ATTEMPTS: Final = 4
"""How often somebody is asked about before it is left for later, when the turn is handed out again."""


class Verdict(NamedTuple):
    """One verdict that came."""

    pk: int
    suspicious: bool
    checked_at: int
    """Unix seconds."""
    took_ms: int


def remaining(turn: Turn, record: Iterable[Verdicts]) -> list[int]:
    """The pks of the turn that have no verdict of it: first who has none at all, then the oldest first."""
    latest = np.zeros(turn.last_pk - turn.first_pk + 1, np.uint32)
    done = np.zeros(len(latest), np.bool_)
    for verdicts in record:
        inside = (verdicts.pk >= turn.first_pk) & (verdicts.pk <= turn.last_pk)
        indices = verdicts.pk[inside] - np.uint32(turn.first_pk)
        at = verdicts.checked_at[inside]
        latest[indices] = np.maximum(latest[indices], at)
        if verdicts.turn_id == turn.id:
            done[indices] = True
    done |= latest.astype(np.int64) * 1_000 >= max(turn.since_ms, 1)
    left = np.flatnonzero(~done)
    order = np.argsort(latest[left], kind="stable")
    pks: list[int] = (left[order] + turn.first_pk).tolist()
    return pks


class TurnInWork:
    """One turn from when it is taken until everybody in it is settled."""

    def __init__(self, turn: Turn, pks: Sequence[int]) -> None:
        self.turn = turn
        self._attempts = dict.fromkeys(pks, 0)
        """Those that are not settled, and how often they were asked about in vain."""
        self._untold: list[Verdict] = []
        self.left_over = 0
        """How many could not be classified: for them the turn is handed out again."""

    def wants(self, pk: int) -> bool:
        """Whether this one is still to be classified."""
        return pk in self._attempts

    @property
    def settled(self) -> bool:
        """Whether nobody is left to be asked about."""
        return not self._attempts

    @property
    def told(self) -> bool:
        """Whether all verdicts that came are on the log."""
        return not self._untold

    def give(self, verdict: Verdict) -> None:
        """A verdict came."""
        if self._attempts.pop(verdict.pk, None) is not None:
            self._untold.append(verdict)

    def fail(self, pk: int, *, again: bool = True) -> int | None:
        """Somebody got no verdict. How many times that is by now; None when they are left over, at once or by now."""
        if pk not in self._attempts:
            return None
        self._attempts[pk] += 1
        if again and self._attempts[pk] < ATTEMPTS:
            return self._attempts[pk]
        del self._attempts[pk]
        self.left_over += 1
        return None

    def leave(self) -> None:
        """Settle nobody any more: all that are left are left over."""
        self.left_over += len(self._attempts)
        self._attempts.clear()

    def untold(self, classifier: str, in_flight: int) -> Verdicts | None:
        """The verdicts that came and are not on the log yet, as a message; None when there are none."""
        if not self._untold:
            return None
        pks, suspicious, checked_at, took_ms = zip(*sorted(self._untold), strict=True)
        return Verdicts(
            turn_id=self.turn.id,
            classifier=classifier,
            in_flight=in_flight,
            pk=np.array(pks, np.uint32),
            suspicious=np.array(suspicious, np.bool_),
            checked_at=np.array(checked_at, np.uint32),
            took_ms=np.array(took_ms, np.uint32),
        )

    def tell(self, verdicts: Verdicts) -> None:
        """These are on the log now."""
        on_the_log = set(verdicts.pk.tolist())
        self._untold = [verdict for verdict in self._untold if verdict.pk not in on_the_log]

    def compare(self, record: Iterable[Verdicts]) -> None:
        """Another classifier, or a call whose answer was lost, added to the record: leave out what is there."""
        left = set(remaining(self.turn, record))
        self._untold = [verdict for verdict in self._untold if verdict.pk in left]
        for pk in [pk for pk in self._attempts if pk not in left]:
            del self._attempts[pk]
