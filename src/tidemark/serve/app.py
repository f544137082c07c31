"""The HTTP application: routes, errors, health, metrics."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidemark import __version__
from tidemark.serve import dashboard, problems, schema
from tidemark.serve.live import Handover, Live
from tidemark.serve.routes import Sources, router


class Head:
    """Middleware: HEAD is answered as GET would be, and uvicorn leaves the body away. Not for streams, without end.

    So where another method is refused, HEAD is among those that are allowed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "http" and scope["method"] != "GET" and not scope["path"].endswith("/live"):
            if scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}
            else:
                send = _with_head_allowed(send)
        await self._app(scope, receive, send)


def _with_head_allowed(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.METHOD_NOT_ALLOWED:
            MutableHeaders(scope=message)["Allow"] = "GET, HEAD"
        await send(message)

    return sent


def create(sources: Sources, live: Live | None = None) -> FastAPI:
    """The application over these sources; `live` is where its streams are, if anybody else is to know of them."""
    app = FastAPI(
        title="Tidemark",
        version=__version__,
        summary="How high the tide of followers stands, for every influencer, every minute.",
        docs_url=None,  # FastAPI's page takes its script from another host
        redoc_url=None,
        # Off, as nobody reads it, rather than asked about with every request: see /metrics.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    problems.install(app)
    live = Live(sources.board, sources.figures) if live is None else live
    app.add_middleware(Handover, live=live)
    app.add_middleware(Head)
    # Not by include_router, which looks for the route of each request twice.
    app.router.routes += router(sources).routes
    dashboard.install(app, dashboard.own())

    @app.get("/healthz", response_class=Response)
    async def healthz() -> Response:
        """The process is alive."""
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", response_class=Response, responses={503: {"description": "The log is away"}})
    async def readyz() -> Response:
        """Reads are answered and the log is read; 503 while the log is away."""
        if sources.figures.log_away:
            return problems.response(
                503, "The log is away", "reads are answered, but nothing new arrives: is NATS up?"
            )
        return Response("ready\n", media_type="text/plain")

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            app.openapi_schema["components"] = {"schemas": schema.components()}
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
