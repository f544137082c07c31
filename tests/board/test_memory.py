"""Memory is written again only when nobody reads it any more."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemark.board.board import Board
from tidemark.board.memory import Spares
from tidemark.messages import Batch
from tidemark.population import Population

BatchOf = Callable[..., Batch]


def address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_is_given_out_again() -> None:
    memory = Spares()
    first = memory.array(1_000, np.int64)
    where = address(first)
    del first
    assert address(memory.array(1_000, np.int64)) == where
    assert memory.array(500, np.uint32).shape == (500,)


def test_not_while_the_array_or_a_part_of_it_is_read() -> None:
    memory = Spares()
    first = memory.array(1_000, np.int64)
    where = address(first)
    second = memory.array(1_000, np.int64)
    taken = {where, address(second)}
    assert len(taken) == 2
    part = first[10:20][::-1]
    raw = second.data
    del first, second
    third = memory.array(1_000, np.int64)
    assert address(third) not in taken
    del part, raw
    fourth = memory.array(1_000, np.int64)
    assert address(fourth) in taken


def test_one_piece_of_each_size_is_kept() -> None:
    memory = Spares()
    some = [memory.array(1_000, np.int64) for _ in range(3)]
    kept = address(some[2])
    while some:
        some.pop(0)
    again = [memory.array(1_000, np.int64) for _ in range(2)]
    assert address(again[0]) == kept


def test_a_view_that_is_still_read_stays_as_it_was(batch_of: BatchOf) -> None:
    population = Population(0, 99)
    board = Board(population)

    def observe(second: int) -> None:
        board.apply(batch_of([(pk, 1_000 * second, 7 * pk + second, second, "x") for pk in range(100)]))
        board.publish(1_000 * second)

    observe(1)
    view = board.view
    values = view.values
    held: list[npt.NDArray[Any]] = [
        view.ranking.keys,
        values.observed_at,
        values.follower_count,
        values.following_count,
    ]
    copies = [array.copy() for array in held]
    part = view.ranking.keys[10:20]
    del view, values
    held_parts = [array[5:50] for array in held]
    del held
    for second in range(2, 6):
        observe(second)
    assert part.tolist() == copies[0][10:20].tolist()
    for found, copy in zip(held_parts, copies, strict=True):
        assert found.tolist() == copy[5:50].tolist()
