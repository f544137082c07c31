"""Rows of the table belong to one round at a time, and say what became of each request, without sockets."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.messages import Batch
from tidemark.poll.rounds import OUTCOMES, Round, Rounds
from tidemark.poll.tables import OBSERVED, tables, with_descriptor, with_rows


def no_rounds() -> Rounds:
    return Rounds(tables([(b"GET /", b"\r\n\r\n")], 1, np.inf))


def waiting(rounds: Rounds) -> list[int]:
    """The pks of the requests in the queue."""
    queue = rounds.tables.queue
    begin, count = queue.place.tolist()
    return [int(pk) for pk in rounds.answers.pk[np.roll(queue.row, -begin)[:count]]]


def send(rounds: Rounds) -> int:
    """Take the first request out of the queue, as `exchange` does; returns its row."""
    queue = rounds.tables.queue
    row = int(queue.row[queue.place[0]])
    queue.place[0] = (queue.place[0] + 1) % len(queue.row)
    queue.place[1] -= 1
    return row


def observe(rounds: Rounds, row: int, username: str = "ann") -> None:
    answers = rounds.answers
    encoded = username.encode()
    answers.username[row, : len(encoded)] = np.frombuffer(encoded, np.uint8)
    answers.username_bytes[row] = len(encoded)
    answers.follower_count[row], answers.following_count[row] = row, 7
    answers.observed_at[row] = 100.5 + row
    rounds.settle(row, OBSERVED)


def rows_of(batch: Batch) -> list[tuple[int, int, int, int, str]]:
    columns = (batch.pk, batch.observed_at_ms, batch.follower_count, batch.following_count)
    return list(zip(*(column.tolist() for column in columns), batch.username.to_pylist(), strict=True))


async def test_a_round_from_the_order_to_the_batch() -> None:
    rounds = no_rounds()
    with rounds.begin(10, 5) as round_:
        rounds.ask(round_, range(5))
        assert waiting(rounds) == [10, 11, 12, 13, 14]
        for username in ("ann", "数据", "🌊" * 64):
            observe(rounds, send(rounds), username)
        rounds.settle(send(rounds), OUTCOMES["status_404"])
        assert not round_.done.done()
        rounds.settle(send(rounds), OUTCOMES["range"])
        await round_.done
        assert round_.ended
        assert round_.refused() == {"status_4xx": 1, "range": 1}
        assert round_.wanting().tolist() == [4]
        assert round_.unobserved(3) == "13 (status_4xx), 14 (range)"
        assert round_.unobserved(1) == "13 (status_4xx)"

        rounds.ask(round_, round_.wanting())
        assert not round_.ended
        assert waiting(rounds) == [14]
        observe(rounds, send(rounds))
        await round_.done
        assert round_.refused() == {}
        assert round_.wanting().tolist() == []
        batch = round_.batch("10-14@1")
        assert rows_of(batch) == [
            (10, 100_500, 0, 7, "ann"),
            (11, 101_500, 1, 7, "数据"),
            (12, 102_500, 2, 7, "🌊" * 64),
            (14, 104_500, 4, 7, "ann"),
        ]
    assert rows_of(Batch.decode(batch.encode())) == rows_of(batch)


async def test_each_observation_is_in_one_batch_and_each_batch_has_an_id_of_its_own() -> None:
    rounds = no_rounds()
    with rounds.begin(10, 5) as round_:
        rounds.ask(round_, range(5))
        rows = [send(rounds) for _ in range(5)]
        assert len(round_.batch("10-14@1")) == 0
        batches = []
        for answered in ([3, 1], [], [0, 4], [2]):
            for row in answered:
                observe(rounds, rows[row])
            batches.append(round_.batch("10-14@1"))
        assert [batch.pk.tolist() for batch in batches] == [[11, 13], [], [10, 14], [12]]
        ids = [batch.tick_id for batch in batches if len(batch)]
        assert len({*ids, "10-14@1"}) == 4
        assert all(id_.startswith("10-14@1+") for id_ in ids)
        assert round_.batched == 5


async def test_polled_again_only_a_batch_of_the_same_influencers_has_the_same_id() -> None:
    rounds = no_rounds()
    ids = []
    for answered in ([1, 3], [1, 3], [1, 4], [0, 1, 2, 3, 4]):
        with rounds.begin(10, 5) as round_:
            rounds.ask(round_, range(5))
            rows = [send(rounds) for _ in range(5)]
            for place in answered:
                observe(rounds, rows[place])
            ids.append(round_.batch("10-14@1").tick_id)
            for place in {0, 1, 2, 3, 4} - set(answered):
                rounds.settle(rows[place], OUTCOMES["timeout"])
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert ids[3] == "10-14@1"


async def test_a_round_without_answers_is_an_empty_batch() -> None:
    rounds = no_rounds()
    with rounds.begin(10, 3) as round_:
        rounds.ask(round_, range(3))
        rounds.drop(OUTCOMES["unreachable"])
        await round_.done
        assert round_.refused() == {"unreachable": 3}
        assert len(round_.batch("10-12@1")) == 0
        assert waiting(rounds) == []


async def test_what_is_repeated_goes_first() -> None:
    rounds = no_rounds()
    with rounds.begin(10, 3) as round_:
        rounds.ask(round_, range(3))
        first, second = send(rounds), send(rounds)
        for row in (first, second):
            rounds.repeat(row)
        assert waiting(rounds) == [11, 10, 12]
        assert rounds.answers.repeated.tolist() == [True, True, False]
        rounds.drop(OUTCOMES["timeout"])


async def test_rows_of_a_round_that_was_left_are_not_given_to_another_before_it_has_ended() -> None:
    rounds = no_rounds()
    with rounds.begin(10, 4) as left:
        rounds.ask(left, range(4))
        under_way = [send(rounds) for _ in range(4)]
    with rounds.begin(20, 4) as round_:
        assert round_.rows.start >= left.rows.stop
        for row in under_way:
            rounds.settle(row, OUTCOMES["timeout"])
        assert left.done.done()
    with rounds.begin(30, 4) as round_:
        assert round_.rows == left.rows
        assert round_.wanting().tolist() == [0, 1, 2, 3]


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=12), st.integers(0, 5))
def test_rounds_never_share_rows_and_the_queue_keeps_its_order(
    sizes: list[tuple[int, bool]], sent: int
) -> None:
    """Rounds that begin and end in any order, while the table grows under those that wait."""

    async def scenario() -> None:
        rounds = no_rounds()
        open_: list[tuple[Round, object]] = []
        expected: list[int] = []
        for number, (size, end_one) in enumerate(sizes):
            block = rounds.begin(1_000 * number, size)
            round_ = block.__enter__()
            for other, _ in open_:
                assert round_.rows.stop <= other.rows.start or other.rows.stop <= round_.rows.start
            rounds.ask(round_, range(size))
            expected += range(1_000 * number, 1_000 * number + size)
            open_.append((round_, block))
            assert waiting(rounds) == expected
            for _ in range(min(sent, len(expected))):
                row = send(rounds)
                assert rounds.answers.pk[row] == expected.pop(0)
                rounds.settle(row, OUTCOMES["pk"])
            if end_one:
                ended = [entry for entry in open_ if entry[0].ended]
                for entry in ended:
                    entry[1].__exit__(None, None, None)  # type: ignore[attr-defined]
                    open_.remove(entry)
        rounds.drop(OUTCOMES["unreachable"])
        assert all(round_.ended and round_.done.done() for round_, _ in open_)

    asyncio.run(scenario())


@pytest.mark.parametrize("begin", [0, 3, 7])
def test_a_ring_that_grows_keeps_what_waits(begin: int) -> None:
    known = with_rows(no_rounds().tables, 8)
    known.queue.row[:] = np.roll(np.arange(8), begin)
    known.queue.place[:] = begin, 8
    longer = with_rows(known, 9)
    begins, count = longer.queue.place.tolist()
    assert len(longer.queue.row) == len(longer.answers.pk) >= 9
    assert longer.queue.row[begins : begins + count].tolist() == list(range(8))
    assert with_rows(longer, 3) is longer


def test_a_table_of_connections_grows_with_the_descriptors() -> None:
    known = with_descriptor(no_rounds().tables, 5)
    known.connections.sent_at[5, 0] = 7.5
    longer = with_descriptor(known, 50)
    assert len(longer.connections.state) > 50
    assert longer.connections.sent_at[5, 0] == 7.5
    assert with_descriptor(longer, 20) is longer
