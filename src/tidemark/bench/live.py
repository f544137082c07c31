"""How soon do 10,000 who watch live see what is new, while a million influencers are written every minute?"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final, cast
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from tidemark.bench.fleet import Fleet, Usage, fleet, quantile, since
from tidemark.errors import TidemarkError
from tidemark.population import Population
from tidemark.process import raise_file_limit

FILES: Final = 500
"""What the benchmark needs beside a file for each stream."""
OPENING: Final = 200
"""Streams that are being opened at once."""
OPEN_SECONDS: Final = 30.0
"""For one of them."""
WARM_UP_SECONDS_MAX: Final = 150.0
SETTLE_SECONDS: Final = 10.0
"""After the last stream was opened."""
SAMPLE_SECONDS: Final = 5.0
"""Between two looks at memory."""
STUCK_RECEIVE_BUFFER_BYTES: Final = 4_096
CHECKED: Final = 500
"""Of the influencers: so many have their series asked for, to see whether an update was missed."""
STORED_SECONDS: Final = 10
"""An observation is in the store after this at the latest: younger ones are not looked for."""
READABLE: Final = "tidemark_readable_seconds"

_EVENT: Final = re.compile(rb"event: observation\nid: (\d+)\ndata: (\{[^\n]*\})\n\n")


class Reader(asyncio.Protocol):
    """One stream; notes when which observation came."""

    def __init__(self, path: str, opened: asyncio.Future[None]) -> None:
        self._path = path
        self._opened = opened
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.lost = False
        self.closing = False
        self.updates: list[tuple[int, int, int]] = []
        """When it came and of which view it is, in Unix milliseconds; `observedAt`, in Unix seconds."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._transport.write(f"GET {self._path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Take what came; a write of the server's is a chunk of whole events, so its frame is between them."""
        came_ms = time.time_ns() // 1_000_000
        if not self._opened.done():
            if data.startswith(b"HTTP/1.1 200"):
                self._opened.set_result(None)
            else:
                self._opened.set_exception(
                    TidemarkError(f"a live stream was refused: {data[:60].decode(errors='replace')!r}")
                )
        self._buffer += data
        end = 0
        for found in _EVENT.finditer(self._buffer):
            end = found.end()
            observed_at = datetime.fromisoformat(json.loads(found[2])["observedAt"])
            self.updates.append((came_ms, int(found[1]), int(observed_at.timestamp())))
        self._buffer = self._buffer[end:] if end else self._buffer[-4_096:]

    def connection_lost(self, exc: Exception | None) -> None:
        """The server, or `close`, ended it."""
        self.lost = not self.closing
        if not self._opened.done():
            self._opened.set_exception(TidemarkError("the server closed a live stream before it answered"))

    def close(self) -> None:
        """Go away."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()


def measure(
    streams: int, stuck: int, seconds: float, influencers: str, stats: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """`tidemark up --interval 60` with the stand-in, so many streams of one influencer each, and some that never read.

    Of each update (the value that a stream begins with is none) two times are told. *publishedToArrival*: from the
    moment of the view that has the observation, which the event carries as its id in milliseconds and which is taken
    before the view is computed, to when this client has read the event: the part that live updates add.
    *observedToArrival*: from the observation itself. `observedAt` has whole seconds and is counted from the
    beginning of its second, so this is up to a second too long, half of one on average, and never too short.
    *readableSecondsP99AtMost* is the time from the API's answer to the view, by serve's own clock in milliseconds.

    *missed* compares what came with the raw series of some of the influencers, over all of the run.
    """
    files = raise_file_limit()
    if files < streams + stuck + FILES:
        raise TidemarkError(
            f"{streams + stuck} streams need {streams + stuck + FILES} open files, and the hard limit here is"
            f" {files}: raise it (ulimit -Hn) or give fewer --streams"
        )
    with fleet(
        "--influencers", influencers, "--interval", "60", "--live-max", str(streams + stuck + FILES)
    ) as up:
        say("warming up: the first minute observes everybody once")
        give_up_at = time.monotonic() + WARM_UP_SECONDS_MAX
        while (told := up.stats())["observed"] < told["influencers"] and time.monotonic() < give_up_at:
            time.sleep(1)
        return uvloop.run(_watch(up, streams, stuck, seconds, Population.parse(influencers), stats, say))


async def _watch(
    up: Fleet,
    streams: int,
    stuck: int,
    seconds: float,
    watched: Population,
    stats: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    pks = [watched.first + i * watched.size // streams for i in range(streams)]
    one = "/v1/live?stats=true&pk={}" if stats else "/v1/influencers/{}/live"
    began = time.monotonic()
    readers = await _open(up.url, [one.format(pk) for pk in pks])
    say(f"{streams} streams opened in {time.monotonic() - began:.1f} s; and {stuck} that never read")
    ten = "&".join(f"pk={pk}" for pk in pks[:10])
    stuck_sockets = [await _open_stuck(up.url, f"/v1/live?stats=true&{ten}") for _ in range(stuck)]
    opened_s = time.monotonic() - began
    await asyncio.sleep(SETTLE_SECONDS)

    buckets, before, rows = await _look(up)
    from_s, end = int(time.time()) + 1, time.monotonic() + seconds
    rss = []
    while (left := end - time.monotonic()) > 0:
        rss.append((await asyncio.to_thread(up.usage)).rss_bytes["serve"])
        await asyncio.sleep(min(left, SAMPLE_SECONDS))
    buckets_after, after, rows_after = await _look(up)
    to_s = int(time.time()) - STORED_SECONDS
    metrics = await asyncio.to_thread(_live_metrics, up)
    lost = sum(reader.lost for reader in readers)
    for reader in readers:
        reader.close()
    for peer in stuck_sockets:
        peer.close()

    updates = np.array([update for reader in readers for update in reader.updates[1:]], np.int64).reshape(
        -1, 3
    )
    updates = updates[updates[:, 0] >= from_s * 1_000]
    say(f"looking for missed updates of {min(CHECKED, streams)} influencers")
    step = -(-streams // CHECKED)
    expected, missed = await asyncio.to_thread(
        _missed, up, dict(zip(pks[::step], readers[::step], strict=True)), from_s, to_s
    )
    wall_s = after.at - before.at
    return {
        "influencers": str(watched),
        "streams": streams,
        "withStats": stats,
        "openedInSeconds": opened_s,
        "seconds": wall_s,
        "observationsPerSecond": (rows_after - rows) / wall_s,
        "updates": len(updates),
        "updatesPerSecond": len(updates) / wall_s,
        "publishedToArrivalMs": _quantiles(updates[:, 0] - updates[:, 1]),
        "observedToArrivalMs": _quantiles(updates[:, 0] - updates[:, 2] * 1_000),
        "readableSecondsP99AtMost": quantile(since(buckets_after, buckets), 0.99),
        "missed": {
            "influencers": len(pks[::step]),
            "updatesExpected": expected,
            "updatesMissed": missed,
        },
        "streamsLost": lost,
        "stuck": {"streams": stuck, "dropped": int(metrics["tidemark_live_stuck_total"])},
        "serve": {
            "cores": after.cores_since(before)["serve"],
            "rssBytesMax": max(*rss, after.rss_bytes["serve"]),
        },
    }


async def _open(url: str, paths: list[str]) -> list[Reader]:
    """Open streams, a few at a time; returns when each has been answered. Raises TidemarkError."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(OPENING)

    async def one(path: str) -> Reader:
        async with gate:
            opened: asyncio.Future[None] = loop.create_future()
            address = urlsplit(url)
            try:
                _, reader = await loop.create_connection(
                    lambda: Reader(path, opened), address.hostname or "", address.port or 0
                )
                async with asyncio.timeout(OPEN_SECONDS):
                    await opened
            except OSError as error:  # TimeoutError is one
                raise TidemarkError(f"cannot open a live stream: {error}") from error
            return reader

    opening: list[Coroutine[Any, Any, Reader]] = [one(path) for path in paths]
    return await asyncio.gather(*opening)


async def _open_stuck(url: str, path: str) -> socket.socket:
    """Ask for a stream, and never read. The kernel takes little of it for us."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STUCK_RECEIVE_BUFFER_BYTES)
    peer.setblocking(False)
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(OPEN_SECONDS):
        await loop.sock_connect(peer, (address.hostname, address.port))
        await loop.sock_sendall(peer, f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    return peer


async def _look(up: Fleet) -> tuple[dict[float, float], Usage, int]:
    """The times until readable, what the processes took, the rows in the store: all so far."""
    buckets = await asyncio.to_thread(up.histogram, READABLE)
    rows = (await asyncio.to_thread(up.stats))["observationsTotal"]
    return buckets, await asyncio.to_thread(up.usage), rows


def _live_metrics(up: Fleet) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(up.get("/metrics").decode())
        for sample in family.samples
        if sample.name.startswith("tidemark_live") and not sample.labels
    }


def _missed(up: Fleet, readers: dict[int, Reader], from_s: int, to_s: int) -> tuple[int, int]:
    """How many observations these have in the store, of those seconds, and how many of them never came."""
    expected = missed = 0
    for pk, reader in readers.items():
        series = json.loads(up.get(f"/v1/influencers/{pk}/series?step=raw&from={from_s}&to={to_s}"))
        came = {observed_at for _, _, observed_at in reader.updates}
        expected += len(series["time"])
        missed += sum(at not in came for at in series["time"])
    return expected, missed


def _quantiles(waits_ms: npt.NDArray[np.int64]) -> dict[str, float]:
    if not len(waits_ms):
        raise TidemarkError("no update came at all: give more --seconds than an interval has")
    p50, p99, most = np.quantile(waits_ms, [0.5, 0.99, 1.0], method="higher").tolist()
    return {"p50": p50, "p99": p99, "max": most}
