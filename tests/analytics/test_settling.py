"""Measured surplus beside the controller's droop, with figures whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries.settling import FEWEST_DRAWN, droop_by_plan
from credit_core.analytics.sync import Facts
from credit_core.policy import config
from credit_core.policy.config import Config
from tests.analytics.ledgers import CREDIT, START, Ledger

Copy = Callable[..., Facts]
TEN_DAYS = Filters(Period(START, START + timedelta(days=10)))
SHIPPED = Config()
STEEP = config.apply_changes(SHIPPED.body(), {"controller.k": math.log(4) / 50})


def decided(ledger: Ledger, name: str, count: int, demand: float, surplus: float, **facts: Any) -> None:
    for number in range(count):
        ledger.answer(
            name, f"{name}-{len(ledger.entries)}-{number}-{facts.get('rule', '')}", START + timedelta(hours=1 + number),
            quota_uc=200 * CREDIT, cycle_days=30.0, demand_rate=demand, surplus=surplus, **facts,
        )  # fmt: skip


def asked(ledger: Ledger, demand: float, surplus: float, count: int = FEWEST_DRAWN) -> Ledger:
    """A basic account (200 in 30 days) whose decisions were all drawn."""
    ledger.account("b", "basic")
    decided(ledger, "b", count, demand, surplus)
    return ledger.write()


def only(frame: pd.DataFrame) -> pd.Series:
    assert len(frame) == 1
    return frame.iloc[0]


def test_a_third_that_can_be_afforded_droops_to_277_behind_at_the_shipped_gain(ledger: Ledger, copied: Copy) -> None:
    """FINDINGS: p* = 1/3 settles at −277 credits with k 0.0025; at 20 a day its time constant is 90 days."""
    found = only(droop_by_plan(copied(asked(ledger, 20.0, -40.0)), TEN_DAYS, SHIPPED, 1))

    assert (found["plan"], found["accounts"], found["decisions"]) == ("basic", 1, FEWEST_DRAWN)
    assert found["affordable_share"] == pytest.approx(1 / 3, rel=1e-12)
    assert found["measured_credits"] == -40.0
    assert found["predicted_credits"] == pytest.approx(-math.log(2) / 0.0025, rel=1e-12)
    assert found["time_constant_days"] == pytest.approx(90.0, rel=1e-12)
    assert found["verdict"] == "empty"


def test_the_steep_gain_settles_25_behind_within_the_cycle(ledger: Ledger, copied: Copy) -> None:
    found = only(droop_by_plan(copied(asked(ledger, 20.0, -20.0)), TEN_DAYS, STEEP, 1))

    assert found["predicted_credits"] == pytest.approx(-25.0, abs=1e-9)
    assert found["time_constant_days"] == pytest.approx(8.1, abs=0.02)
    assert found["verdict"] == "settles"


def test_feed_forward_takes_the_droop_away(ledger: Ledger, copied: Copy) -> None:
    changed = config.apply_changes(STEEP.body(), {"controller.intercept": "feed_forward"})

    found = only(droop_by_plan(copied(asked(ledger, 20.0, -20.0)), TEN_DAYS, changed, 1))

    assert found["predicted_credits"] == pytest.approx(0.0, abs=1e-9)


def test_a_small_gain_near_the_middle_is_slow(ledger: Ledger, copied: Copy) -> None:
    found = only(droop_by_plan(copied(asked(ledger, 40 / 3, 0.0)), TEN_DAYS, SHIPPED, 1))

    assert found["predicted_credits"] == pytest.approx(0.0, abs=1e-9)
    assert found["verdict"] == "slow"


def test_a_quota_that_pays_for_everything_has_no_droop(ledger: Ledger, copied: Copy) -> None:
    found = only(droop_by_plan(copied(asked(ledger, 2.0, 90.0)), TEN_DAYS, SHIPPED, 1))

    assert found["affordable_share"] == 1.0
    assert math.isnan(found["predicted_credits"])
    assert found["verdict"] == "ample"


def test_forced_fresh_ones_are_paid_first(ledger: Ledger, copied: Copy) -> None:
    """Of 20 a day a quarter is forced fresh, three quarters are drawn: (1/3 − 1/4) ÷ 3/4 = 1/9 can be afforded."""
    ledger.account("b", "basic")
    decided(ledger, "b", 15, 20.0, -10.0)
    decided(ledger, "b", 5, 20.0, -10.0, rule="coverage_miss", outcome="fresh", miss=True)

    found = only(droop_by_plan(copied(ledger.write()), TEN_DAYS, STEEP, 1))

    assert found["affordable_share"] == pytest.approx(1 / 9, rel=1e-9)
    assert found["predicted_credits"] == pytest.approx(-math.log(8) / (math.log(4) / 50), rel=1e-9)


def test_too_few_decisions_another_version_or_another_law_say_nothing(ledger: Ledger, copied: Copy) -> None:
    facts = copied(asked(ledger, 20.0, -40.0, FEWEST_DRAWN - 1))
    another = config.apply_changes(SHIPPED.body(), {"controller.strategy": "reserve"})

    assert droop_by_plan(facts, TEN_DAYS, SHIPPED, 1).empty
    decided(ledger, "b", 1, 20.0, -40.0)
    ledger.write()
    facts.follow()
    assert len(droop_by_plan(facts, TEN_DAYS, SHIPPED, 1)) == 1
    assert droop_by_plan(facts, TEN_DAYS, SHIPPED, 2).empty
    assert droop_by_plan(facts, TEN_DAYS, another, 1).empty
