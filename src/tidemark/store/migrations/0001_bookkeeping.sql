-- What the store knows about itself: which migrations ran, and who it is.
-- A migration is applied statement by statement and recorded when all of them ran. A crash in between
-- makes it run again, so each statement is written to be repeatable.

CREATE TABLE IF NOT EXISTS schema_migrations
(
    number     UInt16 COMMENT 'The number its file name begins with',
    name       String COMMENT 'The rest of the file name',
    applied_at DateTime('UTC') DEFAULT now() COMMENT 'When it was recorded as done'
)
ENGINE = ReplacingMergeTree
ORDER BY number
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1
COMMENT 'The schema changes that were applied, a row each.';

CREATE TABLE IF NOT EXISTS meta
(
    key   String COMMENT 'store_id: this store''s own random name; the consumer of the log is named after it',
    value String
)
ENGINE = ReplacingMergeTree
ORDER BY key
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1
COMMENT 'Facts about this store, a row each.';
