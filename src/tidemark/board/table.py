"""A view as columns: one row for each observed influencer with all that the task asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from tidemark.board.latest import UNKNOWN
from tidemark.board.view import View

ROWS_MAX: Final = 100_000
"""Rows of a record batch: about 5 MB."""

SCHEMA: Final = pa.schema(
    [
        pa.field("pk", pa.uint32(), nullable=False),
        pa.field("username", pa.string(), nullable=False),
        pa.field("follower_count", pa.uint32(), nullable=False),
        pa.field("following_count", pa.uint32(), nullable=False),
        pa.field("follower_ratio", pa.float64()),
        pa.field("rank", pa.uint32(), nullable=False),
        pa.field("suspicious", pa.bool_()),
        pa.field("suspicious_checked_at", pa.uint32()),
        pa.field("observed_at", pa.uint32(), nullable=False),
    ]
)
"""Times in Unix seconds; null: nobody followed, or not classified; "": no name known."""


def record_batches(view: View, rows_max: int = ROWS_MAX) -> Iterator[pa.RecordBatch]:
    """The observed influencers of a view in the order of their pks, in record batches of SCHEMA.

    None of them is longer than `rows_max`. About 60 ms for a million.
    """
    values, size = view.values, view.population.size
    ranks = view.ranking.ranks_of_all(size)
    for start in range(0, size, rows_max):
        stop = min(start + rows_max, size)
        rows = np.flatnonzero(values.observed_at[start:stop])
        if not len(rows):
            continue
        indices = rows + start
        followers, followings = values.follower_count[indices], values.following_count[indices]
        nobody = followings == 0
        verdict = values.verdict[indices]
        unknown = verdict == UNKNOWN
        columns = [
            pa.array((indices + view.population.first).astype(np.uint32)),
            view.names.column(start, stop).take(pa.array(rows)),
            pa.array(followers),
            pa.array(followings),
            pa.array(followers / np.where(nobody, 1, followings), mask=nobody),
            pa.array(ranks[indices]),
            pa.array(verdict == 1, mask=unknown),
            pa.array(values.verdict_at[indices], mask=unknown),
            pa.array(values.observed_at[indices]),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
