"""Which answers are observations? From the bytes of bodies to the columns of a batch."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemark.messages import Batch, string_array
from tidemark.mockstagram import Answer, parse


class Columns:
    """Observations in the making, from the answers to one tick of `size` influencers."""

    def __init__(self, first_pk: int, size: int) -> None:
        self._first_pk = first_pk
        self._answers: list[Answer | None] = [None] * size
        self._times: list[float] = [0.0] * size
        """Unix seconds when the answer came."""

    def take(
        self,
        positions: Sequence[int],
        bodies: Sequence[bytes | None],
        times: Sequence[float],
        refused: Counter[str],
    ) -> list[int]:
        """Check the bodies (by position; None: no answer) and keep the sound ones; returns the others' positions."""
        first_pk, answers, kept_times = self._first_pk, self._answers, self._times
        wanting = []
        for position in positions:
            body = bodies[position]
            if body is None:
                wanting.append(position)
                continue
            answer = parse(body, first_pk + position)
            if isinstance(answer, str):
                refused[answer] += 1
                wanting.append(position)
            else:
                answers[position] = answer
                kept_times[position] = times[position]
        return wanting

    def batch(self, tick_id: str) -> Batch:
        """The columns as they go on the log, in the order of the pks."""
        answers = [answer for answer in self._answers if answer is not None]
        times = np.array(self._times, np.float64)
        answered = np.flatnonzero(times)
        return Batch(
            tick_id=tick_id,
            pk=(answered + self._first_pk).astype(np.uint32),
            observed_at_ms=(times[answered] * 1_000).astype(np.int64),
            follower_count=_column([answer.followerCount for answer in answers]),
            following_count=_column([answer.followingCount for answer in answers]),
            username=string_array([answer.username for answer in answers]),
        )


def _column(counts: list[int]) -> npt.NDArray[np.uint32]:
    # By way of array: a third of the time of np.array.
    return np.frombuffer(array("I", counts), np.uint32)
