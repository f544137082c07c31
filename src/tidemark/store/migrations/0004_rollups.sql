-- Hours and days, computed once when they are over. Read the views `hourly` and `daily`.
--
-- A row may be computed again, when late observations came for its hour: the row with the newest
-- closed_at counts. Until ClickHouse merges the two, FINAL picks it, and the views hide FINAL.
-- Sums are kept, not averages: the average of a day is then exact, whatever the number of observations
-- in each of its hours.
--
-- Partitions of a week: closing a day reads a week of hourly rows at most, and a chart of twelve weeks
-- opens twelve.

CREATE TABLE IF NOT EXISTS hourly_rollups
(
    pk               UInt32 COMMENT 'The influencer' CODEC(Delta, ZSTD(1)),
    hour             DateTime('UTC') COMMENT 'Where the hour begins' CODEC(DoubleDelta, ZSTD(1)),
    observations     UInt32 COMMENT 'How many observations' CODEC(Delta, T64('bit'), ZSTD(1)),
    last_observed_at DateTime('UTC') COMMENT 'When the last of them was' CODEC(DoubleDelta, ZSTD(3)),
    follower_first   UInt32 COMMENT 'Followers at the first observation' CODEC(Delta, T64('bit'), ZSTD(1)),
    follower_last    UInt32 COMMENT 'Followers at the last observation' CODEC(Delta, T64('bit'), ZSTD(1)),
    follower_min     UInt32 COMMENT 'Fewest followers' CODEC(Delta, T64('bit'), ZSTD(1)),
    follower_max     UInt32 COMMENT 'Most followers' CODEC(Delta, T64('bit'), ZSTD(1)),
    follower_sum     UInt64 COMMENT 'Sum of the followers; by observations it is the average' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_first  UInt32 COMMENT 'Followings at the first observation' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_last   UInt32 COMMENT 'Followings at the last observation' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_min    UInt32 COMMENT 'Fewest followings' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_max    UInt32 COMMENT 'Most followings' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_sum    UInt64 COMMENT 'Sum of the followings' CODEC(Delta, T64('bit'), ZSTD(1)),
    closed_at        DateTime64(3, 'UTC') COMMENT 'When this row was computed; the newest counts' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(closed_at)
PARTITION BY toMonday(hour)
ORDER BY (pk, hour)
SETTINGS
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Each influencer''s closed hours. Read the view hourly instead: it leaves out what was computed anew.';

CREATE TABLE IF NOT EXISTS daily_rollups
(
    pk               UInt32 COMMENT 'The influencer' CODEC(Delta, ZSTD(1)),
    day              Date COMMENT 'The day, in UTC' CODEC(DoubleDelta, ZSTD(1)),
    observations     UInt32 COMMENT 'How many observations' CODEC(Delta, T64('bit'), ZSTD(1)),
    last_observed_at DateTime('UTC') COMMENT 'When the last of them was' CODEC(DoubleDelta, ZSTD(3)),
    follower_first   UInt32 COMMENT 'Followers at the first observation' CODEC(Delta, T64('bit'), ZSTD(1)),
    follower_last    UInt32 COMMENT 'Followers at the last observation' CODEC(Delta, T64('bit'), ZSTD(1)),
    follower_min     UInt32 COMMENT 'Fewest followers' CODEC(Delta, T64('bit'), ZSTD(1)),
    follower_max     UInt32 COMMENT 'Most followers' CODEC(Delta, T64('bit'), ZSTD(1)),
    follower_sum     UInt64 COMMENT 'Sum of the followers; by observations it is the average' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_first  UInt32 COMMENT 'Followings at the first observation' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_last   UInt32 COMMENT 'Followings at the last observation' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_min    UInt32 COMMENT 'Fewest followings' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_max    UInt32 COMMENT 'Most followings' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_sum    UInt64 COMMENT 'Sum of the followings' CODEC(Delta, T64('bit'), ZSTD(1)),
    closed_at        DateTime64(3, 'UTC') COMMENT 'When this row was computed; the newest counts' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(closed_at)
PARTITION BY toYear(day)
ORDER BY (pk, day)
SETTINGS
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Each influencer''s closed days. Read the view daily instead.';

CREATE VIEW IF NOT EXISTS hourly AS
SELECT
    pk, hour, observations, last_observed_at,
    follower_first, follower_last, follower_min, follower_max, follower_sum,
    follower_sum / observations AS follower_average,
    following_first, following_last, following_min, following_max, following_sum,
    following_sum / observations AS following_average,
    follower_last / nullIf(following_last, 0) AS follower_ratio
FROM hourly_rollups FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Each influencer''s closed hours, a row each.';

CREATE VIEW IF NOT EXISTS daily AS
SELECT
    pk, day, observations, last_observed_at,
    follower_first, follower_last, follower_min, follower_max, follower_sum,
    follower_sum / observations AS follower_average,
    following_first, following_last, following_min, following_max, following_sum,
    following_sum / observations AS following_average,
    follower_last / nullIf(following_last, 0) AS follower_ratio
FROM daily_rollups FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Each influencer''s closed days, a row each.';

CREATE TABLE IF NOT EXISTS rollup_progress
(
    step         LowCardinality(String) COMMENT '1h or 1d',
    closed_until DateTime('UTC') COMMENT 'Every period that begins before this moment is closed',
    at           DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When that was so'
)
ENGINE = ReplacingMergeTree(at)
ORDER BY step
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1
COMMENT 'Up to where hours and days are closed.';

CREATE TABLE IF NOT EXISTS rollup_marks
(
    id        UInt64 COMMENT 'Unique in this store',
    hour      DateTime('UTC') COMMENT 'The closed hour that was written to',
    first_pk  UInt32 COMMENT 'The first influencer that got a late observation',
    last_pk   UInt32 COMMENT 'The last one, inclusive',
    cleared   UInt8 COMMENT '1: the hour and its day were computed anew',
    marked_at DateTime('UTC') DEFAULT now()
)
ENGINE = ReplacingMergeTree(cleared)
ORDER BY id
TTL marked_at + INTERVAL 7 DAY DELETE WHERE cleared = 1
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1
COMMENT 'Closed hours that late observations were written to. A mark is written before the rows are, and cleared when the rollups hold them.';
