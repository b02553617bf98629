"""Margins account by account add up to the whole; another price is the catalogue's own arithmetic at that price."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import economics, margins
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidRequest
from credit_core.units import MICRO
from tests.analytics.test_economics import CATALOG, EVER, PRICED
from tests.market import MARKET_DAYS, MARKET_START, market


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facts]:
    made = f"sqlite:///{tmp_path_factory.mktemp('margins')}/ledger.db"
    market(made, unpriced=True)
    copy = Facts.open(made)
    copy.follow()
    yield copy
    copy.close()


@pytest.mark.parametrize("plans", [PRICED, ("creator_pro",), ("prepaid",)])
def test_accounts_add_up_to_the_whole(facts: Facts, plans: tuple[str, ...]) -> None:
    filters = EVER.narrowed(plans=plans)
    whole = economics.accounts(facts, filters, CATALOG)
    found = margins.by_account(facts, filters, CATALOG, limit=None)
    assert set(found["plan"]) == set(plans)
    assert found["lots_usd_micro"].sum() == whole.lots_usd_micro
    # Accounts that asked for nothing in the period are not among them, and earn their subscription all the same.
    silent = whole.revenue_usd_micro - found["revenue_usd_micro"].sum()
    assert silent >= 0
    if whole.cost_usd_micro is not None:
        assert found["cost_usd_micro"].sum() == whole.cost_usd_micro
        assert found["margin_usd_micro"].is_monotonic_increasing


def test_the_costliest_come_and_what_is_unknown_stays_so(facts: Facts) -> None:
    few = margins.by_account(facts, EVER, CATALOG, limit=3)
    every = margins.by_account(facts, EVER, CATALOG, limit=None)
    assert sorted(few["cost_usd_micro"]) == sorted(cost or 0 for cost in every["cost_usd_micro"])[-3:]
    basic = every[every["plan"] == "basic"]
    assert basic["revenue_usd_micro"].isna().all()
    assert basic["margin_usd_micro"].isna().all()


@pytest.mark.parametrize("price_usd", [0.0, 12.5, 25.0, 99.99])
def test_another_price_is_the_same_cycles_at_it(facts: Facts, price_usd: float) -> None:
    filters = EVER.narrowed(plans=("creator_pro",))
    whole = economics.accounts(facts, filters, CATALOG)
    assert whole.subscriptions_usd_micro is not None
    assert whole.cost_usd_micro is not None
    found = margins.at_price(facts, EVER, CATALOG, "creator_pro", price_usd)
    cycles = whole.subscriptions_usd_micro / (25.0 * MICRO)
    assert found.cycles == pytest.approx(cycles, rel=1e-6)
    assert found.revenue_now == whole.revenue_usd_micro
    earned = whole.lots_usd_micro + whole.breakage_usd_micro + price_usd * MICRO * cycles
    assert found.revenue_then == pytest.approx(earned, abs=100)
    assert found.margin_then == found.revenue_then - whole.cost_usd_micro
    assert found.break_even_usd_micro is not None
    even = margins.at_price(facts, EVER, CATALOG, "creator_pro", found.break_even_usd_micro / MICRO)
    assert abs(even.margin_then or 0) < 100
    if found.may_leave_share is not None:
        # As many fewer subscribers, with their cost, earn at the new price what all of them earn at the present one.
        assert (1 - found.may_leave_share) * found.margin_then == pytest.approx(found.margin_now)


def test_a_price_makes_the_revenue_of_a_plan_known_that_had_none(facts: Facts) -> None:
    found = margins.at_price(facts, EVER, CATALOG, "basic", 10.0)
    assert (found.revenue_now, found.margin_now) == (None, None)
    assert found.revenue_then == pytest.approx(found.cycles * 10 * MICRO, abs=100)
    assert found.may_leave_share is None
    nobody = Filters(Period(MARKET_START, MARKET_START + timedelta(days=MARKET_DAYS)), regions=("nowhere",))
    empty = margins.at_price(facts, nobody, CATALOG, "basic", 10.0)
    assert (empty.cycles, empty.revenue_then, empty.break_even_usd_micro) == (0.0, 0, None)


def test_what_has_no_price_per_cycle_is_refused(facts: Facts) -> None:
    with pytest.raises(InvalidRequest, match="not sold by the cycle"):
        margins.at_price(facts, EVER, CATALOG, "prepaid", 1.0)
    with pytest.raises(InvalidRequest, match="A price lies between 0"):
        margins.at_price(facts, EVER, CATALOG, "creator_pro", -1.0)
