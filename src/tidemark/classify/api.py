"""How is one API address asked about an influencer?

First for the details, so that they are current, then for the verdict on them. Through a general client (aiohttp;
docs/adr has the figures), on connections of its own, one request at a time on each. Foreign exceptions become
`Refused` here and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp

from tidemark.breaker import Breaker
from tidemark.errors import UpstreamError
from tidemark.mockstagram import INFLUENCERS, IS_SUSPICIOUS, Answer, parse, parse_verdict, question

IDLE_S: Final = 4.0
"""Node closes a connection that was idle for 5 s; we close it first."""
BODY_MAX_BYTES: Final = 65_536
HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "tidemark"}
UNKNOWN: Final = "unknown"
"""The reason when the details are not found: there is no such influencer."""
NOT_FOUND: Final = 404
OK: Final = 200


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
        self.url = url
        self.breaker = Breaker()
        self.probing = False
        """Whether the one call is under way that shows if a rest was long enough."""
        self._details_deadline = aiohttp.ClientTimeout(total=details_deadline_s)
        self._verdict_deadline = aiohttp.ClientTimeout(total=verdict_deadline_s)
        self._session = aiohttp.ClientSession(
            # How many are in flight, the classifier decides.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
            auto_decompress=False,
        )

    async def details(self, pk: int) -> Answer:
        """The influencer as it is now. Raises Refused."""
        body = await self._ask("GET", f"{self.url}{INFLUENCERS}{pk}", self._details_deadline)
        answer = parse(body, pk)
        if isinstance(answer, str):
            raise Refused(answer)
        return answer

    async def verdict(self, details: Answer) -> bool:
        """Whether the influencer is suspicious; takes up to ten seconds. Raises Refused."""
        url = self.url + IS_SUSPICIOUS
        suspicious = parse_verdict(
            await self._ask("POST", url, self._verdict_deadline, question(details)), details.pk
        )
        if isinstance(suspicious, str):
            raise Refused(suspicious)
        return suspicious

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def _ask(
        self, method: str, url: str, deadline: aiohttp.ClientTimeout, body: bytes | None = None
    ) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else None
        with _translated():
            async with self._session.request(
                method, url, data=body, headers=headers, timeout=deadline, allow_redirects=False
            ) as response:
                if response.status == NOT_FOUND and method == "GET":
                    raise Refused(UNKNOWN)
                if response.status != OK:
                    raise Refused(f"status_{response.status // 100}xx", f"status {response.status}")
                return await _body(response)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > BODY_MAX_BYTES:
            response.close()
            raise Refused("oversized")
    return body


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Refused("timeout", "no answer within the deadline") from error
    except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
        raise Refused("framing", "it does not speak HTTP/1.1") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Refused("connection", _words(error)) from error


def _words(error: aiohttp.ClientError | OSError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"cannot look up {error.host}: {error.strerror}"
    if isinstance(error, aiohttp.ClientConnectorError):
        told = os.strerror(error.errno) if error.errno else str(error.os_error)
        return f"cannot connect to {error.host}:{error.port}: {told}"
    return "it closed the connection"
