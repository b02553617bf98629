"""Intervals of paired differences against published and closed-form answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from credit_core.lab import intervals
from credit_core.lab.intervals import Sums, newcombe_paired, paired_differences, wilson


def test_newcombe_s_paired_interval_is_the_published_one() -> None:
    """Newcombe (1998), table II: 36 both, 12 the second alone, 2 the first alone, 0 neither."""
    assert newcombe_paired(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_newcombe_s_interval_does_not_collapse_where_nothing_happened() -> None:
    low, high = newcombe_paired(0, 0, 0, 100)
    assert low == pytest.approx(-high)
    assert 0.02 < high < 0.06


def test_the_other_way_round_it_is_mirrored() -> None:
    low, high = newcombe_paired(30, 3, 9, 58)
    assert newcombe_paired(30, 9, 3, 58) == pytest.approx((-high, -low))


def test_an_interval_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        newcombe_paired(0, 0, 0, 0)


def test_wilson_s_interval_is_the_textbook_s() -> None:
    assert wilson(10, 100) == pytest.approx((0.05523, 0.17437), abs=5e-6)


def sums(*columns: tuple[np.ndarray, np.ndarray]) -> Sums:
    return Sums(*(np.stack(parts, axis=1).astype(np.float64) for parts in zip(*columns, strict=True)))


def test_of_many_even_accounts_it_is_the_textbook_s_and_the_same_for_the_same_seed() -> None:
    """A mean of n even ones: ± 1.96 σ/√n, whichever side they are on."""
    n = 2_000
    x, ones = np.random.default_rng(1).normal(3.0, 2.0, n), np.ones(n)
    live, draft = sums((0 * x, ones), (x, ones)), sums((x, ones), (0 * x, ones))
    found = paired_differences(live, draft, seed=4)
    assert found == paired_differences(live, draft, seed=4)
    assert found != paired_differences(live, draft, seed=5)
    half = 1.96 * float(x.std()) / math.sqrt(n)
    assert found[0] == pytest.approx((x.mean() - half, x.mean() + half), abs=0.012)
    assert found[1] == pytest.approx((-x.mean() - half, -x.mean() + half), abs=0.012)


def test_the_studentised_draws_are_those_that_are_written_out() -> None:
    """Each resample by hand: its ratios, its own linearised standard error, and how far it is from all accounts' difference."""
    rng = np.random.default_rng(2)
    live = sums((rng.gamma(0.5, size=40), rng.gamma(2.0, size=40)))
    draft = sums((rng.gamma(0.4, size=40), live.bottom[:, 0]))
    before, after = (
        intervals._Residuals(side.top - side.top.sum(axis=0) / side.bottom.sum(axis=0) * side.bottom, side.bottom)
        for side in (live, draft)
    )
    drawn = intervals._studentised(before, after, 9, 30)[:, 0]

    def difference(who: np.ndarray) -> tuple[float, float]:
        ratios = [side.top[who, 0].sum() / side.bottom[who, 0].sum() for side in (live, draft)]
        each = [
            (side.top[who, 0] - ratio * side.bottom[who, 0]) / side.bottom[who, 0].sum()
            for side, ratio in zip((live, draft), ratios, strict=True)
        ]
        return ratios[1] - ratios[0], float(np.sqrt(np.square(each[1] - each[0]).sum() * 40 / 39))

    generator, everybody = np.random.default_rng(9), difference(np.arange(40))[0]
    for value, who in zip(drawn, generator.integers(0, 40, (30, 40)), strict=True):
        moved, se = difference(who)
        assert value == pytest.approx((moved - everybody) / se, rel=1e-9)


def test_what_a_few_make_up_reaches_further_than_a_percentile_would() -> None:
    """A skewed rate of 60 accounts: the interval is wider, and its upper end further away."""
    rng = np.random.default_rng(3)
    size = rng.gamma(0.4, size=60)
    rate = rng.beta(0.3, 0.9, 60)
    found = paired_differences(sums((0 * size, size)), sums((rate * size, size)), seed=1)[0]
    assert found is not None
    picks = rng.integers(0, 60, (2_000, 60))
    plain = np.quantile((rate * size)[picks].sum(axis=1) / size[picks].sum(axis=1), [0.025, 0.975])
    assert found.high - found.low > 1.1 * (plain[1] - plain[0])
    assert found.low <= plain[0]
    assert found.high >= plain[1]


def test_nobody_has_no_interval_and_one_account_has_a_wide_one() -> None:
    """One event: Student's t with two degrees of freedom, from below nothing to five times as much, as of one of Poisson's."""
    ones, none = np.ones(500), np.zeros(500)
    one = none + (np.arange(500) == 7)
    live = sums((none, ones), (none, ones), (ones, ones), (none * np.nan, ones))
    draft = sums((one, ones), (none, ones), (ones, ones), (ones, ones))
    rare, nobody, same, unknown = paired_differences(live, draft, seed=0)
    assert (nobody, same, unknown) == (None, (0.0, 0.0), None)
    assert rare is not None
    assert rare.low < 0.0
    assert rare.high * 500 == pytest.approx(5.3, abs=0.1)
    assert paired_differences(sums((ones[:1], ones[:1])), sums((ones[:1], ones[:1])), seed=0) == [None]


def test_many_accounts_are_resampled_in_groups_and_give_the_interval_that_they_give_singly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(6)
    size = rng.gamma(1.0, size=4_001)
    live, draft = sums((0.3 * size, size)), sums((rng.beta(2.0, 3.0, 4_001) * size, size))
    (grouped,) = paired_differences(live, draft, seed=1)
    monkeypatch.setattr(intervals, "MOST_UNITS", 5_000)
    (singly,) = paired_differences(live, draft, seed=1)
    assert grouped is not None
    assert singly is not None
    assert grouped != singly
    assert grouped == pytest.approx(singly, abs=0.08 * (singly.high - singly.low))
