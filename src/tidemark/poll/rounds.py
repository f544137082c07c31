"""What became of the influencers of a tick? Rows of the table of answers, from the order to the batch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from tidemark.messages import Batch, string_column
from tidemark.poll.exchange import pack
from tidemark.poll.tables import OBSERVED, WAITING, Answers, Tables, with_rows

REASONS: Final = (
    "",  # WAITING
    "",  # OBSERVED
    "status_404",  # the one that is final; counted with the next
    "status_4xx",
    "status_2xx",
    "status_3xx",
    "status_5xx",
    "json",
    "fields",
    "range",
    "pk",
    "connection",
    "cut_off",
    "framing",
    "oversized",
    "timeout",
    "unreachable",
)
"""By outcome: why there is no observation."""
OUTCOMES: Final = {reason: outcome for outcome, reason in enumerate(REASONS) if reason}
_FINAL: Final = OUTCOMES["status_404"]


class Round:
    """The influencers of one tick; those asked for have an outcome each when `done` is. Made by `Rounds.begin`."""

    def __init__(self, rounds: Rounds, rows: slice) -> None:
        self._rounds = rounds
        self.rows = rows
        """Where they stand in the table of answers."""
        self.asked: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        """Positions of those asked for last, from 0."""
        self.done: asyncio.Future[None]
        """Of the last `Rounds.ask`."""
        self._taken = np.zeros(rows.stop - rows.start, np.bool_)
        """Whose observation is in a batch."""

    @property
    def _outcome(self) -> npt.NDArray[np.uint8]:
        return self._rounds.answers.outcome[self.rows]

    @property
    def ended(self) -> bool:
        """Whether nothing of it is waiting or under way."""
        return not self._rounds.answers.awaited[self.rows.start]

    def refused(self) -> Counter[str]:
        """How many of those asked for last have no observation, by reason."""
        outcomes = np.bincount(self._outcome[self.asked], minlength=len(REASONS))
        refused: Counter[str] = Counter()
        for outcome in np.flatnonzero(outcomes).tolist():
            if outcome not in (WAITING, OBSERVED):
                refused[_reason(outcome)] += int(outcomes[outcome])
        return refused

    def wanting(self) -> npt.NDArray[np.int64]:
        """Positions of those without an observation that may have one: not those whom the API does not know."""
        outcome = self._outcome
        return np.flatnonzero((outcome != OBSERVED) & (outcome != _FINAL))

    def unobserved(self, most: int) -> str:
        """Some of those without an observation, and why: `1000017 (range), 1000020 (timeout)`; "" without any."""
        outcome, first_pk = self._outcome, int(self._rounds.answers.pk[self.rows.start])
        return ", ".join(
            f"{first_pk + position} ({_reason(int(outcome[position]))})"
            for position in np.flatnonzero(outcome > OBSERVED)[:most].tolist()
        )

    @property
    def batched(self) -> int:
        """How many observations `batch` gave out."""
        return int(np.count_nonzero(self._taken))

    def batch(self, tick_id: str) -> Batch:
        """What was observed since the last call, as it goes on the log: in the order of the pks.

        Everybody at once has the tick's id, others one by who is among them: where the tick is polled again, the log
        drops what is the same, and nothing else.
        """
        answers = self._rounds.answers
        new = np.flatnonzero((self._outcome == OBSERVED) & ~self._taken)
        self._taken[new] = True
        rows = self.rows.start + new
        part = "" if len(new) == len(self._taken) else f"+{crc32(new.tobytes()):08x}"
        return Batch(
            tick_id=tick_id + part,
            pk=answers.pk[rows],
            observed_at_ms=(answers.observed_at[rows] * 1_000).astype(np.int64),
            follower_count=answers.follower_count[rows],
            following_count=answers.following_count[rows],
            username=string_column(*pack(answers.username, answers.username_bytes, rows)),
        )


def _reason(outcome: int) -> str:
    return "status_4xx" if outcome == _FINAL else REASONS[outcome]


class Rounds:
    """The rounds under way, and whose rows of the table are whose."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._begun: dict[int, Round] = {}
        """By first row."""
        self._left: set[int] = set()
        """First rows of those that nobody waits for any more, but of which something is under way."""

    @property
    def answers(self) -> Answers:
        """The table; another one when it has grown."""
        return self.tables.answers

    @contextmanager
    def begin(self, first_pk: int, size: int) -> Iterator[Round]:
        """A round of the influencers from `first_pk` on: until the end of the block, or of what is under way then."""
        first = self._room_for(size)
        self.tables = with_rows(self.tables, first + size)
        rows = slice(first, first + size)
        answers = self.answers
        answers.pk[rows] = np.arange(first_pk, first_pk + size)
        answers.round[rows] = first
        answers.outcome[rows] = WAITING
        self._begun[first] = round_ = Round(self, rows)
        try:
            yield round_
        finally:
            if round_.ended:
                del self._begun[first]
            else:
                self._left.add(first)

    def _room_for(self, size: int) -> int:
        """The first of so many neighbouring rows that belong to no round."""
        first = 0
        for begun in sorted(self._begun):
            if begun - first >= size:
                break
            first = self._begun[begun].rows.stop
        return first

    def ask(self, round_: Round, positions: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Put those positions of an ended round into the queue."""
        answers, queue = self.answers, self.tables.queue
        round_.asked = np.asarray(positions, np.int64)
        round_.done = asyncio.get_running_loop().create_future()
        rows = round_.rows.start + round_.asked
        answers.outcome[rows] = WAITING
        answers.repeated[rows] = False
        answers.awaited[round_.rows.start] = len(rows)
        begin, count = queue.place.tolist()
        queue.row[(begin + count + np.arange(len(rows))) % len(queue.row)] = rows
        queue.place[1] = count + len(rows)
        if not len(rows):
            self.finish(round_.rows.start)

    def repeat(self, row: int) -> None:
        """This request goes first, once more."""
        self.answers.repeated[row] = True
        queue = self.tables.queue
        place = (int(queue.place[0]) - 1) % len(queue.row)
        queue.row[place] = row
        queue.place[0] = place
        queue.place[1] += 1

    def drop(self, outcome: int) -> None:
        """This is the outcome of all that waits."""
        queue = self.tables.queue
        begin, count = queue.place.tolist()
        queue.place[:] = 0
        for row in np.roll(queue.row, -begin)[:count].tolist():
            self.settle(row, outcome)

    def settle(self, row: int, outcome: int) -> None:
        """This request has its outcome. (As in `exchange`, which has no objects to tell.)"""
        answers = self.answers
        answers.outcome[row] = outcome
        first = int(answers.round[row])
        answers.awaited[first] -= 1
        if not answers.awaited[first]:
            self.finish(first)

    def finish(self, first: int) -> None:
        """Each request of the round at this row has its outcome."""
        round_ = self._begun[first]
        if not round_.done.done():
            round_.done.set_result(None)
        if first in self._left:
            self._left.discard(first)
            del self._begun[first]
