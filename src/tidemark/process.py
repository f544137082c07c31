"""How does one role run as a process? Signals, the event loop, the exit status."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import uvloop

from tidemark import telemetry
from tidemark.config import Settings, http_url
from tidemark.errors import CallerError, TidemarkError

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
"""A wrong flag or setting; a failure of something else, such as a port in use, is 1."""

FILES: Final = 100
"""Open files of a process that are no connections to what it asks: the log, /metrics, what is compiled."""
GC_THRESHOLDS: Final = (50_000, 20, 100)
"""The pipeline makes no reference cycles for an observation; the default of 700 looks for them all the time."""


def run(settings: Settings, role: str, main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run a role, with its log, its metrics and its note, as `run_until_stopped` does. Returns the exit status."""
    telemetry.configure_logging(settings, role)

    async def observed(stop: asyncio.Event) -> None:
        port = telemetry.start_metrics(settings)
        with telemetry.registered(settings, role, metrics=f"{http_url(settings.host, port)}/metrics"):
            await main(stop)

    return run_until_stopped(observed)


def run_until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run `main(stop)` until it returns; SIGTERM and SIGINT set `stop`. Returns the exit status.

    A TidemarkError becomes one line on standard error.
    """

    async def guarded() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await main(stop)

    try:
        uvloop.run(guarded())
    except (TidemarkError, BaseExceptionGroup) as error:
        ours = _cause(error)
        if ours is None:
            raise
        complain(ours)
        return USAGE if isinstance(ours, CallerError) else FAILURE
    return OK


def _cause(error: BaseException) -> TidemarkError | None:
    """The first of our own errors in a group of a TaskGroup; None when there is any other among them."""
    if not isinstance(error, BaseExceptionGroup):
        return error if isinstance(error, TidemarkError) else None
    causes = [_cause(inner) for inner in error.exceptions]
    return None if None in causes else causes[0]


def raise_file_limit() -> int:
    """Let this process have as many open files and connections as it may; returns how many those are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def within_files(wanted: int, files: int, setting: str, kept_back: int = FILES) -> int:
    """How many connections can be held with so many open files; says so when that is less than wanted."""
    held = max(0, min(wanted, files - kept_back))
    if held < wanted:
        structlog.get_logger("tidemark").warning(
            f"fewer connections than {setting} asks for: each takes an open file; raise the hard limit (ulimit -Hn)",
            wanted=wanted,
            held=held,
            open_files=files,
            needed=wanted + kept_back,
        )
    return held


def complain(error: TidemarkError) -> None:
    """Print the one line that says what happened and what to do."""
    print(f"tidemark: {error}", file=sys.stderr, flush=True)


async def wait(stop: asyncio.Event, seconds: float) -> bool:
    """Sleep, but not past `stop`; returns whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def spawn(tasks: set[asyncio.Task[None]], work: Awaitable[None], name: str) -> None:
    """Start `work` beside the others; it stays referenced until it is done, and a failure is logged."""

    async def guarded() -> None:
        try:
            await work
        except Exception as error:
            structlog.get_logger("tidemark").error(f"{name} failed", error=str(error), exc_info=error)

    task = asyncio.ensure_future(guarded())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
