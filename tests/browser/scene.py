"""A `serve` in this process with a month of history: real store, board and HTTP server, but no log and no pollers.

What is observed and when, the test decides. For the tests in a browser, and for the pictures of the documents.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemark.board import Board
from tidemark.messages import Batch, string_array
from tidemark.population import Population
from tidemark.serve.app import create
from tidemark.serve.figures import Figures
from tidemark.serve.gains import Gains
from tidemark.serve.live import Live
from tidemark.serve.role import Server, listen
from tidemark.serve.routes import Sources
from tidemark.store.clickhouse import Store
from tidemark.store.sink import Sink

FIRST = 1_000_000
SIZE = 2_000
TOLD = (1_000_001, 1_000_002, 1_000_003)
"""Who has a month of history; everybody else has the latest observation only."""
GAP_PK = TOLD[0]
"""Was not observed for a quarter of an hour, two hours ago, and jumped four hours ago."""
QUIET = FIRST + 50
"""Was last observed five minutes before the scene began."""
UNOBSERVED = FIRST + SIZE - 1
"""The last one; is not observed until a test does."""
DAY_S = 86_400
DEADLINE_S = 20


class Scene:
    """Times are Unix seconds. `start` and `stop` may be called again and again; the address stays."""

    def __init__(self, folder: Path, size: int = SIZE, days: int = 30, port: int = 0, seed: int = 7) -> None:
        self._port = port
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._live: Live | None = None
        self.url = ""
        self.random = np.random.default_rng(seed)
        self.now_s = int(time.time())
        self.store = Store.open(f"chdb://{folder}/store")
        self.last = FIRST + size - 1
        self.board = Board(Population(FIRST, self.last))
        self.sink = Sink(self.store, self.board, FIRST)
        self.figures = Figures(self.board, self.sink, 60_000)
        self.history: dict[int, dict[str, npt.NDArray[Any]]] = {}
        self._everybody()
        for pk in TOLD:
            self._past(pk, days)
        self._averages(days)
        self._verdicts()
        self._snapshots()
        self.board.names.reindex()
        self.publish()

    def _everybody(self) -> None:
        pk = np.setdiff1d(np.arange(FIRST, self.last, dtype=np.uint32), TOLD)
        followers = np.maximum(self.random.normal(100_000, 100_000, len(pk)), 5_000)
        followings = np.maximum(self.random.normal(1_000, 1_000, len(pk)), 50)
        at = self.now_s - self.random.integers(5, 60, len(pk))
        at[QUIET - FIRST - len(TOLD)] = self.now_s - 300
        self.take(pk, at, followers, followings)
        self.sink.rows_stored += len(pk) * 1_440

    def _past(self, pk: int, days: int) -> None:
        """A slow walk by the minute with a daily tide, until now."""
        begin = self.now_s - days * DAY_S
        at = np.arange(begin + 17, self.now_s, 60)
        steps = len(at)
        tide = np.sin((at % DAY_S) / DAY_S * 2 * np.pi) * 900
        walk = np.cumsum(self.random.normal(0.6, 60, steps))
        followers = 57_166 + 20_000 * (pk - GAP_PK) + walk - walk[-1] + tide
        drift = np.cumsum(self.random.normal(0, 0.8, steps))
        followings = 1_328 + 150 * (pk - GAP_PK) + drift - drift[-1]
        if pk == GAP_PK:
            followers[at > self.now_s - 4 * 3_600] += 6_500
            followers -= 6_500
            keep = (at < self.now_s - 7_800) | (at > self.now_s - 6_900)
            at, followers, followings = at[keep], followers[keep], followings[keep]
        counts = followers.round().astype(np.uint32), followings.round().astype(np.uint32)
        self.store.insert_observations(np.full(len(at), pk, np.uint32), at.astype(np.uint32), *counts)
        self.history[pk] = {"time": at, "followerCount": counts[0], "followingCount": counts[1]}
        self.take(np.array([pk], np.uint32), at[-1:], counts[0][-1:], counts[1][-1:], stored=True)

    def _averages(self, days: int) -> None:
        at = np.arange(self.now_s - days * DAY_S, self.now_s - DAY_S, 900)
        at = np.append(at, np.arange(self.now_s - DAY_S, self.now_s, 60))
        average = 106_000 + np.cumsum(self.random.normal(0.5, 4, len(at)))
        average += np.sin((at % DAY_S) / DAY_S * 2 * np.pi) * 180
        latest = self.board.publish(self.now_s * 1_000).average_follower_count or 0.0
        average += latest - average[-1]
        rows = ", ".join(
            f"(toDateTime({moment}, 'UTC'), {self.board.view.total}, {value:.3f})"
            for moment, value in zip(at, average, strict=True)
        )
        self.store._maintenance.command(f"INSERT INTO averages VALUES {rows}")

    def _verdicts(self) -> None:
        pk = np.arange(FIRST, self.last - 40)
        at = self.now_s - self.random.integers(60, DAY_S, len(pk))
        suspicious = self.random.random(len(pk)) < 0.1
        suspicious[: len(TOLD) + 1] = [False, False, True, False]
        self.board.apply_verdicts(pk, suspicious, at)

    def _snapshots(self) -> None:
        """What gains are counted from: most moved a little, some a lot."""
        values = self.board.publish(self.now_s * 1_000).values
        indices = np.flatnonzero(values.observed_at)
        now = values.follower_count[indices].astype(np.float64)
        for ago_s in (3_600, DAY_S):
            gained = self.random.standard_t(3, len(now)) * 90 * (ago_s / 3_600) ** 0.5
            before = np.maximum(now - gained, 0).round().astype(np.uint32)
            self.store.insert_snapshot(self.now_s - ago_s, (indices + FIRST).astype(np.uint32), before)

    def tide(self, seconds: float) -> None:
        """Everybody is observed in turn, a sixtieth each second, on the board only; blocks for so long."""
        size = self.last - FIRST
        began = time.monotonic()
        done = 0
        while (passed := time.monotonic() - began) < seconds:
            upto = int(passed / 60 * size)
            pk = np.setdiff1d(np.unique(np.arange(done, min(upto, done + size)) % size) + FIRST, TOLD)
            done = upto
            values = self.board.view.values
            followers = values.follower_count[pk - FIRST] + self.random.integers(-2, 3, len(pk))
            at = np.full(len(pk), int(time.time()))
            self.take(pk, at, followers, values.following_count[pk - FIRST], stored=True)
            self.sink.rows_stored += len(pk)
            self.sink.rows_added += len(pk)
            self.figures.tick()
            self.publish()
            time.sleep(1)

    def take(
        self,
        pk: npt.NDArray[Any],
        at: npt.NDArray[Any],
        followers: npt.NDArray[Any],
        followings: npt.NDArray[Any],
        stored: bool = False,
    ) -> None:
        """Observations in columns of equal length, pks ascending, onto the board and into the store."""
        batch = Batch(
            tick_id="scene",
            pk=pk.astype(np.uint32),
            observed_at_ms=at.astype(np.int64) * 1_000,
            follower_count=np.asarray(followers).round().astype(np.uint32),
            following_count=np.asarray(followings).round().astype(np.uint32),
            username=string_array([f"influencer-{number}" for number in pk]),
        )
        self.board.apply(batch)
        if not stored:
            self.store.insert_observations(
                batch.pk, at.astype(np.uint32), batch.follower_count, batch.following_count
            )

    def observe(self, pk: int, followers: int, followings: int, at_s: int | None = None) -> None:
        """One observation, now unless told otherwise, and a view with it."""
        at = np.array([int(time.time()) if at_s is None else at_s])
        self.take(np.array([pk]), at, np.array([followers]), np.array([followings]))
        self.publish()

    def publish(self) -> None:
        """A new view of the board."""
        view = self.board.publish(time.time_ns() // 1_000_000)
        if self._loop is not None and self._live is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._live.publish, view)

    def start(self) -> str:
        """Serve; returns the address."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(DEADLINE_S)
        return self.url

    def _run(self, ready: threading.Event) -> None:
        with listen("127.0.0.1", self._port) as listener, asyncio.Runner() as runner:
            self._port = listener.getsockname()[1]
            self.url = f"http://127.0.0.1:{self._port}"
            runner.run(self._serve(listener, ready))

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        # Anew with each loop: they hold locks of the loop in which they were first used.
        self.figures = Figures(self.board, self.sink, 60_000)
        gains = Gains(self.board, self.store, 60)
        gains.refresh()
        self._loop = asyncio.get_running_loop()
        self._live = Live(self.board, self.figures)
        self._server = Server(create(Sources(self.board, self.store, self.figures, gains), self._live))
        self._loop.call_soon(ready.set)
        await self._server.serve(sockets=[listener])

    def stop(self) -> None:
        """Stop serving, as a server that goes away."""
        assert self._server is not None
        assert self._thread is not None
        assert self._loop is not None
        assert self._live is not None
        asyncio.run_coroutine_threadsafe(self._live.close(), self._loop).result(DEADLINE_S)
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)

    def close(self) -> None:
        """Stop, and close the store."""
        if self._thread is not None and self._thread.is_alive():
            self.stop()
        self.store.close()
