"""A day's usual value and the days to come: two simple, stated rules over daily figures.

Both know the weekday. :func:`fan` is least squares on a straight trend and the weekday, with Student's t prediction
intervals of the running sum (Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 7.9). :func:`unusual` is
Iglewicz & Hoaglin's modified z-score, *How to Detect and Handle Outliers* (1993), over same weekdays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Floats = npt.NDArray[np.float64]

#: Complete days that a forecast rests on, the fewest it may rest on, and how much of the outcomes each fan holds.
LOOKED_BACK, FEWEST = 28, 14
INNER, OUTER = 0.5, 0.9
#: A day is unusual from this modified z-score on; its usual value is the middle of so many same weekdays before it.
UNUSUAL, WEEKS = 3.5, 4
#: 0.6745 makes the middle deviation of a normal distribution one standard deviation.
_NORMAL = 0.6745
#: Deviations under this share of the usual are noise whatever the others are.
_LEAST = 0.05


class Fan(NamedTuple):
    """Running sums of the days to come: the expected one, and the ends of the inner and outer interval."""

    middle: Floats
    inner_low: Floats
    inner_high: Floats
    outer_low: Floats
    outer_high: Floats


class Unusual(NamedTuple):
    """A day whose value is far from its weekday's usual one; ``score`` is positive above it."""

    place: int
    usual: float
    score: float


def fan(values: Sequence[float], weekdays: Sequence[int], ahead: Sequence[int]) -> Fan | None:
    """Running sums over the days ``ahead`` (their weekdays), from consecutive daily ``values``; None with too few of them.

    Missing values (NaN) are left out. Nothing is spent negatively: sums do not fall.
    """
    y = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(y)
    if known.sum() < FEWEST or not ahead:
        return None
    places, coming = np.arange(len(y)), len(y) + np.arange(len(ahead))
    seen = sorted(set(np.asarray(weekdays)[known]))
    x, new = _design(places[known], np.asarray(weekdays)[known], seen), _design(coming, np.asarray(ahead), seen)
    inverse = np.linalg.pinv(x.T @ x)
    beta = inverse @ x.T @ y[known]
    freedom = int(known.sum()) - np.linalg.matrix_rank(x)
    variance = float(np.sum((y[known] - x @ beta) ** 2)) / freedom
    sums = np.cumsum(new, axis=0)
    spread = np.sqrt(variance * (np.einsum("ij,jk,ik->i", sums, inverse, sums) + np.arange(1, len(ahead) + 1)))
    middle = sums @ beta
    ends = [
        np.maximum.accumulate(np.maximum(middle + sign * student.ppf(0.5 + part / 2, freedom) * spread, 0.0))
        for part in (INNER, OUTER)
        for sign in (-1.0, 1.0)
    ]
    return Fan(np.maximum.accumulate(np.maximum(middle, 0.0)), *ends)


def unusual(values: Sequence[float], first: int = 0) -> list[Unusual]:
    """Days from ``first`` on that are far from the middle of the same weekday in the four weeks before, in order.

    ``values`` are of consecutive days. A day's deviation is the logarithm of its part of that middle; it is unusual where
    its deviation is more than 3.5 times the usual one (the middle of all, over 0.6745) away from the middle deviation.
    """
    y = np.asarray(values, dtype=np.float64)
    usual = np.full(len(y), np.nan)
    for place in range(7 * 2, len(y)):
        same = y[max(0, place - 7 * WEEKS) : place][::-1][6::7]
        if (~np.isnan(same)).sum() >= 2:
            usual[place] = np.nanmedian(same)
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.log(np.maximum(y, 0.0)) - np.log(usual)
    away[~np.isfinite(away) & ~np.isnan(y) & (usual > 0)] = -np.inf
    counted = np.isfinite(away)
    if counted.sum() < FEWEST:
        return []
    centre = float(np.median(away[counted]))
    scale = max(float(np.median(np.abs(away[counted] - centre))), _LEAST * _NORMAL) / _NORMAL
    scores = (away - centre) / scale
    return [
        Unusual(place, float(usual[place]), float(scores[place]))
        for place in range(first, len(y))
        if not np.isnan(scores[place]) and abs(scores[place]) > UNUSUAL
    ]


def _design(places: npt.NDArray[np.int_], weekdays: npt.NDArray[np.int_], seen: Sequence[int]) -> Floats:
    """Columns: the trend, and one per weekday that was seen; a weekday that was not takes the mean of those."""
    days = np.array([[float(day == one) for one in seen] for day in weekdays])
    days[days.sum(axis=1) == 0] = 1.0 / len(seen)
    return np.column_stack([places.astype(np.float64), days])
