"""The S-curve as the policy itself draws it."""

from __future__ import annotations

import math

import pytest

from credit_core.lab import curve
from credit_core.policy.advice import Demand
from credit_core.policy.config import Config
from tests.policy.states import SHIPPED, with_changes

BASIC = Demand("basic", quota=200.0, cycle_days=30.0, rate=20.0, mean_rate=9.0, accounts=10, pressed=2)
STEEP = with_changes({"controller.k": math.log(4) / 50})


@pytest.mark.parametrize(
    ("config", "surplus", "p"),
    [
        (SHIPPED, -50, 0.4687906266262437),
        (SHIPPED, 50, 0.5312093733737563),
        (STEEP, -50, 0.2),
        (STEEP, 50, 0.8),
        (STEEP, 100, 16 / 17),
        (STEEP, 1_000, 0.98),
        (STEEP, -1_000, 0.02),
        (with_changes({"controller.strategy": "reserve"}), -71, 0.0),
        (with_changes({"controller.strategy": "reserve"}), -69, 1.0),
        (with_changes({"controller.strategy": "zones"}), -50, 0.5),
        (with_changes({"controller.strategy": "affordable"}), 50, 0.5),
    ],
)
def test_the_chance_at_a_surplus(config: Config, surplus: float, p: float) -> None:
    assert curve.chance(config, BASIC, surplus) == pytest.approx(p, abs=1e-12)


def test_the_curve_spans_the_reach_on_both_sides() -> None:
    frame = curve.curve(SHIPPED, STEEP, BASIC, 200.0)
    assert (frame["surplus"].iloc[0], frame["surplus"].iloc[-1]) == (-200.0, 200.0)
    middle = frame[frame["surplus"] == 0.0].iloc[0]
    assert (middle["p_live"], middle["p_draft"]) == (0.5, 0.5)
    assert list(curve.curve(SHIPPED, None, BASIC, 200.0).columns) == ["surplus", "p_live"]


def test_where_p_goes_from_10_to_90_percent() -> None:
    low, high = curve.width_10_90(STEEP, BASIC) or (0.0, 0.0)
    assert curve.chance(STEEP, BASIC, low) == pytest.approx(0.1)
    assert curve.chance(STEEP, BASIC, high) == pytest.approx(0.9)
    fed = with_changes({"controller.k": 0.0277, "controller.intercept": "feed_forward"})
    low, high = curve.width_10_90(fed, BASIC) or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(math.log(2) / 0.0277)  # p* = 1/3
    assert curve.width_10_90(with_changes({"controller.strategy": "zones"}), BASIC) is None
