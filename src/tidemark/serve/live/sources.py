"""What is there to tell? Events as bytes on the wire, each serialised once for all who read it."""

from __future__ import annotations

from typing import Final, Protocol

from prometheus_client import Counter

from tidemark import telemetry
from tidemark.board import View
from tidemark.serve import answers
from tidemark.serve.answers import Influencer, Stats


class Reader(Protocol):
    """Who is told that a source has something newer."""

    def tell(self, source: Source) -> None:
        """Take it as soon as possible."""


class Source(Protocol):
    """What a stream can tell of."""

    @property
    def sent(self) -> Counter:
        """Counts the events that were written."""

    def event(self) -> bytes:
        """The newest, as it stands on the wire."""


def _event(name: str, moment_ms: int, data: bytes) -> bytes:
    """One event; JSON of msgspec has no line breaks. `id` is the moment of the view, in Unix milliseconds."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), moment_ms, data)


class Shown:
    """The view that all streams tell of: the newest the hub has seen."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.number = 0
        """Counts the views, so that nobody has to hold on to an old one to know that it is old."""

    def show(self, view: View) -> None:
        """From now on it is this."""
        self.view = view
        self.number += 1


class Observation:
    """The latest of one influencer that has readers."""

    sent: Final = telemetry.LIVE_EVENTS.labels("observation")

    def __init__(self, shown: Shown, pk: int, place: int) -> None:
        self.pk = pk
        self.place = place
        """Among the watched."""
        self.readers: set[Reader] = set()
        self._shown = shown
        self._number = -1
        self._bytes = b""

    def event(self) -> bytes:
        """What GET /v1/influencers/{pk} answers; empty for who has not been observed."""
        if self._number != self._shown.number:
            self._number = self._shown.number
            view = self._shown.view
            latest = view.latest(self.pk)
            data = b"" if latest is None else answers.as_json(Influencer.of(latest))
            self._bytes = data and _event("observation", view.published_at_ms, data)
        return self._bytes


class Statistics:
    """The figures of all influencers."""

    sent: Final = telemetry.LIVE_EVENTS.labels("stats")

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        self._stats: Stats | None = None
        self._bytes = b""

    def show(self, stats: Stats, moment_ms: int) -> bool:
        """From now on it is these; returns whether they are others."""
        if stats is self._stats:
            return False
        self._stats = stats
        self._bytes = _event("stats", moment_ms, answers.as_json(stats))
        return True

    def event(self) -> bytes:
        """What GET /v1/stats answers."""
        return self._bytes


class Ping:
    """Nothing is new, and the connection is alive. Comments are no events: browsers leave them out."""

    sent: Final = telemetry.LIVE_EVENTS.labels("ping")

    def event(self) -> bytes:
        """A comment."""
        return b": ping\n\n"
