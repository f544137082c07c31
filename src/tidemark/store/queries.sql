-- Every question that is asked of the store, a named statement each. They run as they stand, in the
-- program and in any ClickHouse client: {name:Type} is a parameter (clickhouse-client --param_name=value,
-- the HTTP interface's param_name, SET param_name = value in chDB). Times are UTC; a parameter of type
-- DateTime takes Unix seconds as well, with ten digits. Ranges of time are from (inclusive) to (exclusive).


-- ---------------------------------------------------------------- one influencer, as of the last minute

-- name: latest_by_pk
-- All that is known of one influencer: name, counts, ratio, rank, verdict. One granule of 8,192 rows.
SELECT *
FROM influencers
WHERE pk = {pk:UInt32};

-- name: latest_observation_by_pk
-- The newest observation to the second, from the history. Without `since` it would have to look into
-- every day that is kept; an hour ago is enough for anybody who is being polled.
SELECT pk, observed_at, follower_count, following_count, follower_ratio
FROM observations
WHERE pk = {pk:UInt32} AND observed_at >= {since:DateTime('UTC')}
ORDER BY observed_at DESC
LIMIT 1;

-- name: rank_by_pk
-- The rank by followers: 1 + how many have strictly more, so that equals share a rank.
SELECT rank, follower_count, observed_at
FROM influencers
WHERE pk = {pk:UInt32};

-- name: rank_by_pk_now
-- The same, exact to the second, from everybody's latest observation since `since`. This one reads all that was
-- observed since then: make it two intervals ago, for a minute later some are missing from it. `known` is 0, and
-- the rank means nothing, for who was not observed since then.
WITH latest AS
(
    SELECT pk, argMax(follower_count, observed_at) AS followers
    FROM observations
    WHERE observed_at >= {since:DateTime('UTC')}
    GROUP BY pk
)
SELECT
    countIf(pk = {pk:UInt32}) AS known,
    1 + countIf(followers > (SELECT max(followers) FROM latest WHERE pk = {pk:UInt32})) AS rank
FROM latest;

-- name: names_by_pk
-- Every name that an influencer was seen under.
SELECT username, min(seen_at) AS first_seen_at
FROM usernames
WHERE pk = {pk:UInt32}
GROUP BY username
ORDER BY first_seen_at;


-- ---------------------------------------------------------------- across all influencers

-- name: average
-- averageFollowerCount across all influencers, as of the last minute.
SELECT count() AS influencers, avg(follower_count) AS average_follower_count
FROM influencers;

-- name: average_now
-- The same, exact to the second, from everybody's latest observation since `since`: two intervals ago, as above.
SELECT count() AS influencers, avg(followers) AS average_follower_count
FROM
(
    SELECT pk, argMax(follower_count, observed_at) AS followers
    FROM observations
    WHERE observed_at >= {since:DateTime('UTC')}
    GROUP BY pk
);

-- name: leaderboard
-- The influencers with the most followers; equals share a rank and stand in the order of their pks.
-- The projection by_rank of the table answers: a page is a granule, 3 ms where sorting a million takes 36.
SELECT *
FROM influencers
ORDER BY rank, pk
LIMIT {limit:UInt32} OFFSET {offset:UInt32};

-- name: gains
-- Who won the most followers since a snapshot (`snapshot_times` lists them), ties in the order of their pks;
-- `ORDER BY follower_gain` gives the biggest losses. Reads the one snapshot and two columns of `influencers`,
-- 0.3 s for a million: the API counts the same from the board, in 12 ms.
SELECT i.pk AS pk, i.follower_count AS follower_count, s.follower_count AS follower_count_before,
       toInt64(i.follower_count) - toInt64(s.follower_count) AS follower_gain
FROM influencers AS i
INNER JOIN
(
    SELECT DISTINCT pk, follower_count
    FROM follower_snapshots
    WHERE taken_at = {taken_at:DateTime('UTC')}
) AS s ON s.pk = i.pk
ORDER BY follower_gain DESC, pk
LIMIT {limit:UInt32} OFFSET {offset:UInt32};

-- name: verdicts
-- How many influencers are suspicious, not suspicious, or not classified yet.
SELECT
    countIf(i.suspicious) AS suspicious,
    countIf(NOT i.suspicious) AS not_suspicious,
    countIf(i.suspicious IS NULL) AS unknown
FROM influencers AS i;

-- name: leaderboard_without_suspicious
-- The leaderboard without those who are known to be suspicious; the ranks are still those among everybody.
-- The projection by_rank answers: 5 ms.
SELECT *
FROM influencers
WHERE NOT ifNull(suspicious, false)
ORDER BY rank, pk
LIMIT {limit:UInt32} OFFSET {offset:UInt32};

-- name: ranks_without_suspicious
-- The same with the ranks among those who are left, equals sharing one. Reads everybody: 80 ms for a million.
SELECT rank() OVER (ORDER BY i.rank) AS rank_without_suspicious, i.*
FROM influencers AS i
WHERE NOT ifNull(i.suspicious, false)
ORDER BY i.rank, i.pk
LIMIT {limit:UInt32} OFFSET {offset:UInt32};

-- name: rank_without_suspicious_by_pk
-- The rank of one influencer among those who are not suspicious: 1 + how many of them have strictly more
-- followers. Whoever is suspicious gets the rank they would have. Reads three columns of everybody: 10 ms.
SELECT
    countIf(i.pk = {pk:UInt32}) AS known,
    1 + countIf(
        i.follower_count > (SELECT follower_count FROM influencers WHERE pk = {pk:UInt32})
        AND NOT ifNull(i.suspicious, false)
    ) AS rank_without_suspicious
FROM influencers AS i;

-- name: verdict_history
-- Every verdict on one influencer.
SELECT checked_at, suspicious
FROM verdicts FINAL
WHERE pk = {pk:UInt32}
ORDER BY checked_at;


-- ---------------------------------------------------------------- one influencer over time
-- The value of a minute, hour or day is that of its last observation, so that a chart ends with the
-- latest value; the extremes and the average of all its observations stand beside it.

-- name: series_raw
-- Every observation.
-- The settings, here and for the steps below: an influencer's rows are a granule or two of each part. Reading the key
-- first, then the rest of the rows that match (PREWHERE), takes such a granule twice, reading the time first and the
-- counts after the sort (lazy materialization) likewise, and a second thread costs more than it helps. Nor are the
-- parts merged as they are read: a day's rows are sorted sooner. A day's series takes 0.73 of the time it takes without.
SELECT
    toUnixTimestamp(observed_at) AS time,
    follower_count,
    following_count
FROM observations
WHERE pk = {pk:UInt32}
  AND observed_at >= {from:DateTime('UTC')} AND observed_at < {to:DateTime('UTC')}
ORDER BY observed_at
LIMIT {limit:UInt32}
SETTINGS optimize_move_to_prewhere = 0, query_plan_optimize_lazy_materialization = 0, optimize_read_in_order = 0,
    max_threads = 1;

-- name: series_1m
-- By the minute, from the observations.
SELECT
    toUnixTimestamp(toStartOfMinute(o.observed_at)) AS time,
    argMax(o.follower_count, o.observed_at) AS follower_count,
    argMax(o.following_count, o.observed_at) AS following_count,
    count() AS observations,
    min(o.follower_count) AS follower_min,
    max(o.follower_count) AS follower_max,
    sum(o.follower_count) / count() AS follower_average,
    min(o.following_count) AS following_min,
    max(o.following_count) AS following_max,
    sum(o.following_count) / count() AS following_average
FROM observations AS o
WHERE o.pk = {pk:UInt32}
  AND o.observed_at >= {from:DateTime('UTC')} AND o.observed_at < {to:DateTime('UTC')}
GROUP BY time
ORDER BY time
LIMIT {limit:UInt32}
SETTINGS optimize_move_to_prewhere = 0, optimize_read_in_order = 0, max_threads = 1;

-- name: rollup_state
-- Ask this before series_1h and series_1d and hand its answer on: in this order the series is exact at
-- every moment, because a period counts as closed only after its rows are in the rollups.
-- closed_until: periods that begin before it are closed. reopened: hours that were closed and written to
-- since then, for this influencer; the rollups hold them again in a minute or so. Give whole hours as
-- from and to of series_1h, whole days to series_1d.
SELECT
    (SELECT max(closed_until) FROM rollup_progress WHERE step = {step:String}) AS closed_until,
    (SELECT groupUniqArray(hour) FROM rollup_marks FINAL
     WHERE cleared = 0 AND {pk:UInt32} BETWEEN first_pk AND last_pk) AS reopened;

-- name: series_1h
-- By the hour: closed hours from the rollups, open and reopened ones from the observations. From the table and not
-- from the view `hourly`, which says the same and takes 1.4 times as long: ClickHouse plans it as a query of its own.
SELECT
    time, follower_count, following_count, observations,
    follower_min, follower_max, follower_sum / observations AS follower_average,
    following_min, following_max, following_sum / observations AS following_average
FROM
(
    SELECT
        toUnixTimestamp(hour) AS time,
        follower_last AS follower_count,
        following_last AS following_count,
        toUInt64(observations) AS observations,
        follower_min, follower_max, follower_sum,
        following_min, following_max, following_sum
    FROM hourly_rollups FINAL
    WHERE pk = {pk:UInt32}
      AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
      AND hour < {closed_until:DateTime('UTC')} AND NOT has({reopened:Array(DateTime('UTC'))}, hour)
    UNION ALL
    SELECT
        toUnixTimestamp(toStartOfHour(o.observed_at)) AS time,
        argMax(o.follower_count, o.observed_at) AS follower_count,
        argMax(o.following_count, o.observed_at) AS following_count,
        count() AS observations,
        min(o.follower_count) AS follower_min,
        max(o.follower_count) AS follower_max,
        sum(o.follower_count) AS follower_sum,
        min(o.following_count) AS following_min,
        max(o.following_count) AS following_max,
        sum(o.following_count) AS following_sum
    FROM observations AS o
    WHERE o.pk = {pk:UInt32}
      AND o.observed_at >= {from:DateTime('UTC')} AND o.observed_at < {to:DateTime('UTC')}
      -- The first bound is for the index, the second says what is meant.
      AND o.observed_at >= arrayMin(arrayPushBack({reopened:Array(DateTime('UTC'))}, {closed_until:DateTime('UTC')}))
      AND (o.observed_at >= {closed_until:DateTime('UTC')}
           OR has({reopened:Array(DateTime('UTC'))}, toStartOfHour(o.observed_at)))
    GROUP BY time
)
ORDER BY time
LIMIT {limit:UInt32}
SETTINGS optimize_move_to_prewhere = 0, optimize_read_in_order = 0, max_threads = 1,
    do_not_merge_across_partitions_select_final = 1;

-- name: series_1d
-- By the day, likewise; a reopened hour reopens its day.
SELECT
    time, follower_count, following_count, observations,
    follower_min, follower_max, follower_sum / observations AS follower_average,
    following_min, following_max, following_sum / observations AS following_average
FROM
(
    SELECT
        toUnixTimestamp(toDateTime(day, 'UTC')) AS time,
        follower_last AS follower_count,
        following_last AS following_count,
        toUInt64(observations) AS observations,
        follower_min, follower_max, follower_sum,
        following_min, following_max, following_sum
    FROM daily_rollups FINAL
    WHERE pk = {pk:UInt32}
      AND day >= toDate({from:DateTime('UTC')}) AND day < toDate({to:DateTime('UTC')})
      AND day < toDate({closed_until:DateTime('UTC')}) AND NOT has(arrayMap(h -> toDate(h), {reopened:Array(DateTime('UTC'))}), day)
    UNION ALL
    SELECT
        toUnixTimestamp(toStartOfDay(o.observed_at)) AS time,
        argMax(o.follower_count, o.observed_at) AS follower_count,
        argMax(o.following_count, o.observed_at) AS following_count,
        count() AS observations,
        min(o.follower_count) AS follower_min,
        max(o.follower_count) AS follower_max,
        sum(o.follower_count) AS follower_sum,
        min(o.following_count) AS following_min,
        max(o.following_count) AS following_max,
        sum(o.following_count) AS following_sum
    FROM observations AS o
    WHERE o.pk = {pk:UInt32}
      AND o.observed_at >= {from:DateTime('UTC')} AND o.observed_at < {to:DateTime('UTC')}
      -- The first bound is for the index, the second says what is meant.
      AND o.observed_at >= toStartOfDay(arrayMin(arrayPushBack({reopened:Array(DateTime('UTC'))}, {closed_until:DateTime('UTC')})))
      AND (o.observed_at >= {closed_until:DateTime('UTC')}
           OR has(arrayMap(h -> toDate(h), {reopened:Array(DateTime('UTC'))}), toDate(o.observed_at)))
    GROUP BY time
)
ORDER BY time
LIMIT {limit:UInt32}
SETTINGS optimize_move_to_prewhere = 0, optimize_read_in_order = 0, max_threads = 1,
    do_not_merge_across_partitions_select_final = 1;

-- name: observation_before
-- The last observation from one moment to another, both inclusive: what a change is counted from. A granule or
-- two, as long as the two moments are hours apart and not months.
SELECT toUnixTimestamp(observed_at) AS observed_at, follower_count, following_count
FROM observations
WHERE pk = {pk:UInt32}
  AND observed_at >= {from:DateTime('UTC')} AND observed_at <= {to:DateTime('UTC')}
ORDER BY observed_at DESC
LIMIT 1
SETTINGS optimize_move_to_prewhere = 0, max_threads = 1;

-- name: hour_before
-- The same from the rollups, where the observations are gone: the last one of the last hour that ended in time.
SELECT toUnixTimestamp(last_observed_at) AS observed_at, follower_last AS follower_count, following_last AS following_count
FROM hourly_rollups FINAL
WHERE pk = {pk:UInt32}
  AND hour >= toStartOfHour({from:DateTime('UTC')}) AND hour <= {to:DateTime('UTC')}
  AND last_observed_at >= {from:DateTime('UTC')} AND last_observed_at <= {to:DateTime('UTC')}
ORDER BY hour DESC
LIMIT 1
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- name: rank_series
-- The rank at the end of each day.
SELECT day, rank, influencers, follower_count, suspicious
FROM ranks_daily FINAL
WHERE pk = {pk:UInt32}
  AND day >= toDate({from:DateTime('UTC')}) AND day < toDate({to:DateTime('UTC')})
ORDER BY day;

-- name: average_series
-- averageFollowerCount over time, in steps of so many seconds; the value of a step is its last one.
SELECT
    toUInt32(intDiv(toUnixTimestamp(a.at), {step_s:UInt32}) * {step_s:UInt32}) AS time,
    argMax(a.average_follower_count, a.at) AS average_follower_count,
    argMax(a.influencers, a.at) AS influencers,
    min(a.average_follower_count) AS average_min,
    max(a.average_follower_count) AS average_max
FROM averages AS a
WHERE a.at >= {from:DateTime('UTC')} AND a.at < {to:DateTime('UTC')}
GROUP BY time
ORDER BY time
LIMIT {limit:UInt32};


-- ---------------------------------------------------------------- the program's own questions

-- name: existing_rows
-- What is stored of these influencers in this time (both ends inclusive): the sink leaves it out when a
-- batch comes again.
SELECT pk, toUnixTimestamp(observed_at) AS observed_at_s
FROM observations
WHERE pk BETWEEN {first_pk:UInt32} AND {last_pk:UInt32}
  AND observed_at BETWEEN {from:DateTime('UTC')} AND {to:DateTime('UTC')};

-- name: observations_page
-- So many observations by pk and time, those that come after (after_pk, after): for reading everything in turn.
-- The rows lie in this order, so nothing is sorted and only what is returned is read.
SELECT pk, toUnixTimestamp(observed_at) AS observed_at, follower_count, following_count
FROM observations AS o
WHERE o.pk >= {after_pk:UInt32} AND o.pk <= {last_pk:UInt32}
  AND (o.pk > {after_pk:UInt32} OR o.observed_at > {after:DateTime('UTC')})
  AND o.observed_at >= {from:DateTime('UTC')} AND o.observed_at < {to:DateTime('UTC')}
ORDER BY o.pk, o.observed_at
LIMIT {limit:UInt32}
SETTINGS max_threads = 1;

-- name: extent
-- How many observations, and from when to when; answered from the parts' own minima and maxima.
SELECT
    count() AS observations,
    toUnixTimestamp(min(observed_at)) AS first_s,
    toUnixTimestamp(max(observed_at)) AS last_s
FROM observations;

-- name: damaged_parts
-- What ClickHouse could not read and set aside, in the folder `detached` of each table: rows that no answer has any more.
SELECT table, count() AS parts
FROM system.detached_parts
WHERE database = currentDatabase() AND startsWith(reason, 'broken')
GROUP BY table
ORDER BY table;

-- name: first_time
-- The oldest moment that anything is kept of, in Unix seconds; 0 in an empty store.
SELECT min(first_s) AS first_s
FROM
(
    SELECT count() AS n, toUnixTimestamp(min(observed_at)) AS first_s FROM observations
    UNION ALL
    SELECT count() AS n, toUnixTimestamp(min(hour)) AS first_s FROM hourly_rollups
    UNION ALL
    SELECT count() AS n, toUnixTimestamp(toDateTime(min(day), 'UTC')) AS first_s FROM daily_rollups
)
WHERE n > 0;

-- name: first_part_since
-- Where the first observation at or after a moment may be, by the parts' time ranges; NULL: there is none.
-- A part that the retention emptied stays for a while, and its range is 1970.
SELECT if(count() = 0, NULL, toUnixTimestamp(min(greatest(min_time, {since:DateTime('UTC')})))) AS since_s
FROM system.parts
WHERE active AND rows > 0 AND database = currentDatabase() AND table = 'observations'
  AND max_time >= {since:DateTime('UTC')};

-- name: newest_since
-- Everybody's latest observation since a moment, inclusive. Parts that end earlier are not opened.
SELECT
    o.pk AS pk,
    toUnixTimestamp(max(o.observed_at)) AS observed_at,
    argMax(o.follower_count, o.observed_at) AS follower_count,
    argMax(o.following_count, o.observed_at) AS following_count
FROM observations AS o
WHERE o.observed_at >= {since:DateTime('UTC')}
GROUP BY o.pk
ORDER BY pk;

-- name: written_down
-- When everybody's row was last written to `influencers`, in Unix seconds: the average of that moment follows it.
SELECT toUnixTimestamp(max(at)) AS at_s
FROM averages;

-- name: influencers
-- Everybody as of the last minute.
SELECT
    pk, username, follower_count, following_count, follower_ratio, rank, suspicious,
    toUnixTimestamp(suspicious_checked_at) AS suspicious_checked_at,
    toUnixTimestamp(observed_at) AS observed_at
FROM influencers
ORDER BY pk;

-- name: usernames_since
-- The latest name of everybody whose name was first seen or changed since a moment, inclusive.
SELECT u.pk AS pk, argMax(u.username, u.seen_at) AS username
FROM usernames AS u
WHERE u.seen_at >= {since:DateTime('UTC')}
GROUP BY u.pk
ORDER BY pk;

-- name: verdicts_since
-- The latest verdict on everybody of whom this store took one since a moment, inclusive.
SELECT
    v.pk AS pk,
    toUnixTimestamp(max(v.checked_at)) AS checked_at,
    argMax(v.suspicious, v.checked_at) AS suspicious
FROM verdicts AS v
WHERE v.stored_at >= {since:DateTime('UTC')}
GROUP BY v.pk
ORDER BY pk;

-- name: snapshot_times
-- When the snapshots of everybody's followers were taken, in Unix seconds; from the parts' own minima.
SELECT DISTINCT toUnixTimestamp(min_time) AS taken_at
FROM system.parts
WHERE active AND database = currentDatabase() AND table = 'follower_snapshots' AND rows > 0
ORDER BY taken_at;

-- name: snapshot
-- One snapshot. Its partition has one part; while a second one, of a repeated insert, is not merged yet, its
-- rows come twice and are the same.
SELECT pk, follower_count
FROM follower_snapshots
WHERE taken_at = {taken_at:DateTime('UTC')};

-- name: rollup_progress
-- Up to where each step is closed, and the newest version in the rollups.
SELECT
    step,
    toUnixTimestamp(max(closed_until)) AS closed_until_s,
    max(toUnixTimestamp64Milli(at)) AS version_ms
FROM rollup_progress
GROUP BY step;

-- name: rollup_marks
-- The hours that were written to after they were closed, and not computed anew yet.
SELECT id, toUnixTimestamp(hour) AS hour_s, first_pk, last_pk
FROM rollup_marks FINAL
WHERE cleared = 0
ORDER BY id;

-- name: migrations
-- The numbers of the schema changes that were applied.
SELECT number FROM schema_migrations;

-- name: table_definitions
-- The present CREATE statements.
SELECT name, create_table_query AS definition FROM system.tables WHERE database = currentDatabase();

-- name: store_id
-- The store's own name.
SELECT value FROM meta FINAL WHERE key = 'store_id';

-- name: table_sizes
-- Rows and bytes on disk of each table.
SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts
FROM system.parts
WHERE active AND database = currentDatabase()
GROUP BY table
ORDER BY table;

-- name: column_sizes
-- Compressed bytes of each column; parts that keep all columns in one file (compact) count as 0.
SELECT column, sum(column_data_compressed_bytes) AS bytes, sum(rows) AS rows
FROM system.parts_columns
WHERE active AND database = currentDatabase() AND table = {table:String}
GROUP BY column
ORDER BY column;

-- name: merged_rows
-- Rows that merges wrote since the engine started. For measurements.
SELECT sum(value) AS rows FROM system.events WHERE event = 'MergedRows';
