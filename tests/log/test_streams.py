"""What the streams and consumers promise, whatever the settings."""

import numpy as np
import pytest
from nats.js.api import AckPolicy, DiscardPolicy, RetentionPolicy, StorageType

from tidemark.config import load
from tidemark.log import streams
from tidemark.messages import (
    BATCH_MAX_ROWS,
    COUNT_MAX,
    TIME_MAX_MS,
    USERNAME_MAX_CHARACTERS,
    Batch,
    string_array,
)
from tidemark.population import SHARD_SIZE_PKS


def test_ticks_are_a_queue_of_one_for_each_shard() -> None:
    stream = streams.tick_stream(load(replicas=3))
    assert stream.retention == RetentionPolicy.WORK_QUEUE
    assert stream.max_msgs_per_subject == 1
    assert stream.discard == DiscardPolicy.OLD
    assert stream.num_replicas == 3


def test_batches_are_kept_on_disk_for_as_long_as_was_asked() -> None:
    stream = streams.observation_stream(load(log_hours=2, log_gigabytes=0.5))
    assert stream.retention == RetentionPolicy.LIMITS
    assert stream.storage == StorageType.FILE
    assert (stream.max_age, stream.max_bytes) == (7_200, 500_000_000)
    assert stream.duplicate_window == streams.BATCH_DEDUPLICATION_S


@pytest.mark.parametrize("hours", [0.1, 0.15, 1, 48])
def test_no_batch_is_remembered_for_longer_than_it_is_kept(hours: float) -> None:
    stream = streams.observation_stream(load(log_hours=hours))
    assert stream.duplicate_window is not None
    assert stream.max_age is not None
    assert 0 < stream.duplicate_window <= stream.max_age


def test_a_subject_for_each_shard() -> None:
    assert streams.tick_subject(7) != streams.tick_subject(8)
    for subject, stream in [
        (streams.tick_subject(7), streams.tick_stream(load())),
        (streams.observation_subject(7), streams.observation_stream(load())),
    ]:
        assert stream.subjects == [subject.rpartition(".")[0] + ".*"]


def test_nothing_counts_as_done_unless_it_was_said() -> None:
    for consumer in (streams.poller_consumer(), streams.store_consumer("x")):
        assert consumer.ack_policy == AckPolicy.EXPLICIT
    assert streams.store_consumer("x").max_deliver is None
    assert streams.store_consumer("x").durable_name != streams.store_consumer("y").durable_name


def test_a_redelivered_tick_is_recognised() -> None:
    assert streams.TICK_ACK_WAIT_S < streams.BATCH_DEDUPLICATION_S
    assert SHARD_SIZE_PKS <= BATCH_MAX_ROWS


def test_the_largest_batch_of_a_shard_fits_into_a_message() -> None:
    """Names as long as they may be, of characters of four bytes, in no order; and counters that repeat nothing."""
    random = np.random.default_rng(1)
    characters = random.integers(0x10000, 0x110000, (SHARD_SIZE_PKS, USERNAME_MAX_CHARACTERS))
    counts = random.integers(0, COUNT_MAX, (2, SHARD_SIZE_PKS), np.uint32)
    batch = Batch(
        tick_id="x" * 100,
        pk=np.sort(random.choice(2**32 - 1, SHARD_SIZE_PKS, replace=False)).astype(np.uint32),
        observed_at_ms=random.integers(1, TIME_MAX_MS, SHARD_SIZE_PKS),
        follower_count=counts[0],
        following_count=counts[1],
        username=string_array(["".join(map(chr, name)) for name in characters.tolist()]),
    )
    assert len(batch.encode()) <= streams.BATCH_MAX_BYTES
