"""Intervals for paired differences: accounts drawn with replacement, and Newcombe's for shares with no events to draw from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

Floats = npt.NDArray[np.float64]
RESAMPLES = 1_000
#: The fewest accounts that an interval is drawn from.
FEWEST_ACCOUNTS = 10
CONFIDENCE = 0.95
#: Counts held in memory at a time: few large products are quicker than many small ones, on a busy machine by far.
_COUNTS = 4_000_000


class Interval(NamedTuple):
    """Ends of a 95 % interval."""

    low: float
    high: float


def resampled(columns: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Sums of ``columns`` [account, column] over accounts drawn with replacement: [resample, column]. Seeded."""
    return np.concatenate([weights @ columns for weights in _weights(len(columns), seed, resamples)])


def percentile_interval(drawn: Floats) -> Interval | None:
    """The middle 95 % of what was drawn; None where too little of it is known."""
    known = drawn[np.isfinite(drawn)]
    if len(known) < len(drawn) / 2 or not len(known):
        return None
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def newcombe_paired(both: int, first: int, second: int, neither: int) -> Interval:
    """95 % interval of the difference of two shares of the same n: ``second`` only minus ``first`` only.

    Newcombe (1998), Statistics in Medicine 17, 2635–2650, method 10: Wilson's intervals squared and added, with φ corrected
    for continuity. It does not collapse where nothing happened.
    """
    n = both + first + second + neither
    if n == 0:
        raise ValueError("an interval needs at least one pair")
    p1, p2 = (both + second) / n, (both + first) / n
    (l1, u1), (l2, u2) = wilson(both + second, n), wilson(both + first, n)
    phi = _phi(both, second, first, neither)
    delta = p1 - p2
    down = math.sqrt((p1 - l1) ** 2 - 2.0 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    up = math.sqrt((u1 - p1) ** 2 - 2.0 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    return Interval(delta - down, delta + up)


def wilson(events: int, n: int) -> Interval:
    """Wilson's 95 % score interval of a share."""
    z = float(norm.ppf(0.5 + CONFIDENCE / 2.0))
    middle = 2.0 * events + z * z
    spread = z * math.sqrt(z * z + 4.0 * events * (1.0 - events / n))
    return Interval((middle - spread) / (2.0 * (n + z * z)), (middle + spread) / (2.0 * (n + z * z)))


def _phi(a: int, b: int, c: int, d: int) -> float:
    product = (a + b) * (c + d) * (a + c) * (b + d)
    if product == 0:
        return 0.0
    cross = a * d - b * c
    if cross > 0:
        cross = max(cross - (a + b + c + d) / 2.0, 0.0)  # type: ignore[assignment]
    return cross / math.sqrt(product)


def _weights(accounts: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each account is drawn, some resamples at a time."""
    rng = np.random.default_rng(seed)
    block = max(1, _COUNTS // max(accounts, 1))
    for start in range(0, resamples, block):
        drawn = rng.integers(0, accounts, (min(block, resamples - start), accounts))
        yield np.stack([np.bincount(row, minlength=accounts) for row in drawn]).astype(np.float64)
