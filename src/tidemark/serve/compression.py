"""When is an answer compressed? When it is long, and whoever asked can read it.

A day by the minute is 60 kB of JSON and 20 kB compressed: on a phone, most of the time until the chart stands.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import Final

from fastapi import Request, Response

LEAST_BYTES: Final = 4_096
"""A shorter answer fits into a few packets anyway."""
LEVEL: Final = 1
"""1 ms for 60 kB of series; level 9 would take ten times as long for a tenth less."""


def reads_gzip(request: Request) -> bool:
    """Whether the client says that it can read gzip."""
    wanted = {}
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = part.replace(" ", "").partition(";")
        wanted[name] = quality not in ("q=0", "q=0.", "q=0.0", "q=0.00", "q=0.000")
    return wanted.get("gzip", wanted.get("*", False))


async def compressed(request: Request, response: Response) -> Response:
    """The response, its body compressed in a thread if that is worth it."""
    response.headers["Vary"] = "Accept-Encoding"
    if len(response.body) >= LEAST_BYTES and reads_gzip(request):
        response.body = await asyncio.to_thread(gzip.compress, bytes(response.body), LEVEL, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))
    return response
