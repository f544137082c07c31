-- What the program writes by statements of SQL, a named one each. Observations, names, averages and
-- influencers come as blocks of columns instead; clickhouse.py inserts those.

-- name: close_hours
-- The rollups of a run of whole hours (from inclusive, to exclusive) and a range of pks (inclusive) from the
-- observations. Repeating it adds the same rows with a newer closed_at, and those count. A part of a day holds each
-- influencer's hours one after the other, so several hours cost little more than one. Aggregated in the order in
-- which the rows lie: a range of 65,536 pks takes next to no memory.
INSERT INTO hourly_rollups
    (pk, hour, observations, last_observed_at,
     follower_first, follower_last, follower_min, follower_max, follower_sum,
     following_first, following_last, following_min, following_max, following_sum, closed_at)
SELECT
    o.pk,
    toStartOfHour(o.observed_at) AS hour,
    count(),
    max(o.observed_at),
    argMin(o.follower_count, o.observed_at),
    argMax(o.follower_count, o.observed_at),
    min(o.follower_count),
    max(o.follower_count),
    sum(o.follower_count),
    argMin(o.following_count, o.observed_at),
    argMax(o.following_count, o.observed_at),
    min(o.following_count),
    max(o.following_count),
    sum(o.following_count),
    {closed_at:DateTime64(3, 'UTC')}
FROM observations AS o
WHERE o.pk BETWEEN {first_pk:UInt32} AND {last_pk:UInt32}
  AND o.observed_at >= {from:DateTime('UTC')} AND o.observed_at < {to:DateTime('UTC')}
GROUP BY o.pk, hour
SETTINGS max_insert_threads = 1, max_threads = 1, optimize_aggregation_in_order = 1;

-- name: close_day
-- The day's rollups from the rollups of its hours: exact, because sums and extremes add up.
INSERT INTO daily_rollups
    (pk, day, observations, last_observed_at,
     follower_first, follower_last, follower_min, follower_max, follower_sum,
     following_first, following_last, following_min, following_max, following_sum, closed_at)
SELECT
    h.pk,
    toDate({day:DateTime('UTC')}),
    sum(h.observations),
    max(h.last_observed_at),
    argMin(h.follower_first, h.hour),
    argMax(h.follower_last, h.hour),
    min(h.follower_min),
    max(h.follower_max),
    sum(h.follower_sum),
    argMin(h.following_first, h.hour),
    argMax(h.following_last, h.hour),
    min(h.following_min),
    max(h.following_max),
    sum(h.following_sum),
    {closed_at:DateTime64(3, 'UTC')}
FROM hourly AS h
WHERE h.pk BETWEEN {first_pk:UInt32} AND {last_pk:UInt32}
  AND h.hour >= {day:DateTime('UTC')} AND h.hour < {day:DateTime('UTC')} + INTERVAL 1 DAY
GROUP BY h.pk
SETTINGS max_insert_threads = 1, max_threads = 1;

-- name: snapshot_ranks
-- Who stood where at the end of a closed day. rank() is the competition rank: equals share one.
INSERT INTO ranks_daily (pk, day, rank, influencers, follower_count, following_count, suspicious, taken_at)
SELECT
    d.pk,
    d.day,
    rank() OVER (ORDER BY d.follower_last DESC),
    count() OVER (),
    d.follower_last,
    d.following_last,
    i.suspicious,
    {taken_at:DateTime64(3, 'UTC')}
FROM daily AS d
LEFT JOIN influencers AS i ON i.pk = d.pk
WHERE d.day = toDate({day:DateTime('UTC')})
SETTINGS max_insert_threads = 1;

-- name: set_progress
-- Every period of the step that begins before closed_until is closed from now on.
INSERT INTO rollup_progress (step, closed_until, at)
SELECT {step:String}, {closed_until:DateTime('UTC')}, {at:DateTime64(3, 'UTC')};

-- name: remember_inserts
-- On a server, which may be busy with an insert still when its connection is broken and the same is tried again: of
-- inserts of the same rows into a day one counts, among the last hundred. What fails in the embedded engine is over
-- when it says so; there it would cost a tenth of each insert.
ALTER TABLE observations MODIFY SETTING non_replicated_deduplication_window = 100;

-- name: set_store_id
-- When the store is made, and when it is to read the log from its beginning.
INSERT INTO meta (key, value) SELECT 'store_id', {value:String};

-- name: record_migration
-- After all statements of a migration ran.
INSERT INTO schema_migrations (number, name) SELECT {number:UInt16}, {name:String};

-- name: prepare_influencers
-- A fresh table of the same shape; one that a crash left behind was dropped before.
CREATE TABLE influencers_next AS influencers;

-- name: drop_influencers_next
-- At once, not after the eight minutes that ClickHouse keeps a dropped table by default.
DROP TABLE IF EXISTS influencers_next SYNC;

-- name: swap_influencers
-- One moment: a query sees all of the old rows or all of the new ones.
EXCHANGE TABLES influencers AND influencers_next;

-- name: widen
-- For measurements: a file for each column whatever the size, so that each column's bytes are known.
ALTER TABLE {table:Identifier} MODIFY SETTING min_bytes_for_wide_part = 0;

-- name: merge
-- For measurements: merge what ClickHouse would merge sooner or later by itself.
OPTIMIZE TABLE {table:Identifier} FINAL;

-- name: merge_by_default
-- For measurements: merge the observations as ClickHouse does by itself.
ALTER TABLE observations RESET SETTING merge_selector_base;
