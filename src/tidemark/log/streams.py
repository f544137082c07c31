"""Which streams, subjects and consumers are there, and with which limits?"""

from __future__ import annotations

from typing import Final

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
POLLERS: Final = "pollers"
"""The one consumer that all pollers share: JetStream hands each tick to one of them."""

TICK_DEDUPLICATION_S: Final = 60
"""Schedulers that issue the same tick do so within moments of each other."""
TICK_MAX_AGE_S: Final = 3_600
"""Ticks of shards that nobody watches any more disappear by themselves."""
TICK_ACK_WAIT_S: Final = 30
"""A poller reports progress three times in this while; a tick of one that is silent goes to another."""
TICK_MAX_DELIVER: Final = 3
"""A tick that three pollers died of is left to the next tick, which replaces it."""
TICKS_IN_WORK_MAX: Final = 20_000
"""Over all pollers: 16 for each of a thousand."""

BATCH_DEDUPLICATION_S: Final = 600
"""A tick is redelivered after 30 s, so its second batch comes well within this."""
BATCH_ACK_WAIT_S: Final = 60
"""Longer than the worst insert; what was not acknowledged by then is read again, and counts once."""
BATCHES_IN_WORK_MAX: Final = 4_096
"""Batches a sink may hold unacknowledged: about 4M observations, 50 MB."""
BATCH_MAX_BYTES: Final = 1_000_000
"""Under the 1 MiB payload limit that a NATS server has by default."""


def tick_subject(shard: int) -> str:
    """A subject for each shard, so that a new tick replaces the one nobody took."""
    return f"tidemark.ticks.{shard}"


def observation_subject(shard: int) -> str:
    """A subject for each shard, never one for each influencer: the server keeps them all in memory."""
    return f"tidemark.observations.{shard}"


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
        duplicate_window=BATCH_DEDUPLICATION_S,
        num_replicas=settings.replicas,
    )


def poller_consumer() -> ConsumerConfig:
    """Shared by all pollers."""
    return ConsumerConfig(
        durable_name=POLLERS,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=TICK_ACK_WAIT_S,
        max_deliver=TICK_MAX_DELIVER,
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
