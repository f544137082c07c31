"""How is one API address asked about an influencer?

First for the details, so that they are current, then for the verdict on them. What goes wrong below becomes `Refused`
here and nowhere else.
"""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import urlsplit

from tidemark.breaker import Breaker
from tidemark.classify.connection import Connections
from tidemark.errors import UpstreamError
from tidemark.http1 import ProtocolError, Response, request_around_pk, request_before_length
from tidemark.mockstagram import Answer, parse, parse_verdict, question

UNKNOWN: Final = "unknown"
"""The reason when the details are not found: there is no such influencer."""
NOT_FOUND: Final = 404
OK: Final = 200
SAID: Final = {"framing": "it does not speak HTTP/1.1", "oversized": "its answer is too large"}
"""What the log says of an answer that breaks HTTP/1.1 or our bounds, by the reason."""


class Refused(UpstreamError):
    """The API gave no verdict; `reason` is the label under which it is counted, `why` says it in words.

    Reasons: `timeout`, `connection`, `framing`, `oversized`, `status_4xx` and the like, `unknown` (no such
    influencer), and those of `mockstagram.parse`.
    """

    def __init__(self, reason: str, why: str = "") -> None:
        super().__init__(f"the API gave no verdict: {why or reason}")
        self.reason = reason
        self.why = why or reason


class Api:
    """One API address: its connections and its breaker."""

    def __init__(self, url: str, details_deadline_s: float, verdict_deadline_s: float) -> None:
        parts = urlsplit(url)
        self.url = url
        self.breaker = Breaker()
        self.probing = False
        """Whether the one call is under way that shows if a rest was long enough."""
        self._details_deadline_s = details_deadline_s
        self._verdict_deadline_s = verdict_deadline_s
        self._before_pk, self._after_pk = request_around_pk(url)
        self._before_length = request_before_length(url)
        self._connections = Connections(parts.hostname or "", parts.port or 80)

    async def details(self, pk: int) -> Answer:
        """The influencer as it is now. Raises Refused."""
        request = b"%b%d%b" % (self._before_pk, pk, self._after_pk)
        status, body = await self._call(request, self._details_deadline_s, again=True)
        if status == NOT_FOUND:
            raise Refused(UNKNOWN)
        return _sound(parse(_content(status, body), pk))

    async def verdict(self, details: Answer) -> bool:
        """Whether the influencer is suspicious; takes up to ten seconds. Raises Refused."""
        asked = question(details)
        request = b"%b%d\r\n\r\n%b" % (self._before_length, len(asked), asked)
        # Not again: a POST that met a closed connection may have been read all the same (RFC 9110, 9.2.2).
        status, body = await self._call(request, self._verdict_deadline_s, again=False)
        return _sound(parse_verdict(_content(status, body), details.pk))

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    async def _call(self, request: bytes, deadline_s: float, *, again: bool) -> Response:
        try:
            return await self._connections.call(request, deadline_s, again=again)
        except TimeoutError as error:
            raise Refused("timeout", "no answer within the deadline") from error
        except ProtocolError as error:
            raise Refused(error.reason, SAID[error.reason]) from error
        except (UpstreamError, OSError) as error:
            raise Refused("connection", str(error)) from error


def _content(status: int, body: bytes) -> bytes:
    """The body of an answer that is one."""
    if status != OK:
        raise Refused(f"status_{status // 100}xx", f"status {status}")
    return body


Told = TypeVar("Told", Answer, bool)


def _sound(told: Told | str) -> Told:
    """What a body says, unless that is only the reason for refusing it."""
    if isinstance(told, str):
        raise Refused(told)
    return told
