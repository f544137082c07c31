"""What the verdicts of the last minutes say about the classification."""

import numpy as np

from tidemark.messages import Verdicts
from tidemark.serve.progress import HEARD_S, WINDOW_S, Progress

NOW_S = 2_000_000_000


def verdicts(at_s: int, took_ms: list[int], classifier: str = "a", in_flight: int = 128) -> Verdicts:
    n = len(took_ms)
    return Verdicts(
        turn_id="1-9@1",
        classifier=classifier,
        in_flight=in_flight,
        pk=np.arange(1, n + 1, dtype=np.uint32),
        suspicious=np.zeros(n, np.bool_),
        checked_at=np.full(n, at_s, np.uint32),
        took_ms=np.array(took_ms, np.uint32),
    )


def test_nothing_is_known_at_first() -> None:
    progress = Progress(86_400)
    assert progress.per_second(NOW_S) == 0
    assert progress.latency_s(NOW_S) is None
    assert progress.in_flight(NOW_S) == 0
    assert not progress.under_way(NOW_S)
    progress.add(verdicts(NOW_S, []))
    assert not progress.under_way(NOW_S)


def test_rate_and_latency_are_of_the_last_minutes() -> None:
    progress = Progress(86_400)
    progress.add(verdicts(NOW_S - WINDOW_S - 1, [1] * 5))
    progress.add(verdicts(NOW_S - 10, list(range(100, 10_001, 100))))
    assert progress.per_second(NOW_S) == 100 / WINDOW_S
    assert progress.latency_s(NOW_S) == (5.0, 9.9, 10.0)
    assert progress.latency_s(NOW_S + WINDOW_S) is None


def test_the_rate_of_the_first_minutes_is_that_since_the_first_call() -> None:
    progress = Progress(86_400)
    progress.add(verdicts(NOW_S - 10, [10_000] * 128))
    progress.add(verdicts(NOW_S, [10_000] * 128))
    assert progress.per_second(NOW_S) == 256 / 20
    assert progress.per_second(NOW_S + WINDOW_S - 20) == 256 / WINDOW_S
    at_once = Progress(86_400)
    at_once.add(verdicts(NOW_S, [0] * 7))
    assert at_once.per_second(NOW_S) == 7


def test_calls_in_flight_are_those_of_all_classifiers_lately() -> None:
    progress = Progress(86_400)
    progress.add(verdicts(NOW_S - 5, [1], "a", 128))
    progress.add(verdicts(NOW_S - 4, [1], "b", 100))
    progress.add(verdicts(NOW_S - 3, [1], "a", 120))
    progress.add(verdicts(NOW_S - 9, [1], "a", 7))
    assert progress.in_flight(NOW_S) == 220
    assert progress.in_flight(NOW_S + HEARD_S - 3) == 120
    assert progress.in_flight(NOW_S + HEARD_S) == 0


def test_it_is_under_way_while_somebody_was_classified_within_an_interval() -> None:
    progress = Progress(3_600)
    progress.add(verdicts(NOW_S - 3_600, [1]))
    progress.add(verdicts(NOW_S - 9_000, [1]))
    assert progress.per_second(NOW_S) == 0
    assert progress.under_way(NOW_S)
    assert not progress.under_way(NOW_S + 1)
