"""Who earns and who costs, account by account; and what another price would have meant on the same usage."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
from sqlalchemy import FromClause, Select, func, select

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.metrics import metric
from credit_core.analytics.queries.economics import by_plan
from credit_core.analytics.queries.money import (
    MARGIN,
    OF_DAYS,
    margin_of,
    money_frame,
    subscriptions,
    sum_known,
    whole_us,
)
from credit_core.analytics.queries.series import breakdowns
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidRequest
from credit_core.policy.plans import Catalog
from credit_core.units import MICRO

#: Accounts in one answer: those that cost providers most.
MOST = 1_000
#: A price at which a plan's share of a cycle is told to the millionth.
_PROBE_USD = 1_000_000.0


class AtPrice(NamedTuple):
    """A plan's period at its catalogue price and at another one, with the same usage; micro-dollars, None unknown.

    ``cycles``: account-cycles that the period has of it. ``break_even_usd_micro``: the price per cycle at which margin is
    nothing. ``may_leave_share``: subscribers that the other price may cost before it earns less than the present one.
    """

    plan: str
    cycles: float
    revenue_now: int | None
    revenue_then: int | None
    margin_now: int | None
    margin_then: int | None
    margin_share_then: float | None
    break_even_usd_micro: int | None
    may_leave_share: float | None


def by_account(facts: Facts, filters: Filters, catalog: Catalog, limit: int | None = MOST) -> pd.DataFrame:
    """Accounts with entries in the period, the costliest ``limit`` of them: least margin first, then unknown margins.

    Columns account_id, plan, and as ``*_usd_micro`` (objects: integers, None unknown) lots, subscriptions, breakage,
    revenue, cost, margin; margin_share of the revenue. The plan is the one that most entries bear.
    """
    listed = facts.shared(_costliest(filters, limit))
    plans = _plans(facts, filters, listed)
    subscribed = subscriptions(facts, filters, catalog, whole_us(facts, filters), listed)
    rows = []
    for account, lots, broken, cost in facts.rows(_in_order(listed)):
        earned = sum_known(subscribed.get(account, [0]))
        revenue = None if earned is None else lots + broken + earned
        rows.append((account, plans[account], lots, earned, broken, *margin_of(revenue, cost)))
    frame = money_frame(rows, ["account_id", "plan", "lots", "subscriptions", "breakage", *MARGIN])
    order = pd.to_numeric(frame["margin_usd_micro"]).astype("float64")
    # Rows come costliest first, which is the order of those whose margin is unknown.
    return frame.loc[order.sort_values(kind="stable").index].reset_index(drop=True)


def at_price(facts: Facts, filters: Filters, catalog: Catalog, plan: str, price_usd: float) -> AtPrice:
    """What a plan would have earned in the period at another price per cycle, wherever it is sold, with the same usage.

    Raises :class:`InvalidRequest` for a plan without a price per cycle and for a price below 0.
    """
    known = catalog.plans.get(plan)
    if known is None or known.quota_policy == "prepaid":
        raise InvalidRequest(f"{plan!r} is not sold by the cycle. Choose a plan with a subscription.")
    if not 0 <= price_usd < _PROBE_USD:
        raise InvalidRequest(f"A price lies between 0 and {_PROBE_USD:,.0f} dollars, got {price_usd}.")
    alone = filters.narrowed(plans=(plan,), compare=None)
    now, then, probe = (
        _of_plan(facts, alone, catalog if price is None else _priced(catalog, plan, price), plan)
        for price in (None, price_usd, _PROBE_USD)
    )
    cycles = (probe["subscriptions_usd_micro"] or 0) / (_PROBE_USD * MICRO)
    cost = then["cost_usd_micro"]
    other = None if cost is None else cost - (then["lots_usd_micro"] or 0) - (then["breakage_usd_micro"] or 0)
    break_even = None if other is None or not cycles else max(0, round(other / cycles))
    before, after = now["margin_usd_micro"], then["margin_usd_micro"]
    leave = 1 - before / after if before is not None and after is not None and 0 < before < after else None
    return AtPrice(
        plan, cycles, now["revenue_usd_micro"], then["revenue_usd_micro"], before, after,
        None if after is None or not then["revenue_usd_micro"] else after / then["revenue_usd_micro"], break_even, leave,
    )  # fmt: skip


def _priced(catalog: Catalog, plan: str, price_usd: float) -> Catalog:
    """The catalogue with another price of one plan, the same in all regions."""
    row = catalog.plans[plan]
    regions = {name: local.model_copy(update={"price_usd": None}) for name, local in row.regions.items()}
    other = row.model_copy(update={"price_usd": price_usd, "regions": regions})
    return catalog.model_copy(update={"plans": {**catalog.plans, plan: other}})


def _of_plan(facts: Facts, filters: Filters, catalog: Catalog, plan: str) -> dict[str, int | None]:
    rows = by_plan(facts, filters, catalog).set_index("plan").to_dict("index")
    nothing = {f"{name}_usd_micro": 0 for name in ("lots", "subscriptions", "breakage", "revenue", "cost", "margin")}
    return {str(name): value for name, value in rows.get(plan, nothing).items()}


def _costliest(filters: Filters, limit: int | None) -> Select[Any]:
    """The first accounts with entries in the period: account_id, and of :data:`OF_DAYS` what their entries tell, exact."""
    f = relations.facts.c
    parts = (metric(slug).numerator(f).label(name) for name, slug in OF_DAYS.items())
    kept = relations.behind(relations.facts, filters), f.account_id.is_not(None)
    cost = measures.total(lambda g: g.cost_usd_micro)(f)
    statement = select(f.account_id, *parts).where(*kept).group_by(f.account_id)
    return statement.order_by(cost.desc(), f.account_id).limit(limit)


def _in_order(listed: FromClause) -> Select[Any]:
    return select(listed).order_by(func.coalesce(listed.c.cost, 0).desc(), listed.c.account_id)


def _plans(facts: Facts, filters: Filters, only: FromClause) -> dict[str, str]:
    """Account → its plan, of accounts with any entry in the period that are in the relation ``only``."""
    found = breakdowns(facts, filters, ("requests",), ("account_id", "plan"), only)["requests"]
    ordered = found.sort_values("numerator", kind="stable")
    return {str(row["account_id"]): str(row["plan"]) for row in ordered.to_dict("records")}
