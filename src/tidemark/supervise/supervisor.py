"""What is started and stopped, and in which order?

    started:  nats, stand-in --> serve --> pollers, classify, schedule
    stopped:  schedule --> classify --> pollers --> serve --> nats --> stand-in

So each finds what it needs, and in the end all that was asked for is stored.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import structlog

from tidemark import telemetry
from tidemark.config import Settings, http_url
from tidemark.errors import CallerError, TidemarkError
from tidemark.process import FAILURE, OK, USAGE, complain
from tidemark.supervise import live, orders
from tidemark.supervise.folder import DataFolder
from tidemark.supervise.keeper import Keeper
from tidemark.supervise.nats_server import NatsServer
from tidemark.supervise.orders import Order
from tidemark.supervise.screen import Screen

logger = structlog.get_logger("tidemark.up")


def up(settings: Settings) -> int:
    """Run everything until SIGTERM or Ctrl-C. Returns the exit status."""
    screen = Screen(as_json=settings.log_format == "json")
    telemetry.configure_logging(settings, "up")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(screen))  # type: ignore[arg-type]
    try:
        if settings.replicas > 1 and not settings.nats:
            raise CallerError(
                f"--replicas {settings.replicas} takes a cluster of NATS servers, and `up` starts one: name them with"
                " --nats, or leave --replicas away"
            )
        folder = DataFolder(settings.data)
        try:
            check_port(settings.host, settings.port)
            with telemetry.registered(settings, "up"):
                asyncio.run(_Supervisor(settings, folder, screen).run())
        finally:
            screen.close()
            folder.release()
    except TidemarkError as error:
        complain(error)
        return USAGE if isinstance(error, CallerError) else FAILURE
    return OK


def check_port(host: str, port: int) -> None:
    """Raise TidemarkError when nobody could listen there, before anything is started that would have to."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen()
    except OSError as error:
        raise TidemarkError(
            f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()};"
            " choose another --port or --host"
        ) from error


class _Supervisor:
    def __init__(self, settings: Settings, folder: DataFolder, screen: Screen) -> None:
        self._settings = settings
        self._folder = folder
        self._screen = screen
        self._keepers: list[Keeper] = []
        """In the order in which they were started."""
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._healing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Start everything, wait for a signal, stop everything. Raises TidemarkError when a start fails."""
        self._listen_to_signals()
        stopped = asyncio.create_task(self._stop.wait())
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                await starting
                kept = {asyncio.create_task(keeper.kept()) for keeper in self._keepers}
                done, _ = await asyncio.wait({stopped, *kept}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            stopped.cancel()
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)  # from now on nothing else is started
            await self._stop_all()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` leaves it
            loop.add_signal_handler(signal.SIGHUP, self._on_signal)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            if not self._hurry.is_set():
                logger.warning("stopping at once; what is not stored yet waits in the log")
            self._hurry.set()
        else:
            logger.info("stopping in order; once more to hurry")
            self._stop.set()

    async def _start(self) -> None:
        """First what others need. What is started later on is told where that listens."""
        settings = self._settings
        found: dict[str, Any] = {}
        first = []
        if not settings.nats:
            first.append(self._start_nats(found))
        if not settings.api:
            first.append(self._start_stand_in(found))
        await asyncio.gather(*first)
        settings = settings.model_copy(update=found)

        url = await self._start_serve(settings)
        rest = [
            *orders.pollers(settings, self._folder),
            *orders.classifiers(settings, self._folder),
            orders.schedule(settings, self._folder),
        ]
        await asyncio.gather(*(self._keep(order).start() for order in rest))
        self._watching = asyncio.create_task(live.watch(self._screen, url, self._rows))

    def _keep(self, order: Order) -> Keeper:
        keeper = Keeper(order, self._folder, self._screen)
        self._keepers.append(keeper)
        return keeper

    async def _start_nats(self, found: dict[str, Any]) -> None:
        server = NatsServer(self._folder)
        keeper = self._keep(server.order())
        url = await keeper.start()
        server.stay(url)
        self._healing = asyncio.create_task(server.heal(keeper))
        found["nats"] = (url,)

    async def _start_stand_in(self, found: dict[str, Any]) -> None:
        logger.info("no --api is given: a stand-in of Mockstagram is asked instead")
        keeper = self._keep(orders.stand_in(self._settings))
        url = await keeper.start()
        keeper.order = orders.stand_in(self._settings, urlsplit(url).port or 0)
        found["api"] = (url,)

    async def _start_serve(self, settings: Settings) -> str:
        """Start it, announce where it listens, see to it that it stays there; returns where to ask it from here."""
        keeper = self._keep(orders.serve(settings, self._folder))
        port = int((await keeper.start()).rpartition(":")[2])
        keeper.order = keeper.order.told(port=port)
        url = http_url(settings.host, port)
        with suppress(OSError):  # nobody reads it
            sys.stdout.write(f"ready {url}\n")
            sys.stdout.flush()
        return url

    def _rows(self) -> list[live.Row]:
        us = live.Row("up", "running", os.getpid(), 0)
        return [us, *(live.Row(one.order.name, one.state, one.pid, one.restarts) for one in self._keepers)]

    async def _stop_all(self) -> None:
        if self._healing is not None:
            self._healing.cancel()
        for role in orders.STOP_SECONDS:
            await asyncio.gather(
                *(keeper.stop(self._hurry) for keeper in self._keepers if keeper.order.role == role)
            )
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        logger.info("everything is stopped")
