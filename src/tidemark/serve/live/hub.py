"""Who reads what live, and when are they told?"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.types import Receive, Scope, Send

from tidemark import telemetry
from tidemark.board import Board, View
from tidemark.process import spawn
from tidemark.serve import problems
from tidemark.serve.figures import Figures
from tidemark.serve.live.connection import handles
from tidemark.serve.live.sources import Observation, Ping, Shown, Source, Statistics
from tidemark.serve.live.stream import Stream
from tidemark.serve.live.watched import Watched

HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back until it has 4 kB of them
    (b"connection", b"close"),
)

logger = structlog.get_logger("tidemark.serve.live")


@dataclass(frozen=True, slots=True)
class Limits:
    """What streams may take, and how long. Seconds unless a name says otherwise."""

    streams_max: int = 12_000
    """Open at once; past it 503. 20 kB each, and a file descriptor."""
    sweep: float = 1.0
    """One pass over all streams does the work of a timer each; statistics go out with it."""
    ping: float = 15.0
    """Silence that proxies and browsers are not left to wonder about: many close after 60 s."""
    send: float = 20.0
    """A reader who takes nothing for so long is stuck, and dropped."""
    life: float = 3_600.0
    """The longest life, less up to a fifth: so streams spread out over replicas that came later."""
    close: float = 3.0
    """At an orderly stop readers have so long to take what is new: 10,000 ends alone take more than a second."""
    retry_ms: tuple[int, int] = (2_000, 10_000)
    """When readers come again after the end of a stream: 10,000 after a restart are 1,250 a second."""
    refusal: tuple[int, int] = (5, 30)
    """When those come again who were refused."""


class Live:
    """All streams of this process. The sweep runs while there are any."""

    def __init__(self, board: Board, figures: Figures, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._figures = figures
        self._population = board.population
        self._shown = Shown(board.view)
        self._watched = Watched()
        self._observations: dict[int, Observation] = {}
        """By place among the watched."""
        self._places: dict[int, int] = {}
        """pk -> place."""
        self._statistics = Statistics()
        self._ping = Ping()
        self._streams: set[Stream] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping = False
        self._refreshing = False
        self._closing = False
        self._idle = asyncio.Event()
        """Set while there are no streams."""
        self._idle.set()

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._streams)

    def publish(self, view: View) -> None:
        """Tell those who watch somebody with a newer observation in this view. 0.1 ms, and 5 us for each of them."""
        self._shown.show(view)
        for place in self._watched.changed(view.values.observed_at):
            observation = self._observations[place]
            for reader in observation.readers:
                reader.tell(observation)

    async def stream(
        self, pks: tuple[int, ...], stats: bool, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request with a stream about these influencers, each watched and named once, until it ends."""
        if stats and not self._closing:
            await self._refresh()
        if refusal := self._refusal():
            telemetry.LIVE_REFUSED.inc()
            answer = problems.response(503, *refusal)
            answer.headers["Retry-After"] = str(random.randint(*self.limits.refusal))
            await answer(scope, receive, send)
            return
        abort, unsent_bytes = handles(scope)
        now = asyncio.get_running_loop().time()
        stream = Stream(send, abort, unsent_bytes, now + self.limits.life * random.uniform(0.8, 1))
        self._streams.add(stream)
        self._idle.clear()
        telemetry.LIVE_STREAMS.inc()
        try:
            await stream.open(HEADERS, random.randint(*self.limits.retry_ms))
            stream.quiet_since -= self.limits.ping * random.random()  # so that not all are pinged at once
            self._subscribe(stream, pks, stats)
            self._sweep_on()
            if self._closing:
                stream.end()
            await stream.closed(receive)
        finally:
            self._remove(stream)

    def _refusal(self) -> tuple[str, str] | None:
        """Title and detail of the problem, when no more streams are taken."""
        if self._closing:
            return "Stopping", "this process is about to stop; come again"
        if len(self._streams) >= self.limits.streams_max:
            return "Too many live streams", f"{len(self._streams)} are open, as many as --live-max allows"
        return None

    def _subscribe(self, stream: Stream, pks: Iterable[int], stats: bool) -> None:
        """From now on it is told what is new, and at once what there is."""
        stream.observations = tuple(self._observation(pk) for pk in pks)
        first: list[Source] = []
        for observation in stream.observations:
            observation.readers.add(stream)
            if observation.event():
                first.append(observation)
        if stats:
            self._statistics.readers.add(stream)
            first.append(self._statistics)
        for source in first:
            stream.tell(source)

    def _observation(self, pk: int) -> Observation:
        """The source for an influencer; made for its first reader."""
        place = self._places.get(pk)
        if place is None:
            index = self._population.index(pk)
            place = self._watched.add(index, self._shown.view.values.observed_at.item(index))
            self._places[pk] = place
            self._observations[place] = Observation(self._shown, pk, place)
        return self._observations[place]

    def _remove(self, stream: Stream) -> None:
        """Forget a reader, and whom nobody else watches."""
        for observation in stream.observations:
            observation.readers.discard(stream)
            if not observation.readers:
                self._watched.remove(observation.place)
                del self._places[observation.pk], self._observations[observation.place]
        self._statistics.readers.discard(stream)
        self._streams.discard(stream)
        telemetry.LIVE_STREAMS.dec()
        if not self._streams:
            self._idle.set()

    def _sweep_on(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            spawn(self._tasks, self._sweep_while_read(), "sweeping live streams")

    async def _sweep_while_read(self) -> None:
        try:
            while self._streams and not self._closing:
                await asyncio.sleep(self.limits.sweep)
                self._sweep(asyncio.get_running_loop().time())
                if self._statistics.readers and not self._refreshing:
                    self._refreshing = True
                    spawn(self._tasks, self._tell_statistics(), "live statistics")
        finally:
            self._sweeping = False

    async def _tell_statistics(self) -> None:
        """Beside the sweep: they are computed in a thread, and pings do not wait for one."""
        try:
            await self._refresh()
        finally:
            self._refreshing = False

    def _sweep(self, now: float) -> None:
        """Ping who has heard nothing for a while, drop who is stuck, end what has lived long. 2 ms for 10,000."""
        stuck, end, ping = now - self.limits.send, now, now - self.limits.ping
        for stream in self._streams:
            if stream.writing_since is not None:
                if stream.writing_since <= stuck:
                    stream.writing_since = now
                    telemetry.LIVE_STUCK.inc()
                    stream.abort()
            elif stream.ends_at <= end:
                stream.end()
            elif stream.quiet_since <= ping:
                stream.tell(self._ping)

    async def _refresh(self) -> None:
        """Bring the statistics up to date, and tell everybody when they are others: whoever asked first."""
        moment_ms = self._shown.view.published_at_ms
        if self._statistics.show(await self._figures.stats(), moment_ms):
            for reader in self._statistics.readers:
                reader.tell(self._statistics)

    async def close(self) -> None:
        """End all streams, and take no more. Returns when that is done, or those are dropped who are too slow."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        for stream in tuple(self._streams):
            stream.end()
        try:
            async with asyncio.timeout(self.limits.close):
                await self._idle.wait()
        except TimeoutError:
            logger.info("live streams dropped whose readers did not take the end", streams=self.streams)
            for stream in tuple(self._streams):
                stream.abort()
