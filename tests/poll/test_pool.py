"""The pool against an API on real sockets that does everything wrong: each round ends, and the counts are right."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from aiohappyeyeballs import AddrInfoType
from structlog.testing import capture_logs

from tests.log.server import PATIENCE_S, until
from tests.poll.scripted import (
    CLOSE,
    GARBAGE,
    SILENCE,
    Act,
    ScriptedApi,
    answer,
    chunked,
    cut_off,
    good,
    last,
    observation,
    status,
)
from tidemark import dial
from tidemark.breaker import Breaker
from tidemark.config import load
from tidemark.http1 import BODY_MAX_BYTES
from tidemark.poll import pacing
from tidemark.poll import pool as module
from tidemark.poll.ordinary import OBSERVATION_MAX_BYTES
from tidemark.poll.pool import Pool
from tidemark.poll.tables import CLOSED

FIRST = 1_000_000
PIPELINES = pytest.mark.parametrize("pipeline", [1, 8])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sweep looks after comes soon; the numbers below are of 64 in flight to begin with."""
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(pacing, "IN_FLIGHT_START", 64)


@asynccontextmanager
async def pooling(*apis: ScriptedApi | str, **settings: Any) -> AsyncIterator[Pool]:
    """A pool, which has to be settled and to leave nothing behind in the end."""
    urls = [api if isinstance(api, str) else api.url for api in apis]
    pool = Pool(load(api=urls, **{"request_deadline": 20, **settings}))
    try:
        yield pool
        assert_settled(pool)
    finally:
        await pool.close()
    for api in apis:
        if isinstance(api, ScriptedApi):
            await until(lambda api=api: not api.open, "the end of all connections")  # type: ignore[misc]


def assert_settled(pool: Pool) -> None:
    """When all rounds have ended, nothing waits, and nothing is counted as in flight."""
    assert not pool.waiting
    connections = pool.rounds.tables.connections
    assert not connections.sent[connections.state != CLOSED].any()
    assert sum(len(address._connections) for address in pool.addresses) == np.sum(connections.state != CLOSED)
    assert all(address.in_flight == 0 for address in pool.addresses)
    assert not pool.rounds._begun


def waits_alone(pool: Pool, position: int) -> bool:
    """Whether all that is left waits for the answer to this one, or behind it."""
    connections = pool.rounds.tables.connections
    (waiting,) = np.nonzero((connections.state != CLOSED) & (connections.sent > 0))
    if pool.waiting or len(waiting) != 1:
        return False
    oldest = connections.row[waiting[0], connections.oldest[waiting[0]]]
    return int(pool.rounds.answers.pk[oldest]) == FIRST + position


def age(pool: Pool, seconds: float) -> None:
    """As if all requests had been sent so much earlier."""
    pool.rounds.tables.connections.sent_at[:] -= seconds


Observed = tuple[str, int, int]
"""username, followers, followings"""


@dataclass(frozen=True)
class Result:
    """What became of a round."""

    first_pk: int
    observed: dict[int, Observed]
    """By position."""
    at: list[float]
    """Unix seconds, of those observed."""
    refused: Counter[str]
    final: set[int]
    """Positions that are not worth another try."""


async def answered(pool: Pool, size: int, first: int = FIRST) -> Result:
    """A round that asks for everybody."""
    return await ended(pool, size, range(size), first)


async def ended(pool: Pool, size: int, positions: Sequence[int], first: int = FIRST) -> Result:
    """A round that has ended: each has an observation or a failure, not both and not twice."""
    with pool.begin(first, size) as round_:
        pool.ask(round_, positions)
        async with asyncio.timeout(PATIENCE_S):
            await round_.done
        assert round_.ended
        batch = round_.batch("a tick")
        found = (batch.username.to_pylist(), batch.follower_count.tolist(), batch.following_count.tolist())
        observed = dict(zip((batch.pk - first).tolist(), zip(*found, strict=True), strict=True))
        final = set(range(size)) - set(observed) - set(round_.wanting().tolist())
        refused = round_.refused()
    assert len(observed) + refused.total() == len(positions)
    assert set(observed) <= set(positions)
    return Result(first, observed, (batch.observed_at_ms / 1_000).tolist(), refused, final)


def assert_good(result: Result) -> None:
    assert result.refused == {}
    for place, observed in result.observed.items():
        pk = result.first_pk + place
        assert observed == (f"influencer-{pk}", 5, pk % 7)


def acting(acts: dict[int, Act]) -> Callable[[int, int], Act]:
    """These influencers have their act, all others an answer."""
    return lambda pk, time: acts.get(pk) or good(pk)


@PIPELINES
async def test_everybody_is_asked_once_and_answered(api: ScriptedApi, pipeline: int) -> None:
    async with pooling(api, pipeline=pipeline, max_in_flight=64) as pool:
        before = time.time()
        round_ = await answered(pool, 300)
        assert_good(round_)
        assert all(before - 1 <= at <= time.time() + 1 for at in round_.at)
        assert api.asked == dict.fromkeys(range(FIRST, FIRST + 300), 1)
        assert_good(await answered(pool, 300))
        assert len(api.peers) <= 64 / pipeline


async def test_some_of_a_tick_are_asked_again(api: ScriptedApi) -> None:
    async with pooling(api) as pool:
        assert set((await ended(pool, 10, [3, 7])).observed) == {3, 7}
        assert set(api.asked) == {FIRST + 3, FIRST + 7}


async def test_a_round_that_asks_nobody_has_ended(api: ScriptedApi) -> None:
    async with pooling(api) as pool:
        await ended(pool, 10, [])


async def test_several_rounds_at_once(api: ScriptedApi) -> None:
    async with pooling(api, pipeline=4) as pool:
        for round_ in await asyncio.gather(*(answered(pool, 50, FIRST + 50 * i) for i in range(8))):
            assert_good(round_)


@PIPELINES
async def test_statuses(api: ScriptedApi, pipeline: int) -> None:
    api.script = acting(
        {
            FIRST + 1: status(404),
            FIRST + 2: status(404),
            FIRST + 3: status(500),
            FIRST + 4: status(503),
            FIRST + 5: status(429),
            FIRST + 6: status(301),
            FIRST + 7: status(204),
        }
    )
    api.script = _without_body(api.script, FIRST + 7)
    async with pooling(api, pipeline=pipeline) as pool:
        round_ = await answered(pool, 10)
        assert round_.refused == {"status_4xx": 3, "status_5xx": 2, "status_3xx": 1, "status_2xx": 1}
        assert round_.final == {1, 2}
        assert set(round_.observed) == {0, 8, 9}
        assert max(api.asked.values()) == 1


def _without_body(script: Callable[[int, int], Act], pk: int) -> Callable[[int, int], Act]:
    return lambda asked, time: Act(b"HTTP/1.1 204 No Content\r\n\r\n") if asked == pk else script(asked, time)


FAULTS = {
    "framing": [
        GARBAGE,
        Act(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        Act(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    ],
    "cut_off": [
        cut_off(FIRST + 5),
        Act(b"HTTP/1.1 200 OK\r\nContent-Le", close=True),
        Act(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", close=True),
        Act(chunked(observation(FIRST + 5))[:-4], close=True),
    ],
    "oversized": [
        Act(answer(b"x" * (OBSERVATION_MAX_BYTES + 1))),
        Act(answer(b"x" * (BODY_MAX_BYTES + 1))),
        Act(answer(b"x" * (16 * BODY_MAX_BYTES)), silent=True),
        Act(b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 16 * BODY_MAX_BYTES, silent=True),
    ],
    "timeout": [
        SILENCE,
        Act(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx", silent=True),
        Act(b"HTTP/1.1 100 Continue\r\n\r\n", again_every_s=0.01),
    ],
    "connection": [CLOSE],
}


@PIPELINES
@pytest.mark.parametrize(
    ("reason", "act"), [(reason, act) for reason, acts in FAULTS.items() for act in acts]
)
async def test_a_fault_costs_one_influencer_and_one_connection(
    api: ScriptedApi, reason: str, act: Act, pipeline: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 10.0 * PATIENCE_S)
    api.script = acting({FIRST + 5: act})
    async with pooling(api, pipeline=pipeline, request_deadline=300) as pool:
        asking = asyncio.ensure_future(answered(pool, 20))
        if reason == "timeout":
            await until(lambda: waits_alone(pool, 5), "the others")
            age(pool, 301)
        round_ = await asking
        assert set(round_.observed) == set(range(20)) - {5}
        # llhttp has a bound of its own for the head; the beginning of an answer is not told from its
        # absence if it came in one piece with the one before.
        others = {"oversized": "framing", "cut_off": "connection" if pipeline > 1 else "cut_off"}
        assert round_.refused in ({reason: 1}, {others.get(reason): 1})
        assert max(api.asked.values()) <= 2
        await until(lambda: len(api.open) == len(pool.addresses[0]._connections), "the end of a connection")
        assert len(api.peers) - len(api.open) <= api.asked[FIRST + 5]
        api.script = lambda pk, time: good(pk)
        assert_good(await answered(pool, 20))


async def test_many_failures_among_many_answers_are_no_reason_for_a_rest(api: ScriptedApi) -> None:
    """Answers that come at once have an order all the same: what counts is failures in a row."""
    api.script = lambda pk, time: status(503) if pk % 5 < 2 else good(pk)
    async with pooling(api) as pool:
        limit = Spy()
        limit.value = 200
        pool.addresses[0]._limit = limit  # type: ignore[assignment]
        await asyncio.sleep(3 * module.SWEEP_SECONDS)
        api.hold = asyncio.Event()
        asking = asyncio.ensure_future(answered(pool, 400))
        await until(lambda: api.asked.total() == 200, "the requests")
        api.hold.set()
        assert (await asking).refused == {"status_5xx": 160}


@pytest.mark.parametrize("number", [600, 999])
async def test_a_status_that_nobody_knows_costs_one_influencer(api: ScriptedApi, number: int) -> None:
    api.script = acting({FIRST + 5: status(number)})
    async with pooling(api) as pool:
        round_ = await answered(pool, 40)
        assert round_.refused == {"status_5xx": 1}
        assert 5 not in round_.observed


async def test_what_cannot_be_read_for_a_mistake_of_ours_costs_one_connection(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(self: module.Connection, piece: bytes) -> None:
        raise RuntimeError("a mistake")

    api.script = acting({FIRST + 5: status(500)})
    monkeypatch.setattr(module.Connection, "take", mistaken)
    async with pooling(api) as pool:
        assert (await answered(pool, 40)).refused == {"framing": 1}


async def test_empty_lines_behind_answers_are_passed_over(api: ScriptedApi) -> None:
    api.script = lambda pk, time: Act(answer(observation(pk)) + b"\r\n")
    async with pooling(api, max_in_flight=8) as pool:
        assert_good(await answered(pool, 64))
        assert len(api.peers) <= 8


async def test_connections_that_take_no_request_are_replaced(api: ScriptedApi) -> None:
    """As when the API has reset all of them, and the event loop was not told yet."""
    async with pooling(api) as pool:
        assert_good(await answered(pool, 40))
        before = len(api.peers)
        for connection in pool.addresses[0]._connections:
            connection._socket.shutdown(socket.SHUT_WR)
        assert_good(await answered(pool, 40, FIRST + 1_000))
        assert len(api.peers) > before
        assert api.asked.total() == 80


async def test_an_answer_too_many_is_nobodys(api: ScriptedApi) -> None:
    """With more requests behind it, each would get the answer of the one before: told by the pk in it."""
    api.script = acting({FIRST + 5: Act(answer(b"one") + answer(b"and one more"))})
    async with pooling(api) as pool:
        round_ = await answered(pool, 20)
        assert round_.refused == {"framing": 1}
        assert 5 not in round_.observed


@pytest.mark.parametrize("seed", range(4))
async def test_any_mixture_of_faults(api: ScriptedApi, another_api: ScriptedApi, seed: int) -> None:
    chance = random.Random(seed)
    everything = [act for acts in FAULTS.values() for act in acts] + [
        status(number) for number in (404, 500, 429)
    ]

    def script(pk: int, time: int) -> Act:
        fine = [good(pk), last(pk), Act(chunked(observation(pk)))]
        return chance.choice(fine if chance.random() < 0.7 else everything)

    api.script = another_api.script = script
    pipeline, in_flight = chance.choice([1, 2, 8]), chance.choice([3, 64])
    async with pooling(
        api, another_api, pipeline=pipeline, max_in_flight=in_flight, request_deadline=1.0
    ) as pool:
        for _ in range(2):
            rounds = await asyncio.gather(*(answered(pool, 40, FIRST + 40 * i) for i in range(2)))
            for round_ in rounds:
                assert set(round_.refused) <= {*FAULTS, "unreachable", "status_4xx", "status_5xx"}
        asked = api.asked + another_api.asked
        assert max(asked.values()) <= 2 * 2  # once, and once more when it was innocent
        api.script = another_api.script = lambda pk, time: good(pk)
        await until_all_are_answered(pool)


async def until_all_are_answered(pool: Pool) -> None:
    """Ask until a whole round is answered: the breaker closes by itself."""
    give_up_at = time.monotonic() + PATIENCE_S
    while (round_ := await answered(pool, 40)).refused:
        assert time.monotonic() < give_up_at, round_.refused
        await asyncio.sleep(0.02)
    assert_good(round_)


@PIPELINES
async def test_the_last_answer_of_a_connection_is_taken(api: ScriptedApi, pipeline: int) -> None:
    api.script = lambda pk, time: last(pk)
    async with pooling(api, pipeline=pipeline) as pool:
        round_ = await answered(pool, 40)
        if pipeline == 1:
            assert_good(round_)
            assert all(len(peer.asked) == 1 for peer in api.peers)
        else:  # what was sent behind the last answer is asked once more elsewhere
            assert set(round_.refused) <= {"connection"}
            assert round_.refused["connection"] < 40


@pytest.mark.parametrize(
    "head", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"]
)
async def test_answers_that_end_with_their_connection(api: ScriptedApi, head: bytes) -> None:
    api.script = lambda pk, time: Act(head + observation(pk), close=True)
    async with pooling(api) as pool:
        assert_good(await answered(pool, 200))
        assert len(api.peers) == 200


async def test_chunked_answers(api: ScriptedApi) -> None:
    api.script = lambda pk, time: Act(chunked(observation(pk)))
    async with pooling(api, pipeline=3) as pool:
        assert_good(await answered(pool, 40))


@PIPELINES
async def test_a_connection_closed_while_it_was_idle_is_nobodys_fault(
    api: ScriptedApi, pipeline: int
) -> None:
    """Node closes idle connections, and now and then it does so as the next request is on its way."""
    async with pooling(api, pipeline=pipeline) as pool:
        assert_good(await answered(pool, 64))
        api.stale = set(api.open)
        assert api.stale
        round_ = await answered(pool, 64, FIRST + 1_000)
        assert_good(round_)
        assert pool.addresses[0].allowed == 64  # no failure was counted


async def test_connections_that_the_api_closed_are_replaced(api: ScriptedApi) -> None:
    async with pooling(api) as pool:
        assert_good(await answered(pool, 64))
        api.hang_up()
        await until(lambda: not pool.addresses[0]._connections, "the end of the connections")
        assert_good(await answered(pool, 64))


async def test_idle_connections_are_closed_before_the_api_does(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    async with pooling(api) as pool:
        assert_good(await answered(pool, 30))
        await until(lambda: not api.open, "the end of the idle connections")
        assert not pool.addresses[0]._connections
        assert_good(await answered(pool, 30))


async def test_what_nobody_asked_for_harms_nobody(api: ScriptedApi) -> None:
    async with pooling(api) as pool:
        assert_good(await answered(pool, 30))
        api.say(answer(observation(FIRST)))
        await until(lambda: not pool.addresses[0]._connections, "the end of the connections")
        assert_good(await answered(pool, 30))


async def test_in_flight_is_bounded(api: ScriptedApi) -> None:
    api.hold = asyncio.Event()
    async with pooling(api, max_in_flight=5) as pool:
        asking = asyncio.ensure_future(answered(pool, 50))
        await until(lambda: api.asked.total() == 5, "five requests")
        await asyncio.sleep(0.1)
        assert (api.asked.total(), len(api.peers)) == (5, 5)
        api.hold.set()
        assert_good(await asking)
        assert len(api.peers) == 5


@pytest.mark.parametrize(("in_flight", "connections"), [(8, 1), (12, 2), (64, 3)])
async def test_a_pipeline_of_eight(api: ScriptedApi, in_flight: int, connections: int) -> None:
    api.hold = asyncio.Event()
    async with pooling(api, max_in_flight=in_flight, pipeline=8) as pool:
        asking = asyncio.ensure_future(answered(pool, 24))
        await until(lambda: api.asked.total() == min(24, in_flight), "the first requests")
        await asyncio.sleep(0.1)
        assert api.asked.total() == min(24, in_flight)
        assert len(api.peers) == connections
        assert max(len(peer.asked) for peer in api.peers) == 8
        api.hold.set()
        assert_good(await asking)


async def test_an_api_that_is_down_at_first_is_found_when_it_comes(api: ScriptedApi) -> None:
    await api.stop()
    async with pooling(api) as pool:
        round_ = await answered(pool, 40)
        assert round_.refused == {"unreachable": 40}
        assert not pool.reachable.is_set()
        assert (await answered(pool, 40)).refused == {"unreachable": 40}
        await api.start()
        await until(pool.reachable.is_set, "the end of the rest")
        await until_all_are_answered(pool)
        assert pool.reachable.is_set()


@pytest.mark.parametrize("act", [status(503), status(401), status(302), CLOSE, GARBAGE, SILENCE])
async def test_an_api_that_fails_is_given_a_rest_and_asked_again(api: ScriptedApi, act: Act) -> None:
    api.script = lambda pk, time: act
    async with pooling(api, request_deadline=1.0) as pool:
        round_ = await answered(pool, 400)
        assert round_.refused["unreachable"] > 0
        assert api.asked.total() < 400
        asked = api.asked.total()
        for _ in range(20):
            await answered(pool, 10)
            await asyncio.sleep(0.01)
        assert api.asked.total() - asked <= 3  # one at a time, and ever more rarely
        api.script = lambda pk, time: good(pk)
        await until_all_are_answered(pool)


async def test_one_address_that_lets_nobody_in_does_not_take_the_work(
    api: ScriptedApi, another_api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Breaker", lambda: Breaker(rest_min_s=3_600, rest_max_s=3_600))
    api.script = lambda pk, time: good(pk)
    another_api.script = lambda pk, time: status(401)
    async with pooling(api, another_api) as pool:
        give_up_at = time.monotonic() + PATIENCE_S
        while pool.addresses[1].allowed:
            assert time.monotonic() < give_up_at
            await answered(pool, 20)
        asked = another_api.asked.total()
        for _ in range(20):
            assert_good(await answered(pool, 20))
        assert another_api.asked.total() == asked


async def test_who_is_not_known_says_nothing_about_the_api(api: ScriptedApi) -> None:
    api.script = lambda pk, time: status(404) if pk % 2 else status(400)
    async with pooling(api) as pool:
        for _ in range(5):
            assert (await answered(pool, 200)).refused == {"status_4xx": 200}


async def test_an_api_that_knows_nobody_is_named_once(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNKNOWN_TOLD", 300)

    async def told(pool: Pool, rounds: int) -> list[int]:
        with capture_logs() as said:
            for _ in range(rounds):
                await answered(pool, 100)
                pool._sweep()
        assert all((event["log_level"], event["api"]) == ("warning", api.url) for event in said)
        return [event["asked"] for event in said]

    async with pooling(api) as pool:
        api.script = lambda pk, time: status(404) if pk < FIRST + 99 else good(pk)
        assert await told(pool, 5) == []
        api.script = lambda pk, time: status(404)
        assert await told(pool, 2) == []
        assert await told(pool, 5) == [300]
        api.script = lambda pk, time: good(pk)
        assert await told(pool, 1) == []
        api.script = lambda pk, time: status(404)
        assert await told(pool, 5) == [300]


FAILURES = [
    (status(503), "status 503"),
    (status(403), "status 403"),
    (CLOSE, "it closed the connection"),
    (cut_off(FIRST), "it closed the connection within an answer"),
    (GARBAGE, "it does not speak HTTP/1.1"),
    (SILENCE, "no answer within the deadline"),
]


@pytest.mark.parametrize(("act", "why"), FAILURES, ids=[why for _, why in FAILURES])
async def test_the_log_says_how_an_api_fails(api: ScriptedApi, act: Act, why: str) -> None:
    api.script = lambda pk, time: act
    with capture_logs() as said:
        async with pooling(api) as pool:
            asking = asyncio.ensure_future(answered(pool, 200))
            if act is SILENCE:
                await until(lambda: api.asked.total() == 64, "the requests")
                pool.addresses[0]._deadline_s = 0.01
            await asking
    rests = [event for event in said if event["event"].startswith("the API fails")]
    assert [(event["log_level"], event["api"], event["why"]) for event in rests] == [
        ("warning", api.url, why)
    ]


async def test_a_host_that_refuses_is_tried_once_before_its_rest(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.stop()
    tried = 0
    look_up = dial._look_up

    async def counted(host: str, port: int) -> Sequence[AddrInfoType]:
        nonlocal tried
        tried += 1
        return await look_up(host, port)

    monkeypatch.setattr(dial, "_look_up", counted)
    monkeypatch.setattr(module, "SWEEP_SECONDS", PATIENCE_S)  # the sweep ends rests
    with capture_logs() as said:
        async with pooling(api) as pool:
            assert (await answered(pool, 40)).refused == {"unreachable": 40}
    assert tried == 1
    place = api.url.removeprefix("http://")
    assert [event["why"] for event in said] == [f"cannot connect to {place}: Connection refused"]


@pytest.mark.parametrize("host", ["a..b", "no-such-host.invalid"])
async def test_a_host_that_cannot_be_looked_up_is_unreachable(host: str) -> None:
    with capture_logs() as said:
        async with pooling(f"http://{host}:80") as pool:
            assert (await answered(pool, 40)).refused == {"unreachable": 40}
    (event,) = said
    assert event["why"].startswith(f"cannot look up {host}: ")


async def test_a_lookup_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: object, **__: object) -> None:
        await asyncio.sleep(PATIENCE_S)

    monkeypatch.setattr(dial, "_look_up", slow)
    with capture_logs() as said:
        async with pooling("http://slow.invalid:80", request_deadline=0.1) as pool:
            assert (await answered(pool, 40)).refused == {"unreachable": 40}
    assert [event["why"] for event in said] == ["cannot connect to slow.invalid:80 within 0.1 s"]


@contextmanager
def silent() -> Iterator[tuple[str, int]]:
    """A place that never accepts a connection."""
    with socket.socket() as listener, socket.socket() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting.connect(listener.getsockname())  # the one place in its queue is taken
        yield listener.getsockname()


async def test_a_host_that_never_accepts_is_unreachable() -> None:
    with silent() as (host, port):
        async with pooling(f"http://{host}:{port}", request_deadline=0.2) as pool:
            round_ = await answered(pool, 40)
            assert set(round_.refused) <= {"unreachable", "timeout"}
            assert round_.refused.total() == 40


async def test_a_host_is_reached_by_its_second_address(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent() as first:

        async def two(*_: object) -> list[AddrInfoType]:
            second = ("127.0.0.1", int(api.url.rpartition(":")[2]))
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in (first, second)]

        monkeypatch.setattr(dial, "_look_up", two)
        async with pooling(api) as pool:
            assert_good(await answered(pool, 40))


async def test_two_addresses_share_the_work(api: ScriptedApi, another_api: ScriptedApi) -> None:
    async with pooling(api, another_api, max_in_flight=10) as pool:
        assert_good(await answered(pool, 200))
        assert api.asked.total() + another_api.asked.total() == 200
        assert min(api.asked.total(), another_api.asked.total()) >= 10


async def test_an_address_that_is_down_leaves_the_work_to_the_other(
    api: ScriptedApi, another_api: ScriptedApi
) -> None:
    await another_api.stop()
    async with pooling(api, another_api, max_in_flight=10) as pool:
        for _ in range(3):
            assert_good(await answered(pool, 100))
        asked = api.asked.total()
        await another_api.start()
        await until(lambda: pool.addresses[1].allowed > 0, "the end of the rest")
        give_up_at = time.monotonic() + PATIENCE_S
        while not another_api.asked:
            assert time.monotonic() < give_up_at
            assert_good(await answered(pool, 100))
        assert api.asked.total() > asked


async def test_an_address_that_is_silent_leaves_the_work_to_the_other(
    api: ScriptedApi, another_api: ScriptedApi
) -> None:
    another_api.script = lambda pk, time: SILENCE
    async with pooling(api, another_api, max_in_flight=10) as pool:
        pool.addresses[1]._deadline_s = 1.0
        give_up_at = time.monotonic() + PATIENCE_S
        while pool.addresses[1].allowed:
            assert time.monotonic() < give_up_at
            round_ = await answered(pool, 100)
            assert set(round_.refused) <= {"timeout"}
        assert_good(await answered(pool, 100))


async def test_one_that_comes_back_from_a_rest_with_a_pipeline_gets_one_request(api: ScriptedApi) -> None:
    api.script = lambda pk, time: CLOSE
    async with pooling(api, pipeline=8) as pool:
        await answered(pool, 400)
        api.hold = asyncio.Event()
        api.script = lambda pk, time: good(pk)
        await until(pool.reachable.is_set, "the end of the rest")
        asked = api.asked.total()
        asking = asyncio.ensure_future(answered(pool, 40))
        await until(lambda: api.asked.total() > asked, "a request")
        await asyncio.sleep(0.1)
        assert api.asked.total() == asked + 1
        api.hold.set()
        assert_good(await asking)


async def test_never_more_than_the_allowance(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that the test moves: so many seconds, so many requests, and not one more."""
    clock = [time.monotonic()]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    async with pooling(api, max_rps=100) as pool:
        asking = asyncio.ensure_future(answered(pool, 50))
        for allowed in range(50):
            await asyncio.sleep(2 * module.REFILL_SECONDS)
            assert api.asked.total() == allowed
            clock[0] += 0.01 + 1e-9
            await until(lambda allowed=allowed: api.asked.total() > allowed, "the next request")  # type: ignore[misc]
        assert_good(await asking)
        assert len(api.peers) <= 50

        clock[0] += 3.0  # what was not used is lost, but for a burst of 20 ms
        asking = asyncio.ensure_future(answered(pool, 10))
        await until(lambda: api.asked.total() == 52, "a burst")
        await asyncio.sleep(4 * module.REFILL_SECONDS)
        assert api.asked.total() == 52
        while not asking.done():
            clock[0] += 0.01
            await asyncio.sleep(module.REFILL_SECONDS)
        assert_good(await asking)


async def test_failed_requests_count_against_the_allowance(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [time.monotonic()]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    api.script = lambda pk, time: CLOSE
    async with pooling(api, max_rps=100) as pool:
        asking = asyncio.ensure_future(answered(pool, 10))
        steps = 0
        while not asking.done():
            clock[0] += 0.01
            steps += 1
            await asyncio.sleep(2 * module.REFILL_SECONDS)
            assert api.asked.total() <= steps + 1
        assert (await asking).refused == {"connection": 10}


class Spy:
    """A limit that stays, and what it was told."""

    value = 64

    def __init__(self) -> None:
        self.told: list[tuple[int, int, bool]] = []

    def update(self, now: float, good: int, failed: int, seconds: float, saturated: bool) -> int:
        assert seconds > 0
        self.told.append((good, failed, saturated))
        return self.value


async def test_the_limit_is_told_what_it_has_to_know(api: ScriptedApi) -> None:
    async with pooling(api) as pool:
        spy = Spy()
        pool.addresses[0]._limit = spy  # type: ignore[assignment]
        api.script = acting({FIRST + 1: status(500), FIRST + 2: status(404), FIRST + 3: GARBAGE})
        await answered(pool, 20)
        await until(lambda: sum(good + failed for good, failed, _ in spy.told) >= 20, "the end of a window")
        assert sum(told[0] for told in spy.told) == 18  # 404 is an answer, and a sound one
        assert sum(told[1] for told in spy.told) == 2


async def test_the_limit_is_what_holds_back_only_if_there_is_more_work(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.hold = asyncio.Event()
    async with pooling(api, pipeline=2) as pool:
        spy = Spy()
        pool.addresses[0]._limit = spy  # type: ignore[assignment]
        few = asyncio.ensure_future(answered(pool, 60))
        await until(lambda: api.asked.total() == 60, "the requests")
        await asyncio.sleep(5 * module.SWEEP_SECONDS)
        assert not any(saturated for _, _, saturated in spy.told)
        many = asyncio.ensure_future(answered(pool, 200))
        await until(lambda: api.asked.total() == 64, "the requests")
        await until(lambda: spy.told and spy.told[-1][2], "a window in which the limit held back")
        api.hold.set()
        assert_good(await few)
        assert_good(await many)
        spy.told.clear()
        await until(lambda: len(spy.told) > 2, "more windows")
        assert not any(saturated for _, _, saturated in spy.told[1:])


async def test_the_limit_holds_back_also_while_pipelines_are_not_filled_up(api: ScriptedApi) -> None:
    """The first three of each eight are answered: a connection is filled up when four are."""
    api.script = lambda pk, time: good(pk) if (pk - FIRST) % 8 < 3 else SILENCE
    async with pooling(api, pipeline=8, max_in_flight=64, request_deadline=300) as pool:
        spy = Spy()
        pool.addresses[0]._limit = spy  # type: ignore[assignment]
        asking = asyncio.ensure_future(answered(pool, 400))
        await until(lambda: pool.addresses[0].in_flight == 40, "three answers on each connection")
        await until(lambda: spy.told and spy.told[-1][2], "a window in which the limit held back")
        api.script = lambda pk, time: good(pk)
        age(pool, 301)
        assert set((await asking).refused) == {"timeout"}


async def test_the_limit_grows_where_that_brings_more(api: ScriptedApi) -> None:
    api.latency_s = 0.2
    async with pooling(api) as pool:
        address = pool.addresses[0]
        rounds = [asyncio.ensure_future(answered(pool, 500, FIRST + 500 * i)) for i in range(8)]
        await until(lambda: address.allowed > 64, "a higher limit")
        api.latency_s = 0.0
        for round_ in await asyncio.gather(*rounds):
            assert_good(round_)


async def test_a_failing_sweep_does_not_end_all_deadlines(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.script = lambda pk, time: SILENCE
    async with pooling(api) as pool:
        address = pool.addresses[0]
        sweep, calls = address.sweep, 0

        def failing(now: float, seconds: float) -> None:
            nonlocal calls
            calls += 1
            if calls < 4:
                raise RuntimeError("a mistake")
            sweep(now, seconds)

        monkeypatch.setattr(address, "sweep", failing, raising=False)
        asking = asyncio.ensure_future(answered(pool, 5))
        await until(lambda: api.asked.total() == 5, "the requests")
        address._deadline_s = 0.01
        assert (await asking).refused == {"timeout": 5}


@PIPELINES
async def test_closing_ends_what_waits_and_opens_nothing(api: ScriptedApi, pipeline: int) -> None:
    api.hold = asyncio.Event()
    pool = Pool(load(api=[api.url], pipeline=pipeline))
    asking = asyncio.ensure_future(answered(pool, 300))
    await until(lambda: api.asked.total() == 64, "the first requests")
    await pool.close()
    round_ = await asking
    assert round_.refused.total() == 300
    assert_settled(pool)
    assert (await answered(pool, 10)).refused == {"unreachable": 10}
    await until(lambda: not api.open, "the end of all connections")
    assert not any(address._opening or address._connections for address in pool.addresses)
    assert len(api.peers) <= 64


async def test_closing_while_connections_are_being_opened(api: ScriptedApi) -> None:
    pool = Pool(load(api=[api.url]))
    asking = asyncio.ensure_future(answered(pool, 300))
    await asyncio.sleep(0)
    await pool.close()
    assert (await asking).refused.total() == 300
    await until(lambda: not api.open, "the end of all connections")
    assert_settled(pool)
    assert Counter(len(peer.asked) for peer in api.peers)[0] == len(api.peers)
