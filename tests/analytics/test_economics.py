"""Revenue, cost and margin, liability, packs and the funnel against sums over plain rows of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from credit_core import CreditCore
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import economics, funnel
from credit_core.analytics.sync import Facts
from credit_core.policy.plans import Catalog
from credit_core.policy.pricing import value_usd_micro
from credit_core.service.catalog import read
from credit_core.settings import catalog_folder
from credit_core.store import schema
from credit_core.store.engine import open_engine
from tests.market import MARKET_DAYS, MARKET_START, market
from tests.service.scenes import StoppedClock

CATALOG: Catalog = read(catalog_folder()).catalog
EVER = Filters(Period(MARKET_START, MARKET_START + timedelta(days=MARKET_DAYS)))
PRICED = ("creator_free", "creator_pro", "studio_pro")
SPANS = [
    EVER,
    Filters(Period(MARKET_START + timedelta(days=17, hours=5), MARKET_START + timedelta(days=33))),
    EVER.narrowed(plans=("prepaid",)),
    EVER.narrowed(plans=PRICED),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = f"sqlite:///{tmp_path_factory.mktemp('market')}/ledger.db"
    market(made, unpriced=True)
    return made


@pytest.fixture(scope="module")
def facts(url: str) -> Iterator[Facts]:
    copy = Facts.open(url)
    copy.follow()
    yield copy
    copy.close()


@pytest.fixture(scope="module")
def tables(url: str) -> dict[str, list[Any]]:
    """The ledger's own rows."""
    engine = open_engine(url, read_only=True)
    entries, lots = schema.ledger_entries, schema.lots
    joined = select(entries, lots.c.kind.label("lot"), lots.c.unit_price_usd_micro.label("price")).select_from(
        entries.outerjoin(lots, lots.c.lot_id == entries.c.lot_id)
    )
    with engine.connect() as connection:
        found = {"entries": list(connection.execute(joined.order_by(entries.c.id)))}
        for table in (schema.cycles, schema.accounts, schema.users):
            found[table.name] = list(connection.execute(select(table)))
    engine.dispose()
    return found


def within(rows: list[Any], filters: Filters) -> list[Any]:
    return [
        row
        for row in rows
        if filters.period.start <= row.occurred_at < filters.period.end
        and (not filters.plans or row.plan in filters.plans)
    ]


def spent(row: Any) -> int:
    if row.kind == "settle":
        return -(row.d_avail_uc + row.d_held_uc)
    return -row.d_avail_uc if row.kind in ("import", "refund") else 0


def subscribed(tables: dict[str, list[Any]], filters: Filters, plan: str, end: datetime) -> float:
    """Dollars of a plan's cycles in the period, by real numbers."""
    price = CATALOG.plans[plan].price_usd or 0.0
    total = Fraction(0)
    for row in tables["cycles"]:
        if row.plan == plan:
            overlap = min(row.end_at, end, filters.period.end) - max(row.start_at, filters.period.start)
            if overlap > timedelta(0):
                total += Fraction(overlap // timedelta(microseconds=1)) / (
                    (row.end_at - row.start_at) // timedelta(microseconds=1)
                )
    return float(total * Fraction(price))


@pytest.mark.parametrize("filters", SPANS)
def test_each_plans_money_is_its_entries_and_its_cycles(
    facts: Facts, tables: dict[str, list[Any]], filters: Filters
) -> None:
    found = economics.by_plan(facts, filters, CATALOG)
    newest = max(row.occurred_at for row in tables["entries"])
    assert len(found) >= 1
    for row in found.to_dict("records"):
        mine = [entry for entry in within(tables["entries"], filters) if entry.plan == row["plan"]]
        assert row["lots_usd_micro"] == sum(value_usd_micro(spent(one), one.price or 0) for one in mine)
        if row["plan"] in PRICED:
            assert row["subscriptions_usd_micro"] / 1e6 == pytest.approx(
                subscribed(tables, filters, row["plan"], newest), abs=1e-4
            )
        costs = [one.cost_usd_micro for one in mine if one.cost_usd_micro is not None]
        if row["plan"] == "prepaid":
            assert (costs, row["cost_usd_micro"], row["margin_usd_micro"]) == ([], None, None)
        elif row["plan"] == "basic":
            assert (row["subscriptions_usd_micro"], row["revenue_usd_micro"], row["margin_usd_micro"]) == (None,) * 3
        else:
            assert row["cost_usd_micro"] == sum(costs)
            assert row["margin_usd_micro"] == row["revenue_usd_micro"] - sum(costs)


def test_what_is_unknown_in_a_part_is_unknown_in_the_whole(facts: Facts) -> None:
    whole = economics.accounts(facts, EVER, CATALOG)
    assert (whole.revenue_usd_micro, whole.cost_usd_micro, whole.margin_usd_micro) == (None, None, None)
    assert (whole.unpriced, whole.uncosted) == (("basic",), ("prepaid",))
    assert whole.margin_share is None

    known = economics.accounts(facts, EVER.narrowed(plans=PRICED), CATALOG)
    assert known.revenue_usd_micro is not None
    assert known.cost_usd_micro is not None
    assert known.margin_usd_micro == known.revenue_usd_micro - known.cost_usd_micro
    assert list(economics.steps(whole)["amount_usd"].isna()) == [True, False, False, True, True, True]


@pytest.mark.parametrize("plans", [PRICED, ("creator_pro",), ("creator_free",), ("prepaid",)])
def test_models_and_days_add_up_to_the_whole(facts: Facts, plans: tuple[str, ...]) -> None:
    filters = EVER.narrowed(plans=plans)
    whole = economics.accounts(facts, filters, CATALOG)

    assert economics.by_model(facts, filters, CATALOG)["revenue_usd_micro"].sum() == whole.revenue_usd_micro
    assert economics.by_day(facts, filters, CATALOG)["revenue_usd_micro"].dropna().sum() == whole.revenue_usd_micro


def test_subscriptions_are_shared_out_by_the_monthly_credits_a_model_took(
    facts: Facts, tables: dict[str, list[Any]]
) -> None:
    filters = EVER.narrowed(plans=("creator_pro",))
    found = economics.by_model(facts, filters, CATALOG).set_index("model")
    whole = economics.accounts(facts, filters, CATALOG).subscriptions_usd_micro
    assert whole
    took: dict[str, int] = {}
    for row in within(tables["entries"], filters):
        took[row.model] = took.get(row.model, 0) + spent(row)
    for model, amount in took.items():
        if amount:
            share = whole * amount / sum(took.values())
            assert found.loc[model, "subscriptions_usd_micro"] == pytest.approx(share, abs=len(took))


def test_a_model_that_a_plan_without_a_price_used_has_unknown_revenue(facts: Facts) -> None:
    found = economics.by_model(facts, EVER, CATALOG).set_index("model")
    routed = set(economics.by_model(facts, EVER.narrowed(plans=("basic",)), CATALOG)["model"])
    assert routed
    for model in routed:
        assert found.loc[model, "revenue_usd_micro"] is None
    assert found.loc["gpt-4o", "revenue_usd_micro"] is not None


def test_what_was_sold_is_used_broken_or_owed_to_the_micro_dollar(facts: Facts) -> None:
    packs = economics.packs(facts, EVER, CATALOG)
    owed = economics.liability(facts, EVER, CATALOG)
    whole = economics.accounts(facts, EVER, CATALOG)

    assert set(packs["pack"]) <= {"starter", "creator", "pro"}
    sold = packs["sales_usd_micro"].sum()
    assert sold == whole.lots_usd_micro + whole.breakage_usd_micro + owed["liability_usd_micro"].sum()


def test_outstanding_credits_are_the_balances_and_units_stay_apart(facts: Facts, tables: dict[str, list[Any]]) -> None:
    owed = economics.liability(facts, EVER, CATALOG)
    plan_of = {row.account_id: row.plan for row in tables["accounts"]}
    for unit in ("studio", "prepaid", "titrated"):
        held = sum(
            row.avail_uc + row.held_uc
            for row in tables["accounts"]
            if CATALOG.plans[plan_of[row.account_id]].credit_unit == unit
        )
        assert owed.loc[owed["credit_unit"] == unit, "outstanding_uc"].sum() == held
    assert owed.loc[owed["lot_kind"] == "monthly", "liability_usd_micro"].isna().all()


def test_packs_and_welcome_credits_are_counted(facts: Facts, tables: dict[str, list[Any]]) -> None:
    bought = [row for row in tables["entries"] if row.kind == "grant" and row.lot == "purchased"]
    packs = economics.packs(facts, EVER, CATALOG)
    assert (packs["sold"].sum(), packs["credits_uc"].to_list()) == (
        len(bought), [round(CATALOG.packs[name].credits * 1_000_000) for name in packs["pack"]],
    )  # fmt: skip

    gift = funnel.welcome(facts, EVER)
    mine = [row for row in tables["entries"] if row.lot == "welcome"]
    assert gift.granted_uc == sum(row.d_avail_uc for row in mine if row.kind == "grant") == 8 * 50_000_000
    assert gift.spent_uc == sum(map(spent, mine)) > 0
    assert gift.spenders == len({row.user_id for row in mine if spent(row)})


def test_the_funnel_counts_each_user_once(facts: Facts, tables: dict[str, list[Any]]) -> None:
    bought: dict[str, int] = {}
    for row in tables["entries"]:
        if row.kind == "grant" and row.lot == "purchased":
            bought[row.user_id] = bought.get(row.user_id, 0) + 1
    guests = {row.user_id for row in tables["users"] if row.user_id.startswith("guest:")}
    signed = [row for row in tables["users"] if row.user_id not in guests]
    spenders = {row.user_id for row in tables["entries"] if row.lot == "welcome" and spent(row)}

    found = funnel.funnel(facts, EVER)
    expected = [len(guests), len(signed), len(spenders), len(bought), sum(n > 1 for n in bought.values())]
    assert dict(zip(found["step"], found["users"], strict=True)) == dict(zip(funnel.STEPS, expected, strict=True))
    assert funnel.from_guests(facts, EVER) == sum(row.guest_session is not None for row in signed) > 0

    weeks = funnel.cohorts(facts, EVER)
    assert weeks["signed_up"].sum() == len(signed)
    assert weeks["first_pack"].sum() == len(bought)
    assert (weeks["week"].dt.day_of_week == 0).all()


def test_expired_paid_credits_are_breakage(tmp_path: Path) -> None:
    clock = StoppedClock(MARKET_START)
    made = f"sqlite:///{tmp_path}/ledger.db"
    with CreditCore.open(made, clock=clock) as core:
        core.add_user("ada", "prepaid", at=clock.now)
        end = MARKET_START + timedelta(days=3)
        core.grant("ada", 10_000_000, "purchased", "k", expires_at=end, unit_price_usd_micro=199_600, at=clock.now)
        clock.advance(days=5)
        core.reconcile(clock.now)
    facts = Facts.open(made)
    facts.follow()
    whole = economics.accounts(facts, EVER, CATALOG)
    facts.close()

    assert whole[:6] == (0, 0, 1_996_000, 1_996_000, 0, 1_996_000)


def test_an_empty_ledger_earns_nothing(tmp_path: Path) -> None:
    made = f"sqlite:///{tmp_path}/ledger.db"
    CreditCore.open(made).close()
    facts = Facts.open(made)
    facts.follow()
    whole = economics.accounts(facts, EVER, CATALOG)
    assert whole == (0, 0, 0, 0, 0, 0, (), ())
    assert economics.by_model(facts, EVER, CATALOG).empty
    assert funnel.cohorts(facts, EVER).empty
    facts.close()
