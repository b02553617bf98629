"""Intervals for paired differences of ratios of sums: accounts resampled, and Newcombe's for shares with no events to draw from.

An interval reaches as far as the further of two does, each of which sees what the other misses (decision 0013). The
studentised bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 12.5) follows a skewed estimate. Student's t
with Satterthwaite's degrees of freedom, 2n/(κ − 1) for a kurtosis κ of what accounts contribute, knows that a standard error
which a few accounts make up is itself uncertain. The plain percentile interval sees neither: of a rate over requests that
100 accounts make unevenly, 95 % intervals held the truth in 85 of 100 data sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

Floats = npt.NDArray[np.float64]
RESAMPLES = 1_000
#: The fewest accounts that an interval is drawn from.
FEWEST_ACCOUNTS = 10
CONFIDENCE = 0.95
#: More accounts than this are resampled in so many groups that are drawn at random, which costs no more than these.
MOST_UNITS = 4_000
#: Counts held in memory at a time: few large products are quicker than many small ones, on a busy machine by far.
_COUNTS = 4_000_000


class Interval(NamedTuple):
    """Ends of a 95 % interval."""

    low: float
    high: float


class Sums(NamedTuple):
    """One side of a comparison: what stands above and below the line of each figure, [account, figure]."""

    top: Floats
    bottom: Floats


class _Residuals(NamedTuple):
    """One side around its own ratios: ``u`` = top − ratio·bottom, so that Σu = 0."""

    u: Floats
    bottom: Floats


def paired_differences(live: Sums, draft: Sums, seed: int, resamples: int = RESAMPLES) -> list[Interval | None]:
    """By figure a 95 % interval of Σtop/Σbottom of ``draft`` minus that of ``live``; both sides of an account stay together.

    None where a figure is unknown, and where nobody has anything above the line on either side: that nothing happened to
    these says little of others. Seeded.
    """
    live, draft = _grouped(live, draft, seed)
    n = len(live.top)
    if n < 2:
        return [None] * live.top.shape[1]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratios = [side.top.sum(axis=0) / side.bottom.sum(axis=0) for side in (live, draft)]
        before, after = (
            _Residuals(side.top - ratio * side.bottom, side.bottom)
            for side, ratio in zip((live, draft), ratios, strict=True)
        )
        each = after.u / after.bottom.sum(axis=0) - before.u / before.bottom.sum(axis=0)
        squares, fourths = np.square(each).sum(axis=0), (each**4).sum(axis=0)
        carriers = squares**2 / fourths
        se = np.sqrt(squares * n / (n - 1))
        freedom = np.minimum(2.0 * n / np.maximum(n / carriers - 1.0, 1e-9), n - 1)
        reach = t.ppf(0.5 + CONFIDENCE / 2.0, freedom) * se
        drawn = _studentised(before, after, seed, resamples)
    difference, nobody = ratios[1] - ratios[0], ~((live.top != 0.0) | (draft.top != 0.0)).any(axis=0)
    found: list[Interval | None] = []
    for place, value in enumerate(difference.tolist()):
        if not np.isfinite(value) or nobody[place]:
            found.append(None)
        elif squares[place] == 0.0:
            found.append(Interval(value, value))  # Both sides did the same to everybody.
        else:
            known = drawn[np.isfinite(drawn[:, place]), place]
            tail = (1.0 - CONFIDENCE) / 2.0
            below, above = np.quantile(known, [tail, 1.0 - tail]) if len(known) else (0.0, 0.0)
            low, high = -max(reach[place], above * se[place]), max(reach[place], -below * se[place])
            found.append(Interval(value + float(low), value + float(high)))
    return found


def _grouped(live: Sums, draft: Sums, seed: int) -> tuple[Sums, Sums]:
    """Both sides by groups of accounts, the same in both, where there are more accounts than :data:`MOST_UNITS`."""
    n = len(live.top)
    if n <= MOST_UNITS:
        return live, draft
    # Places beyond the accounts stand for a row of zeros, so that groups differ by one account at most.
    rounds = -(-n // MOST_UNITS)
    places = np.full(rounds * MOST_UNITS, n)
    places[:n] = np.random.default_rng([seed, n]).permutation(n)

    def summed(rows: Floats) -> Floats:
        padded = np.concatenate([rows, np.zeros((1, rows.shape[1]))])
        return np.asarray(padded[places].reshape(rounds, MOST_UNITS, -1).sum(axis=0), dtype=np.float64)

    return Sums(*map(summed, live)), Sums(*map(summed, draft))


def _studentised(before: _Residuals, after: _Residuals, seed: int, resamples: int) -> Floats:
    """(θ* − θ) ÷ se* of accounts drawn with replacement: [resample, figure]; infinite or nan where a resample has none."""
    (u, b), (v, d) = before, after
    parts = (u, b, v, d, u * u, u * b, b * b, v * v, v * d, d * d, v * u, v * b, d * u, d * b)
    n, columns = len(u), np.concatenate(parts, axis=1)
    found = []
    for weights in _weights(n, seed, resamples):
        su, sb, sv, sd, uu, ub, bb, vv, vd, dd, vu, vb, du, db = np.split(weights @ columns, len(parts), axis=1)
        # How far each side's ratio is from the one of all accounts.
        x, y = su / sb, sv / sd
        spread = (
            (uu - 2 * x * ub + x * x * bb) / sb**2
            + (vv - 2 * y * vd + y * y * dd) / sd**2
            - 2 * (vu - x * vb - y * du + x * y * db) / (sb * sd)
        )
        found.append((y - x) / np.sqrt(np.maximum(spread, 0.0) * n / (n - 1)))
    return np.concatenate(found)


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
