"""Classifiers as processes, killed as the kernel kills."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import FIRST, Api, Bench, until

LAST = FIRST + 39
Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(nats_url: str, api: Api, tmp_path: Path) -> Iterator[Start]:
    """Starts one, with the waits as they are."""
    processes: list[subprocess.Popen[bytes]] = []
    said = (tmp_path / "said").open("ab")

    def start_one() -> subprocess.Popen[bytes]:
        flags = [
            "--api",
            api.url,
            "--nats",
            nats_url,
            "--data",
            str(tmp_path),
            "--classify-concurrency",
            "40",
        ]
        command = [sys.executable, "-m", "tidemark", "classify", *flags]
        processes.append(subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | {"HOME": "/"}))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.wait()
    said.close()


async def test_killed_classifiers_lose_no_turn_and_give_nobody_two_verdicts(
    bench: Bench, api: Api, start: Start
) -> None:
    free = api.hold(FIRST + 20)

    async def told(number: int) -> bool:
        return len(await bench.verdicts()) == number

    await bench.order(FIRST, LAST)
    killed = start()
    await until(lambda: told(20), "what was answered at once")
    killed.kill()
    killed.wait()
    free.set()
    stopped = start()
    await bench.done()
    verdicts = await bench.verdicts()
    assert sorted(verdicts) == list(range(FIRST, LAST + 1))
    assert all(len(rows) == 1 for rows in verdicts.values())
    assert all(api.times[pk] == 1 for pk in range(FIRST, FIRST + 20))
    stopped.terminate()
    assert await asyncio.to_thread(stopped.wait) == 0
