"""What does an answer look like on the wire?

Bytes only, with the headers and in the order of an Express application on Node.
"""

from __future__ import annotations

import json
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

KEEP_ALIVE_S: Final = 5
"""Node's default: a connection idle for longer is closed."""

JSON: Final = b"application/json; charset=utf-8"

_KEPT: Final = b"Connection: keep-alive\r\nKeep-Alive: timeout=%d\r\n" % KEEP_ALIVE_S
_CLOSED: Final = b"Connection: close\r\n"


class Answers:
    """Renders answers with the Date of the latest `tick`."""

    def __init__(self, now_s: float) -> None:
        # The Date header, good for a second.
        self._date = b""
        # The head of a 200 with JSON, by the length of its body: a dozen lengths make up all the traffic.
        self._heads: dict[int, bytes] = {}
        self.tick(now_s)

    def tick(self, now_s: float) -> None:
        """Set the Date, to be called once a second. `now_s`: Unix seconds."""
        self._date = formatdate(now_s, usegmt=True).encode()
        self._heads.clear()

    def observation(self, pk: int, followers: int, followings: int) -> bytes:
        """The answer to a GET, as in the task."""
        body = observation_body(pk, followers, followings)
        length = len(body)
        head = self._heads.get(length)
        if head is None:
            head = self._heads[length] = self._head(HTTPStatus.OK, JSON, b"Content-Length: %d\r\n" % length)
        return head + body

    def observation_in_chunks(self, pk: int, followers: int, followings: int) -> bytes:
        """The same in two chunks, the second of them without a meaning of its own."""
        body = observation_body(pk, followers, followings)
        half = len(body) // 2
        chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (half, body[:half], len(body) - half, body[half:])
        return self._head(HTTPStatus.OK, JSON, b"Transfer-Encoding: chunked\r\n") + chunks

    def verdict(self, pk: int, suspicious: bool) -> bytes:
        """The answer to the POST, as in the task."""
        return self.whole(
            HTTPStatus.OK, b'{"pk":%d,"suspicious":%b}' % (pk, b"true" if suspicious else b"false")
        )

    def error(self, status: HTTPStatus, message: str) -> bytes:
        """An answer `{"error": message}`."""
        return self.whole(status, json.dumps({"error": message}, separators=(",", ":")).encode())

    def not_found(self) -> bytes:
        """The answer to a path that is none."""
        return self.error(HTTPStatus.NOT_FOUND, "Not found")

    def whole(
        self, status: HTTPStatus, body: bytes, content_type: bytes = JSON, missing_bytes: int = 0
    ) -> bytes:
        """Any answer with a Content-Length, that of the body and `missing_bytes` more."""
        return (
            self._head(status, content_type, b"Content-Length: %d\r\n" % (len(body) + missing_bytes)) + body
        )

    def _head(self, status: HTTPStatus, content_type: bytes, framing: bytes) -> bytes:
        return b"HTTP/1.1 %d %b\r\nX-Powered-By: Express\r\nContent-Type: %b\r\n%bDate: %b\r\n%b\r\n" % (
            status,
            status.phrase.encode(),
            content_type,
            framing,
            self._date,
            _KEPT,
        )


def observation_body(pk: int, followers: int, followings: int) -> bytes:
    """The JSON of the task for one influencer."""
    return b'{"pk":%d,"username":"influencer-%d","followerCount":%d,"followingCount":%d}' % (
        pk,
        pk,
        followers,
        followings,
    )


def last_on_connection(answer: bytes) -> bytes:
    """The same answer, saying that the connection closes after it."""
    return answer.replace(_KEPT, _CLOSED, 1)


def without_body(answer: bytes) -> bytes:
    """The same answer to a HEAD."""
    return answer[: answer.index(b"\r\n\r\n") + 4]
