"""A `serve` in this process with a month of history: real store, board and HTTP server, but no log and no pollers.

What is observed and when, the test decides. For the tests in a browser, and for the pictures of the documents.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvicorn

from tidemark.board import Board
from tidemark.messages import Batch, string_array
from tidemark.population import Population
from tidemark.serve.app import create
from tidemark.serve.figures import Figures
from tidemark.serve.role import listen
from tidemark.serve.routes import Sources
from tidemark.store.clickhouse import Store
from tidemark.store.sink import Sink

FIRST, SIZE = 1_000_000, 2_000
TOLD = (1_000_001, 1_000_002, 1_000_003)
"""Who has a month of history; everybody else has the latest observation only."""
GAP_PK = TOLD[0]
"""Was not observed for a quarter of an hour, two hours ago, and jumped four hours ago."""
QUIET = FIRST + 50
"""Was last observed five minutes before the scene began."""
UNOBSERVED = FIRST + SIZE - 1
DAY_S = 86_400
DEADLINE_S = 20


class Scene:
    """Times are Unix seconds. `start` and `stop` may be called again and again; the address stays."""

    def __init__(self, folder: Path, days: int = 30, seed: int = 7) -> None:
        self.random = np.random.default_rng(seed)
        self.now_s = int(time.time())
        self.store = Store.open(f"chdb://{folder}/store")
        self.board = Board(Population(FIRST, FIRST + SIZE - 1))
        self.sink = Sink(self.store, self.board, FIRST)
        self.figures = Figures(self.board, self.sink, 60_000)
        self.history: dict[int, dict[str, npt.NDArray[Any]]] = {}
        self._everybody()
        for pk in TOLD:
            self._past(pk, days)
        self._averages(days)
        self._verdicts()
        self.board.names.reindex()
        self.publish()
        self._port = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.url = ""

    def _everybody(self) -> None:
        pk = np.setdiff1d(np.arange(FIRST, UNOBSERVED, dtype=np.uint32), TOLD)
        followers = np.maximum(self.random.normal(100_000, 100_000, len(pk)), 5_000)
        followings = np.maximum(self.random.normal(1_000, 1_000, len(pk)), 50)
        at = self.now_s - self.random.integers(5, 60, len(pk))
        at[QUIET - FIRST - len(TOLD)] = self.now_s - 300
        self.take(pk, at, followers, followings)
        self.sink.rows_stored += len(pk) * 1_440 * 30

    def _past(self, pk: int, days: int) -> None:
        """A slow walk by the minute with a daily tide, until now."""
        begin = self.now_s - days * DAY_S
        at = np.arange(begin + 17, self.now_s, 60)
        steps = len(at)
        tide = np.sin((at % DAY_S) / DAY_S * 2 * np.pi) * 900
        walk = np.cumsum(self.random.normal(0.6, 60, steps))
        followers = 57_166 + 20_000 * (pk - FIRST) + walk - walk[-1] + tide
        followings = 1_328 + 150 * (pk - FIRST) + np.cumsum(self.random.normal(0, 0.8, steps))
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
        at = np.arange(self.now_s - days * DAY_S, self.now_s, 900)
        average = 106_000 + np.cumsum(self.random.normal(2, 14, len(at)))
        average += np.sin((at % DAY_S) / DAY_S * 2 * np.pi) * 180
        latest = self.board.publish(self.now_s * 1_000).average_follower_count or 0.0
        average += latest - average[-1]
        rows = ", ".join(
            f"(toDateTime({moment}, 'UTC'), {SIZE - 1}, {value:.3f})"
            for moment, value in zip(at, average, strict=True)
        )
        self.store._maintenance.command(f"INSERT INTO averages VALUES {rows}")

    def _verdicts(self) -> None:
        pk = np.arange(FIRST, UNOBSERVED - 40)
        at = self.now_s - self.random.integers(60, DAY_S, len(pk))
        suspicious = self.random.random(len(pk)) < 0.1
        suspicious[: len(TOLD) + 1] = [False, False, True, False]
        self.board.apply_verdicts(pk, suspicious, at)

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
        self.board.publish(time.time_ns() // 1_000_000)

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
            self.loop = runner.get_loop()
            app = create(Sources(self.board, self.store, self.figures))
            self._server = uvicorn.Server(
                uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
            )
            self.loop.call_soon(ready.set)
            runner.run(self._server.serve(sockets=[listener]))

    def stop(self) -> None:
        """Stop serving, as a server that goes away."""
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)

    def close(self) -> None:
        """Stop, and close the store."""
        if self._thread is not None and self._thread.is_alive():
            self.stop()
        self.store.close()
