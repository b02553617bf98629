"""What plans' accounts ask for, from decisions written by hand."""

from __future__ import annotations

import pytest

from credit_core.lab import demand
from credit_core.policy.config import Config
from credit_core.service import catalog as catalogue
from credit_core.settings import catalog_folder
from tests.lab.frames import frame_of, logged
from tests.policy.states import account

LIVE = Config()
CATALOG = catalogue.read(catalog_folder()).catalog


def test_demand_is_that_of_accounts_that_ask_for_more_than_they_get() -> None:
    rows = [
        logged(account(100, demand_rate=20.0), 0.1, LIVE, account="heavy"),
        logged(account(100, demand_rate=1.0), 0.1, LIVE, account="heavy"),  # older: does not count
        logged(account(100, demand_rate=10.0), 0.1, LIVE, account="brisk"),
        logged(account(100, demand_rate=3.0), 0.1, LIVE, account="light"),
        logged(account(100), 0.1, LIVE, account="unknown"),
    ]
    basic = demand.demands(frame_of(*rows), CATALOG)["basic"]
    assert (basic.accounts, basic.pressed, basic.quota, basic.cycle_days) == (3, 2, 200.0, 30.0)
    assert basic.rate == 15.0
    assert basic.mean_rate == 11.0
    assert basic.affordable == pytest.approx(200 / 30 / 15)


def test_a_plan_that_nobody_asked_under_has_an_unknown_demand() -> None:
    found = demand.demands(frame_of(logged(account(150), 0.1, LIVE)), CATALOG)
    assert list(found) == [name for name, plan in CATALOG.plans.items() if plan.quota_policy == "titrated_monthly"]
    assert found["premium"].rate is None
    assert found["premium"].affordable is None
    assert found["premium"].quota == 600.0
    assert (found["basic"].rate, found["basic"].accounts) == (None, 1)
