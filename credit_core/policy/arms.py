"""The two arms of the ``thompson`` strategy: how likely fresh is better than library, by the rewards so far."""

from __future__ import annotations

from typing import NamedTuple

from scipy import integrate, stats


class Rewards(NamedTuple):
    """Sum and number of the rewards in [0, 1] that an arm has received."""

    total: float
    number: int


def better(fresh: Rewards, library: Rewards) -> float:
    """P(θ_fresh > θ_library), θ ~ Beta(1 + Σr, 1 + n − Σr) each: the chance with which Thompson sampling picks fresh.

    Drawing one uniform against this probability is the same law as drawing both θ (Russo et al., 2018, A Tutorial on
    Thompson Sampling, section 4), and can be computed again from what is logged.
    """
    a = stats.beta(1.0 + fresh.total, 1.0 + fresh.number - fresh.total)
    b = stats.beta(1.0 + library.total, 1.0 + library.number - library.total)
    # Integrate where the mass is: the posteriors get narrow, and a fixed grid would miss them.
    low, high = max(0.0, a.mean() - 12.0 * a.std()), min(1.0, a.mean() + 12.0 * a.std())
    value, _ = integrate.quad(lambda x: a.pdf(x) * b.cdf(x), low, high, epsabs=1e-10, limit=200)
    return float(min(max(value, 0.0), 1.0))
