-- What every column is, also of the views, where a client looks for it.
ALTER TABLE hourly
    COMMENT COLUMN pk 'The influencer',
    COMMENT COLUMN hour 'Where the hour begins',
    COMMENT COLUMN observations 'How many observations',
    COMMENT COLUMN last_observed_at 'When the last of them was',
    COMMENT COLUMN follower_first 'Followers at the first observation',
    COMMENT COLUMN follower_last 'Followers at the last observation',
    COMMENT COLUMN follower_min 'Fewest followers',
    COMMENT COLUMN follower_max 'Most followers',
    COMMENT COLUMN follower_sum 'Sum of the followers, which add up to those of longer periods',
    COMMENT COLUMN follower_average 'Average of the followers of all observations',
    COMMENT COLUMN following_first 'Followings at the first observation',
    COMMENT COLUMN following_last 'Followings at the last observation',
    COMMENT COLUMN following_min 'Fewest followings',
    COMMENT COLUMN following_max 'Most followings',
    COMMENT COLUMN following_sum 'Sum of the followings',
    COMMENT COLUMN following_average 'Average of the followings of all observations',
    COMMENT COLUMN follower_ratio 'Followers by followings at the last observation; NULL when nobody was followed';

ALTER TABLE daily
    COMMENT COLUMN pk 'The influencer',
    COMMENT COLUMN day 'The day, in UTC',
    COMMENT COLUMN observations 'How many observations',
    COMMENT COLUMN last_observed_at 'When the last of them was',
    COMMENT COLUMN follower_first 'Followers at the first observation',
    COMMENT COLUMN follower_last 'Followers at the last observation',
    COMMENT COLUMN follower_min 'Fewest followers',
    COMMENT COLUMN follower_max 'Most followers',
    COMMENT COLUMN follower_sum 'Sum of the followers, which add up to those of longer periods',
    COMMENT COLUMN follower_average 'Average of the followers of all observations',
    COMMENT COLUMN following_first 'Followings at the first observation',
    COMMENT COLUMN following_last 'Followings at the last observation',
    COMMENT COLUMN following_min 'Fewest followings',
    COMMENT COLUMN following_max 'Most followings',
    COMMENT COLUMN following_sum 'Sum of the followings',
    COMMENT COLUMN following_average 'Average of the followings of all observations',
    COMMENT COLUMN follower_ratio 'Followers by followings at the last observation; NULL when nobody was followed';

ALTER TABLE meta COMMENT COLUMN value 'Its value';

ALTER TABLE rollup_marks COMMENT COLUMN marked_at 'When the mark was written';
