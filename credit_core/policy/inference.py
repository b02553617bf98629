"""Statistics of a live experiment (SPEC 7): sample-ratio mismatch, differences of arms by account, sequential intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
ALPHA = 0.05
#: Accounts at which a sequential interval is tightest, where nobody planned otherwise.
PLANNED_N = 5_000
#: Below this many accounts in an arm no difference is told.
FEWEST_ACCOUNTS = 2


class Estimate(NamedTuple):
    """A difference of two arms (treatment − control) with its standard error, and the accounts of both."""

    difference: float
    se: float
    n: int


class Interval(NamedTuple):
    """Ends of an interval."""

    low: float
    high: float


class Sample(NamedTuple):
    """An arm by account: what a ratio of sums adds up above and below the line, [account]; below is 1 for a plain mean."""

    above: Floats
    below: Floats

    @property
    def ratio(self) -> float:
        """Σ above / Σ below."""
        return float(self.above.sum() / self.below.sum())


def chi2_statistic(observed: Sequence[int], shares: Sequence[float]) -> float:
    """Pearson's χ² of counts against expected shares, which need not add up to 1."""
    total, whole = sum(observed), sum(shares)
    return sum(
        (count - total * share / whole) ** 2 / (total * share / whole)
        for count, share in zip(observed, shares, strict=True)
    )


def srm_p_value(observed: Sequence[int], shares: Sequence[float]) -> float | None:
    """Chance of sizes at least this far from the shares that were assigned; None before anybody was."""
    if sum(observed) == 0:
        return None
    return float(stats.chi2.sf(chi2_statistic(observed, shares), len(observed) - 1))


def srm_by_stage(stages: Sequence[tuple[Sequence[int], Sequence[float]]]) -> float | None:
    """As :func:`srm_p_value` over stages of different shares: their χ² and degrees of freedom added up."""
    known = [(observed, shares) for observed, shares in stages if sum(observed)]
    if not known:
        return None
    total = sum(chi2_statistic(observed, shares) for observed, shares in known)
    return float(stats.chi2.sf(total, sum(len(observed) - 1 for observed, _ in known)))


def difference(treatment: Sample, control: Sample) -> Estimate | None:
    """Difference of two ratios of sums, with the sandwich standard error: one account, one unit.

    The residual of an account is (above − R·below) / mean(below), as in the delta method (Deng, Knoblich, Lu, 2018, Applying
    the Delta Method in Metric Analytics, section 3). None where an arm has too few accounts or nothing below the line.
    """
    if not _known(treatment) or not _known(control):
        return None
    return _estimate(treatment.ratio - control.ratio, residuals(treatment), residuals(control))


def lift(treatment: Sample, control: Sample) -> Estimate | None:
    """Relative change, treatment / control − 1, by the delta method; None also where control is 0."""
    if not _known(treatment) or not _known(control) or control.ratio == 0.0:
        return None
    base, times = control.ratio, treatment.ratio / control.ratio
    return _estimate(times - 1.0, residuals(treatment) / base, residuals(control) * times / base)


def cuped(treatment: tuple[Sample, Sample], control: tuple[Sample, Sample]) -> tuple[Estimate, float] | None:
    """As :func:`difference`, less what the same metric before exposure explains: the estimate, and θ.

    Each arm is (sample, sample before exposure), by the same accounts; who was not there before adds nothing to the second.
    Δ − θ·Δ_before with θ = cov/var of the residuals within arms (Deng, Xu, Kohavi, Walker, 2013, Improving the Sensitivity
    of Online Controlled Experiments by Utilizing Pre-Experiment Data, equation 6). None where there is nothing before.
    """
    if not all(_known(sample) for arm in (treatment, control) for sample in arm):
        return None
    after = [residuals(arm[0]) for arm in (treatment, control)]
    before = [residuals(arm[1]) for arm in (treatment, control)]
    spread = sum(float(x @ x) for x in before)
    if spread == 0.0:
        return None
    theta = sum(float(y @ x) for y, x in zip(after, before, strict=True)) / spread
    value = treatment[0].ratio - control[0].ratio - theta * (treatment[1].ratio - control[1].ratio)
    return _estimate(value, *(y - theta * x for y, x in zip(after, before, strict=True))), theta


def residuals(sample: Sample) -> Floats:
    """(above − R·below) / mean(below), by account; they add up to 0."""
    return np.asarray((sample.above - sample.ratio * sample.below) / sample.below.mean(), dtype=np.float64)


def fixed_interval(estimate: Estimate, alpha: float = ALPHA) -> Interval:
    """Δ ± z·se: right for one look that was fixed beforehand, and wrong for daily ones."""
    width = float(stats.norm.ppf(1.0 - alpha / 2.0)) * estimate.se
    return Interval(estimate.difference - width, estimate.difference + width)


def sequential_interval(estimate: Estimate, alpha: float = ALPHA, planned_n: int = PLANNED_N) -> Interval:
    """Δ ± se·√N·√(2(Nρ² + 1)/(N²ρ²)·ln(√(Nρ² + 1)/α)): right at every look, however many there are.

    ρ² = (−2 ln α + ln(1 − 2 ln α))/N* makes it tightest at N* = ``planned_n`` accounts (Waudby-Smith et al., 2021,
    Time-uniform central limit theory and asymptotic confidence sequences, theorem 2.2 and appendix B.2).
    """
    n = estimate.n
    rho2 = (-2.0 * math.log(alpha) + math.log(1.0 - 2.0 * math.log(alpha))) / planned_n
    mixed = n * rho2 + 1.0
    width = estimate.se * math.sqrt(n) * math.sqrt(2.0 * mixed / (n * n * rho2) * math.log(math.sqrt(mixed) / alpha))
    return Interval(estimate.difference - width, estimate.difference + width)


def _known(sample: Sample) -> bool:
    return len(sample.above) >= FEWEST_ACCOUNTS and float(sample.below.sum()) > 0.0


def _estimate(value: float, treatment: Floats, control: Floats) -> Estimate:
    variance = sum(float(e @ e) / len(e) ** 2 for e in (treatment, control))
    return Estimate(value, math.sqrt(variance), len(treatment) + len(control))
