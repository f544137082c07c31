from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.backfill.plan import BLOCK_ROWS_MAX, DAY_S, Plan
from tidemark.errors import CallerError
from tidemark.population import Population

NOW_S = 1_700_000_000


@given(
    size=st.integers(1, 70),
    interval_s=st.sampled_from([1, 7, 60, 3_600, 50_000]),
    days=st.floats(0.6, 3),
)
def test_each_shard_is_due_once_an_interval_and_no_time_is_in_two_spans(
    size: int, interval_s: int, days: float
) -> None:
    plan = Plan.until(NOW_S, days, interval_s, Population(100, 99 + size, shard_size=10))
    spans = list(plan.spans())
    assert (spans[0].from_s, spans[-1].to_s) == (plan.from_s, NOW_S + 1)
    assert [span.to_s for span in spans[:-1]] == [span.from_s for span in spans[1:]]
    for span in spans:
        assert span.from_s // DAY_S == (span.to_s - 1) // DAY_S
        assert span.ends_day == (span.to_s % DAY_S == 0 or span.to_s == plan.to_s)
        blocks = list(plan.blocks(span))
        assert [shard for block in blocks for shard in block] == list(range(plan.population.shards))
        for block in blocks:
            assert len(block) == 1 or len(block) * 10 * len(plan.times(0, span)) <= BLOCK_ROWS_MAX
    for shard in (0, plan.population.shards - 1):
        times = np.concatenate([plan.times(shard, span) for span in spans]).tolist()
        phase = shard * interval_s // plan.population.shards
        (first,) = (
            at for at in range(plan.from_s, plan.from_s + interval_s) if (at - phase) % interval_s == 0
        )
        assert times == list(range(first, plan.to_s, interval_s))
        assert abs(len(times) * size - plan.rows) <= size


def test_many_calls_of_many_shards_are_cut_into_blocks() -> None:
    plan = Plan.until(NOW_S, 2, 60, Population(0, 19_999, shard_size=1_000))
    span = list(plan.spans())[1]
    assert [len(block) for block in plan.blocks(span)] == [4, 4, 4, 4, 4]
    every_second = Plan.until(NOW_S, 1, 1, Population(0, 1_999, shard_size=1_000))
    assert max(span.to_s - span.from_s for span in every_second.spans()) == 6_000
    assert plan.disk_bytes == pytest.approx(3 * plan.rows, rel=0.3)


@pytest.mark.parametrize(
    ("days", "interval_s"),
    [(1, 0), (1, 1.5), (0.5, 86_400), (-1, 60), (1e6, 60), (nan, 60), (inf, 60), (1, nan)],
)
def test_what_makes_no_history_is_refused(days: float, interval_s: float) -> None:
    with pytest.raises(CallerError, match="--"):
        Plan.until(NOW_S, days, interval_s, Population(0, 9))
