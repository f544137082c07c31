"""The fitted law against throughputs that were made by it."""

import numpy as np
import pytest

from tidemark.bench.usl import fit

SIZES = (1, 2, 4, 8)


def law(hosts: float, rate: float, sigma: float, kappa: float) -> float:
    return rate * hosts / (1 + sigma * (hosts - 1) + kappa * hosts * (hosts - 1))


@pytest.mark.parametrize(("sigma", "kappa"), [(0.0, 0.0), (0.05, 0.0), (0.02, 0.001)])
def test_it_finds_the_coefficients_that_made_the_runs(sigma: float, kappa: float) -> None:
    found = fit({size: [law(size, 4_000, sigma, kappa)] * 3 for size in SIZES}, seed=1)
    assert found is not None
    for estimate, expected in ((found.rate, 4_000), (found.sigma, sigma), (found.kappa, kappa)):
        for value in (estimate.value, estimate.low, estimate.high):
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert found.at(16) == pytest.approx(law(16, 4_000, sigma, kappa))


def test_the_interval_holds_what_noise_hides() -> None:
    random = np.random.default_rng(7)
    runs = {size: (law(size, 4_000, 0.03, 0.0) * random.normal(1, 0.01, 12)).tolist() for size in SIZES}
    found = fit(runs, seed=1)
    assert found is not None
    for estimate, expected in ((found.rate, 4_000), (found.sigma, 0.03), (found.kappa, 0.0)):
        assert estimate.low < estimate.value < estimate.high
        assert estimate.low < expected < estimate.high
    assert found == fit(runs, seed=1), "the same runs and seed give the same intervals"


def test_two_sizes_are_too_few_for_three_unknowns() -> None:
    assert fit({1: [4_000.0], 2: [8_000.0]}, seed=1) is None
