"""What does a stream need of its connection that ASGI does not say? To see what is unsent, and to drop it.

ASGI has neither. `transport.close()`, which is what an exception comes to, waits until the reader has taken everything:
for one who is stuck, for ever. So the connections of `serve` hand the transport over as an extension of the scope.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION: Final = "tidemark.transport"

SEND_BUFFER_BYTES: Final = 16_384
"""What the kernel keeps of a stream's for a reader who takes nothing; Linux doubles it. Left to itself it keeps
megabytes, and what lies there is no longer the newest. 10,000 stuck readers make 330 MB at the most, not 25 GB."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol over httptools, with its transport in the scope."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self.transport}  # type: ignore[dict-item]


def handles(scope: Scope) -> tuple[Callable[[], None], Callable[[], int]]:
    """How to drop the connection of this request, and how to see what is unsent in this process, in bytes.

    Prepares it for a stream: from now on a write waits as soon as the kernel takes no more. Under another
    server than ours the request is cancelled instead, and nothing is seen.
    """
    transport: asyncio.Transport | None = scope.get("extensions", {}).get(EXTENSION)
    if transport is None:
        task = asyncio.current_task()
        assert task is not None
        return lambda: _cancel(task), lambda: 0
    transport.set_write_buffer_limits(0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return transport.abort, transport.get_write_buffer_size


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
