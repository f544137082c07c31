"""How does a turn become verdicts on the log?

A classifier holds no state and owns no shard. It takes turns while it has calls to spare, asks about everybody
who has no verdict of that turn in the record, and acknowledges the turn when all verdicts are on the log's disk.
When it dies in between, JetStream hands the turn to another, which goes on from the record.

No influencer gets two verdicts in one turn, even while two classifiers believe that a turn is theirs: whoever
adds to the record of a shard names the entry they have seen last, and the log refuses when there is a newer one.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import time
from collections import Counter
from contextlib import suppress
from typing import Final

import structlog

from tidemark import telemetry
from tidemark.classify.agenda import Agenda, hand_back_delay, retry_delay
from tidemark.classify.alarm import Alarm
from tidemark.classify.api import UNKNOWN, Api, Refused
from tidemark.classify.turn import TurnInWork, Verdict, remaining
from tidemark.config import Settings
from tidemark.errors import CallerError, LogError
from tidemark.log import streams
from tidemark.log.client import Delivery, Log, connect
from tidemark.log.reconnecting import ReconnectingConsumer
from tidemark.messages import MessageError, Turn
from tidemark.mockstagram import Answer
from tidemark.process import raise_file_limit, spawn, wait, within_files

TURNS_IN_WORK_MIN: Final = 256
"""So many may be in work, or twice as many as calls in flight: what is left of a turn may keep a single one busy."""
DETAILS_AHEAD: Final = 8
"""Influencers whose details are fetched before a call is free for them, so that a slow GET holds up no POST. With
128 calls of ten seconds, details wait for 0.6 s then."""
ASK_MIN_S: Final = 1.0
"""Asking about somebody counts as taking this long at least. An API that answers at once is then asked for no more
verdicts a second than there are calls, instead of for as many as a core can ask."""
ABOUT_ONE: Final = frozenset((UNKNOWN, "fields", "range", "pk"))
"""Reasons that tell of one influencer, not of the API: where only such are left, it is well all the same."""
TELL_SECONDS: Final = 2.0
"""How often verdicts are put on the log: a classifier that is killed loses what came since."""
TURN_WAIT_S: Final = 2.0
"""How long one look for a turn lasts."""
CLOCKS_MS: Final = 600_000
"""As much may the clocks of schedulers and of the log differ."""
ROOM_LOOK_S: Final = 0.25
"""How often those who wait are counted, while there are enough."""
IDLE_LOOK_S: Final = 1.0
"""How often it is looked for somebody to ask about, when nothing said that there is."""
STOP_PATIENCE_S: Final = 3.0
"""An orderly stop waits so long for calls in flight; who is left is asked about again by whoever goes on."""
COMPLAIN_SECONDS: Final = 10.0

logger = structlog.get_logger("tidemark.classify")


async def classify(settings: Settings, stop: asyncio.Event) -> None:
    """Take turns and publish verdicts until `stop`; hand back what is left. Raises CallerError without an API."""
    if not settings.api:
        raise CallerError("which API? Name it with --api http://host:port")
    if not settings.classify_concurrency:
        raise CallerError("--classify-concurrency 0 means that nobody classifies: give 1 or more")
    held = within_files(settings.classify_concurrency, raise_file_limit(), "--classify-concurrency")
    async with connect(settings, "classify") as log:
        apis = [Api(url, settings.request_deadline, settings.classify_deadline) for url in settings.api]
        try:
            await _Classifier(settings, log, apis, max(1, held)).run(stop)
        finally:
            for api in apis:
                await api.close()


class _Classifier:
    def __init__(self, settings: Settings, log: Log, apis: list[Api], concurrency: int) -> None:
        self._log = log
        self._apis = apis
        self._concurrency = concurrency
        self._interval_ms = round(settings.classify_interval * 1_000)
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._agenda: Agenda[TurnInWork] = Agenda()
        self._calls = asyncio.Semaphore(self._concurrency)
        self._in_flight = 0
        """Calls for a verdict that wait for their answer."""
        self._asking: set[asyncio.Task[None]] = set()
        """Influencers being asked about, from the GET until their call may be used again."""
        self._turns: set[asyncio.Task[None]] = set()
        self._jumps: set[asyncio.Task[None]] = set()
        """The turns of one influencer each who jumped."""
        self._opening = 0
        """Turns of which the record is still being read."""
        self._wake = asyncio.Event()
        """There may be something to ask now."""
        self._alarm = Alarm(self._wake.set)
        self._stopping = asyncio.Event()
        self._refused: Counter[str] = Counter()
        self._complained_at = 0.0
        self._chance = random.Random()

    # -- turns ----------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        logger.info("classifying", api=[api.url for api in self._apis], concurrency=self._concurrency)
        for api in self._apis:
            self._show_breaker(api)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take_turns(stop))
                group.create_task(self._take_jumps(stop))
                group.create_task(self._dispatch(stop))
            if self._in_flight:
                await asyncio.wait(self._asking, timeout=STOP_PATIENCE_S)
            self._end(*self._asking)
            self._stopping.set()
            if turns := self._turns | self._jumps:
                await asyncio.wait(turns, timeout=STOP_PATIENCE_S)
        finally:
            self._end(*self._asking, *self._turns, *self._jumps)

    @staticmethod
    def _end(*tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            task.cancel()

    async def _take_turns(self, stop: asyncio.Event) -> None:
        turns = ReconnectingConsumer(self._log.consume_turns, stop, logger.warning, "no turns")
        while await self._has_room(stop):
            for delivery in await turns.next(1, TURN_WAIT_S):
                self._opening += 1
                spawn(self._turns, self._serve(delivery), "a turn")

    async def _take_jumps(self, stop: asyncio.Event) -> None:
        """Who jumped is asked about before all others, also while a sweep is under way, which takes a day."""
        jumps = ReconnectingConsumer(self._log.consume_jumps, stop, logger.warning, "no jumps")
        while not stop.is_set():
            if len(self._jumps) >= self._concurrency:
                await wait(stop, ROOM_LOOK_S)
                continue
            for delivery in await jumps.next(1, TURN_WAIT_S):
                self._opening += 1
                spawn(self._jumps, self._serve(delivery, first=True), "a jump")

    async def _has_room(self, stop: asyncio.Event) -> bool:
        """Wait until calls run out of work; False at `stop`. Also while the API fails: see `Agenda.take`."""
        turns_max = max(TURNS_IN_WORK_MIN, 2 * self._concurrency)
        while not stop.is_set():
            enough = len(self._agenda) >= self._concurrency or len(self._turns) >= turns_max
            if not enough and not self._opening:
                return True
            await wait(stop, ROOM_LOOK_S)
        return False

    async def _serve(self, delivery: Delivery, *, first: bool = False) -> None:
        """One turn, from the order to the acknowledgement; those of it before all others, if they are to be `first`."""
        opened = False
        heartbeat = asyncio.ensure_future(_keep_alive(delivery))
        try:
            turn = Turn.decode(delivery.data)
            record = await self._log.record(turn.shard, self._record_since_ms(turn))
            pks = remaining(turn, record.verdicts)
            work = TurnInWork(turn, pks)
            now = time.monotonic()
            for pk in pks:
                if first:
                    self._agenda.put_first(pk, work)
                else:
                    self._agenda.put(pk, work, now)
            self._opening, opened = self._opening - 1, True
            self._wake.set()
            await self._see_through(work, record.last)
            if not work.left_over:
                await delivery.ack()
            elif self._stopping.is_set():
                await delivery.again(0)
            else:
                telemetry.TURNS_HANDED_BACK.inc()
                logger.info("a turn is taken again later", turn=turn.id, left_over=work.left_over)
                await delivery.again(hand_back_delay(delivery.times))
        except MessageError as error:
            telemetry.SET_ASIDE.inc()
            logger.error("set aside", error=str(error))
            with suppress(LogError):
                await delivery.terminate()
        except LogError as error:  # not acknowledged, so it comes again
            logger.warning("a turn is left, to be taken again", error=str(error))
        finally:
            self._opening -= not opened
            heartbeat.cancel()

    def _record_since_ms(self, turn: Turn) -> int:
        """As much of the record as a turn needs: those done already, and who was last asked about how long ago."""
        return max(0, turn.since_ms - self._interval_ms - CLOCKS_MS)

    async def _see_through(self, work: TurnInWork, last: int) -> None:
        """Until everybody is settled and all their verdicts are on the log; gives up on the log while stopping."""
        while True:
            settled = work.settled
            try:
                last = await self._tell(work, last)
            except LogError as error:
                logger.warning("verdicts wait for the log", turn=work.turn.id, error=str(error))
                if self._stopping.is_set():
                    raise
            if settled and work.told:
                return
            if self._stopping.is_set():
                work.leave()
            else:
                await wait(self._stopping, TELL_SECONDS)

    async def _tell(self, work: TurnInWork, last: int) -> int:
        """Put the verdicts that came on the log; returns the sequence number of the record's latest entry."""
        while verdicts := work.untold(self._name, self._in_flight):
            added = await self._log.publish_verdicts(work.turn.shard, verdicts, last)
            if added is None:
                record = await self._log.record(work.turn.shard, self._record_since_ms(work.turn))
                work.compare(record.verdicts)
                last = record.last
                continue
            last = added
            work.tell(verdicts)
            suspicious = int(verdicts.suspicious.sum())
            telemetry.CLASSIFIED.labels("true").inc(suspicious)
            telemetry.CLASSIFIED.labels("false").inc(len(verdicts) - suspicious)
        return last

    # -- calls ----------------------------------------------------------------------------------

    async def _dispatch(self, stop: asyncio.Event) -> None:
        """Start asking whenever somebody waits, an API may be asked and a call is about to be free."""
        while not stop.is_set():
            self._wake.clear()
            now = time.monotonic()
            while len(self._asking) < self._concurrency + DETAILS_AHEAD and self._agenda.next_at() <= now:
                api = self._free_api(now)
                if api is None:
                    break
                probe = not api.breaker.closed
                found = self._agenda.take(now, probe=probe)
                if found is None:
                    break
                pk, work = found
                if work.wants(pk):
                    api.probing = api.probing or probe
                    spawn(self._asking, self._ask(api, pk, work, stop, probe), "a call")
            await self._until_next(now)

    def _free_api(self, now: float) -> Api | None:
        """An address that may be asked; of several each in its turn."""
        for position, api in enumerate(self._apis):
            if api.breaker.allows(now) and (api.breaker.closed or not api.probing):
                self._apis.append(self._apis.pop(position))
                return api
        return None

    async def _until_next(self, now: float) -> None:
        """Wait to be woken, for the next who is to be asked again, or for the end of a rest."""
        moments = [
            self._agenda.next_at(),
            *(api.breaker.retry_at for api in self._apis if not api.breaker.closed),
        ]
        self._alarm.set(min([now + IDLE_LOOK_S, *(moment for moment in moments if moment > now)]))
        await self._wake.wait()

    async def _ask(self, api: Api, pk: int, work: TurnInWork, stop: asyncio.Event, probe: bool) -> None:
        """One influencer: the details, a call, and what comes of it."""
        began = time.monotonic()
        try:
            details = await api.details(pk)
            async with self._calls:
                if stop.is_set():
                    self._wake.set()
                    return
                work.give(await self._call(api, details))
            self._answered(api)
        except Refused as refused:
            self._fail(api, pk, work, refused.reason, refused.why)
        except Exception as error:  # a turn would wait for ever for somebody who is forgotten
            logger.error("asking failed", pk=pk, error=str(error), exc_info=error)
            self._fail(api, pk, work, "unexpected", str(error))
        finally:
            if probe:
                api.probing = False
        rest_s = ASK_MIN_S - (time.monotonic() - began)
        if rest_s > 0:
            self._wake.set()  # what came of it may let others be asked
            await asyncio.sleep(rest_s)
        # This task is among those asking until it has returned.
        asyncio.get_running_loop().call_soon(self._wake.set)

    async def _call(self, api: Api, details: Answer) -> Verdict:
        """Ask for the verdict. Raises Refused."""
        began = time.monotonic()
        self._in_flight += 1
        telemetry.CLASSIFYING.set(self._in_flight)
        try:
            suspicious = await api.verdict(details)
        finally:
            self._in_flight -= 1
            telemetry.CLASSIFYING.set(self._in_flight)
            took_s = time.monotonic() - began
            telemetry.CLASSIFY_SECONDS.observe(took_s)
        return Verdict(details.pk, suspicious, int(time.time()), round(took_s * 1_000))

    def _fail(self, api: Api, pk: int, work: TurnInWork, reason: str, why: str) -> None:
        """Somebody got no verdict: they are asked about again later, in this turn or when it is taken again."""
        telemetry.CLASSIFY_FAILURES.labels(reason).inc()
        now = time.monotonic()
        self._complain(now, reason, pk)
        if reason in ABOUT_ONE:
            self._answered(api)
        elif api.breaker.failed(now):
            logger.warning("the API gives no verdicts; it is asked again after a rest", api=api.url, why=why)
            self._show_breaker(api)
        attempt = work.fail(pk, again=reason != UNKNOWN)
        if attempt is not None:
            self._agenda.put_again(pk, work, now + retry_delay(attempt, self._chance))

    def _answered(self, api: Api) -> None:
        """The address is well."""
        if api.breaker.succeeded():
            logger.info("the API gives verdicts again", api=api.url)
            self._show_breaker(api)

    def _complain(self, now: float, reason: str, pk: int) -> None:
        """Say what failed, at most every ten seconds."""
        self._refused[reason] += 1
        if now - self._complained_at > COMPLAIN_SECONDS:
            logger.warning("no verdict for now", refused=dict(self._refused), latest=pk)
            self._refused.clear()
            self._complained_at = now

    def _show_breaker(self, api: Api) -> None:
        telemetry.CLASSIFY_BREAKER_OPEN.labels(api.url).set(not api.breaker.closed)


async def _keep_alive(delivery: Delivery) -> None:
    while True:
        await asyncio.sleep(streams.TURN_ACK_WAIT_S / 3)
        # When the log is away for longer, another gets the turn and goes on from the record.
        with suppress(LogError):
            await delivery.in_progress()
