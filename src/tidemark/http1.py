"""What did the API answer? HTTP/1.1 without I/O: feed bytes, take responses.

The grammar is llhttp's (the parser of Node itself) through httptools; what stands here is the bounds
and the refusals. It reads what the poller's `exchange` does not find ordinary, and every answer to the classifier.
Only the callbacks that are needed are defined.

The API is not trusted. A connection that breaks one of the rules raises `ProtocolError` and is to be
closed: nothing that it says afterwards can be matched to a request.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import httptools

from tidemark.errors import UpstreamError
from tidemark.mockstagram import INFLUENCERS, IS_SUSPICIOUS

HEAD_MAX_BYTES: Final = 16_384
"""An Express app sends about 250; Node itself refuses more than 16 kB."""
BODY_MAX_BYTES: Final = 65_536
"""An HTML error page has a few thousand."""

Response = tuple[int, bytes]
"""Status and body."""


class ProtocolError(UpstreamError):
    """The API broke HTTP/1.1 or our bounds; `reason` is the label under which it is counted.

    `responses` came whole before that in the same piece.
    """

    def __init__(self, reason: str, message: str, responses: list[Response]) -> None:
        super().__init__(message)
        self.reason = reason
        self.responses = responses


def request_around_pk(api: str) -> tuple[bytes, bytes]:
    """The GET of a pk at this API address: as far as the pk, and what follows it."""
    parts = urlsplit(api)
    before = f"GET {parts.path}{INFLUENCERS}"
    after = f"{_headers(parts.netloc)}\r\n"
    return before.encode("ascii"), after.encode("ascii")


def request_before_length(api: str) -> bytes:
    """The POST of an influencer's details at this API address: as far as the length of the body."""
    parts = urlsplit(api)
    before = f"POST {parts.path}{IS_SUSPICIOUS}{_headers(parts.netloc)}"
    return f"{before}Content-Type: application/json\r\nContent-Length: ".encode("ascii")


def _headers(host: str) -> str:
    return f" HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nUser-Agent: tidemark\r\n"


class ResponseParser:
    """The responses on one connection, in the order of the requests."""

    def __init__(self) -> None:
        self.closing = False
        """Whether nothing can follow the last response taken: the API said so, or broke a rule."""
        self.between = True
        """Whether the next byte begins a response."""
        self.pending_bytes = 0
        """Bytes fed since the last whole response, apart from those in the same piece as its end."""
        self._begun = b""
        """The beginning of those, with the head."""
        self._parser = httptools.HttpResponseParser(self)
        self._feed_data = self._parser.feed_data
        self._status = self._parser.get_status_code
        self._keeps_alive = self._parser.should_keep_alive
        self._body = b""
        self._taken: list[Response] = []

    def feed(self, data: bytes) -> list[Response]:
        """Take the responses that `data` completes; none when it ends within one. Empty: the API closed the connection.

        Raises ProtocolError when it is no HTTP/1.1 response, or a head or body is out of bounds.
        """
        taken = self._taken
        try:
            self._feed_data(data)
        except httptools.HttpParserCallbackError as error:  # on_body raised it
            raise self._too_large(taken) from error
        except httptools.HttpParserUpgrade as error:
            self.closing = True
            raise ProtocolError("framing", "the API switched to another protocol", taken) from error
        except httptools.HttpParserError as error:
            self.closing = True
            raise ProtocolError("framing", f"the API's answer is not HTTP/1.1: {error}", taken) from error
        if taken:
            self._taken = []
            return taken
        if not data:
            return self._ended()
        if not self.pending_bytes:
            self._begun = data
        elif len(self._begun) < HEAD_MAX_BYTES:
            self._begun += data
        self.pending_bytes += len(data)
        if self.pending_bytes > HEAD_MAX_BYTES + BODY_MAX_BYTES:
            raise self._too_large([])
        return taken

    def _too_large(self, responses: list[Response]) -> ProtocolError:
        self.closing = True
        return ProtocolError(
            "oversized", f"an answer of the API has more than {BODY_MAX_BYTES} bytes", responses
        )

    def _ended(self) -> list[Response]:
        """What ends with the connection (RFC 9112, 6.3): a body of which the head told no length, by HTTP/1.0's custom.

        Whether it was cut off, its JSON shows.
        """
        self.closing = True
        head, found, _ = self._begun.partition(b"\r\n\r\n")
        told = head.lower()
        if not (self._body and found and head.startswith(b"HTTP/1.")):
            return []
        if b"\ncontent-length:" in told or b"\ntransfer-encoding:" in told:
            return []
        self.pending_bytes = 0
        return [(self._status(), self._body)]

    def on_message_begin(self) -> None:
        """Called by httptools at the beginning of a response."""
        self.between = False

    def on_body(self, piece: bytes) -> None:
        """Called by httptools for each piece of a body."""
        self._body = body = self._body + piece if self._body else piece
        if len(body) > BODY_MAX_BYTES:
            raise OverflowError

    def on_message_complete(self) -> None:
        """Called by httptools at the end of a response."""
        status = self._status()
        body = self._body
        self._body = b""
        self.between = True
        self.pending_bytes = 0  # what follows in the same piece is bounded by the size of a read
        if status < 200:
            return  # 100 Continue or 103 Early Hints: the answer itself is still to come
        if not self._keeps_alive():
            self.closing = True
        self._taken.append((status, body))
