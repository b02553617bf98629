"""The S-curve, its nudges and modes, and what can be said about a gain without a simulation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credit_core.policy import controller
from credit_core.policy.controller import CONSERVE, CREDITS, DAYS, QUOTA_PERCENT, SPEND, STEADY
from tests.policy import formulas

STEEP = math.log(4) / 50
FLAT = 0.0025


def near(expected: float, tolerance: float = 1e-12) -> object:
    return pytest.approx(expected, rel=0, abs=tolerance)


# ------------------------------------------------------------------------------------------------------- the S-curve


def test_sigmoid_is_one_half_at_zero_and_mirrored_around_it() -> None:
    assert controller.sigmoid(0.0) == 0.5
    assert controller.sigmoid(3.0) + controller.sigmoid(-3.0) == near(1.0)


@pytest.mark.parametrize("x", [710.0, 1e4, 1e308])
def test_sigmoid_does_not_overflow(x: float) -> None:
    assert controller.sigmoid(x) == 1.0
    assert controller.sigmoid(-x) == near(0.0, 1e-300)


@settings(max_examples=100, deadline=None)
@given(st.floats(-40, 40))
def test_sigmoid_agrees_with_the_second_writing(x: float) -> None:
    assert controller.sigmoid(x) == near(float(formulas.sigma(formulas.exact(x))))


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-3, 1 - 1e-3))
def test_logit_undoes_sigmoid(p: float) -> None:
    assert controller.sigmoid(controller.logit(p)) == near(p)
    assert controller.logit(p) == near(float(formulas.logit(formulas.exact(p))))


@pytest.mark.parametrize(
    ("unit", "name", "size"), [(CREDITS, "credits", 1.0), (DAYS, "days", 20 / 3), (QUOTA_PERCENT, "quota_percent", 2.0)]
)
def test_a_unit_of_surplus_is_a_credit_a_day_or_a_percent(unit: int, name: str, size: float) -> None:
    assert controller.SURPLUS_UNITS[unit] == name
    assert controller.unit_size(unit, 200.0, 30.0) == near(size)


def test_p0_has_the_known_values_of_the_specification() -> None:
    for k, surplus, p in [(FLAT, 50, 0.5312), (FLAT, -50, 0.4688), (STEEP, 50, 0.8), (STEEP, -50, 0.2)]:
        assert round(controller.base_probability(k, surplus, 1.0, 0.0), 4) == p
    assert controller.base_probability(STEEP, 100.0, 1.0, 0.0) == near(16 / 17)
    assert controller.base_probability(STEEP, -100.0, 1.0, 0.0) == near(1 / 17)


def test_at_the_shipped_gain_four_in_five_need_a_surplus_of_554_credits() -> None:
    assert controller.base_probability(FLAT, 554.5177444479562, 1.0, 0.0) == near(0.8)


def test_the_same_surplus_in_another_unit_has_the_same_p() -> None:
    in_credits = controller.base_probability(0.03, 40.0, 1.0, 0.0)
    in_days = controller.base_probability(0.03 * 20 / 3, 40.0, controller.unit_size(DAYS, 200.0, 30.0), 0.0)
    in_percent = controller.base_probability(0.06, 40.0, controller.unit_size(QUOTA_PERCENT, 200.0, 30.0), 0.0)
    assert in_credits == near(in_days) == near(in_percent)


# ------------------------------------------------------------------------------------------------- demand, intercept


@pytest.mark.parametrize(
    ("prior", "so_far", "days", "rate"),
    [(10.0, 0.0, 0.0, 10.0), (10.0, 0.0, 14.0, 5.0), (0.0, 28.0, 14.0, 1.0), (4.0, 30.0, 6.0, 4.3)],
)
def test_expected_demand_blends_the_plan_s_with_the_account_s_own(
    prior: float, so_far: float, days: float, rate: float
) -> None:
    assert controller.demand_rate(prior, 14.0, so_far, days) == near(rate)
    assert float(formulas.expected_demand(prior, 14.0, so_far, days)) == near(rate)


def test_feed_forward_is_the_log_odds_of_what_the_quota_affords() -> None:
    assert controller.feed_forward(200.0, 30.0, 20.0, 0.02, 0.98) == near(math.log((1 / 3) / (2 / 3)))


def test_a_small_quota_and_little_demand_have_an_intercept_like_any_other() -> None:
    assert controller.feed_forward(6.0, 30.0, 0.4, 0.02, 0.98) == near(0.0)


@pytest.mark.parametrize(("rate", "share"), [(1.0, 0.98), (0.0, 0.98), (1e-320, 0.98), (1e9, 0.02)])
def test_feed_forward_stays_within_p_min_and_p_max(rate: float, share: float) -> None:
    assert controller.feed_forward(200.0, 30.0, rate, 0.02, 0.98) == near(math.log(share / (1 - share)))


# ------------------------------------------------------------------------------------------------------ nudges, modes


@pytest.mark.parametrize(("x", "factor"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2), (0.25, 0.9)])
def test_a_nudge_runs_from_lo_to_hi(x: float, factor: float) -> None:
    assert controller.nudge(0.8, 1.2, x) == near(factor)


@pytest.mark.parametrize(("images", "x"), [(0, 1.0), (20, 1 / math.e), (40, 1 / math.e**2), (1_000, 0.0)])
def test_freshness_fades_by_e_every_tau_images(images: int, x: float) -> None:
    assert controller.freshness(float(images), 20.0) == near(x)


@pytest.mark.parametrize(("x", "held"), [(-1.0, 0.02), (0.02, 0.02), (0.5, 0.5), (0.98, 0.98), (7.0, 0.98)])
def test_clip_holds_a_value_between_two_ends(x: float, held: float) -> None:
    assert controller.clip(x, 0.02, 0.98) == held


EDGES = {
    "conserve_enter_days": -3.0,
    "conserve_leave_days": -1.0,
    "spend_enter_days": 5.0,
    "spend_leave_days": 2.0,
}


@pytest.mark.parametrize(
    ("before", "days", "after"),
    [
        (STEADY, -3.0, CONSERVE),
        (STEADY, -2.999, STEADY),
        (CONSERVE, -1.001, CONSERVE),
        (CONSERVE, -1.0, STEADY),
        (CONSERVE, 4.999, STEADY),
        (CONSERVE, 5.0, SPEND),
        (STEADY, 4.999, STEADY),
        (STEADY, 5.0, SPEND),
        (SPEND, 2.001, SPEND),
        (SPEND, 2.0, STEADY),
        (SPEND, -2.999, STEADY),
        (SPEND, -3.0, CONSERVE),
    ],
)
def test_a_mode_is_entered_at_one_edge_and_left_at_another(before: int, days: float, after: int) -> None:
    assert controller.next_mode(before, days, -3.0, -1.0, 5.0, 2.0) == after
    name = formulas.mode_after(controller.MODES[before], formulas.exact(days), EDGES)
    assert name == controller.MODES[after]


@settings(max_examples=200, deadline=None)
@given(before=st.sampled_from([CONSERVE, STEADY, SPEND]), tenths=st.integers(-80, 100))
def test_seeing_the_same_surplus_again_changes_nothing(before: int, tenths: int) -> None:
    once = controller.next_mode(before, tenths / 10, -3.0, -1.0, 5.0, 2.0)
    assert controller.next_mode(once, tenths / 10, -3.0, -1.0, 5.0, 2.0) == once


def test_modes_are_named_in_the_order_of_their_numbers() -> None:
    assert [controller.MODES[mode] for mode in (CONSERVE, STEADY, SPEND)] == ["conserve", "steady", "spend"]


# ------------------------------------------------------------------------------------------------------- diagnostics


def test_the_gain_for_one_in_five_and_four_in_five_at_fifty_credits_is_ln_4_over_50() -> None:
    gain = controller.gain_for(0.2, 0.8, 50.0)
    assert gain.k == near(STEEP)
    assert gain.k == near(0.0277259, 5e-8)
    assert gain.p_at_zero == near(0.5)


def test_targets_may_lie_at_a_fraction_of_a_credit() -> None:
    assert controller.gain_for(0.2, 0.8, 0.25).k == near(math.log(4) / 0.25)


@settings(max_examples=100, deadline=None)
@given(
    behind=st.floats(0.01, 0.48),
    ahead=st.floats(0.52, 0.99),
    surplus=st.floats(1, 500),
    unit=st.sampled_from([1.0, 20 / 3, 2.0, 0.2]),
)
def test_the_gain_found_for_two_targets_meets_them(behind: float, ahead: float, surplus: float, unit: float) -> None:
    gain = controller.gain_for(behind, ahead, surplus, unit)
    b = controller.logit(gain.p_at_zero)
    assert controller.base_probability(gain.k, -surplus, unit, b) == near(behind)
    assert controller.base_probability(gain.k, surplus, unit, b) == near(ahead)


@pytest.mark.parametrize(
    ("behind", "ahead", "surplus"),
    [(0.8, 0.2, 50.0), (0.5, 0.5, 50.0), (0.0, 0.8, 50.0), (0.2, 1.0, 50.0), (0.2, 0.8, 0.0), (0.2, 0.8, -50.0)],
)
def test_targets_that_no_gain_can_meet_are_refused(behind: float, ahead: float, surplus: float) -> None:
    with pytest.raises(ValueError, match="targets need"):
        controller.gain_for(behind, ahead, surplus)


@pytest.mark.parametrize(("k", "width"), [(FLAT, 1757.78), (STEEP, 158.496), (1.0, 4.39445)])
def test_the_10_to_90_width_is_4_394_over_k(k: float, width: float) -> None:
    assert controller.width_10_90(k) == pytest.approx(width, rel=1e-5)
    assert controller.width_10_90(k) == pytest.approx(4.394 / k, rel=1.2e-4)


@pytest.mark.parametrize("unit", [1.0, 20 / 3, 2.0])
def test_half_the_width_ahead_p_is_nine_in_ten(unit: float) -> None:
    half = controller.width_10_90(0.04, unit) / 2
    assert controller.base_probability(0.04, half, unit, 0.0) == near(0.9)
    assert controller.base_probability(0.04, -half, unit, 0.0) == near(0.1)


def test_an_account_that_can_afford_a_third_settles_far_behind_at_the_shipped_gain() -> None:
    assert round(controller.droop(FLAT, 0.0, 1 / 3)) == -277
    assert round(controller.droop(0.0277, 0.0, 1 / 3)) == -25


def test_feed_forward_removes_the_droop() -> None:
    b = controller.feed_forward(200.0, 30.0, 20.0, 0.02, 0.98)
    assert controller.droop(FLAT, b, 1 / 3) == near(0.0)


@settings(max_examples=100, deadline=None)
@given(k=st.floats(0.001, 0.5), b=st.floats(-2, 2), share=st.floats(0.05, 0.95), unit=st.sampled_from([1.0, 20 / 3]))
def test_at_the_droop_p_is_the_share_that_the_quota_affords(k: float, b: float, share: float, unit: float) -> None:
    assert controller.base_probability(k, controller.droop(k, b, share, unit), unit, b) == near(share)


def test_the_time_constant_is_90_days_at_the_shipped_gain_and_8_at_the_steep_one() -> None:
    assert controller.time_constant_days(FLAT, 20.0, 1 / 3) == near(90.0)
    assert round(controller.time_constant_days(0.0277, 20.0, 1 / 3), 1) == 8.1


def test_a_gap_closes_by_63_percent_in_the_time_constant() -> None:
    # dS/dt = λ·p* − λ·σ(kS/u + b), stepped from a small gap beside the droop.
    k, rate, share, unit = 0.02, 12.0, 0.4, 2.0
    settled = controller.droop(k, 0.0, share, unit)
    days = controller.time_constant_days(k, rate, share, unit)
    surplus, steps = settled + 0.01, 20_000
    for _ in range(steps):
        surplus += (share - controller.base_probability(k, surplus, unit, 0.0)) * rate * days / steps
    assert (surplus - settled) / 0.01 == pytest.approx(1 / math.e, rel=1e-3)


@pytest.mark.parametrize("function", ["droop", "width", "time_constant"])
def test_a_gain_per_larger_unit_reaches_further(function: str) -> None:
    of = {
        "droop": lambda unit: controller.droop(0.1, 0.0, 1 / 3, unit),
        "width": lambda unit: controller.width_10_90(0.1, unit),
        "time_constant": lambda unit: controller.time_constant_days(0.1, 20.0, 1 / 3, unit),
    }[function]
    assert of(5.0) == pytest.approx(5.0 * of(1.0))
