"""The logistic controller of SPEC 4 and its closed-form diagnostics. Scalars only, so that it also compiles."""

from __future__ import annotations

import math
from typing import NamedTuple

#: How close to an edge counts as on it, in credits or days: above the noise of binary fractions, below a micro-credit.
EDGE = 1e-9
CREDITS, DAYS, QUOTA_PERCENT = 0, 1, 2
SURPLUS_UNITS = ("credits", "days", "quota_percent")
CONSERVE, STEADY, SPEND = 0, 1, 2
MODES = ("conserve", "steady", "spend")


def sigmoid(x: float) -> float:
    """1/(1 + e^(−x)), without overflow for any finite x."""
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


def logit(p: float) -> float:
    """ln(p/(1 − p)); −∞ at 0 and +∞ at 1, which :func:`sigmoid` takes back to 0 and 1."""
    if p <= 0.0:
        return -math.inf
    if p >= 1.0:
        return math.inf
    return math.log(p / (1.0 - p))


def clip(x: float, low: float, high: float) -> float:
    """``x`` held within [low, high]."""
    return min(max(x, low), high)


def unit_size(unit: int, quota: float, cycle_days: float) -> float:
    """u of SPEC 4 in credits: 1, Q/L or Q/100."""
    if unit == DAYS:
        return quota / cycle_days
    if unit == QUOTA_PERCENT:
        return quota / 100.0
    return 1.0


def demand_rate(prior: float, prior_days: float, demand: float, days_so_far: float) -> float:
    """λ = (λ₀·τ₀ + demand so far)/(τ₀ + days so far), credits a day."""
    return (prior * prior_days + demand) / (prior_days + days_so_far)


def feed_forward(quota: float, cycle_days: float, rate: float, p_min: float, p_max: float) -> float:
    """b = logit(clip(Q/L ÷ λ, p_min, p_max)): the intercept at which the quota just meets demand."""
    if rate <= 0.0:
        return logit(p_max)
    return logit(clip(quota / cycle_days / rate, p_min, p_max))


def base_probability(k: float, surplus: float, unit: float, intercept: float) -> float:
    """p₀ = σ(k·S/u + b)."""
    return sigmoid(k * surplus / unit + intercept)


def nudge(low: float, high: float, x: float) -> float:
    """lo + (hi − lo)·x."""
    return low + (high - low) * x


def freshness(images: float, tau: float) -> float:
    """x = e^(−n/τ), n images given in the running session."""
    return math.exp(-images / tau)


def next_mode(
    mode: int, days: float, conserve_enter: float, conserve_leave: float, spend_enter: float, spend_leave: float
) -> int:
    """The hysteresis mode after seeing ``days`` of surplus."""
    if days <= conserve_enter + EDGE:
        return CONSERVE
    if days >= spend_enter - EDGE:
        return SPEND
    if mode == CONSERVE and days < conserve_leave - EDGE:
        return CONSERVE
    if mode == SPEND and days > spend_leave + EDGE:
        return SPEND
    return STEADY


class Gain(NamedTuple):
    """A gain and intercept that meet two targets of the S-curve."""

    k: float
    p_at_zero: float


def gain_for(p_behind: float, p_ahead: float, surplus: float, unit: float = 1.0) -> Gain:
    """The k and p_at_zero with p(−S) = ``p_behind`` and p(S) = ``p_ahead``; S in credits, k per ``unit`` of credits.

    From logit p(±S) = ±k·S/u + b. Raises ValueError unless 0 < p_behind < p_ahead < 1 and S > 0.
    """
    if not (0.0 < p_behind < p_ahead < 1.0 and surplus > 0.0):
        raise ValueError("targets need 0 < p behind < p ahead < 1 at a positive surplus")
    low, high = logit(p_behind), logit(p_ahead)
    return Gain(k=(high - low) * unit / (2.0 * surplus), p_at_zero=sigmoid((high + low) / 2.0))


def width_10_90(k: float, unit: float = 1.0) -> float:
    """Credits of surplus between p = 0.1 and p = 0.9: 2·ln 9·u/k (4.394/k)."""
    return 2.0 * math.log(9.0) * unit / k


def droop(k: float, intercept: float, affordable: float, unit: float = 1.0) -> float:
    """Surplus in credits at which a plain σ(kS/u + b) settles: u·(logit p* − b)/k, p* = share of demand that the quota affords."""
    return unit * (logit(affordable) - intercept) / k


def time_constant_days(k: float, rate: float, affordable: float, unit: float = 1.0) -> float:
    """Days to close 63 % of a gap: u/(λ·k·p*·(1 − p*)), λ credits of demand a day."""
    return unit / (rate * k * affordable * (1.0 - affordable))
