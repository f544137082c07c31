"""How does a route hand its connection over to the streams?

FastAPI keeps a dozen frames, exit stacks and a parsed request alive while a response is under way, and a stream is
under way for an hour. So the response of a live route writes nothing: it only says what is wanted. FastAPI unwinds,
and the stream runs outside of it.
"""

from __future__ import annotations

from typing import Final

from fastapi import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemark.serve.live.hub import Live

WANTED: Final = "tidemark.live"


class LiveResponse(Response):
    """What a route answers that wants a stream."""

    media_type = "text/event-stream"

    def __init__(self, pks: tuple[int, ...], stats: bool) -> None:
        super().__init__()
        self.pks = pks
        """Each once."""
        self.stats = stats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave word for `Handover`."""
        scope[WANTED].append(self)


class Handover:
    """The middleware that takes over."""

    def __init__(self, app: ASGIApp, live: Live) -> None:
        self._app = app
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; then run the stream, where one is wanted."""
        wanted: list[LiveResponse] = []
        scope[WANTED] = wanted
        await self._app(scope, receive, send)
        if wanted:
            response = wanted.pop()
            pks, stats = response.pks, response.stats
            del response, scope[WANTED]
            await self._live.stream(pks, stats, scope, receive, send)
