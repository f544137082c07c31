"""What the tests of the board share: batches from plain rows."""

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings

from tidemark.messages import Batch

# How long an example takes says nothing here: Arrow imports pandas at its first array, where there is one.
settings.register_profile("tidemark", deadline=None)
settings.load_profile("tidemark")

Row = tuple[int, int, int, int, str]
"""(pk, observed_at_ms, follower_count, following_count, username)"""


@pytest.fixture(scope="session")
def batch_of() -> Callable[[Iterable[Row]], Batch]:
    """Make a batch of rows, in the order of their pks, as it comes off the log."""

    def make(rows: Iterable[Row]) -> Batch:
        pk, at, followers, followings, names = zip(*sorted(rows), strict=True) if rows else ((),) * 5
        batch = Batch(
            tick_id="1-2@3",
            pk=np.array(pk, np.uint32),
            observed_at_ms=np.array(at, np.int64),
            follower_count=np.array(followers, np.uint32),
            following_count=np.array(followings, np.uint32),
            username=pa.array(names, pa.string()),
        )
        return Batch.decode(batch.encode())

    return make
