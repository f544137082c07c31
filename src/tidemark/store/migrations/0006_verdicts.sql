-- Suspicious or not, over time: a verdict a day for each influencer. The latest one of each stands in
-- `influencers` as well.
--
-- The log delivers verdicts at least once. One that comes again is the same (pk, checked_at), and of those
-- one row stays: read with FINAL, which for a single influencer costs nothing.

CREATE TABLE IF NOT EXISTS verdicts
(
    pk         UInt32 COMMENT 'The influencer' CODEC(Delta, ZSTD(1)),
    checked_at DateTime('UTC') COMMENT 'When the verdict was given' CODEC(Delta, ZSTD(1)),
    suspicious Bool COMMENT 'The verdict' CODEC(ZSTD(1)),
    stored_at  DateTime('UTC') DEFAULT now() COMMENT 'When this store took it' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(checked_at)
ORDER BY (pk, checked_at)
SETTINGS
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Every verdict. Read with FINAL: a verdict that was delivered twice is there once.';
