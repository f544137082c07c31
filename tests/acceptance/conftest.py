"""A whole pipeline of real processes, and an API that remembers each answer it gave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats
import pytest

from tests.log.server import batches_on_the_log
from tidemark.messages import Batch
from tidemark.simulate import Mockstagram, SimulateOptions

PATIENCE_S = 100
"""For what takes seconds on an idle machine; nothing here passes or fails by its speed."""


class Record:
    """Counts that change with every call, with many ties and some zeros, and all that was answered."""

    def __init__(self) -> None:
        self.given: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def step(self, pk: int) -> tuple[int, int]:
        calls = len(self.given[pk])
        answer = ((pk * 7 + calls * 13) % 40 * 1_000 + 5_000, (pk + calls) % 5)
        self.given[pk].append(answer)
        return answer


class Api:
    """The stand-in in a thread of this process, with a record of its answers."""

    def __init__(self, first: int, last: int, port: int = 0, host: str = "127.0.0.1") -> None:
        self.record = Record()
        self._loop = asyncio.new_event_loop()
        options = SimulateOptions(host=host, port=port, first=first, last=last)
        self._mockstagram = Mockstagram(options, self.record)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.url: str = self._call(self._mockstagram.start())

    def stop(self) -> None:
        self._call(self._mockstagram.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


class Tidemark:
    """A running `tidemark up`."""

    def __init__(self, process: subprocess.Popen[str], data: Path, log: Path) -> None:
        self.process = process
        self._data = data
        self._log = log
        self.url = ""

    def await_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http://"), self.said()
        self.url = line.split()[1]

    def said(self) -> str:
        return self._log.read_text()[-5_000:]

    def get(self, path: str) -> Any:
        """The JSON of an answer; errors of HTTP as they are."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for it; connections that fail meanwhile count as not yet."""
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            assert self.process.poll() is None, self.said()
            try:
                if reached():
                    return
            except (OSError, urllib.error.URLError, ValueError):
                pass
            time.sleep(0.1)
        pytest.fail(f"{what} did not come: {self.said()}")

    def log(self) -> list[Batch]:
        """Every batch on the log."""
        told = json.loads((self._data / "nats" / "nats-server.conf").read_text())
        url = f"nats://{told['authorization']['token']}@{told['listen']}"

        async def read() -> list[Batch]:
            client = await nats.connect(url)
            try:
                return await batches_on_the_log(client)
            finally:
                await client.close()

        return asyncio.run(read())

    def pids(self, role: str) -> list[int]:
        """The processes of a role that are alive."""
        if role == "nats":
            children = subprocess.run(
                ["pgrep", "-P", str(self.process.pid), "-f", "nats-server"],
                capture_output=True,
                text=True,
                check=False,
            ).stdout
            return [int(pid) for pid in children.split()]
        notes = [json.loads(path.read_text()) for path in (self._data / "run").glob(f"{role}-*.json")]
        return [note["pid"] for note in notes if Path(f"/proc/{note['pid']}").exists()]

    def kill(self, role: str) -> None:
        """SIGKILL, and wait until another process has taken its place."""
        before = self.pids(role)
        assert before, f"no {role} runs"
        os.kill(before[0], signal.SIGKILL)
        self.until(lambda: bool(set(self.pids(role)) - set(before)), f"a new {role}")

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def running(data: Path, *flags: str) -> Iterator[Tidemark]:
    """`tidemark up` until the end of the block, where it is killed if the test did not stop it."""
    log = data.parent / "log"
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidemark", "up", "--data", str(data), "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    tidemark = Tidemark(process, data, log)
    try:
        tidemark.await_ready()
        yield tidemark
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api(1_000_000, 1_001_199)
    yield api
    api.stop()
