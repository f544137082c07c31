"""A history that nobody observed: for demonstrations and benchmarks.

plan.py      which observations there would have been, and how they are cut into inserts (pure).
walk.py      the counts of a shard, call after call (pure).
marks.py     everybody's latest at the full minutes and ten minutes: averages and snapshots (pure).
history.py   puts it all into a store.
"""

from tidemark.backfill.history import Filled, backfill
from tidemark.backfill.plan import Plan

__all__ = ["Filled", "Plan", "backfill"]
