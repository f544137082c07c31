"""How is a connection to an API address opened, and why is there none? The poller and the classifier ask."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Final

from aiohappyeyeballs import AddrInfoType, start_connection

from tidemark.errors import UpstreamError

NEXT_ADDRESS_S: Final = 0.25
"""Of a host with several IP addresses the next is tried after so long, beside the silent one (RFC 8305)."""
IDLE_S: Final = 4.0
"""Node closes a connection that was idle for 5 s. Who opened it closes it first, so that no request meets that."""


class Unreachable(UpstreamError):
    """No connection could be opened; the message says which address it was and what went wrong."""


async def dial(host: str, port: int) -> socket.socket:
    """Open a connection that neither blocks nor delays small writes, without a deadline. Raises Unreachable."""
    try:
        found = await _look_up(host, port)
    except Exception as error:  # a name that no host can have is a ValueError
        raise Unreachable(f"cannot look up {host}: {getattr(error, 'strerror', None) or error}") from error
    try:
        connected = await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except Exception as error:  # requests wait for a word of it, whatever it is
        told = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise Unreachable(f"cannot connect to {host}:{port}: {told}") from error
    return connected


async def _look_up(host: str, port: int) -> Sequence[AddrInfoType]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
