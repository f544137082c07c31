"""How does the throughput grow with the number of hosts? The Universal Scalability Law, fitted (pure).

    X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1))

lambda is what one host does; sigma, the contention, what waits for something that all share; kappa, the coherence,
what each pair of hosts has to agree on. Both 0: N hosts do N times what one does.
(N. J. Gunther, Guerrilla Capacity Planning, Springer 2007, and arXiv:0808.1431.)

N / X is linear in 1/lambda, sigma/lambda and kappa/lambda, and has the relative errors of X, which are the same at all
N here. So the fit is one of ordinary least squares, without a starting point. The intervals are those of a
bootstrap (Efron, 1979) that draws runs of each N with replacement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

RESAMPLES: Final = 2_000
CONFIDENCE: Final = 0.95
SIZES_MIN: Final = 3
"""Three unknowns."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A coefficient, and the interval in which it lies with CONFIDENCE."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Usl:
    """The law, fitted. A sigma or kappa below 0 is noise: there is less of it than can be seen."""

    rate: Estimate
    """lambda: observations a second of one host."""
    sigma: Estimate
    kappa: Estimate

    def at(self, hosts: float) -> float:
        """X(N)."""
        sigma, kappa = self.sigma.value, self.kappa.value
        return self.rate.value * hosts / (1 + sigma * (hosts - 1) + kappa * hosts * (hosts - 1))


def fit(runs: Mapping[int, Sequence[float]], seed: int) -> Usl | None:
    """The law through the throughputs of runs, by number of hosts; None with fewer than three numbers."""
    if len(runs) < SIZES_MIN:
        return None
    random = np.random.default_rng(seed)
    drawn = [
        _coefficients({size: random.choice(rates, len(rates)).tolist() for size, rates in runs.items()})
        for _ in range(RESAMPLES)
    ]
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(np.array(drawn), tails, axis=0)
    return Usl(
        *(Estimate(*three) for three in zip(_coefficients(runs), low.tolist(), high.tolist(), strict=True))
    )


def _coefficients(runs: Mapping[int, Sequence[float]]) -> tuple[float, float, float]:
    """lambda, sigma, kappa by least squares."""
    hosts = np.array([size for size, rates in runs.items() for _ in rates], np.float64)
    rates = np.array([rate for rates in runs.values() for rate in rates], np.float64)
    terms = np.column_stack([np.ones_like(hosts), hosts - 1, hosts * (hosts - 1)])
    (one, contention, coherence), *_ = np.linalg.lstsq(terms, hosts / rates)
    return float(1 / one), float(contention / one), float(coherence / one)
