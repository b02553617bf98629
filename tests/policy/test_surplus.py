"""On-pace balance, surplus and surplus days: SPEC 4, first line."""

from __future__ import annotations

import pytest

from credit_core.policy.surplus import on_pace, surplus, surplus_days


@pytest.mark.parametrize(
    ("quota", "length", "left", "balance"),
    [(200, 30, 30, 200), (200, 30, 15, 100), (200, 30, 0, 0), (600, 31, 1, 600 / 31), (20, 28, 7, 5)],
)
def test_a_quota_spent_evenly_leaves_the_share_of_the_days_left(
    quota: float, length: float, left: float, balance: float
) -> None:
    assert on_pace(quota, length, left) == pytest.approx(balance, rel=0, abs=1e-12)


def test_surplus_is_what_is_there_less_what_pace_would_leave() -> None:
    assert surplus(150.0, 200.0, 30.0, 15.0) == 50.0
    assert surplus(50.0, 200.0, 30.0, 15.0) == -50.0


def test_an_empty_account_is_behind_by_all_that_pace_would_leave() -> None:
    assert surplus(0.0, 200.0, 30.0, 30.0) == -200.0


def test_nothing_is_due_at_the_end_so_whatever_is_there_is_surplus() -> None:
    assert surplus(7.5, 200.0, 30.0, 0.0) == 7.5


def test_surplus_days_are_days_of_even_spending() -> None:
    assert surplus_days(20.0, 200.0, 30.0) == 3.0
    assert surplus_days(-20.0, 200.0, 30.0) == -3.0
    assert surplus_days(0.0, 200.0, 30.0) == 0.0


def test_a_full_quota_ahead_is_a_cycle_ahead() -> None:
    assert surplus_days(600.0, 600.0, 31.0) == 31.0
