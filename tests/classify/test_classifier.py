"""The classifier with a real log and APIs of all kinds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from tests.log.server import before_each_ack, signs_of_life
from tidemark.breaker import Breaker
from tidemark.classify import classifier
from tidemark.classify.api import Api as ClassifierApi
from tidemark.config import load
from tidemark.errors import CallerError
from tidemark.log import streams
from tidemark.messages import Turn
from tidemark.mockstagram import Answer
from tidemark.simulate import Mockstagram, is_suspicious

from .conftest import FIRST, Api, Bench, bench_of, sound, until

pytestmark = pytest.mark.usefixtures("quick")

LAST = FIRST + 19
ALL = list(range(FIRST, LAST + 1))


async def test_everybody_gets_a_verdict_of_the_turn(bench: Bench, api: Api) -> None:
    turn = await bench.order(FIRST, LAST)
    before = int(time.time())
    bench.start()
    await bench.done()
    verdicts = await bench.verdicts()
    assert sorted(verdicts) == ALL
    for pk, [(turn_id, suspicious, at)] in verdicts.items():
        assert (turn_id, suspicious) == (turn.id, pk % 3 == 0)
        assert before <= at <= time.time()
    assert api.in_flight_max <= 8


async def test_the_question_holds_the_current_details(bench: Bench, api: Api) -> None:
    await bench.order(FIRST, FIRST)
    bench.start()
    await bench.done()
    assert api.asked == [{"pk": FIRST, "username": f"i-{FIRST}", "followerCount": 7, "followingCount": 3}]


async def test_of_a_turn_that_takes_long_the_log_is_told_that_it_is_in_work(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, free = signs_of_life(monkeypatch), api.hold()
    monkeypatch.setattr("tidemark.log.streams.TURN_ACK_WAIT_S", 1.0)
    turn = await bench.order(FIRST, LAST)
    bench.start()
    await until(lambda: told[turn.encode()] >= 3, "a third sign of life")
    free.set()
    await bench.done()
    assert sorted(await bench.verdicts()) == ALL


async def test_a_turn_is_acknowledged_when_its_verdicts_are_on_the_log(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_log: list[int] = []  # as of each acknowledgement

    async def look() -> None:
        on_the_log.append(len(await bench.verdicts()))

    before_each_ack(monkeypatch, look)
    await bench.order(FIRST, LAST)
    bench.start()
    await bench.done()
    assert on_the_log == [len(ALL)]


async def test_with_the_stand_in(nats_url: str, mockstagram: Mockstagram) -> None:
    settings = load(api=(await mockstagram.start(),), nats=(nats_url,), classify_concurrency=32)
    async with bench_of(settings) as bench:
        await bench.order(FIRST, FIRST + 99)
        bench.start()
        await bench.done()
        verdicts = await bench.verdicts()
    assert {pk: suspicious for pk, [(_, suspicious, _)] in verdicts.items()} == {
        pk: is_suspicious(pk) for pk in range(FIRST, FIRST + 100)
    }
    assert mockstagram.classified == mockstagram.served == 100


async def test_as_many_calls_in_flight_as_wanted(bench: Bench, api: Api) -> None:
    free = api.hold()
    await bench.order(FIRST, LAST)
    bench.start()
    await until(lambda: api.in_flight == 8, "8 calls in flight")
    free.set()
    await bench.done()
    assert api.in_flight_max == 8
    assert set(api.times.values()) == {1}


async def test_an_api_that_answers_at_once_is_not_asked_for_as_many_as_a_core_can_ask(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "ASK_MIN_S", 0.3)
    monkeypatch.setattr(classifier, "DETAILS_AHEAD", 0)
    await bench.order(FIRST, LAST)
    began = time.monotonic()
    bench.start(classify_concurrency=4)
    await bench.done()
    rounds = len(ALL) // 4
    assert time.monotonic() - began >= (rounds - 1) * 0.3


async def test_who_jumped_waits_for_no_sweep(bench: Bench, api: Api) -> None:
    free = api.hold()
    await bench.order(FIRST, LAST - 1)
    bench.start(classify_concurrency=2)
    await until(lambda: api.in_flight == 2, "a sweep that goes on")
    await bench.log.publish_jump(Turn(0, LAST, LAST, 2_000, 2_000), day=1)

    async def taken() -> bool:
        waiting = await bench.log._jetstream.consumer_info(streams.CLASSIFICATIONS, streams.JUMPS)
        return bool(waiting.num_ack_pending == 1)

    await until(taken, "it")
    free.set()
    await bench.done()
    asked = [question["pk"] for question in api.asked]
    assert len(asked) == len(set(asked)) == len(ALL)
    assert asked.index(LAST) <= 2 + classifier.DETAILS_AHEAD, (
        "only those whose details were fetched come before"
    )


BAD: dict[str, Callable[[int], tuple[int, bytes]]] = {
    "500": lambda pk: (500, b"{}"),
    "400": lambda pk: (400, b"{}"),
    "404": lambda pk: (404, b"{}"),
    "not json": lambda pk: (200, b"<html>"),
    "another pk": lambda pk: (200, sound(pk + 1)),
    "no verdict": lambda pk: (200, json.dumps({"pk": pk}).encode()),
    "a verdict that is none": lambda pk: (200, json.dumps({"pk": pk, "suspicious": "no"}).encode()),
    "null": lambda pk: (200, json.dumps({"pk": pk, "suspicious": None}).encode()),
    "too much": lambda pk: (200, b" " * 100_000 + sound(pk)),
    "a redirection": lambda pk: (302, b""),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_what_is_no_verdict_is_asked_for_again(
    bench: Bench, api: Api, bad: Callable[[int], tuple[int, bytes]]
) -> None:
    async def told(pk: int) -> tuple[int, bytes]:
        return bad(pk)

    api.answering = lambda pk, times: told(pk) if times < 2 and pk % 4 == 0 else None
    await bench.order(FIRST, LAST)
    bench.start()
    await bench.done()
    verdicts = await bench.verdicts()
    assert sorted(verdicts) == ALL
    assert all(len(rows) == 1 for rows in verdicts.values())
    assert {pk: times for pk, times in api.times.items() if times > 1} == dict.fromkeys(ALL[::4], 3)


async def test_a_call_past_its_deadline_is_made_again(bench: Bench, api: Api) -> None:
    async def never(pk: int) -> tuple[int, bytes]:
        await asyncio.sleep(3_600)
        raise AssertionError

    api.answering = lambda pk, times: never(pk) if times == 0 else None
    await bench.order(FIRST, FIRST)
    bench.start(classify_deadline=0.2)
    await bench.done()
    assert api.times[FIRST] >= 2
    assert len((await bench.verdicts())[FIRST]) == 1


async def test_who_fails_too_often_is_left_for_later_and_keeps_the_turn(bench: Bench, api: Api) -> None:
    async def failed() -> tuple[int, bytes]:
        return 500, b""

    api.answering = lambda pk, times: failed() if pk == FIRST + 3 and times < 6 else None
    await bench.order(FIRST, LAST)
    bench.start()
    await bench.done()
    verdicts = await bench.verdicts()
    assert sorted(verdicts) == ALL
    assert api.times.pop(FIRST + 3) == 7
    assert set(api.times.values()) == {1}, "the others were not asked about when the turn came again"


async def test_an_unknown_influencer_holds_up_nobody(nats_url: str, mockstagram: Mockstagram) -> None:
    settings = load(api=(await mockstagram.start(),), nats=(nats_url,), classify_concurrency=32)
    async with bench_of(settings) as bench:
        await bench.order(FIRST + 90, FIRST + 109)
        bench.start()

        async def all_known() -> bool:
            return len(await bench.verdicts()) == 10

        await until(all_known, "the verdicts on those who exist")
        assert await bench.waiting() == 1, "the others have their turn when they appear"


@pytest.mark.parametrize("concurrency", [1, 64])
async def test_a_broken_api_is_left_in_peace_and_the_work_goes_on_afterwards(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    dropped: list[int] = []  # up to the beginning of each rest

    class Watched(Breaker):
        def failed(self, now: float, count: int = 1) -> bool:
            before = self.retry_at
            opened = super().failed(now, count)
            if self.retry_at != before:
                dropped.append(api.dropped)
            return opened

    monkeypatch.setattr("tidemark.classify.api.Breaker", lambda: Watched(rest_min_s=0.05))
    api.down = True
    await bench.order(FIRST, LAST)
    await bench.order(FIRST + 1_000, FIRST + 1_039, shard=1)
    bench.start(classify_concurrency=concurrency, request_deadline=300)
    await until(lambda: len(dropped) >= 6, "five rests")
    in_flight_max = concurrency + classifier.DETAILS_AHEAD
    failures_max = Breaker().failures_max
    assert failures_max <= dropped[0] < failures_max + in_flight_max
    # What was on its way when the first rest began, and then one request at the end of each.
    assert all(count - dropped[0] < in_flight_max + rest for rest, count in enumerate(dropped))
    api.down = False
    await bench.done()
    assert sorted(await bench.verdicts(0)) == ALL
    assert len(await bench.verdicts(1)) == 40
    assert set(api.times.values()) == {1}


async def test_a_wrong_answer_about_one_is_no_failure_of_the_api(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemark.classify.api.Breaker", lambda: Breaker(failures_max=1))

    async def anothers(pk: int) -> tuple[int, bytes]:
        return 200, sound(pk + 1)

    api.answering = lambda pk, times: anothers(pk) if pk == FIRST + 3 and times < 2 else None
    with capture_logs() as said:
        await bench.order(FIRST, LAST)
        bench.start()
        await bench.done()
    assert api.times[FIRST + 3] == 3
    assert {event["event"] for event in said if event["log_level"] == "warning"} == {"no verdict for now"}


@pytest.mark.usefixtures("soon_redelivered")
async def test_a_killed_classifier_loses_no_turn_and_asks_nobody_twice(bench: Bench, api: Api) -> None:
    free = api.hold(FIRST + 12)
    await bench.order(FIRST, LAST)
    bench.start(classify_concurrency=len(ALL))  # whoever is asked first, nobody waits for the slow ones

    async def twelve_on_the_log() -> bool:
        return len(await bench.verdicts()) == 12

    await until(twelve_on_the_log, "what was answered at once")
    await bench.kill()
    free.set()
    bench.start()
    await bench.done()
    verdicts = await bench.verdicts()
    assert sorted(verdicts) == ALL
    assert all(len(rows) == 1 for rows in verdicts.values())
    assert all(api.times[pk] == 1 for pk in ALL[:12])


async def test_an_orderly_stop_tells_what_it_knows_and_hands_the_rest_back(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(pk: int) -> tuple[int, bytes]:
        await asyncio.sleep(3_600)
        raise AssertionError

    monkeypatch.setattr(classifier, "TELL_SECONDS", 3_600.0)
    api.answering = lambda pk, times: never(pk) if pk >= FIRST + 12 else None
    await bench.order(FIRST, LAST)
    bench.start(classify_concurrency=len(ALL))  # whoever is asked first, nobody waits for the silent ones
    await until(lambda: len(api.times) == len(ALL) and api.in_flight == 8, "those who get no answer")
    await bench.stop()
    assert sorted(await bench.verdicts()) == ALL[:12]
    monkeypatch.setattr(classifier, "TELL_SECONDS", 0.05)
    api.answering = lambda pk, times: None
    bench.start()
    await bench.done()
    assert sorted(await bench.verdicts()) == ALL


async def test_two_classifiers_share_the_turns(bench: Bench, api: Api) -> None:
    both_ask = asyncio.Event()

    async def slow(pk: int) -> tuple[int, bytes]:
        await both_ask.wait()
        return 200, sound(pk)

    api.answering = lambda pk, times: slow(pk)
    for shard in range(10):
        await bench.order(FIRST + shard * 20, FIRST + shard * 20 + 19, shard=shard)
    bench.start()
    bench.start()
    await until(lambda: api.in_flight == 16, "8 calls of each")
    both_ask.set()
    await bench.done()
    assert len(api.times) == 200
    assert set(api.times.values()) == {1}
    assert len({given.classifier for shard in range(10) for given in await bench.record(shard)}) == 2


async def test_two_who_believe_that_a_turn_is_theirs_give_one_verdict_each(bench: Bench, api: Api) -> None:
    """As when one was stopped for longer than the log waits for a sign of life."""

    both_ask = asyncio.Event()

    async def slow(pk: int) -> tuple[int, bytes]:
        await both_ask.wait()
        await asyncio.sleep(pk % 7 / 50)
        return 200, sound(pk)

    api.answering = lambda pk, times: slow(pk)
    turn = Turn(0, FIRST, LAST, 1_000, 1_000)
    await bench.log.publish_turn(turn)
    await bench.log.publish_turn(Turn(0, FIRST, LAST, 1_000, 999))  # the same turn under another message id
    bench.start()
    bench.start()
    await until(lambda: api.in_flight == 16, "8 calls of each")
    assert 2 in api.times.values(), "of the same; who had no details in time comes later"
    both_ask.set()
    await bench.done()
    verdicts = await bench.verdicts()
    assert sorted(verdicts) == ALL
    assert all(len(rows) == 1 for rows in verdicts.values())


async def test_a_turn_that_was_taken_early_is_done_when_it_is_due(bench: Bench, api: Api) -> None:
    due_ms = round(time.time() * 1_000) + 100_000
    await bench.order(FIRST, LAST, due_ms, since_ms=due_ms - 3_600_000)
    bench.start()
    await bench.done()
    assert set(api.times.values()) == {1}
    await bench.order(FIRST, LAST, due_ms)
    await bench.order(FIRST, LAST, due_ms + 3_600_000)
    await bench.done()
    assert set(api.times.values()) == {2}, "once for the turn taken early, once for the one after it"


async def test_whatever_goes_wrong_nobody_is_forgotten(
    bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    details, wrong = ClassifierApi.details, iter(range(5))

    async def failing(self: ClassifierApi, pk: int) -> Answer:
        if next(wrong, None) is not None:
            raise RuntimeError("on purpose")
        return await details(self, pk)

    monkeypatch.setattr(ClassifierApi, "details", failing)
    await bench.order(FIRST, LAST)
    bench.start()
    await bench.done()
    assert sorted(await bench.verdicts()) == ALL


async def test_what_is_no_turn_is_set_aside(bench: Bench, api: Api) -> None:
    await bench.log._publish("tidemark.classifications.0", b"{}", "x")
    await bench.order(FIRST, FIRST)
    bench.start()
    await bench.done()
    assert api.times == {FIRST: 1}


async def test_it_wants_an_api_and_calls(nats_url: str) -> None:
    with pytest.raises(CallerError, match="--api"):
        await classifier.classify(load(nats=(nats_url,)), asyncio.Event())
    with pytest.raises(CallerError, match="--classify-concurrency"):
        await classifier.classify(load(api=("http://x",), classify_concurrency=0), asyncio.Event())
