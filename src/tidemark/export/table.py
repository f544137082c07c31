"""Which columns does an exported history have? (pure)

Those of the table `observations`, by the same names; the ratio is null where nobody is followed.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

SCHEMA: Final = pa.schema(
    [
        pa.field("pk", pa.uint32(), nullable=False),
        pa.field("observed_at", pa.timestamp("s", "UTC"), nullable=False),
        pa.field("follower_count", pa.uint32(), nullable=False),
        pa.field("following_count", pa.uint32(), nullable=False),
        pa.field("follower_ratio", pa.float64()),
    ]
)


def observations(page: pa.Table) -> pa.Table:
    """A page of the store (uint32 columns, times in Unix seconds) as a table of SCHEMA."""
    followers, followings = page["follower_count"], page["following_count"]
    nobody = pc.equal(followings, 0)
    divisor = pc.if_else(nobody, pa.scalar(None, pa.float64()), followings.cast(pa.float64()))
    columns = [
        page["pk"],
        page["observed_at"].cast(pa.int64()).cast(pa.timestamp("s", "UTC")),
        followers,
        followings,
        pc.divide(followers.cast(pa.float64()), divisor),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def with_written_times(table: pa.Table) -> pa.Table:
    """For CSV: times as `2026-01-31T12:00:00Z`."""
    number = table.schema.get_field_index("observed_at")
    times = pc.strftime(table["observed_at"], format="%Y-%m-%dT%H:%M:%SZ")
    return table.set_column(number, "observed_at", times)
