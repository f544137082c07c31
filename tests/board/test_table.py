"""The table says what the view says, row by row."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from tidemark.board import Board
from tidemark.board.table import SCHEMA, record_batches
from tidemark.messages import Batch
from tidemark.population import Population


def test_the_table_is_everybodys_latest(batch_of: Callable[..., Batch]) -> None:
    board = Board(Population(100, 149, shard_size=7))
    pks = [pk for pk in range(100, 130) if pk % 3]
    board.apply(batch_of([(pk, 1_000 * pk, pk % 5, pk % 4, f"ñ{pk}") for pk in pks]))
    board.apply_verdicts(np.array([101, 102, 140]), np.array([True, False, True]), np.array([7, 8, 9]))
    view = board.publish(1)
    batches = list(record_batches(view, rows_max=9))
    assert all(0 < batch.num_rows <= 9 for batch in batches)
    table = pa.Table.from_batches(batches, SCHEMA)
    table.validate(full=True)
    assert table["pk"].to_pylist() == pks
    expected = [view.latest(pk) for pk in pks]
    assert table.to_pylist() == [
        {name: getattr(latest, name) for name in SCHEMA.names} for latest in expected if latest is not None
    ]


def test_nobody_observed_is_no_rows() -> None:
    assert list(record_batches(Board(Population(0, 9)).view)) == []
