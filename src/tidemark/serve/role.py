"""What runs in a `serve` process? Sink, board, store and HTTP API, and the work that the clock starts.

    log --> sinks --> store
               \\--> board --> view --> HTTP API
                                |--> influencers, averages (once a minute), snapshots (every ten)
                                '--> turns of those whose followers jumped

The event loop takes batches, 1.5 ms each, and answers readers; what takes longer - inserts, series, views of a
million influencers - runs in threads, in code that lets go of the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI

from tidemark import telemetry
from tidemark.board import Board, View
from tidemark.board.jumps import Bound, Jumps
from tidemark.board.table import record_batches
from tidemark.config import Settings, http_url
from tidemark.errors import LogError, StoreError, TidemarkError
from tidemark.log.client import Log
from tidemark.messages import Turn
from tidemark.process import raise_file_limit, spawn, wait, within_files
from tidemark.serve.app import create
from tidemark.serve.figures import Figures
from tidemark.serve.gains import Gains
from tidemark.serve.live import Connection, Limits, Live
from tidemark.serve.progress import Progress
from tidemark.serve.routes import Sources
from tidemark.serve.verdicts import VerdictSink
from tidemark.store.clickhouse import Store
from tidemark.store.rollups import Rollups
from tidemark.store.sink import Sink

PUBLISH_SECONDS: Final = 0.5
"""Readers see an observation half a second after the board has it, at most; a view costs 10 ms."""
MINUTE_S: Final = 60.0
REINDEX_SECONDS: Final = 5.0
VERDICT_MARGIN_S: Final = 600
"""The store's clock may differ from that of the pollers by as much."""
SHUTDOWN_SECONDS: Final = 5
"""Requests under way at a stop are answered within this."""
BACKLOG: Final = 2_048
THREADS: Final = 16
"""Of the process, beside those of the readers and the sink. Seven jobs may wait for a store that does not answer, and
publishing, figures and compression are not to wait with them, as on a small machine they would (cores + 4)."""
FILES: Final = 2_000
"""Kept back from the live streams: parts of the store (hundreds, at a merge) and the log half of them, other readers
the rest."""
CONNECTIONS: Final = 10_000
"""Connections beside those of live streams, as far as files may be open for them: 10 kB of memory each."""
CONNECTIONS_MIN: Final = 100
"""As many are let in where hardly any files may be open."""

logger = structlog.get_logger("tidemark.serve")


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop`; then store what was taken, and close the store.

    Raises TidemarkError when the port or the store cannot be had.
    """
    files = raise_file_limit()
    streams_max = within_files(settings.live_max, files, "--live-max", FILES)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="serve"))
    async with AsyncExitStack() as resources:
        listener = resources.enter_context(listen(settings.host, settings.port))
        store = await asyncio.to_thread(Store.configured, settings)
        resources.push_async_callback(asyncio.to_thread, store.close)
        board = Board(settings.population)
        await asyncio.to_thread(restore, board, store, settings.interval, settings.classify_interval)
        sink = await asyncio.to_thread(Sink, store, board, settings.population.first)
        progress = Progress(settings.classify_interval)
        verdicts = VerdictSink(store, board, progress)
        figures = Figures(board, sink, round(settings.interval * 1_000), progress)
        gains = Gains(board, store, settings.interval)
        await asyncio.to_thread(gains.refresh)
        live = Live(board, figures, Limits(streams_max))
        connections_max = max(CONNECTIONS_MIN, min(streams_max + CONNECTIONS, files - FILES // 2))
        server = Server(create(Sources(board, store, figures, gains), live), connections_max)
        http = asyncio.ensure_future(server.serve(sockets=[listener]))
        url = http_url(*listener.getsockname()[:2])
        telemetry.add_to_note(settings, "serve", url=url)
        print(f"ready {url}", flush=True)
        try:
            await _Work(settings, board, store, sink, verdicts, progress, figures, gains, live).run(stop)
        finally:  # after a failure too: uvloop does not close while a server listens
            await live.close()
            server.should_exit = True
            await http


class Server(uvicorn.Server):
    """uvicorn as `serve` runs it, without its signal handlers: the process has its own.

    Where `connections_max` are open, who comes next is hung up on.
    """

    def __init__(self, app: FastAPI, connections_max: int = sys.maxsize) -> None:
        class Limited(Connection):
            pass

        Limited.connections_max = connections_max
        super().__init__(
            uvicorn.Config(
                app,
                http=Limited,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=65,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; port 0 picks a free one. Raises TidemarkError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            why = "it is in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
            raise TidemarkError(
                f"cannot listen on {host}:{port}: {why}; choose another --port or --host"
            ) from error
        listener.setblocking(False)
        yield listener
    finally:
        listener.close()


def restore(board: Board, store: Store, interval_s: float, classify_interval_s: float) -> None:
    """Give the board its memory back: everybody as of the last minute, then what is newer. Publishes a view."""
    known = store.load_influencers()
    since_s = 0
    if known.num_rows:
        suspicious = known["suspicious"].combine_chunks().cast("int8").fill_null(-1).to_numpy()
        checked_at = known["suspicious_checked_at"].combine_chunks().fill_null(0).to_numpy()
        columns = (
            known[name].to_numpy() for name in ("pk", "follower_count", "following_count", "observed_at")
        )
        board.restore(*columns, verdict=suspicious, verdict_at=checked_at)
        # The table was written within a minute of its newest row, unless a poller's clock is ahead.
        since_s = min(int(known["observed_at"].to_numpy().max()), store.written_down_at())
    # Rows of two minutes more are cheap, and so are two of each: who was not watched for a while is not in the table.
    since_s = max(0, min(since_s - 120, int(time.time() - 2 * interval_s)))
    newer = store.load_newer_than(since_s)
    if newer.num_rows:
        board.restore(
            *(newer[name].to_numpy() for name in ("pk", "follower_count", "following_count", "observed_at"))
        )
    # Not the names of `influencers`: who was to be stored when an earlier process was killed has one there, and is
    # to be stored still.
    names = store.load_usernames(0)
    if names.num_rows:
        board.restore_names(names["pk"].to_numpy(), names["username"])
    # Verdicts count from when the store took them, which may be long after they were given.
    _restore_verdicts(board, store, max(0, since_s - VERDICT_MARGIN_S))
    view = board.publish(time.time_ns() // 1_000_000)
    if since_s and view.verdict_counts.unknown:
        # Who was not watched for a while is not in the table, and not asked about again while a verdict is on the log.
        _restore_verdicts(board, store, max(0, int(time.time() - 2 * classify_interval_s)))
        view = board.publish(time.time_ns() // 1_000_000)
    if view.total:
        logger.info("restored from the store", influencers=view.total)
    elif store.new:
        logger.info("a new, empty store is made", store=store.address)


def _restore_verdicts(board: Board, store: Store, since_s: int) -> None:
    verdicts = store.load_verdicts(since_s)
    if verdicts.num_rows:
        board.apply_verdicts(
            verdicts["pk"].to_numpy(), verdicts["suspicious"].to_numpy(), verdicts["checked_at"].to_numpy()
        )


class _Work:
    """Everything in this process but the HTTP API."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        store: Store,
        sink: Sink,
        verdicts: VerdictSink,
        progress: Progress,
        figures: Figures,
        gains: Gains,
        live: Live,
    ) -> None:
        self._settings = settings
        self._log = Log(settings, "serve")
        self._verdicts = verdicts
        self._progress = progress
        self._jumps = Jumps()
        self._bound = Bound(settings.population.size, settings.classify_interval)
        self._board = board
        self._store = store
        self._sink = sink
        self._figures = figures
        self._gains = gains
        self._live = live
        self._rollups = Rollups(store, board.population)
        self._averaged_at_s = 0
        """Of which moment the last average was that this process wrote down."""
        self._damaged: dict[str, int] = {}
        self._outside = 0
        """Rows of those who are not watched here, as of the last look."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then the sink takes what lies on the log, and the last state is written down."""
        ended = asyncio.Event()
        try:
            # With one of these gone readers would be given old values for good: the process ends, and is started again.
            async with asyncio.TaskGroup() as group:
                for seconds, work in (
                    (PUBLISH_SECONDS, self._publish),
                    (REINDEX_SECONDS, self._reindex),
                    (MINUTE_S, self._write_down),
                    (MINUTE_S, self._roll_up),
                    (MINUTE_S, self._keep_snapshot),
                    (MINUTE_S, self._refresh_gains),
                    (MINUTE_S, self._look_for_damage),
                    (MINUTE_S, self._look_for_strangers),
                ):
                    group.create_task(self._every(seconds, work, ended))
                await self._look_for_damage()
                async with asyncio.TaskGroup() as sinks:
                    log, store_id = self._log, self._store.store_id
                    sinks.create_task(self._sink.run(lambda: log.consume_observations(store_id), stop))
                    sinks.create_task(self._verdicts.run(lambda: log.consume_verdicts(store_id), stop))
                ended.set()
        finally:
            await self._log.close()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._publish()
        await self._write_down()

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]], ended: asyncio.Event) -> None:
        """Do the work again and again; a failure of the store is logged and the work tried next time."""
        while not await wait(ended, seconds - time.time() % seconds):
            try:
                await work()
            except StoreError as error:
                logger.error("not done, tried again", work=work.__name__.strip("_"), error=str(error))

    async def _publish(self) -> None:
        taken, self._sink.unpublished_ms = self._sink.unpublished_ms, []
        now_ms = time.time_ns() // 1_000_000
        if taken or self._verdicts.unpublished:
            self._verdicts.unpublished = False
            before = self._board.view
            view = await asyncio.to_thread(self._board.publish, now_ms)
            self._live.publish(view)
            readable_ms = time.time_ns() // 1_000_000
            for observed_ms in taken:
                telemetry.READABLE_SECONDS.observe((readable_ms - observed_ms) / 1_000)
            if self._progress.under_way(now_ms / 1_000):
                jumped = await asyncio.to_thread(self._jumps.find, before, view)
                spawn(self._tasks, self._bring_forward(jumped, view), "bringing turns forward")
        self._figures.tick()

    async def _bring_forward(self, jumped: list[int], view: View) -> None:
        """Have those classified who jumped. All replicas see the same, and the log takes it from one of them."""
        now_s = view.published_at_ms / 1_000
        chosen = self._bound.choose(jumped, now_s)
        telemetry.JUMPS.labels("left for the turn").inc(len(jumped) - len(chosen))
        for index in chosen:
            pk, since_ms = index + view.population.first, int(view.values.observed_at[index]) * 1_000
            turn = Turn(index // view.population.shard_size, pk, pk, since_ms, since_ms)
            try:
                await self._log.publish_jump(turn, self._bound.day(now_s))
            except LogError as error:
                logger.warning("who jumped waits for the next turn", error=str(error))
                return
            telemetry.JUMPS.labels("brought forward").inc()
            logger.debug("a jump", pk=pk)

    async def _reindex(self) -> None:
        await asyncio.to_thread(self._board.names.reindex)
        await self._figures.export()

    async def _write_down(self) -> None:
        """Everybody's row and the average, for readers of the database and for the next start."""
        view = self._board.view
        if view.average_follower_count is None:
            return
        await asyncio.to_thread(self._store.replace_influencers, record_batches(view))
        if view.as_of_s != self._averaged_at_s:  # while nothing comes there is no new one
            await asyncio.to_thread(
                self._store.insert_average, view.as_of_s, view.total, view.average_follower_count
            )
            self._averaged_at_s = view.as_of_s

    async def _look_for_damage(self) -> None:
        """Say what the store cannot read: ClickHouse sets it aside, and goes on without a word."""
        damaged = await asyncio.to_thread(self._store.damaged_parts)
        for table, parts in damaged.items():
            telemetry.DAMAGED_PARTS.labels(table).set(parts)
            if parts > self._damaged.get(table, 0):
                logger.error(
                    "the store cannot read some of its files; what they hold is missing from all answers:"
                    " restore a backup (docs/operations.md)",
                    table=table,
                    parts_set_aside=parts,
                )
        for table in self._damaged.keys() - damaged:
            telemetry.DAMAGED_PARTS.labels(table).set(0)
        self._damaged = damaged

    async def _look_for_strangers(self) -> None:
        """Say that there are observations of those who are not watched here: nobody else would notice."""
        outside, self._outside = self._board.outside - self._outside, self._board.outside
        if outside:
            logger.warning(
                "some who are observed are not watched here: they are stored, and nobody is shown them;"
                " give this process the --influencers of `schedule`",
                influencers=str(self._board.population),
                observations=outside,
            )

    async def _roll_up(self) -> None:
        done = await asyncio.to_thread(self._rollups.run)
        if done.hours_closed or done.days_closed or done.marks_cleared:
            logger.info(
                "rolled up", hours=len(done.hours_closed), days=len(done.days_closed), late=done.marks_cleared
            )

    async def _keep_snapshot(self) -> None:
        await asyncio.to_thread(self._gains.keep)

    async def _refresh_gains(self) -> None:
        await asyncio.to_thread(self._gains.refresh)
