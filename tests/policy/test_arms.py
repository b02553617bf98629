"""How likely fresh is the better arm, by the rewards so far: exact sums for whole rewards, and the limits."""

from __future__ import annotations

from fractions import Fraction
from math import factorial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credit_core.policy.arms import Rewards, better


def beta(a: int, b: int) -> Fraction:
    return Fraction(factorial(a - 1) * factorial(b - 1), factorial(a + b - 1))


def exactly_better(fresh: Rewards, library: Rewards) -> Fraction:
    """P(X > Y) of two Beta variables with whole parameters, as a finite sum (Miller 2015, Bayesian A/B testing)."""
    a, b = 1 + int(fresh.total), 1 + fresh.number - int(fresh.total)
    c, d = 1 + int(library.total), 1 + library.number - int(library.total)
    terms = (beta(c + i, b + d) / ((b + i) * beta(1 + i, b) * beta(c, d)) for i in range(a))
    return sum(terms, start=Fraction(0))


def test_arms_without_rewards_are_alike() -> None:
    assert better(Rewards(0.0, 0), Rewards(0.0, 0)) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("fresh", "library", "p"),
    [((1, 1), (0, 1), 5 / 6), ((0, 1), (1, 1), 1 / 6), ((1, 1), (0, 0), 2 / 3), ((3, 3), (3, 3), 1 / 2)],
)
def test_a_few_rewards_have_chances_that_can_be_worked_out_by_hand(
    fresh: tuple[int, int], library: tuple[int, int], p: float
) -> None:
    assert better(Rewards(*fresh), Rewards(*library)) == pytest.approx(p, abs=1e-6)


REWARDS = st.integers(0, 60).flatmap(lambda n: st.integers(0, n).map(lambda total: Rewards(float(total), n)))


@settings(max_examples=40, deadline=None)
@given(fresh=REWARDS, library=REWARDS)
def test_whole_rewards_agree_with_the_finite_sum(fresh: Rewards, library: Rewards) -> None:
    assert better(fresh, library) == pytest.approx(float(exactly_better(fresh, library)), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(fresh=REWARDS, library=REWARDS)
def test_one_arm_is_better_or_the_other(fresh: Rewards, library: Rewards) -> None:
    assert better(fresh, library) + better(library, fresh) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("number", [10**3, 10**5, 10**7])
def test_a_clear_lead_over_many_rewards_is_all_but_certain(number: int) -> None:
    ahead, behind = Rewards(0.6 * number, number), Rewards(0.4 * number, number)
    assert better(ahead, behind) == pytest.approx(1.0, abs=1e-6)
    assert better(behind, ahead) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("number", [10**3, 10**5, 10**7])
def test_equal_arms_stay_alike_however_many_rewards(number: int) -> None:
    assert better(Rewards(0.3 * number, number), Rewards(0.3 * number, number)) == pytest.approx(0.5, abs=1e-6)


def test_rewards_between_0_and_1_count_in_part() -> None:
    none = Rewards(0.0, 0)
    assert better(Rewards(0.2, 1), none) < better(Rewards(0.5, 1), none) < better(Rewards(0.9, 1), none)
