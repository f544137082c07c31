"""Calls and the connections that carry them, against an API that says byte for byte what the test has it say."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tidemark import dial
from tidemark.classify import connection as module
from tidemark.classify.api import Api, Refused
from tidemark.classify.connection import Connection, Connections
from tidemark.http1 import BODY_MAX_BYTES, HEAD_MAX_BYTES
from tidemark.mockstagram import Answer

from .conftest import PATIENCE_S, until

PK = 1_000_000
DETAILS = Answer(PK, "somebody", 7, 3)
OBSERVATION = json.dumps({"pk": PK, "username": "somebody", "followerCount": 7, "followingCount": 3}).encode()
VERDICT = b'{"pk":%d,"suspicious":true}' % PK


def answer(body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (headers, len(body), body)


def chunked(body: bytes) -> bytes:
    chunks = b"%x\r\n%b\r\n%x;x=y\r\n%b\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


@dataclass
class Peer:
    """A connection, as the API sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def asked(self) -> str:
        """Wait for a whole request; returns method and path."""
        return (await self.request()).split(b" HTTP/1.1\r\n")[0].decode()

    async def request(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            return head + (await self.reader.readexactly(int(length[1])) if length else b"")

    def say(self, wire: bytes) -> None:
        self.writer.write(wire)

    def hang_up(self) -> None:
        self.writer.close()

    async def ended(self) -> bool:
        """Wait until the client closes the connection; returns whether it said nothing more."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.reader.read() == b""
        except ConnectionError:
            return True


class Listener:
    """Where connections arrive, in the order in which they are opened."""

    def __init__(self) -> None:
        self.url = ""
        self.peers: list[Peer] = []
        """All that there ever were."""
        self._arrived: asyncio.Queue[Peer] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(Peer(reader, writer))
        self._arrived.put_nowait(self.peers[-1])

    async def arrival(self) -> Peer:
        async with asyncio.timeout(PATIENCE_S):
            return await self._arrived.get()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    listener.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield listener
    server.close()
    for peer in listener.peers:
        peer.hang_up()


@asynccontextmanager
async def asking(
    url: str, details_s: float = PATIENCE_S, verdict_s: float = PATIENCE_S
) -> AsyncIterator[Api]:
    api = Api(url, details_s, verdict_s)
    try:
        yield api
    finally:
        await api.close()


@pytest.fixture
async def api(listener: Listener) -> AsyncIterator[Api]:
    async with asking(listener.url) as api:
        yield api


def get(api: Api) -> asyncio.Task[Answer]:
    return asyncio.ensure_future(api.details(PK))


def post(api: Api) -> asyncio.Task[bool]:
    return asyncio.ensure_future(api.verdict(DETAILS))


async def begun(api: Api, listener: Listener) -> tuple[asyncio.Task[Answer], Peer]:
    """A GET that waits for its answer, on a new connection."""
    call = get(api)
    peer = await listener.arrival()
    assert await peer.asked() == f"GET /api/v1/influencers/{PK}"
    return call, peer


async def used(api: Api, listener: Listener) -> Peer:
    """A connection that is idle after a call."""
    call, peer = await begun(api, listener)
    peer.say(answer(OBSERVATION))
    assert await call == DETAILS
    return peer


async def refusal(call: asyncio.Task[Answer] | asyncio.Task[bool]) -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason, refused.value.why


LOST = ("connection", "it closed the connection")
CUT_OFF = ("connection", "it closed the connection within an answer")
TIMEOUT = ("timeout", "no answer within the deadline")


# -- which connection ---------------------------------------------------------------------------


async def test_what_is_sent(listener: Listener) -> None:
    host = listener.url.removeprefix("http://").encode()
    async with asking(listener.url + "/base") as api:
        details = get(api)
        peer = await listener.arrival()
        assert await peer.request() == (
            b"GET /base/api/v1/influencers/%d HTTP/1.1\r\nHost: %b\r\n"
            b"Accept: application/json\r\nUser-Agent: tidemark\r\n\r\n" % (PK, host)
        )
        peer.say(answer(OBSERVATION))
        assert await details == DETAILS
        verdict = post(api)
        head, body = (await peer.request()).split(b"\r\n\r\n")
        assert head == (
            b"POST /base/api/v1/influencers/is_suspicious HTTP/1.1\r\nHost: %b\r\n"
            b"Accept: application/json\r\nUser-Agent: tidemark\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d" % (host, len(body))
        )
        assert json.loads(body) == json.loads(OBSERVATION)
        peer.say(answer(VERDICT))
        assert await verdict is True


async def test_the_verdict_comes_on_the_connection_of_the_details(api: Api, listener: Listener) -> None:
    peer = await used(api, listener)
    verdict = post(api)
    assert await peer.asked() == "POST /api/v1/influencers/is_suspicious"
    peer.say(answer(VERDICT))
    assert await verdict is True
    assert len(listener.peers) == 1


async def test_each_call_has_a_connection_and_the_next_takes_the_one_that_rested_least(
    api: Api, listener: Listener
) -> None:
    (one, first), (two, second) = await begun(api, listener), await begun(api, listener)
    second.say(answer(OBSERVATION))
    await two
    first.say(answer(OBSERVATION))
    await one
    one, two = get(api), get(api)
    for peer in (first, second):
        await peer.request()
    first.say(answer(OBSERVATION))
    assert await one == DETAILS
    assert not two.done()
    second.say(answer(OBSERVATION))
    assert await two == DETAILS
    assert len(listener.peers) == 2


async def test_an_idle_connection_is_closed(
    api: Api, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.01)
    for _ in range(2):
        peer = await used(api, listener)
        assert await peer.ended()
    assert not api._connections._idle


async def test_a_connection_in_use_is_not_idle(
    api: Api, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.01)
    monkeypatch.setattr(module, "LOOKS_APART_S", 0.0)
    call, peer = await begun(api, listener)
    idle = await used(api, listener)
    assert await idle.ended()
    peer.say(answer(OBSERVATION))
    assert await call == DETAILS


async def test_a_connection_that_the_api_closed_is_not_used(api: Api, listener: Listener) -> None:
    peer = await used(api, listener)
    peer.hang_up()
    await until(lambda: not api._connections._idle, "the end of the connection")
    verdict = post(api)
    peer = await listener.arrival()
    await peer.request()
    peer.say(answer(VERDICT))
    assert await verdict is True


async def test_details_are_asked_for_once_more_when_an_idle_connection_turns_out_closed(
    api: Api, listener: Listener
) -> None:
    peer = await used(api, listener)
    call = get(api)
    await peer.request()
    peer.hang_up()
    peer = await listener.arrival()
    await peer.request()
    peer.say(answer(OBSERVATION))
    assert await call == DETAILS


async def test_they_are_not_asked_for_a_third_time(api: Api, listener: Listener) -> None:
    peer = await used(api, listener)
    call = get(api)
    for _ in range(2):
        await peer.request()
        peer.hang_up()
        if len(listener.peers) == 1:
            peer = await listener.arrival()
    assert await refusal(call) == LOST
    assert len(listener.peers) == 2


async def test_an_answer_that_began_is_not_asked_for_again(api: Api, listener: Listener) -> None:
    peer = await used(api, listener)
    call = get(api)
    await peer.request()
    peer.say(b"HTTP/1.1 200")
    peer.hang_up()
    assert await refusal(call) == CUT_OFF
    assert len(listener.peers) == 1


async def test_a_post_is_never_repeated(api: Api, listener: Listener) -> None:
    peer = await used(api, listener)
    call = post(api)
    await peer.request()
    peer.hang_up()
    assert await refusal(call) == LOST
    assert len(listener.peers) == 1


# -- what comes back ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wire",
    [
        answer(OBSERVATION),
        chunked(OBSERVATION),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(OBSERVATION),
        answer(OBSERVATION + b" " * (BODY_MAX_BYTES - len(OBSERVATION))),
    ],
    ids=["length", "chunks", "interim", "largest"],
)
@pytest.mark.parametrize("piece_bytes", [7, 100_000])
async def test_an_answer_in_whatever_form(
    api: Api, listener: Listener, wire: bytes, piece_bytes: int
) -> None:
    call, peer = await begun(api, listener)
    for at in range(0, len(wire), piece_bytes):
        peer.say(wire[at : at + piece_bytes])
        await asyncio.sleep(0)
    assert await call == DETAILS
    verdict = post(api)
    await peer.request()
    peer.say(answer(VERDICT))
    assert await verdict is True


@pytest.mark.parametrize(
    ("wire", "hangs_up"),
    [
        (answer(OBSERVATION, b"Connection: close\r\n"), False),
        (answer(OBSERVATION).replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (b"HTTP/1.0 200 OK\r\n\r\n" + OBSERVATION, True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + OBSERVATION, True),
        (answer(OBSERVATION) + b"HTTP/1.1 200 OK", False),
        (answer(OBSERVATION) + b"<html>", False),
    ],
    ids=[
        "close",
        "HTTP/1.0",
        "HTTP/1.0 until the end",
        "until the end",
        "half of another",
        "noise behind it",
    ],
)
async def test_an_answer_that_is_the_last(api: Api, listener: Listener, wire: bytes, hangs_up: bool) -> None:
    call, peer = await begun(api, listener)
    peer.say(wire)
    if hangs_up:
        peer.hang_up()
    assert await call == DETAILS
    assert await peer.ended()
    await used(api, listener)
    assert len(listener.peers) == 2


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 80\r\n\r\n",
        answer(OBSERVATION)[:-1],
        chunked(OBSERVATION)[:-2],
    ],
    ids=["head", "no body", "body", "chunks"],
)
async def test_an_answer_that_is_cut_off(api: Api, listener: Listener, wire: bytes) -> None:
    call, peer = await begun(api, listener)
    peer.say(wire)
    peer.hang_up()
    assert await refusal(call) == CUT_OFF


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"<html>", "framing"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "framing"),
        (2 * answer(OBSERVATION), "framing"),
        (answer(b" " * (BODY_MAX_BYTES + 1)), "oversized"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (BODY_MAX_BYTES + 1), "oversized"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_MAX_BYTES + BODY_MAX_BYTES), "oversized"),
    ],
    ids=["noise", "upgrade", "two answers", "body", "body until the end", "head"],
)
async def test_an_answer_that_breaks_the_rules(
    api: Api, listener: Listener, wire: bytes, reason: str
) -> None:
    call, peer = await begun(api, listener)
    peer.say(wire)
    said = {"framing": "it does not speak HTTP/1.1", "oversized": "its answer is too large"}
    assert await refusal(call) == (reason, said[reason])
    assert await peer.ended()


@pytest.mark.parametrize(
    "wire", [answer(OBSERVATION), b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"\r\n", b"x"]
)
async def test_what_nobody_asked_for_ends_the_connection(api: Api, listener: Listener, wire: bytes) -> None:
    peer = await used(api, listener)
    peer.say(wire)
    assert await peer.ended()
    await used(api, listener)
    assert len(listener.peers) == 2


# -- what does not come back --------------------------------------------------------------------


async def test_a_deadline_ends_the_connection(listener: Listener) -> None:
    async with asking(listener.url, verdict_s=0.05) as api:
        peer = await used(api, listener)
        assert await refusal(post(api)) == TIMEOUT
        await peer.request()
        assert await peer.ended()


async def test_each_call_has_its_own_deadline(listener: Listener) -> None:
    async with asking(listener.url, verdict_s=0.05) as api:
        call, long = await begun(api, listener)
        for _ in range(2):
            peer = await used(api, listener)
            assert await refusal(post(api)) == TIMEOUT
            await peer.request()
            assert await peer.ended()
        long.say(answer(OBSERVATION))
        assert await call == DETAILS


async def test_opening_a_connection_is_within_the_deadline(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(host: str, port: int) -> None:
        await asyncio.sleep(PATIENCE_S)

    monkeypatch.setattr(dial, "_look_up", slow)
    async with asking(listener.url, details_s=0.05) as api:
        assert await refusal(get(api)) == TIMEOUT


@pytest.mark.parametrize("host", ["a..b", "no-such-host.invalid"])
async def test_a_host_that_cannot_be_looked_up(host: str) -> None:
    async with asking(f"http://{host}:80") as api:
        reason, why = await refusal(post(api))
    assert reason == "connection"
    assert why.startswith(f"cannot look up {host}: ")


async def test_a_call_that_is_cancelled_ends_its_connection(api: Api, listener: Listener) -> None:
    await used(api, listener)
    call = post(api)
    (peer,) = listener.peers
    await peer.request()
    call.cancel()
    assert await peer.ended()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not api._connections._open


async def test_a_call_that_is_cancelled_when_its_answer_is_there_leaves_the_connection(
    api: Api, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests = Connections.rests
    call, peer = await begun(api, listener)

    def cancelling(self: Connections, connection: Connection) -> float:
        call.cancel()
        return rests(self, connection)

    monkeypatch.setattr(Connections, "rests", cancelling)
    peer.say(answer(OBSERVATION))
    with pytest.raises(asyncio.CancelledError):
        await call
    monkeypatch.undo()
    verdict = post(api)
    await peer.request()
    peer.say(answer(VERDICT))
    assert await verdict is True
    assert len(listener.peers) == 1


async def test_closing_ends_all_connections(listener: Listener) -> None:
    async with asking(listener.url) as api:
        call, peer = await begun(api, listener)
        idle = await used(api, listener)
    assert await refusal(call) == LOST
    assert await peer.ended()
    assert await idle.ended()
