from __future__ import annotations

import numpy as np
import pytest

from tidemark.bench.storage import Differences, measure


def test_the_entropy_of_even_differences() -> None:
    differences = Differences()
    for value in ([0, 0, 0, 0], [0, 1, 2, 3]):
        differences.add(np.array(value))
    assert differences.entropy_bytes() == pytest.approx(2 / 8)


def test_columns_take_little_more_than_their_entropy() -> None:
    report = measure(200, 130)
    assert report["observations"] == 200 * 130
    assert 1 < report["bytesByEntropy"] < 1.5
    assert report["followerCountBytes"] < 1.3 * 14.3 / 8
    assert report["hourlyBytesByObservation"] < report["bytesByObservation"]
    assert "dailyBytesByRow" not in report
