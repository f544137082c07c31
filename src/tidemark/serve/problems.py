"""How is a request refused? RFC 9457, application/problem+json."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tidemark.errors import CallerError, StoreError

MEDIA_TYPE: Final = "application/problem+json"


class ProblemDetails(msgspec.Struct):
    """Why there is no answer: RFC 9457."""

    type: str
    """about:blank: the status says what kind of problem it is."""
    title: str
    """The same for all problems of its kind."""
    status: int
    detail: str
    """What was wrong this time, and what to do."""


class Problem(Exception):
    """An answer that says what is wrong; `title` is the same for all problems of its kind."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail


def response(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer itself."""
    body = ProblemDetails("about:blank", title, status, detail)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {"Retry-After": "1", **(headers or {})}
    return Response(msgspec.json.encode(body), status, headers, MEDIA_TYPE)


def of_http(request: Request, error: HTTPException) -> Response:
    """What the framework refuses by itself: a path that is none, another method."""
    status = HTTPStatus(error.status_code)
    detail = f"{request.method} {request.url.path}: {status.phrase}; /docs lists what there is"
    return response(status, status.phrase, detail, error.headers)


def install(app: FastAPI) -> None:
    """Answer each kind of failure in this form."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return response(error.status, error.title, error.detail)

    @app.exception_handler(CallerError)
    async def _caller(request: Request, error: CallerError) -> Response:
        return response(422, "Bad request", str(error))

    @app.exception_handler(StoreError)
    async def _store(request: Request, error: StoreError) -> Response:
        return response(503, "The store does not answer", str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()[0]
        where = ".".join(str(part) for part in found["loc"])
        return response(422, "Bad request", f"{where}: {found['msg']}")

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return of_http(request, error)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        return response(500, "Internal error", "Something failed that should not; the log has the details")
