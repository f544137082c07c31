"""What does a browser get that opens the dashboard? Two pages, which are one document, the page of the HTTP API, and
what they load.

Everything is read, hashed and compressed once, at the start; a request is a look-up. The address of a file holds a
hash over all of them, so a browser keeps a file for ever and yet never mixes two versions.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from tidemark.serve import problems
from tidemark.serve.compression import reads_gzip

FOLDER: Final = Path(__file__).parent / "dashboard"
DOCUMENT: Final = "index.html"
API_DOCUMENT: Final = "api.html"
VENDOR: Final = (
    "vendor/uPlot.esm.js",
    "vendor/uPlot.min.css",
    "vendor/swagger-ui-bundle.js",
    "vendor/swagger-ui.css",
)
"""What `make setup` copies from npm."""

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOR_EVER: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "no-cache"
"""Keep it, but ask whether it is still the same."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from other hosts and nothing inline. uPlot and Swagger UI style their elements through the CSSOM, which is
allowed."""
SECURITY: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

MISSING: Final = (
    "libraries of the dashboard are missing: run `make setup`, which brings them from npm, and start again"
)

logger = structlog.get_logger("tidemark.serve")


@dataclass(frozen=True, slots=True)
class File:
    """What is sent for one path."""

    body: bytes
    compressed: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> File:
        """With the type that the name's ending tells."""
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        return cls(body, gzip.compress(body, 9, mtime=0), TYPES[Path(name).suffix], etag)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The dashboard as it is sent."""

    document: File
    api_document: File
    """The page of the HTTP API, which reads /openapi.json."""
    files: dict[str, File]
    """By name below `/static/{version}/`."""
    version: str
    complete: bool
    """Whether the libraries are there; without them the documents are a page that says so."""

    @classmethod
    def load(cls, folder: Path) -> Dashboard:
        """Read and compress what is in the folder: about 0.3 s."""
        names = sorted(
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.suffix in TYPES and path.suffix != ".html"
        )
        bodies = {name: (folder / name).read_bytes() for name in names}
        digest = hashlib.sha256()
        for name, body in bodies.items():
            digest.update(f"{name} {len(body)}\n".encode() + body)
        version = digest.hexdigest()[:12]
        complete = all(name in bodies for name in VENDOR)
        if not complete:
            logger.warning(MISSING)

        def document(name: str) -> File:
            text = _document((folder / name).read_text(), bodies, version) if complete else _refusal()
            return File.of(name, text.encode())

        files = {name: File.of(name, body) for name, body in bodies.items()}
        return cls(document(DOCUMENT), document(API_DOCUMENT), files, version, complete)


@cache
def own() -> Dashboard:
    """The dashboard of this Tidemark, read once: it does not change under a process."""
    return Dashboard.load(FOLDER)


def _document(text: str, names: dict[str, bytes], version: str) -> str:
    """The document with versioned addresses, and the modules named ahead: they load in parallel, not one by one."""
    modules = [name for name, body in names.items() if name.endswith(".js") and b"\nexport " in body]
    preload = "\n".join(f'<link rel="modulepreload" href="/static/{name}">' for name in modules)
    return text.replace("<!-- modulepreload -->", preload).replace('"/static/', f'"/static/{version}/')


def _refusal() -> str:
    return f"<!doctype html><html lang=en><title>Tidemark</title><h1>Tidemark</h1><p>Sorry: {MISSING}.</p></html>"


def install(app: FastAPI, dashboard: Dashboard) -> None:
    """The pages `/` and `/influencers/{pk}`, `/docs`, and `/static/`; and one for a path that is none."""
    routes = APIRouter(include_in_schema=False)

    def document(request: Request, file: File, status: int = 200) -> Response:
        answer = _sent(request, file, ASK_AGAIN)
        if answer.status_code == 200:
            answer.status_code = status if dashboard.complete else 503
        return answer

    @routes.get("/")
    @routes.get("/influencers/{pk}")
    async def page(request: Request) -> Response:
        """One document for both pages: the browser reads the path."""
        return document(request, dashboard.document)

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        """The HTTP API, with forms to try it."""
        return document(request, dashboard.api_document)

    @routes.get("/static/{version}/{name:path}")
    async def static(request: Request, version: str, name: str) -> Response:
        """A file of this version; another version's names are not known any more."""
        file = dashboard.files.get(name)
        if version != dashboard.version or file is None:
            detail = f"{request.url.path} is of another version of the page: load that again"
            return problems.response(404, "Not found", detail, SECURITY | {"Cache-Control": "no-store"})
        return _sent(request, file, FOR_EVER)

    @routes.get("/favicon.ico")
    async def favicon(request: Request) -> Response:
        """For who asks without having read the page."""
        return _sent(request, dashboard.files["favicon.svg"], ASK_AGAIN)

    app.router.routes += routes.routes

    @app.exception_handler(404)
    async def nothing(request: Request, error: HTTPException) -> Response:
        """The document, for who reads pages: it says that there is none, and where to go."""
        reads_pages = "text/html" in request.headers.get("accept", "") and request.method == "GET"
        if reads_pages and not request.url.path.startswith("/v1/"):
            return document(request, dashboard.document, 404)
        return problems.of_http(request, error)


def _sent(request: Request, file: File, caching: str) -> Response:
    headers = SECURITY | {"Cache-Control": caching, "ETag": file.etag, "Vary": "Accept-Encoding"}
    known = request.headers.get("if-none-match", "")
    if known == "*" or file.etag in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
        return Response(None, 304, headers)
    if reads_gzip(request):
        return Response(file.compressed, 200, headers | {"Content-Encoding": "gzip"}, file.media_type)
    return Response(file.body, 200, headers, file.media_type)
