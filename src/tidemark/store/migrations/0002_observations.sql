-- The history: every answer of the API.
--
-- Order: an influencer's rows lie together and in time, so a chart reads one or two granules of 4,096
-- rows from each part. Parts of less than a gigabyte keep their columns in one file (compact): opening four files
-- in each of ten or so parts is what a day's series takes longest for. Both together make it a third faster for 4%
-- more bytes. Partitions are days: dropping a day of raw rows is dropping its folder.
--
-- Codecs, by measurement (`tidemark bench storage`): pks and times are nearly arithmetic. The counters
-- walk at random, so nothing beats their entropy; T64('bit') transposes single bits, so ZSTD is left with
-- the few bits that vary, and one observation takes about 3.0 bytes where plain ZSTD takes 5.4.
--
-- Durability: an insert is on the disk before it returns. min_rows_to_fsync_after_merge matters as much:
-- chDB deletes the parts that went into a merge at once (old_parts_lifetime = 0), so a merged part that
-- is not on the disk yet would take durable rows with it when the power fails.

CREATE TABLE IF NOT EXISTS observations
(
    pk              UInt32 COMMENT 'The influencer' CODEC(Delta, ZSTD(1)),
    observed_at     DateTime('UTC') COMMENT 'When the API answered' CODEC(DoubleDelta, ZSTD(3)),
    follower_count  UInt32 COMMENT 'Followers' CODEC(Delta, T64('bit'), ZSTD(1)),
    following_count UInt32 COMMENT 'Followings' CODEC(Delta, T64('bit'), ZSTD(1)),
    follower_ratio  Nullable(Float64) ALIAS follower_count / nullIf(following_count, 0)
                    COMMENT 'Followers by followings; NULL when nobody is followed. Computed when read, so name it: * leaves it out'
)
ENGINE = MergeTree
PARTITION BY toDate(observed_at)
ORDER BY (pk, observed_at)
SETTINGS
    index_granularity = 4096,
    min_bytes_for_wide_part = 1000000000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1
COMMENT 'Every observation, one row for each influencer and second. (pk, observed_at) is unique; the sink sees to it.';
