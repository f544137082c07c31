"""How do bytes become requests?

Sans I/O: feed bytes, take whole requests, look at `refusal`. Every size is limited.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httptools

HEAD_MAX_BYTES: Final = 16_384
"""Node's default limit of a request's head."""

BODY_MAX_BYTES: Final = 102_400
"""The default limit of Express's JSON parser."""


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request."""

    method: bytes
    path: bytes
    """Without the query."""
    body: bytes
    is_json: bool
    """What its Content-Type says."""
    last: bool
    """The client wants the connection closed after the answer."""


class RequestReader:
    """Reads the requests of one connection.

    Once `refusal` is set, what was read before it is still good, what follows is not: answer with that
    status and close the connection.
    """

    def __init__(self) -> None:
        # Why nothing more can be read: 400, 413 or 431.
        self.refusal: HTTPStatus | None = None
        # Whether a request has begun and not ended.
        self.within_request = False
        self._parser = httptools.HttpRequestParser(self)
        # Whole requests of the current `feed`.
        self._done: list[Request] = []
        # Of the request being read. Header bytes count when a header is whole; `_unseen_bytes` counts what
        # came since the head began, so that one endless header is noticed too.
        self._in_head = False
        self._head_bytes = 0
        self._unseen_bytes = 0
        self._target = b""
        self._body = b""
        self._is_json = False
        self._last = False

    def feed(self, data: bytes) -> list[Request]:
        """Take bytes from the client and return the requests that are whole now, in order."""
        self._done = []
        # In pieces no larger than a head may be: only a head that spans pieces can be too large unseen.
        for start in range(0, len(data), HEAD_MAX_BYTES):
            piece = data[start : start + HEAD_MAX_BYTES]
            self._unseen_bytes += len(piece)
            try:
                self._parser.feed_data(piece)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self._refuse(HTTPStatus.BAD_REQUEST)
            if self._in_head and self._unseen_bytes > HEAD_MAX_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            if self.refusal is not None:
                break
        return self._done

    # What httptools calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self.within_request = self._in_head = True
        self._head_bytes = self._unseen_bytes = 0
        self._target = self._body = b""
        self._is_json = False

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._head_bytes += len(url)
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header, or one of the trailer."""
        self._head_bytes += len(name) + len(value) + 4
        if name.lower() == b"content-type":
            self._is_json = value.lower().startswith(b"application/json")
        if self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._last = not self._parser.should_keep_alive()
        if self._parser.should_upgrade():
            self._refuse(HTTPStatus.BAD_REQUEST)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if len(self._body) + len(body) > BODY_MAX_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.within_request = False
        if self.refusal is None:
            path = self._target.partition(b"?")[0]
            method = self._parser.get_method()
            self._done.append(Request(method, path, self._body, self._is_json, self._last))

    def _refuse(self, status: HTTPStatus) -> None:
        if self.refusal is None:
            self.refusal = status


def is_plain(headers: bytes) -> bool:
    """Whether a GET that goes on with `headers` after its path has no body and keeps the connection.

    `headers` begins with the space before `HTTP/1.1` and ends before the empty line.
    """
    if len(headers) > HEAD_MAX_BYTES:
        return False
    reader = RequestReader()
    requests = reader.feed(b"GET /" + headers + b"\r\n\r\n")
    return (
        headers.startswith(b" HTTP/1.1\r\n")
        and reader.refusal is None
        and not reader.within_request
        and len(requests) == 1
        and not requests[0].last
        and not requests[0].body
    )
