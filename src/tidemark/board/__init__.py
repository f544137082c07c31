"""The board: latest values, exact rank and average of every influencer, in memory.

latest   the columns that batches are applied to, newer observation wins.
names    the usernames, in Arrow blocks of one shard each.
search   who is meant by the beginning of a username or of a pk?
ranking  immutable sorted keys: rank, leaderboard, place.
gains    who won or lost the most followers since a moment?
view     the board as it stood at one moment, which readers ask.
table    a view as Arrow record batches, for the store.
board    puts them together; its `apply` and `publish` may run in two threads.

Pure: no I/O, no clock (times are arguments), only numpy and pyarrow. Everything is indexed by
`pk - population.first`; "index" in this package means that.
"""

from tidemark.board.board import Board
from tidemark.board.view import Freshness, Latest, VerdictCounts, View

__all__ = ["Board", "Freshness", "Latest", "VerdictCounts", "View"]
