"""Does it pay: revenue, provider cost and margin; what is owed; packs, welcome credits and the way to the first pack.

Revenue is what lots' credits were spent at, subscriptions straight-line over their cycles at the catalogue's prices, and
breakage. A plan without a known price has unknown revenue and margin, and so has any sum that it is part of: never 0.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import pandas as pd
from sqlalchemy import func, select

from credit_core.analytics import measures, relations
from credit_core.analytics.days import reporting_days
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.money import (
    MARGIN,
    OF_DAYS,
    OF_LEDGER,
    figures_by,
    in_dollars,
    margin_of,
    money_frame,
    subscriptions,
    sum_known,
    whole_number,
    whole_us,
)
from credit_core.analytics.queries.series import NONE, breakdowns, covered, dailies
from credit_core.analytics.sync import Facts
from credit_core.policy import pricing
from credit_core.policy.lots import PACED_KINDS
from credit_core.policy.plans import Catalog
from credit_core.units import to_us

#: Of a plan that no catalogue has, and of lots of accounts without one.
UNKNOWN_UNIT = "unknown"
#: Revenue that no model earned: subscriptions nobody used, and breakage.
UNUSED = " not used"


#: Columns of :func:`liability` → the metrics that they are.
_BUCKETS = {
    "outstanding_uc": "outstanding", "liability_usd_micro": "liability", "expired_uc": "expired", "clamped_uc": "clamped",
    "breakage_usd_micro": "breakage",
}  # fmt: skip


class Accounts(NamedTuple):
    """What came in and what it cost, micro-dollars. None is unknown, because of the plans ``unpriced`` and ``uncosted``."""

    lots_usd_micro: int
    subscriptions_usd_micro: int | None
    breakage_usd_micro: int
    revenue_usd_micro: int | None
    cost_usd_micro: int | None
    margin_usd_micro: int | None
    unpriced: tuple[str, ...]
    uncosted: tuple[str, ...]

    @property
    def margin_share(self) -> float | None:
        """Margin ÷ revenue; None where it is unknown or nothing came in."""
        if self.margin_usd_micro is None or not self.revenue_usd_micro:
            return None
        return self.margin_usd_micro / self.revenue_usd_micro


def accounts(facts: Facts, filters: Filters, catalog: Catalog) -> Accounts:
    """The whole, over the part of the period that the ledger covers."""
    rows = by_plan(facts, filters, catalog)
    subscriptions = sum_known(rows["subscriptions_usd_micro"])
    lots, broken = (sum(rows[f"{name}_usd_micro"]) for name in ("lots", "breakage"))
    cost = sum_known(rows["cost_usd_micro"])
    revenue = None if subscriptions is None else lots + broken + subscriptions
    margin = None if revenue is None or cost is None else revenue - cost
    unpriced, uncosted = (
        tuple(str(row["plan"]) for row in rows.to_dict("records") if row[name] is None)
        for name in ("subscriptions_usd_micro", "cost_usd_micro")
    )
    return Accounts(lots, subscriptions, broken, revenue, cost, margin, unpriced, uncosted)


def by_plan(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """Per plan with a cycle, spending or cost in the period, in order of its name.

    Columns plan, credit_unit, and as ``*_usd_micro`` (objects: integers, None unknown) lots, subscriptions, breakage,
    revenue, cost, margin; margin_share of the revenue.
    """
    return facts.once(_by_plan, filters, catalog)


def _by_plan(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    subscribed = subscriptions(facts, filters, catalog, whole_us(facts, filters))
    found = figures_by(facts, filters, tuple(OF_LEDGER.values()), "plan")
    parts = {name: found[slug] for name, slug in OF_LEDGER.items()}
    there = {plan for figures in parts.values() for plan, number in figures.items() if number != 0} | set(subscribed)
    rows = []
    for plan in sorted(there):
        lots, broken = (parts[name].get(plan) or 0 for name in ("lots", "breakage"))
        earned = sum_known(subscribed.get(plan, [_price_of_none(catalog, plan)]))
        cost = parts["cost"].get(plan, 0)
        revenue = None if earned is None else lots + broken + earned
        rows.append((plan, unit_of(catalog, plan), lots, earned, broken, *margin_of(revenue, cost)))
    columns = ["plan", "credit_unit", "lots", "subscriptions", "breakage", *MARGIN]
    return money_frame(rows, columns)


def by_model(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """Per model, and :data:`UNUSED`: model, and as ``*_usd_micro`` lots, subscriptions, revenue, cost, margin; margin_share.

    A plan's subscriptions are shared out by the monthly credits that each model took of it, so all rows add up to the
    whole. What no model took, and breakage, is not used.
    """
    lots, broken_of, cost = figures_by(facts, filters, tuple(OF_DAYS.values()), "model").values()
    subscribed = {
        plan: sum_known(days) for plan, days in subscriptions(facts, filters, catalog, whole_us(facts, filters)).items()
    }
    shares, unused, unknown = _shared(_paced_by_model(facts, filters), subscribed)
    rows = []
    for model in sorted({*lots, *cost, *shares}):
        earned = None if model in unknown else shares.get(model, 0)
        revenue = None if earned is None else (lots.get(model) or 0) + earned
        taken = cost.get(model, 0)
        if revenue or taken or revenue is None or taken is None:
            rows.append((model, lots.get(model) or 0, earned, *margin_of(revenue, taken)))
    broken = sum(of or 0 for of in broken_of.values())
    left = None if unused is None else unused + broken
    if left is None or left:
        rows.append((UNUSED, 0, left, *margin_of(left, 0)))
    return money_frame(rows, ["model", "lots", "subscriptions", *MARGIN])


def by_day(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """Per reporting day: day, revenue_usd_micro, cost_usd_micro; None where unknown, or not reached yet."""
    days = reporting_days(filters.period, facts.zone)
    part = covered(facts, filters.period)
    first, last = to_us(part.start), to_us(part.end)
    edges = [min(max(edge, first), last) for edge in (*(day.start_us for day in days), days[-1].end_us)]
    subscribed = subscriptions(facts, filters, catalog, edges)
    found = dailies(facts, filters, tuple(OF_DAYS.values()))
    of_ledger = {name: found[slug]["numerator"] for name, slug in OF_DAYS.items()}
    rows = []
    for number, day in enumerate(days):
        lots, broken, cost = (whole_number(of_ledger[name].iloc[number]) for name in ("lots", "breakage", "cost"))
        earned = sum_known(amounts[number] for amounts in subscribed.values())
        reached = edges[number] < edges[number + 1]
        # Subscriptions earn on days without any entry, which cost nothing.
        revenue = (lots or 0) + (broken or 0) + earned if reached and earned is not None else None
        rows.append((day.day, revenue, (0 if lots is None else cost) if reached else None))
    frame = pd.DataFrame(rows, columns=["day", "revenue_usd_micro", "cost_usd_micro"], dtype="object")
    return frame.assign(day=pd.to_datetime(frame["day"]))


def liability(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """What customers hold at the end of the period, and what the period took from them, by kind of lot.

    Columns lot_kind, credit_unit, outstanding_uc, liability_usd_micro, expired_uc, clamped_uc, breakage_usd_micro. Credits of a
    subscription are earned with its cycle and not lot by lot: what is owed for them, and what broke of them, is missing.
    """
    keys = ["lot_kind", "plan"]
    found = breakdowns(facts, filters, tuple(_BUCKETS.values()), keys)
    parts = [found[slug][[*keys, "numerator"]].rename(columns={"numerator": name}) for name, slug in _BUCKETS.items()]
    frame = reduce(lambda left, right: left.merge(right, on=keys, how="outer"), parts).dropna(subset=["lot_kind"])
    frame["credit_unit"] = [unit_of(catalog, plan) for plan in frame["plan"]]
    named = (
        frame.groupby(["lot_kind", "credit_unit"], as_index=False)[list(_BUCKETS)]
        .sum()
        .astype(dict.fromkeys(_BUCKETS, "Int64"))
    )
    told = named[(named[list(_BUCKETS)] != 0).any(axis=1)].reset_index(drop=True)
    paced = told["lot_kind"].isin(PACED_KINDS)
    for column in ("liability_usd_micro", "breakage_usd_micro"):
        told[column] = told[column].mask(paced)
    return told


def packs(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """Packs sold in the period: pack (None: not in the catalogue any more), credits_uc, sold, buyers, sales_usd_micro."""
    f = relations.facts.c
    amount, price = f.d_avail_uc, f.unit_price_usd_micro
    statement = (
        select(amount, price, func.count().label("sold"), func.count(f.user_id.distinct()).label("buyers"))
        .where(relations.behind(relations.facts, filters), measures.sold(f))
        .group_by(amount, price)
        .order_by(func.count().desc(), amount, price)
    )
    rows = [
        (
            pricing.pack_named(catalog, amount_uc, unit_price),
            amount_uc,
            sold,
            buyers,
            sold * pricing.value_usd_micro(amount_uc, unit_price),
        )
        for amount_uc, unit_price, sold, buyers in facts.rows(statement)
    ]
    return pd.DataFrame(rows, columns=["pack", "credits_uc", "sold", "buyers", "sales_usd_micro"])


def steps(whole: Accounts) -> pd.DataFrame:
    """From revenue to margin, in order: step, amount_usd (missing where unknown), sum (a total of those before it)."""
    rows = [
        ("subscriptions", whole.subscriptions_usd_micro, False),
        ("packs_used", whole.lots_usd_micro, False),
        ("breakage", whole.breakage_usd_micro, False),
        ("revenue", whole.revenue_usd_micro, True),
        ("provider_cost", None if whole.cost_usd_micro is None else -whole.cost_usd_micro, False),
        ("margin", whole.margin_usd_micro, True),
    ]
    frame = pd.DataFrame(rows, columns=["step", "amount_usd_micro", "sum"]).astype({"amount_usd_micro": "object"})
    return in_dollars(frame)[["step", "amount_usd", "sum"]]


def unit_of(catalog: Catalog, plan: str) -> str:
    """The credit unit of a plan; :data:`UNKNOWN_UNIT` where the catalogue does not have it any more."""
    return catalog.plans[plan].credit_unit if plan in catalog.plans else UNKNOWN_UNIT


def _price_of_none(catalog: Catalog, plan: str) -> int | None:
    """What a plan without a cycle in the period earned: nothing, where it is known to be."""
    return 0 if plan in catalog.plans else None


def _paced_by_model(facts: Facts, filters: Filters) -> dict[str, dict[str, int]]:
    """Plan → model → monthly and rollover micro-credits spent."""
    f = relations.facts.c
    spent = measures.total(measures.spent_uc)(f)
    statement = (
        select(f.plan, func.coalesce(f.model, NONE), spent)
        .where(relations.behind(relations.facts, filters), f.lot_kind.in_(PACED_KINDS))
        .group_by(f.plan, f.model)
        .having(spent > 0)
    )
    found: dict[str, dict[str, int]] = {}
    for plan, model, amount in facts.rows(statement):
        found.setdefault(plan, {})[model] = int(amount)
    return found


def _shared(
    weights: dict[str, dict[str, int]], subscribed: dict[str, int | None]
) -> tuple[dict[str, int], int | None, set[str]]:
    """Subscriptions by model, what no model took (None: unknown), and the models whose part is unknown."""
    shares: dict[str, int] = {}
    unused: int | None = 0
    unknown: set[str] = set()
    for plan in {*weights, *subscribed}:
        earned, models = subscribed.get(plan), weights.get(plan, {})
        if earned is None:
            unknown |= set(models)
            unused = unused if models else None
            continue
        if not models:
            unused = None if unused is None else unused + earned
            continue
        left, whole = earned, sum(models.values())
        # Largest last, which takes what rounding down leaves.
        for model, amount in sorted(models.items(), key=lambda one: (one[1], one[0]))[:-1]:
            part = earned * amount // whole
            shares[model] = shares.get(model, 0) + part
            left -= part
        most = max(models.items(), key=lambda one: (one[1], one[0]))[0]
        shares[most] = shares.get(most, 0) + left
    return shares, unused, unknown
