"""How are ticks and batches put on the log and taken off it?

A thin shell around nats-py. Its exceptions become LogError here and nowhere else. All connections
reconnect for ever; a call made meanwhile waits until its own deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, PubAck, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError
from nats.js.errors import Error as JetStreamError

from tidemark.config import Settings
from tidemark.errors import LogError
from tidemark.log import streams
from tidemark.messages import Batch, MessageError, Tick, Turn, Verdicts
from tidemark.population import Population

CALL_DEADLINE_S: Final = 5.0
CONNECT_DEADLINE_S: Final = 5.0
CLOSE_DEADLINE_S: Final = 2.0
"""For each step of an end: a server that is stuck does not keep a process from ending."""
RECONNECT_WAIT_S: Final = 0.5
PING_S: Final = 3
"""A server that is cut off says nothing; after the third ping without an answer another is tried, within 12 s."""
EARLY_S: Final = 0.05
"""A look for messages that ends sooner was refused, as while a cluster elects: the next waits as long."""
STREAM_IN_USE: Final = 10058
"""JetStream's error code for a stream that exists with another configuration."""
NO_ROOM: Final = 10047
"""JetStream's error code for a stream that may grow larger than the server's disk has room."""
NOT_THE_LAST: Final = 10071
"""JetStream's error code for a subject that another wrote to meanwhile."""
IN_PROCESS: Final = 10158
"""JetStream's error code for a message whose id another is just publishing; only in a cluster (nats-server 2.15)."""
RECORD_FETCH_MESSAGES: Final = 512
EXPECTED_PLACE: Final = "Nats-Expected-Last-Subject-Sequence"
"""A message with it is refused, with NOT_THE_LAST, where another is the last of its subject; with 0 where any is."""
NO_HEADERS: Final[Mapping[str, str]] = {}

_FOREIGN = (nats.errors.Error, JetStreamError, OSError, asyncio.TimeoutError)

logger = structlog.get_logger("tidemark.log")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was delivered and waits to be acknowledged."""

    data: bytes
    message: Msg
    handed_out_until: int = 0
    """Up to this number its stream was handed out before, to who read it for the same consumer and is gone."""

    @property
    def times(self) -> int:
        """How often it was handed out, this time included."""
        return self.message.metadata.num_delivered or 1

    @property
    def repeated(self) -> bool:
        """Whether somebody may have had it before, and have done what is to be done with it."""
        return self.times > 1 or self.sequence <= self.handed_out_until

    @property
    def sequence(self) -> int:
        """Its number on its stream: the same message has the same, however often it is handed out."""
        return self.message.metadata.sequence.stream

    @property
    def logged_at_s(self) -> int:
        """When the log took it, in Unix seconds."""
        return int(self.message.metadata.timestamp.timestamp())

    async def ack(self) -> None:
        """It is done. Lost acknowledgements are harmless: the message comes again and changes nothing."""
        with _translated("acknowledge a message"):
            await self.message.ack()

    async def in_progress(self) -> None:
        """It is being worked on: do not hand it to another yet."""
        with _translated("report progress"):
            await self.message.in_progress()

    async def again(self, delay_s: float) -> None:
        """It could not be done: hand it out again after a while."""
        with _translated("hand a message back"):
            await self.message.nak(delay=delay_s)

    async def terminate(self) -> None:
        """It can never be done: hand it to nobody any more."""
        with _translated("terminate a message"):
            await self.message.term()


@dataclass(frozen=True, slots=True)
class Record:
    """The verdicts on a shard, as the log has them."""

    verdicts: list[Verdicts]
    """In the order in which they were put there."""
    last: int
    """The sequence number of the latest of all; 0: there is none. Whoever adds to the record names it."""


class _translated:
    """Foreign exceptions of the log become LogError."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, nats.errors.MaxPayloadError):
            raise LogError(
                f"cannot {self._doing}: the NATS server takes no message so large; raise its max_payload"
            ) from error
        if isinstance(error, _FOREIGN):
            raise LogError(f"cannot {self._doing}: {_said(error)}; is the NATS server up?") from error


def _code(error: LogError) -> int | None:
    """JetStream's error code for why a call failed, if it was JetStream that refused it."""
    return error.__cause__.err_code if isinstance(error.__cause__, APIError) else None


def _said(error: BaseException) -> str:
    if isinstance(error, ServiceUnavailableError) and not error.description:
        return "JetStream does not answer"
    return str(error).removeprefix("nats: ").strip() or type(error).__name__


async def _within_deadline(work: Callable[[], Awaitable[None]]) -> None:
    """Do it if it can be done soon."""
    with suppress(*_FOREIGN):
        await asyncio.wait_for(work(), CLOSE_DEADLINE_S)


def _refuses_credentials(error: Exception) -> bool:
    return "authorization violation" in str(error).lower()


class Consumer:
    """A durable consumer, pulled from."""

    def __init__(self, subscription: JetStreamContext.PullSubscription, handed_out_until: int = 0) -> None:
        self._subscription = subscription
        self._handed_out_until = handed_out_until

    async def next(self, count: int, wait_s: float) -> list[Delivery]:
        """Up to `count` messages; fewer, or none, when no more came within `wait_s`."""
        began = time.monotonic()
        try:
            messages = await self._subscription.fetch(count, timeout=wait_s)
        except (TimeoutError, nats.errors.TimeoutError):
            if time.monotonic() - began < EARLY_S:
                await asyncio.sleep(EARLY_S)
            return []
        except _FOREIGN as error:
            raise LogError(f"cannot read the log: {_said(error)}; is the NATS server up?") from error
        # A cancellation that comes in the turn in which a message does is lost before Python 3.12
        # (asyncio.wait_for): whoever asks in a loop would go on for ever. The messages come again.
        if (task := asyncio.current_task()) and task.cancelling():
            raise asyncio.CancelledError
        return [Delivery(message.data, message, self._handed_out_until) for message in messages]

    async def pending(self) -> int:
        """How many messages are not delivered or not acknowledged yet."""
        with _translated("ask how far the log was read"):
            info = await self._subscription.consumer_info()
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def close(self) -> None:
        """Take nothing more: what would still come here is another's."""
        await _within_deadline(self._subscription.unsubscribe)


class Log:
    """A connection to the log. `open` it before anything else, or ask for a consumer, which does; it mends itself from
    then on."""

    def __init__(self, settings: Settings, role: str, *, governs: bool = False) -> None:
        self._settings = settings
        self._role = role
        self._governs = governs
        self._servers = list(settings.nats) or ["nats://127.0.0.1:4222"]
        self._shown = ", ".join(server.rpartition("@")[2].rpartition("/")[2] for server in self._servers)
        self._client: Client | None = None
        self._opening = asyncio.Lock()
        self._closing = False

    async def open(self) -> None:
        """Connect, if that was not done yet, and make the streams that are missing, by these settings.

        Streams that are there are brought to these settings by whoever governs, and stay as they are otherwise.

        Raises LogError when no server answers or takes the credentials: then call it again.
        """
        async with self._opening:
            if self._client is None or self._client.is_closed:
                self._client = await self._connected()
                self._jetstream = self._client.jetstream(timeout=CALL_DEADLINE_S)
            for stream in (
                streams.tick_stream,
                streams.observation_stream,
                streams.turn_stream,
                streams.verdict_stream,
            ):
                await self._create_stream(stream(self._settings))

    async def _connected(self) -> Client:
        latest: Exception | None = None

        async def on_error(error: Exception) -> None:
            nonlocal latest
            if latest is None or not _refuses_credentials(latest):  # it hangs up after that: no news
                latest = error
            logger.debug("nats", error=_said(error))

        async def on_disconnected() -> None:
            if client is self._client and not self._closing:
                logger.warning("the connection to NATS is lost, trying again", servers=self._shown)

        async def on_reconnected() -> None:
            logger.info("connected to NATS again", servers=self._shown)

        client = Client()
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await client.connect(
                    self._servers,
                    name=f"tidemark {self._role}",
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # it sleeps so many seconds
                    connect_timeout=2,
                    ping_interval=PING_S,
                    error_cb=on_error,
                    disconnected_cb=on_disconnected,
                    reconnected_cb=on_reconnected,
                )
        except BaseException as error:
            await _within_deadline(client.close)  # what it has begun, it would go on with
            if not isinstance(error, _FOREIGN):
                raise
            # nats-py goes on trying until the time is up; what went wrong, it said to on_error.
            said = _said(latest or error)
            if latest is not None and _refuses_credentials(latest):
                raise LogError(
                    f"NATS at {self._shown} refuses these credentials; give them as --nats nats://token@host:port"
                ) from error
            raise LogError(
                f"cannot reach NATS at {self._shown} ({said});"
                " start `nats-server -js` there, or name another with --nats"
            ) from error
        return client

    async def _create_stream(self, config: StreamConfig) -> None:
        with _translated(f"create the stream {config.name}"):
            try:
                await self._jetstream.add_stream(config)
            except APIError as error:
                if error.err_code == NO_ROOM:
                    raise LogError(
                        f"the NATS server has no room for {config.name}, which may take"
                        f" {(config.max_bytes or 0) / 1e9:g} GB: free disk there, raise its max_file_store or lower"
                        " --log-gigabytes"
                    ) from error
                if error.err_code != STREAM_IN_USE:
                    raise
                if self._governs:
                    await self._jetstream.update_stream(config)
                else:
                    logger.info(
                        "this stream is kept as the scheduler was told, not this process", stream=config.name
                    )

    async def publish_tick(self, tick: Tick) -> bool:
        """Put a tick on its queue, unless one of its shard waits there for a poller: that one keeps its place.

        Returns whether it is there. One that is in work is replaced; a repeated one is dropped by the server.
        """
        subject, data = streams.tick_subject(tick.shard), tick.encode()
        try:
            await self._publish_order(subject, data, tick.id, {EXPECTED_PLACE: "0"})
        except LogError as error:
            if _code(error) != NOT_THE_LAST:
                raise
        else:
            return True
        waiting = await self._waiting_tick(subject)
        if waiting is None:
            await self._publish_order(subject, data, tick.id)
        return waiting in (None, data)

    async def _waiting_tick(self, subject: str) -> bytes | None:
        """The tick that lies there, if it was not handed out yet. They are, in the order of their places."""
        with _translated("look at the tick queue"):
            try:
                tick = await self._jetstream.get_last_msg(streams.TICKS, subject)
            except NotFoundError:
                return None  # done meanwhile
            taken = (await self._jetstream.consumer_info(streams.TICKS, streams.POLLERS)).delivered
        return tick.data if taken is None or (tick.seq or 0) > taken.stream_seq else None

    async def publish_batch(self, shard: int, batch: Batch) -> bool:
        """Put a batch on the log. When this returns, it is on the server's disk.

        False when one of the same id was there: then this one is dropped.
        """
        added = await self._publish(streams.observation_subject(shard), batch.encode(), batch.tick_id)
        return not added.duplicate

    async def publish_turn(self, turn: Turn, issue: str = "") -> bool:
        """Put a turn on the queue of classifications; False when it was there before and the server dropped it.

        Another `issue` of the same turn is put there again: it takes what the record says is left.
        """
        # A turn that is taken early is not the same as the one that is due: the latter takes what is left.
        early = "" if turn.since_ms == turn.due_ms else "early "
        return await self._publish_order(
            streams.turn_subject(turn.shard), turn.encode(), f"{early}{turn.id}{issue}"
        )

    async def publish_jump(self, turn: Turn, day: int) -> None:
        """Put the turn of one influencer on the queue; dropped by the server if there was one that day."""
        pk = turn.first_pk
        await self._publish_order(streams.jump_subject(pk), turn.encode(), f"jump {pk}@{day}")

    async def publish_verdicts(self, shard: int, verdicts: Verdicts, last: int) -> int | None:
        """Add to the record of a shard, as it is known up to `last`; returns the new `last`.

        None when somebody else added to it meanwhile, or an earlier call of this one did whose answer was
        lost: then nothing was added, and the record is to be read again.
        """
        subject = streams.verdict_subject(shard)
        with _translated(f"publish on {subject}"):
            try:
                added = await self._jetstream.publish(
                    subject,
                    verdicts.encode(),
                    timeout=CALL_DEADLINE_S,
                    headers={EXPECTED_PLACE: str(last)},
                )
            except APIError as error:
                if error.err_code == NOT_THE_LAST:
                    return None
                raise
        return added.seq

    async def record(self, shard: int, since_ms: int) -> Record:
        """The verdicts on a shard that were put on the log since `since_ms` (Unix milliseconds)."""
        subject = streams.verdict_subject(shard)
        config = streams.record_consumer(shard, datetime.fromtimestamp(since_ms / 1_000, UTC))
        with _translated(f"read {subject}"):
            try:
                last = (await self._jetstream.get_last_msg(streams.VERDICTS, subject)).seq or 0
            except NotFoundError:
                return Record([], 0)
            subscription = await self._jetstream.pull_subscribe(
                subject, stream=streams.VERDICTS, config=config
            )
            verdicts = []
            try:
                info = await subscription.consumer_info()
                waiting = info.num_pending or 0
                while waiting:
                    messages = await subscription.fetch(
                        min(waiting, RECORD_FETCH_MESSAGES), timeout=CALL_DEADLINE_S
                    )
                    waiting -= len(messages)
                    for message in messages:
                        last = max(last, message.metadata.sequence.stream)
                        with suppress(MessageError):  # the stores say so
                            taken = Verdicts.decode(message.data)
                            verdicts.append(taken.logged_at(int(message.metadata.timestamp.timestamp())))
                await self._jetstream.delete_consumer(streams.VERDICTS, info.name)
            finally:
                await Consumer(subscription).close()
        return Record(verdicts, last)

    async def shards_with_verdicts(self) -> set[int]:
        """The shards that the record knows of."""
        with _translated("look at the verdicts"):
            info = await self._jetstream.stream_info(streams.VERDICTS, streams.VERDICT_SUBJECTS)
        shards = (subject.rpartition(".")[2] for subject in info.state.subjects or {})
        return {int(shard) for shard in shards if shard.isdecimal()}

    async def drop_turns_of_others(self, population: Population) -> set[int]:
        """Take the turns of another population off the queue, and return the shards that have one there.

        Who works on one of those dropped goes on.
        """
        with _translated("look at the queue of classifications"):
            info = await self._jetstream.stream_info(streams.CLASSIFICATIONS, streams.turn_subject("*"))
            numbers = (subject.rpartition(".")[2] for subject in info.state.subjects or {})
            shards = {int(number) for number in numbers if number.isdecimal()}
            stale = {shard for shard in shards if shard >= population.shards}
            # All are of one population: each start drops those of others. So one of them shows where theirs began.
            if shards and not stale.issuperset(shards) and await self._of_others(min(shards), population):
                stale = shards
            for shard in stale:
                await self._jetstream.purge_stream(
                    streams.CLASSIFICATIONS, subject=streams.turn_subject(shard)
                )
        return shards - stale

    async def _of_others(self, shard: int, population: Population) -> bool:
        try:
            latest = await self._jetstream.get_last_msg(streams.CLASSIFICATIONS, streams.turn_subject(shard))
            turn = Turn.decode(latest.data or b"")
        except NotFoundError:
            return False  # done meanwhile
        except MessageError:
            return True
        return (turn.first_pk, turn.last_pk) != population.shard_range(shard)

    async def _publish_order(
        self, subject: str, data: bytes, message_id: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> bool:
        """As below, but done also while another is at it: whoever issues orders goes on until his are taken.

        False when it was there before and the server dropped it.
        """
        try:
            return not (await self._publish(subject, data, message_id, headers)).duplicate
        except LogError as error:
            if _code(error) != IN_PROCESS:
                raise
            return True

    async def _publish(
        self, subject: str, data: bytes, message_id: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> PubAck:
        # Not publish_async: after a reconnect it may never complete (measured with nats-py 2.16).
        with _translated(f"publish on {subject}"):
            return await self._jetstream.publish(
                subject, data, timeout=CALL_DEADLINE_S, headers={"Nats-Msg-Id": message_id, **headers}
            )

    async def ticks_waiting(self) -> int:
        """How many ticks lie on the queue that no poller has taken yet."""
        with _translated("look at the tick queue"):
            return (await self._jetstream.consumer_info(streams.TICKS, streams.POLLERS)).num_pending or 0

    async def consume_ticks(self) -> Consumer:
        """The pollers' common consumer."""
        return await self._consume(streams.TICKS, streams.poller_consumer())

    async def consume_observations(self, store_id: str) -> Consumer:
        """The consumer of one store, from the first message on that is not acknowledged, in the log's order."""
        return await self._consume(streams.OBSERVATIONS, streams.store_consumer(store_id), again=True)

    async def consume_turns(self) -> Consumer:
        """The classifiers' common consumer of the turns of shards."""
        return await self._consume(streams.CLASSIFICATIONS, streams.classifier_consumer())

    async def consume_jumps(self) -> Consumer:
        """The classifiers' common consumer of those who jumped."""
        # On a work queue no two may get the same, and that of an earlier version got all.
        await self._make_consumer(streams.CLASSIFICATIONS, streams.classifier_consumer())
        return await self._consume(streams.CLASSIFICATIONS, streams.jump_consumer())

    async def consume_verdicts(self, store_id: str) -> Consumer:
        """The consumer of the verdicts for one store, as that of the observations."""
        return await self._consume(streams.VERDICTS, streams.verdict_consumer(store_id), again=True)

    async def _consume(self, stream: str, config: ConsumerConfig, *, again: bool = False) -> Consumer:
        """The consumer, made where it is missing, of a log that is opened first.

        `again`: whoever reads it now is the only one who does, so what was handed out before and not acknowledged
        comes at once, and before all that is newer.
        """
        info = await self._make_consumer(stream, config)
        name, handed_out_until = info.name, 0
        with _translated(f"read by the consumer {name}"):
            if again and info.num_ack_pending:
                handed_out_until = info.delivered.stream_seq if info.delivered else 0
                await self._from_the_first_unacknowledged(stream, name)
            # One message may wait here for each that was asked for; asking is what bounds them.
            subscription = await self._jetstream.pull_subscribe_bind(name, stream)
        return Consumer(subscription, handed_out_until)

    async def _make_consumer(self, stream: str, config: ConsumerConfig) -> ConsumerInfo:
        """It is there, as it was or as an earlier version made it, brought up to date."""
        name = config.durable_name
        assert name is not None
        await self.open()
        with _translated(f"create the consumer {name}"):
            info: ConsumerInfo
            try:
                info = await self._jetstream.consumer_info(stream, name)
            except NotFoundError:
                info = await self._jetstream.add_consumer(stream, config)
                return info
            before = (info.config.max_deliver or -1, info.config.filter_subject or None)
            if before != (config.max_deliver or -1, config.filter_subject):
                await self._jetstream.add_consumer(stream, config)
        return info

    async def _from_the_first_unacknowledged(self, stream: str, name: str) -> None:
        """The server forgets that they were handed out. One before 2.14 does not know this: there they come when their
        time to be acknowledged is up."""
        assert self._client is not None
        with suppress(nats.errors.NoRespondersError, nats.errors.TimeoutError):
            # Not in nats-py 2.16: ADR-60 of NATS.
            answer = await self._client.request(
                f"$JS.API.CONSUMER.RESET.{stream}.{name}", b"", timeout=CALL_DEADLINE_S
            )
            logger.debug(
                "reading again what was not acknowledged", consumer=name, answer=answer.data.decode()
            )

    async def close(self) -> None:
        """Flush what is buffered and disconnect."""
        if self._client is None:
            return
        self._closing = True
        # NATS may be gone, and nats-py fails to send it the rest; what it did not acknowledge, the caller knows.
        await _within_deadline(self._client.flush)
        await _within_deadline(self._client.close)


@asynccontextmanager
async def connect(settings: Settings, role: str, *, governs: bool = False) -> AsyncIterator[Log]:
    """A log that is closed in the end; `open` it.

    Who `governs` has the last word on replicas and limits of the streams: the scheduler. A poller that is started
    without `--replicas 3` would otherwise leave a fleet with one copy of its log.
    """
    log = Log(settings, role, governs=governs)
    try:
        yield log
    finally:
        await log.close()
