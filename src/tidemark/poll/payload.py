"""Is this answer an observation? From the bytes of a body to columns, or to a reason for refusing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np

from tidemark.messages import COUNT_MAX, USERNAME_MAX_CHARACTERS, Batch, string_array

_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class Answer(msgspec.Struct, gc=False):
    """The body that the API documents. Fields it adds later are ignored."""

    pk: _Count
    username: Annotated[str, msgspec.Meta(min_length=1, max_length=USERNAME_MAX_CHARACTERS)]
    followerCount: _Count  # noqa: N815 - the API's own name
    followingCount: _Count  # noqa: N815


_decode = msgspec.json.Decoder(Answer).decode


def parse(body: bytes, pk: int) -> Answer | str:
    """The answer of the influencer `pk`, or the reason for refusing it.

    Reasons: `json` (not JSON, or not an object), `fields` (missing or of the wrong type), `range`
    (negative, fractional or enormous counts, a username of no or too many characters), `pk` (an answer
    about somebody else).
    """
    try:
        answer = _decode(body)
    except msgspec.ValidationError as error:
        return _reason(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "json"
    return answer if answer.pk == pk else "pk"


def _reason(message: str) -> str:
    if message.startswith(
        ("Expected `int` >=", "Expected `int` <=", "Expected `str` of length", "Integer value out")
    ):
        return "range"
    if message.startswith(("Expected `int`, got `float`", "Number out of range")):
        return "range"
    return "fields" if "$." in message or "missing required field" in message else "json"


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
        return Batch(
            tick_id=tick_id,
            pk=np.array([answer.pk for answer in answers], np.uint32),
            observed_at_ms=(times[times > 0] * 1_000).astype(np.int64),
            follower_count=np.array([answer.followerCount for answer in answers], np.uint32),
            following_count=np.array([answer.followingCount for answer in answers], np.uint32),
            username=string_array([answer.username for answer in answers]),
        )
