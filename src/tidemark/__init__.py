"""Tidemark watches how high the tide of followers stands, for every influencer, every minute.

The nouns, as the code, the SQL, the metrics and the documents use them:

influencer   somebody on Mockstagram, known by a pk.
observation  one answer of the API: pk, username, followers, followings, and when it came.
shard        a fixed, contiguous run of 3,334 pks.
tick         the order to poll one shard now.
batch        the observations of one tick, or of a part of it, in columns.
log          the durable stream of batches (NATS JetStream).
store        the time-series database (ClickHouse).
board        latest values, rank and average, in memory.
view         the board as it stood at one moment; every answer to a reader comes from one view.

The way of the data: `schedule` -> `poll` -> `log` -> `store` and `board` -> `serve`.
"""

from typing import Final

__version__: Final = "0.1.0"
