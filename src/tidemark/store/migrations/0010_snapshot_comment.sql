-- Who is polled less often than every quarter of an hour is in a snapshot all the same.
ALTER TABLE follower_snapshots
    COMMENT COLUMN follower_count 'Followers, as observed last before the moment: a quarter of an hour at most, or two intervals';
