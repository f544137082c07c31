"""Which answer does a request get, and when?

Knows influencers, faults, the pace and verdicts; knows nothing of sockets and of HTTP's framing. An
answer that cannot be given at once is given later through the `Slot` that the connection handed over.
"""

from __future__ import annotations

import asyncio
import json
import time
from enum import Enum, auto
from http import HTTPStatus
from random import Random
from typing import Final, Protocol

from tidemark.simulate.answers import Answers
from tidemark.simulate.faults import Fault, garbage
from tidemark.simulate.options import SimulateOptions
from tidemark.simulate.pacing import Pacer, Turn
from tidemark.simulate.walk import is_suspicious

RELEASE_EVERY_S: Final = 0.010
"""With `max_rps`: each look at the queue wakes this process and all that wait for it. Half of what may be saved up
in the meantime (`pacing.BURST_S`), so that nothing of the rate is lost."""


class Steps(Protocol):
    """Where the counts come from: `Walk`, or whatever a test puts in its place."""

    def step(self, pk: int) -> tuple[int, int]:
        """Move one influencer and return its (followers, followings)."""
        ...


class After(Enum):
    """What happens to the connection once an answer is sent."""

    KEEP = auto()
    CLOSE = auto()
    RESET = auto()  # at once, with what is not yet sent


class Slot(Protocol):
    """The place of one answer in the order of its connection."""

    def fill(self, answer: bytes, after: After = After.KEEP) -> None:
        """Give the answer, once. It is dropped when the connection is gone."""
        ...


class Service:
    """The two endpoints, for the influencers `first` to `last`."""

    def __init__(self, options: SimulateOptions, walk: Steps, loop: asyncio.AbstractEventLoop) -> None:
        self.answers = Answers(time.time())
        # GETs answered with an observation that is right.
        self.served = 0
        # GETs answered with a fault.
        self.spoiled = 0
        # GETs refused because too many were waiting.
        self.refused = 0
        # POSTs answered with a verdict, and those whose time still runs.
        self.classified = 0
        self.classifying = 0
        # Whether `get_now` is all there is to a GET.
        self.plain = not options.faults and not options.max_rps
        self._step = walk.step
        self._first = options.first
        self._last = options.last
        self._loop = loop
        self._roll = options.faults.dice() if options.faults else None
        self._delay_s = options.faults.delay_ms / 1000
        self._pacer: Pacer[tuple[int, Slot]] | None = None
        if options.max_rps:
            self._pacer = Pacer(options.max_rps, time.monotonic())
        self._classify_s = options.classify_seconds
        self._classify_exact = options.classify_exact
        self._random = Random(options.seed)

    def get_now(self, pk: int) -> bytes:
        """The answer to a GET without faults and pace."""
        if not self._first <= pk <= self._last:
            return self._unknown()
        self.served += 1
        followers, followings = self._step(pk)
        return self.answers.observation(pk, followers, followings)

    def get(self, pk: int, slot: Slot) -> None:
        """Answer a GET through `slot`, at the pace and with the faults that were asked for."""
        if self._pacer is None:
            self._get_spoiled(pk, slot)
            return
        queued_before = self._pacer.waiting
        turn = self._pacer.arrive((pk, slot), time.monotonic())
        if turn is Turn.NOW:
            self._get_spoiled(pk, slot)
        elif turn is Turn.REFUSED:
            self.refused += 1
            slot.fill(self.answers.error(HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests wait"))
        elif not queued_before:
            self._release_later(self._pacer)

    def post(self, body: bytes, slot: Slot) -> None:
        """Say whether somebody is suspicious, when its time has come. `body`: JSON of an influencer."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        pk = asked.get("pk") if isinstance(asked, dict) else None
        if type(pk) is not int:  # a bool is an int, but no pk
            slot.fill(self.answers.error(HTTPStatus.BAD_REQUEST, "The body has to be an influencer in JSON"))
        elif not self._first <= pk <= self._last:
            slot.fill(self._unknown())
        else:
            self.classifying += 1
            takes_s = (
                self._classify_s if self._classify_exact else self._random.uniform(0.0, self._classify_s)
            )
            self._loop.call_later(takes_s, self._give_verdict, pk, slot)

    def _give_verdict(self, pk: int, slot: Slot) -> None:
        self.classifying -= 1
        self.classified += 1
        slot.fill(self.answers.verdict(pk, is_suspicious(pk)))

    def _release_later(self, pacer: Pacer[tuple[int, Slot]]) -> None:
        self._loop.call_later(max(RELEASE_EVERY_S, pacer.wait_s()), self._release, pacer)

    def _release(self, pacer: Pacer[tuple[int, Slot]]) -> None:
        for pk, slot in pacer.release(time.monotonic()):
            self._get_spoiled(pk, slot)
        if pacer.waiting:
            self._release_later(pacer)

    def _get_spoiled(self, pk: int, slot: Slot) -> None:
        answer, after = self._spoil(pk, self._roll() if self._roll else Fault.NONE)
        if self._delay_s:
            self._loop.call_later(self._delay_s, slot.fill, answer, after)
        else:
            slot.fill(answer, after)

    def _spoil(self, pk: int, fault: Fault) -> tuple[bytes, After]:
        """The answer to a GET with one fault, and what it does to the connection."""
        if fault is Fault.NONE:
            return self.get_now(pk), After.KEEP
        if not self._first <= pk <= self._last:
            return self._unknown(), After.KEEP
        if fault is Fault.CHUNKED:
            self.served += 1
            return self.answers.observation_in_chunks(pk, *self._step(pk)), After.KEEP
        self.spoiled += 1
        if fault is Fault.ERROR:
            return self.answers.error(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal Server Error"), After.KEEP
        if fault is Fault.RESET:
            return b"", After.RESET
        wrong = garbage(fault, pk)
        answer = self.answers.whole(HTTPStatus.OK, wrong.body, wrong.content_type, wrong.missing_bytes)
        return answer, After.CLOSE if wrong.missing_bytes else After.KEEP

    def _unknown(self) -> bytes:
        return self.answers.error(HTTPStatus.NOT_FOUND, "Influencer not found")
