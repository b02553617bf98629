"""Base probabilities of the strategies beside the logistic one, at their edges: SPEC 4, Strategies."""

from __future__ import annotations

import pytest

from credit_core.policy.config import Config
from credit_core.policy.strategies import STRATEGIES, affordable, reserve, weighted, zones
from credit_core.policy.tunables import tunables
from tests.policy import formulas

WEIGHTS = (40.0, 30.0, 20.0, 10.0)


def near(expected: float) -> object:
    return pytest.approx(expected, rel=0, abs=1e-12)


def test_the_configuration_offers_exactly_the_strategies_there_are() -> None:
    offered = next(tunable.choices for tunable in tunables(Config()) if tunable.key == "controller.strategy")
    assert set(offered) == set(STRATEGIES) == set(formulas.BASES)


@pytest.mark.parametrize(
    ("gamma", "balance", "rate", "left", "p"),
    [
        (1.0, 100.0, 20.0, 15.0, 1 / 3),
        (1.0, 300.0, 20.0, 15.0, 1.0),
        (1.0, 900.0, 20.0, 15.0, 1.0),
        (2.0, 75.0, 20.0, 15.0, 0.5),
        (1.0, 0.0, 20.0, 15.0, 0.0),
        (1.0, 0.1, 0.5, 0.4, 0.5),
        (1.0, 5.0, 0.0, 15.0, 1.0),
        (1.0, 5.0, 20.0, 0.0, 1.0),
        (1.0, 0.0, 0.0, 0.0, 1.0),
    ],
)
def test_affordable_is_what_is_left_over_what_will_be_asked_for(
    gamma: float, balance: float, rate: float, left: float, p: float
) -> None:
    assert affordable(gamma, balance, rate, left) == near(p)


@pytest.mark.parametrize(("balance", "p"), [(31.0, 1.0), (30.999999, 0.0), (200.0, 1.0), (0.0, 0.0)])
def test_reserve_keeps_a_share_of_the_on_pace_balance(balance: float, p: float) -> None:
    assert reserve(0.3, balance, 1.0, 100.0) == p


def test_reserve_without_a_floor_spends_all() -> None:
    assert reserve(0.0, 1.0, 1.0, 100.0) == 1.0


@pytest.mark.parametrize(
    ("surplus", "freshness", "credit", "need", "p"),
    [
        (0.0, 1.0, 1.0, 1.0, 0.8),
        (200.0, 1.0, 1.0, 1.0, 1.0),
        (-200.0, 0.0, 0.0, 0.0, 0.0),
        (300.0, 0.0, 0.0, 0.0, 0.4),
        (-300.0, 1.0, 0.0, 0.0, 0.3),
        (-200.0, 0.0, 1.0, 0.0, 0.2),
        (-200.0, 0.0, 0.0, 1.0, 0.1),
        (100.0, 0.0, 0.0, 0.0, 0.3),
    ],
)
def test_weighted_is_a_mean_of_four_signals(
    surplus: float, freshness: float, credit: float, need: float, p: float
) -> None:
    assert weighted(*WEIGHTS, surplus, 200.0, freshness, credit, need) == near(p)


def test_only_the_proportions_of_the_weights_count() -> None:
    tenth = (4.0, 3.0, 2.0, 1.0)
    assert weighted(*tenth, 50.0, 200.0, 0.3, 0.7, 0.2) == near(weighted(*WEIGHTS, 50.0, 200.0, 0.3, 0.7, 0.2))


@pytest.mark.parametrize(
    ("balance", "p"), [(200.0, 1.0), (100.1, 1.0), (100.0, 0.5), (40.0, 0.5), (39.9, 0.1), (0.0, 0.1)]
)
def test_zones_go_by_the_share_of_the_quota_that_is_left(balance: float, p: float) -> None:
    assert zones(balance, 200.0, 0.5, 0.2, 0.5, 0.1) == p
