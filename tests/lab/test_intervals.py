"""Intervals of paired differences against published and closed-form answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from credit_core.lab.intervals import newcombe_paired, percentile_interval, resampled, wilson


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


def test_accounts_are_resampled_whole_and_the_same_for_the_same_seed() -> None:
    columns = np.stack([np.repeat([0.0, 1.0], 50), np.ones(100)], axis=1)
    drawn = resampled(columns, seed=4)
    assert np.array_equal(drawn, resampled(columns, seed=4))
    assert not np.array_equal(drawn, resampled(columns, seed=5))
    assert (drawn[:, 1] == 100.0).all()
    interval = percentile_interval(drawn[:, 0] / drawn[:, 1])
    assert interval is not None
    half = 1.96 * math.sqrt(0.25 / 100)
    assert interval == pytest.approx((0.5 - half, 0.5 + half), abs=0.02)


def test_what_is_mostly_unknown_has_no_interval() -> None:
    assert percentile_interval(np.array([np.nan, np.nan, 1.0])) is None
