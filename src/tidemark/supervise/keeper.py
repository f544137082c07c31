"""How is one program kept running?

Its first start has to succeed: whoever started everything is there to mend what is wrong. From then on it is
started again whenever it ends, for ever, with pauses that double while it does not last.
"""

from __future__ import annotations

import asyncio
import signal
import time
from enum import StrEnum
from typing import Final

import structlog

from tidemark.errors import CallerError, TidemarkError
from tidemark.process import USAGE, wait
from tidemark.supervise import child as children
from tidemark.supervise.child import Child, Said
from tidemark.supervise.folder import DataFolder
from tidemark.supervise.orders import STOP_SECONDS, Order
from tidemark.supervise.screen import Screen

PAUSE_MIN_S: Final = 0.5
PAUSE_MAX_S: Final = 15.0
HEALTHY_S: Final = 60.0
"""Who lasted so long is started again at once, whatever was before."""
READY_LOOK_S: Final = 0.05
HURRY_S: Final = 2.0
"""What is left of each deadline when the operator asks to stop for the second time."""

logger = structlog.get_logger("tidemark.up")


class Pauses:
    """How long to wait before each new start."""

    def __init__(self) -> None:
        self._next_s = PAUSE_MIN_S

    def after(self, lasted_s: float) -> float:
        """Seconds to wait after a run that was ready for so long; 0 if it never was."""
        if lasted_s >= HEALTHY_S:
            self._next_s = PAUSE_MIN_S
        pause_s = self._next_s
        self._next_s = min(PAUSE_MAX_S, 2 * pause_s)
        return pause_s


class State(StrEnum):
    """Of a program that is kept running."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """It ended, and is started again after a pause."""
    STOPPING = "stopping"
    STOPPED = "stopped"


class Keeper:
    """Keeps one program running, from `start` to `stop`."""

    def __init__(self, order: Order, folder: DataFolder, screen: Screen) -> None:
        self.order = order
        """What is started the next time."""
        self.state = State.STARTING
        self.restarts = 0
        self.address = ""
        """Where it listens, if it does, since it was ready for the first time."""
        self._folder = folder
        self._screen = screen
        self._child: Child | None = None
        self._stopping = asyncio.Event()
        self._was_ready = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        child = self._child
        return None if child is None or child.exited.done() else child.pid

    async def start(self) -> str:
        """Start it and wait until it is ready; returns its address. Raises TidemarkError when it ends before."""
        self._keeping = asyncio.create_task(self._keep())
        ready = asyncio.create_task(self._was_ready.wait())
        try:
            await asyncio.wait({ready, self._keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._keeping.done():
            self._keeping.result()
        return self.address

    async def kept(self) -> None:
        """Return when it was stopped; raises what went wrong with the keeping itself."""
        if self._keeping is not None:
            await asyncio.shield(self._keeping)

    def restart(self) -> None:
        """End it at once; as whatever ends it is started again."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    async def stop(self, hurry: asyncio.Event) -> None:
        """SIGTERM, and after the role's deadline SIGKILL; soon when `hurry` is set."""
        if self._keeping is None:
            return
        self.state = State.STOPPING
        self._stopping.set()
        if self._child is not None:
            self._child.signal(signal.SIGTERM)
        if not await self._ended_within(STOP_SECONDS[self.order.role], hurry) and self._child is not None:
            logger.warning("did not stop in time and is killed", child=self.order.name, pid=self._child.pid)
            self._child.signal(signal.SIGKILL)
        await asyncio.wait({self._keeping})
        self.state = State.STOPPED
        logger.info("stopped", child=self.order.name)

    async def _ended_within(self, deadline_s: float, hurry: asyncio.Event) -> bool:
        assert self._keeping is not None
        hurrying = asyncio.create_task(hurry.wait())
        try:
            await asyncio.wait(
                {self._keeping, hurrying}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED
            )
            if hurrying.done():
                await asyncio.wait({self._keeping}, timeout=HURRY_S)
        finally:
            hurrying.cancel()
        return self._keeping.done()

    async def _keep(self) -> None:
        pauses = Pauses()
        while True:
            ready_at, status, reason = await self._run()
            if self._stopping.is_set():
                return
            if not self._was_ready.is_set():
                kind = CallerError if status == USAGE else TidemarkError
                raise kind(f"{self.order.name}: {reason or _never_ready(status)}")
            self.state = State.WAITING
            pause_s = pauses.after(time.monotonic() - ready_at if ready_at else 0)
            logger.error(
                "ended and is started again",
                child=self.order.name,
                status=_named(status),
                in_seconds=pause_s,
                **({"reason": reason} if reason else {}),
            )
            if await wait(self._stopping, pause_s):
                return
            self.restarts += 1
            self.state = State.STARTING

    async def _run(self) -> tuple[float | None, int | None, str | None]:
        """Once, from start to end: when it was ready (monotonic seconds), the exit status, what it complained of."""
        order = self.order
        try:
            child = await children.start(
                order.command, order.variables, order.read, self._hear, self._folder.lock
            )
        except OSError as error:
            return None, None, f"cannot start a process: {error.strerror or error}"
        self._child = child
        if self._stopping.is_set():
            child.signal(signal.SIGTERM)
        ready_at = await self._ready(child)
        status = await child.exited
        self._folder.forget(order.role, child.pid)
        return ready_at, status, child.complaint

    async def _ready(self, child: Child) -> float | None:
        """Wait until it is ready, and return when that was (monotonic seconds); None if it ended before."""
        order = self.order
        while (address := order.ready(child.pid) if order.ready else child.address) is None:
            if child.exited.done():
                return None
            await asyncio.wait({child.exited}, timeout=READY_LOOK_S)
        if not order.noted:
            self._folder.note(order.role, child.pid)
        if not self._stopping.is_set():
            self.state = State.RUNNING
            logger.info("ready", child=order.name, pid=child.pid)
        self.address = self.address or address
        self._was_ready.set()
        return time.monotonic()

    def _hear(self, said: Said) -> None:
        match said.kind:
            case "debug" | "info" | "warning" | "error":
                getattr(logger, said.kind)(said.text, child=self.order.name)
            case _:
                self._screen.pass_on(said.text, self.order.name)


def _named(status: int | None) -> str | int | None:
    """An exit status as people know it: the number, or the name of the signal."""
    return signal.Signals(-status).name if status is not None and status < 0 else status


def _never_ready(status: int | None) -> str:
    return f"it ended ({_named(status)}) before it was ready; what it said stands above"
