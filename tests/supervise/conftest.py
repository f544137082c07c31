"""Small real programs that are kept running, and conditions that are waited for."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tidemark.supervise.child import Reader
from tidemark.supervise.folder import DataFolder
from tidemark.supervise.keeper import Keeper
from tidemark.supervise.orders import Order, plain_environment, role_said
from tidemark.supervise.screen import Screen

PATIENCE_S = 60
"""For what takes a second on an idle machine; nothing here passes or fails by its speed."""

WAITS = "import time; print('ready http://127.0.0.1:1', flush=True); time.sleep(1000)"
"""A program that is ready at once and then waits for a signal."""


async def until(reached: Callable[[], object], what: str) -> None:
    """Wait for it."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < give_up_at, f"{what} did not come"
        await asyncio.sleep(0.02)


def until_now(reached: Callable[[], object], what: str) -> None:
    """Wait for it, outside an event loop."""
    asyncio.run(until(reached, what))


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def program(code: str, role: str = "poll", name: str = "", read: Reader = role_said) -> Order:
    """A program in Python, kept like this role."""
    return Order(name or role, role, (sys.executable, "-c", code), plain_environment(), read, noted=False)


class Lines(Screen):
    """Remembers what was passed on."""

    def __init__(self) -> None:
        super().__init__(as_json=False)
        self.passed_on: list[str] = []

    def pass_on(self, line: str, child: str) -> None:
        self.passed_on.append(line)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    folder = DataFolder(tmp_path / "data")
    yield folder
    folder.release()


@pytest.fixture
def screen() -> Lines:
    return Lines()


Keep = Callable[[Order], Keeper]


@pytest.fixture
async def keep(folder: DataFolder, screen: Lines) -> AsyncIterator[Keep]:
    """Makes keepers; in the end they are stopped, in a hurry."""
    keepers: list[Keeper] = []

    def make(order: Order) -> Keeper:
        keepers.append(Keeper(order, folder, screen))
        return keepers[-1]

    yield make
    hurry = asyncio.Event()
    hurry.set()
    await asyncio.gather(*(keeper.stop(hurry) for keeper in keepers))


def children_of(pid: int) -> list[psutil.Process]:
    """The processes that it started and that run."""
    return [child for child in psutil.Process(pid).children() if alive(child.pid)]


def environment() -> dict[str, str]:
    """For a program that imports Tidemark as this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
