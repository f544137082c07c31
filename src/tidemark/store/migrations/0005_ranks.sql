-- Rank over time: who stood where at the end of each day.

CREATE TABLE IF NOT EXISTS ranks_daily
(
    pk              UInt32 COMMENT 'The influencer' CODEC(Delta, ZSTD(1)),
    day             Date COMMENT 'The day, in UTC' CODEC(DoubleDelta, ZSTD(1)),
    rank            UInt32 COMMENT '1 + how many influencers had strictly more followers at the end of the day' CODEC(Delta, T64('bit'), ZSTD(1)),
    influencers     UInt32 COMMENT 'How many influencers were ranked that day' CODEC(Delta, ZSTD(1)),
    follower_count  UInt32 COMMENT 'Followers, the last of the day' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_count UInt32 COMMENT 'Followings, the last of the day' CODEC(Delta, T64('bit'), ZSTD(1)),
    suspicious      Nullable(Bool) COMMENT 'The verdict that was known when the snapshot was taken',
    taken_at        DateTime64(3, 'UTC') COMMENT 'When this row was computed; the newest counts' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(taken_at)
PARTITION BY toYear(day)
ORDER BY (pk, day)
SETTINGS
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Daily snapshots of the rank, a row for each influencer observed that day. Read with FINAL.';
