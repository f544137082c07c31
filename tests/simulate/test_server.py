"""The whole stand-in on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from tidemark.errors import CallerError, TidemarkError
from tidemark.simulate import Faults, Mockstagram, SimulateOptions, Walk, is_suspicious, serve
from tidemark.simulate.answers import KEEP_ALIVE_S
from tidemark.simulate.requests import BODY_MAX_BYTES

from .conftest import Recorder, Start, get, post, starting

PK = 1_000_001


async def test_a_get(start: Start) -> None:
    running = await start(seed=4)
    client = await running.client()
    answers = [await client.ask(get(PK)) for _ in range(3)]
    for answer, (followers, followings) in zip(answers, Walk(PK, PK, 4).expected(PK, 3), strict=True):
        assert answer.status == 200
        assert answer.json == {
            "pk": PK,
            "username": f"influencer-{PK}",
            "followerCount": followers,
            "followingCount": followings,
        }
    assert running.mockstagram.served == 3
    answer = answers[-1]
    assert parsedate_to_datetime(answer.headers.pop("Date"))
    assert answer.headers == {
        "X-Powered-By": "Express",
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(len(answer.body)),
        "Connection": "keep-alive",
        "Keep-Alive": "timeout=5",
    }


async def test_a_timer_that_fires_before_its_time_ages_no_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, many = itertools.count(), asyncio.Event()

    def just_before_the_full_second() -> float:
        if next(looks) == 3 * KEEP_ALIVE_S:
            many.set()
        return 1_700_000_000.9999

    monkeypatch.setattr("tidemark.simulate.server.time", SimpleNamespace(time=just_before_the_full_second))
    running = await start(seed=4)
    client = await running.client()
    assert (await client.ask(get(PK))).status == 200
    looks = itertools.count()
    many.clear()
    await many.wait()
    assert (await client.ask(get(PK))).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        get(999_999),
        get(1_000_100),
        get("is_suspicious"),
        get("12x"),
        get(""),
        get("9" * 5_000),
        get("-1"),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"DELETE /api/v1/influencers/1000001 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/v1/influencers/1000001 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_what_is_not_there(start: Start, request_bytes: bytes) -> None:
    client = await (await start()).client()
    answer = await client.ask(request_bytes)
    assert answer.status == 404
    assert "error" in answer.json
    assert (await client.ask(get(PK))).status == 200


async def test_a_head_has_no_body(start: Start) -> None:
    client = await (await start()).client()
    client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await client.rest()).endswith(b"\r\n\r\n")


async def test_a_head_of_an_influencer_is_the_get_without_a_body(start: Start) -> None:
    client = await (await start()).client()
    client.send(get(PK).replace(b"GET", b"HEAD").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    said = await client.rest()
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"\r\n\r\n")


async def test_a_query_is_ignored(start: Start) -> None:
    client = await (await start()).client()
    assert (await client.ask(get(f"{PK}?fresh=1"))).json["pk"] == PK


async def test_a_verdict_takes_its_time(start: Start) -> None:
    running = await start(classify_seconds=0.05, classify_exact=True)
    client = await running.client()
    loop = asyncio.get_running_loop()
    asked_s = loop.time()
    person = {"pk": PK, "username": f"influencer-{PK}", "followerCount": 57166, "followingCount": 1328}
    answer = await client.ask(post(json.dumps(person).encode()))
    assert loop.time() - asked_s >= 0.045  # the loop's clock is one of milliseconds
    assert answer.json == {"pk": PK, "suspicious": is_suspicious(PK)}
    assert running.mockstagram.classified == 1


async def test_verdicts_do_not_hold_up_other_connections(start: Start) -> None:
    running = await start(classify_seconds=3600, classify_exact=True)
    waiting, asking = await running.client(), await running.client()
    waiting.send(post(b'{"pk":1000001}'))
    for _ in range(3):
        assert (await asking.ask(get(PK))).status == 200
    assert running.service.classifying == 1


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(b"{"), 400),
        (post(b'{"pk":1000001}', "text/plain"), 400),
        (post(b'{"pk":7}'), 404),
    ],
)
async def test_bad_bodies(start: Start, request_bytes: bytes, status: int) -> None:
    client = await (await start()).client()
    answer = await client.ask(request_bytes)
    assert answer.status == status
    assert "error" in answer.json
    assert (await client.ask(get(PK))).status == 200


async def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    walk = Recorder()
    running = await start(walk, classify_seconds=0.01)
    client = await running.client()
    pks = [1_000_000 + n % 100 for n in range(500)]
    client.send(*(get(pk) for pk in pks[:250]), post(b'{"pk":1000001}'), *(get(pk) for pk in pks[250:]))
    answers = [(await client.answer()).json for _ in range(501)]
    assert "suspicious" in answers.pop(250)
    assert [answer["pk"] for answer in answers] == pks == walk.calls
    assert [answer["followingCount"] for answer in answers] == list(range(1, 501))


async def test_an_oversized_body_is_refused(start: Start) -> None:
    client = await (await start()).client()
    client.send(post(b" " * (BODY_MAX_BYTES + 1)))
    answer = await client.answer()
    assert answer.status == 413
    assert answer.headers["Connection"] == "close"


async def test_nonsense_is_refused(start: Start) -> None:
    client = await (await start()).client()
    client.send(b"\x16\x03\x01 hello\r\n\r\n")
    assert (await client.answer()).status == 400
    assert await client.rest() == b""


async def test_a_saturated_server_keeps_its_pace_and_the_order(start: Start) -> None:
    running = await start(max_rps=100)
    client = await running.client()
    loop = asyncio.get_running_loop()
    asked_s = loop.time()
    client.send(*(get(1_000_000 + n) for n in range(20)))
    assert [(await client.answer()).json["pk"] for _ in range(20)] == list(range(1_000_000, 1_000_020))
    assert loop.time() - asked_s >= (20 - 3) / 100  # two could have been saved up
    assert running.service.served == 20


async def test_faults_arrive(start: Start) -> None:
    errors = await (await start(faults=Faults(error_share=1))).client()
    assert (await errors.ask(get(PK))).status == 500
    assert (await errors.ask(get(PK))).json == {"error": "Internal Server Error"}

    chunked = await (await start(Recorder(), faults=Faults(chunked_share=1))).client()
    assert [(await chunked.ask(get(PK))).json["followerCount"] for _ in range(2)] == [10_001, 10_002]

    resets = await (await start(faults=Faults(reset_share=1))).client()
    with pytest.raises(ConnectionResetError):
        await resets.ask(get(PK))

    garbage = await (await start(faults=Faults(garbage_share=1))).client()
    bodies = [(await garbage.ask(get(PK))).body for _ in range(8)]
    assert len(set(bodies)) == 8
    with pytest.raises(asyncio.IncompleteReadError):
        await garbage.ask(get(PK))


async def test_a_port_in_use_is_told(start: Start) -> None:
    port = (await start()).port
    with pytest.raises(TidemarkError, match=f"port {port} .*give another"):
        await Mockstagram(SimulateOptions(port=port, last=1_000_001)).start()


@pytest.mark.parametrize(
    "wrong",
    [{"first": 5, "last": 4}, {"port": 70_000}, {"max_rps": -1}, {"classify_seconds": -1}],
)
def test_impossible_options_are_the_callers_fault(wrong: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match="give"):
        SimulateOptions(**wrong)


async def test_stop_drops_connections_and_frees_the_port(start: Start) -> None:
    running = await start()
    client = await running.client()
    client.send(post(b'{"pk":1000001}'))
    assert (await (await running.client()).ask(get(PK))).status == 200
    await running.mockstagram.stop()
    await running.mockstagram.stop()
    with contextlib.suppress(ConnectionResetError):
        assert await client.rest() == b""
    assert (await start(port=running.port)).port == running.port


async def test_serve_runs_until_it_is_told_to_stop() -> None:
    stop = asyncio.Event()
    addresses: list[str] = []

    def ready(address: str) -> None:
        addresses.append(address)
        stop.set()

    await serve(SimulateOptions(last=1_000_001), stop=stop, ready=ready)
    assert addresses[0].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    "scenario",
    [
        test_a_get,
        test_a_verdict_takes_its_time,
        test_pipelined_requests_are_answered_in_order,
        test_nonsense_is_refused,
        test_a_saturated_server_keeps_its_pace_and_the_order,
        test_faults_arrive,
        test_a_port_in_use_is_told,
        test_stop_drops_connections_and_frees_the_port,
    ],
)
def test_the_same_on_uvloop(scenario: Callable[[Start], Awaitable[None]]) -> None:
    """It is what `tidemark simulate` runs on; its transports differ from those of asyncio."""

    async def run() -> None:
        async with starting() as start:
            await scenario(start)

    uvloop.run(run())
