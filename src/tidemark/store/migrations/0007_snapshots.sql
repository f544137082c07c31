-- How many followers everybody had, every ten minutes for a little over a day: what gains are counted from.
--
-- A partition is one snapshot: it is read as one part without an index, never merged with another, and
-- goes as a whole when it is too old. A million influencers take 2.4 MB each time, 375 MB in all.
-- A snapshot that is written twice is the same rows, and of those one stays.

CREATE TABLE IF NOT EXISTS follower_snapshots
(
    taken_at       DateTime('UTC') COMMENT 'The moment of the snapshot' CODEC(DoubleDelta, ZSTD(1)),
    pk             UInt32 COMMENT 'The influencer' CODEC(Delta, ZSTD(1)),
    follower_count UInt32 COMMENT 'Followers, as observed last before the moment, a quarter of an hour at most' CODEC(T64('bit'), ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY taken_at
ORDER BY (taken_at, pk)
TTL taken_at + INTERVAL 26 HOUR
SETTINGS
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'The followers of everybody who was being observed, every ten minutes for 26 hours: gains are counted from these.';
