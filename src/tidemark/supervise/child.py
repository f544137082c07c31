"""How is one process started, heard and ended?"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from tidemark.supervise import leash

LINE_MAX_BYTES: Final = 64 * 1_024
"""A longer line is passed on in pieces."""
LAST_WORDS_S: Final = 2.0
"""After its end a process's last lines are waited for; a process that it started may keep the pipe open."""

_LEASH: Final = (sys.executable, "-I", "-S", leash.__file__)


class Said(NamedTuple):
    """A line that a process said, and what it is."""

    kind: Literal["ready", "complaint", "line", "debug", "info", "warning", "error"]
    """`ready`: the text is where it listens; `complaint`: why it gives up; `line`: to be passed on as it is;
    the others are levels of a log."""
    text: str


Reader = Callable[[str], Said]


class Child:
    """A process that runs, and what it said so far."""

    def __init__(self, process: asyncio.subprocess.Process, lines: _Lines) -> None:
        self._process = process
        self._lines = lines
        self.pid: Final = process.pid
        self.since: Final = time.monotonic()
        self.exited: Final = asyncio.ensure_future(self._exited())
        """Done when it has ended and its last line is heard; the result is the exit status, -9 for a SIGKILL."""

    @property
    def address(self) -> str | None:
        """Where it says that it listens; None before that."""
        return self._lines.address

    @property
    def complaint(self) -> str | None:
        """The latest of its complaints."""
        return self._lines.complaint

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def _exited(self) -> int:
        status = await self._process.wait()
        await asyncio.wait({self._lines.ended}, timeout=LAST_WORDS_S)
        self._lines.close()
        return status


async def start(
    command: Sequence[str],
    variables: Mapping[str, str],
    read: Reader,
    hear: Callable[[Said], None],
    lock: int,
) -> Child:
    """Start a process in a session of its own: a Ctrl-C in the terminal is the supervisor's alone.

    `hear` is called with each line it says that is for others; `lock` is a descriptor that it keeps open.
    Raises OSError when no process can be started.
    """
    from_child, to_us = os.pipe()
    lines = _Lines(read, hear)
    try:
        pipe = os.fdopen(from_child, "rb", 0)
        await asyncio.get_running_loop().connect_read_pipe(lambda: lines, pipe)
        try:
            process = await asyncio.create_subprocess_exec(
                *_LEASH,
                str(os.getpid()),
                *command,
                env=dict(variables),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=to_us,
                stderr=to_us,
                start_new_session=True,
                # Our end of the pipe too: when we are killed, what the child says on its way out breaks no
                # pipe. It fits into the pipe, or nobody misses it.
                pass_fds=(from_child, lock),
            )
        except BaseException:
            lines.close()
            raise
    finally:
        os.close(to_us)
    return Child(process, lines)


class _Lines(asyncio.Protocol):
    """The lines that come through a pipe."""

    def __init__(self, read: Reader, hear: Callable[[Said], None]) -> None:
        self._read = read
        self._hear = hear
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None
        self.address: str | None = None
        self.complaint: str | None = None
        self.ended: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_MAX_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._take(self._rest)
        if not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _take(self, line: bytes) -> None:
        said = self._read(line.decode(errors="replace").rstrip())
        if said.kind == "ready":
            self.address = said.text
        elif said.kind == "complaint":
            self.complaint = said.text
        elif said.text:
            self._hear(said)
