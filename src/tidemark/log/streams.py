"""Which streams, subjects and consumers are there, and with which limits?"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from tidemark.config import Settings

TICKS: Final = "TICKS"
OBSERVATIONS: Final = "OBSERVATIONS"
CLASSIFICATIONS: Final = "CLASSIFICATIONS"
VERDICTS: Final = "VERDICTS"
POLLERS: Final = "pollers"
"""The one consumer that all pollers share: JetStream hands each tick to one of them."""
CLASSIFIERS: Final = "classifiers"
"""The one that all classifiers share."""
JUMPS: Final = "classifiers-jumps"
"""And the one of who jumped: they wait for no sweep."""

TICK_DEDUPLICATION_S: Final = 60
"""Schedulers that issue the same tick do so within moments of each other."""
TICK_MAX_AGE_S: Final = 86_400
"""Ticks of shards that nobody watches any more disappear by themselves. Others wait as long for their turn, or for an
API that is away."""
TICK_ACK_WAIT_S: Final = 30
"""A poller reports progress three times in this while; a tick of one that is silent goes to another."""
TICKS_IN_WORK_MAX: Final = 20_000
"""Over all pollers: 16 for each of a thousand."""

BATCH_DEDUPLICATION_S: Final = 600
"""A tick is redelivered after 30 s, so its second batch comes well within this."""
BATCH_ACK_WAIT_S: Final = 60
"""Longer than the worst insert; what was not acknowledged by then is read again, and counts once."""
BATCHES_IN_WORK_MAX: Final = 4_096
"""Batches a sink may hold unacknowledged: about 14M observations, 150 MB."""
BATCH_MAX_BYTES: Final = 1_000_000
"""Under the 1 MiB payload limit that a NATS server has by default."""

TURNS_PER_SUBJECT_MAX: Final = 2
"""One in work and one that waits. Where more come, the classifier is days behind and the oldest goes."""
TURN_DEDUPLICATION_S: Final = 86_400
"""So a scheduler that is started again issues nothing twice, and a jump is told of once a day. Each id takes the server
245 bytes: where turns come sooner, it is as long as two of them, or TURN_DEDUPLICATION_MIN_S."""
TURN_DEDUPLICATION_MIN_S: Final = 120
TURN_MAX_AGE_S: Final = 8 * 86_400
"""Longer than the longest --classify-interval: turns of shards that nobody watches any more disappear."""
TURN_ACK_WAIT_S: Final = 10.0
"""A classifier reports progress three times in this while; the turn of one that is silent goes to another."""
TURNS_IN_WORK_MAX: Final = 20_000
VERDICT_MAX_AGE_S: Final = 15 * 86_400
"""Twice the longest --classify-interval and a day: the verdicts are the record of who had a turn."""
VERDICT_MAX_BYTES: Final = 2_000_000_000
"""A million influencers a day are 50 MB."""
RECORD_IDLE_S: Final = 30.0
"""A reader of the record that died is forgotten after this."""
VERDICTS_IN_WORK_MAX: Final = 16_384
"""Messages that a store may hold unacknowledged: some ten verdicts each."""

VERDICT_SUBJECTS: Final = "tidemark.verdicts.*"


def tick_subject(shard: int) -> str:
    """A subject for each shard, so that there is one tick of it: a new one replaces one that failed."""
    return f"tidemark.ticks.{shard}"


def observation_subject(shard: int) -> str:
    """A subject for each shard, never one for each influencer: the server keeps them all in memory."""
    return f"tidemark.observations.{shard}"


def turn_subject(shard: int | Literal["*"]) -> str:
    """A subject for each shard, so that turns nobody took do not pile up; `*` for all of them."""
    return f"tidemark.classifications.{shard}"


def jump_subject(pk: int | Literal["*"]) -> str:
    """A subject of its own for who is classified ahead of time: it must not push out the turn of a shard.

    One for an influencer is no trouble here: there are as many as wait, at most a hundredth of all.
    """
    return f"tidemark.classifications.jump.{pk}"


def verdict_subject(shard: int) -> str:
    """A subject for each shard, so that what is left of a turn can be read without reading all."""
    return f"tidemark.verdicts.{shard}"


def tick_stream(settings: Settings) -> StreamConfig:
    """A work queue in memory that holds at most one tick of each shard.

    In memory, because a tick is worth nothing after its interval: what a restart of NATS loses comes
    again with the next interval, and an fsync for each tick is saved.
    """
    return StreamConfig(
        name=TICKS,
        subjects=["tidemark.ticks.*"],
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.OLD,
        storage=StorageType.MEMORY,
        max_msgs_per_subject=1,
        max_age=TICK_MAX_AGE_S,
        duplicate_window=TICK_DEDUPLICATION_S,
        num_replicas=settings.replicas,
    )


def observation_stream(settings: Settings) -> StreamConfig:
    """The log proper: on disk, for as long as a reader may be away."""
    return StreamConfig(
        name=OBSERVATIONS,
        subjects=["tidemark.observations.*"],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_age=settings.log_hours * 3_600,
        max_bytes=int(settings.log_gigabytes * 1e9),
        max_msg_size=BATCH_MAX_BYTES,
        duplicate_window=min(BATCH_DEDUPLICATION_S, settings.log_hours * 3_600),  # NATS refuses a longer one
        num_replicas=settings.replicas,
    )


def turn_stream(settings: Settings) -> StreamConfig:
    """A work queue like that of the ticks, but on disk: a turn is worth a day."""
    return StreamConfig(
        name=CLASSIFICATIONS,
        subjects=["tidemark.classifications.>"],
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_msgs_per_subject=TURNS_PER_SUBJECT_MAX,
        max_age=TURN_MAX_AGE_S,
        duplicate_window=min(
            TURN_DEDUPLICATION_S, max(TURN_DEDUPLICATION_MIN_S, 2 * settings.classify_interval)
        ),
        num_replicas=settings.replicas,
    )


def verdict_stream(settings: Settings) -> StreamConfig:
    """The verdicts, on disk: what stores read, and the record of who had a turn."""
    return StreamConfig(
        name=VERDICTS,
        subjects=[VERDICT_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_age=VERDICT_MAX_AGE_S,
        max_bytes=VERDICT_MAX_BYTES,
        max_msg_size=BATCH_MAX_BYTES,
        num_replicas=settings.replicas,
    )


def poller_consumer() -> ConsumerConfig:
    """Shared by all pollers. A tick is handed out until it is done or the next one replaces it, however often."""
    return ConsumerConfig(
        durable_name=POLLERS,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=TICK_ACK_WAIT_S,
        max_ack_pending=TICKS_IN_WORK_MAX,
    )


def store_consumer(store_id: str) -> ConsumerConfig:
    """One for each store, named after it: a new store reads the log from its beginning."""
    return ConsumerConfig(
        durable_name=f"store-{store_id}",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=BATCH_ACK_WAIT_S,
        max_ack_pending=BATCHES_IN_WORK_MAX,
    )


def classifier_consumer() -> ConsumerConfig:
    """Shared by all classifiers. A turn is handed out until it is done, however often."""
    return _turn_consumer(CLASSIFIERS, turn_subject("*"))


def jump_consumer() -> ConsumerConfig:
    """The same for those who jumped."""
    return _turn_consumer(JUMPS, jump_subject("*"))


def _turn_consumer(name: str, subjects: str) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=name,
        filter_subject=subjects,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=TURN_ACK_WAIT_S,
        max_ack_pending=TURNS_IN_WORK_MAX,
    )


def verdict_consumer(store_id: str) -> ConsumerConfig:
    """One for each store, as that of the observations."""
    return ConsumerConfig(
        durable_name=f"verdicts-{store_id}",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=BATCH_ACK_WAIT_S,
        max_ack_pending=VERDICTS_IN_WORK_MAX,
    )


def record_consumer(shard: int, since: datetime) -> ConsumerConfig:
    """Reads the verdicts on a shard once, and is gone."""
    return ConsumerConfig(
        filter_subject=verdict_subject(shard),
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=since,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=RECORD_IDLE_S,
        mem_storage=True,
    )
