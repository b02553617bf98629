"""Money in micro-dollars, told by plan, model, day or account: the parts that every page of margins is made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import FromClause, Select, func, select

from credit_core.analytics import relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.burn import _cycle_spans, of_spans, running_until
from credit_core.analytics.queries.series import NONE, breakdowns, covered
from credit_core.analytics.sync import Facts
from credit_core.policy import plans, pricing
from credit_core.policy.plans import Catalog
from credit_core.units import MICRO, to_us

#: Money that entries tell: column → metric; of days too, and with what makes a plan appear.
OF_DAYS = {"lots": "lot_revenue", "breakage": "breakage", "cost": "provider_cost"}
OF_LEDGER = OF_DAYS | {"requests": "requests"}
MARGIN = ("revenue", "cost", "margin", "margin_share")
#: Amount, or None where a price is unknown.
Amounts = list[int | None]


def in_dollars(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column ``*_usd`` beside each ``*_usd_micro``: dollars, for display; missing where unknown."""
    amounts = [name for name in frame.columns if str(name).endswith("_usd_micro")]
    shown = {name.removesuffix("_micro"): pd.to_numeric(frame[name]).astype("float64") / MICRO for name in amounts}
    return frame.assign(**shown)


def figures_by(facts: Facts, filters: Filters, slugs: Sequence[str], by: str) -> dict[str, dict[str, int | None]]:
    """Metrics by a dimension, exact: slug → value → micro-units, None unknown; no value is :data:`NONE`."""
    figures = {}
    for slug, found in breakdowns(facts, filters, slugs, by).items():
        names = [NONE if name is None or name != name else str(name) for name in found[by].astype(object)]
        figures[slug] = {name: whole_number(number) for name, number in zip(names, found["numerator"], strict=True)}
    return figures


def whole_us(facts: Facts, filters: Filters) -> list[int]:
    """The part of the period that the ledger covers, in microseconds."""
    part = covered(facts, filters.period)
    return [to_us(part.start), to_us(part.end)]


def subscriptions(
    facts: Facts,
    filters: Filters,
    catalog: Catalog,
    edges: list[int],
    accounts: FromClause | None = None,
) -> dict[str, Amounts]:
    """Plan → what its subscriptions earned between each two of ``edges`` (µs); None: the price is unknown.

    ``accounts``: account_id → the same, of those in that relation.
    """
    if accounts is None:
        spans = _cycle_spans(facts, filters)
        c = spans.c
        statement = select(
            c.plan.label("of"), c.plan, c.region, c.start_at, c.end_at, c.until, c.running, c.paused, func.sum(c.cycles)
        ).where(c.start_at < edges[-1], c.running.is_not(None), of_spans(spans, filters))
        statement = statement.group_by(c.plan, c.region, c.start_at, c.end_at, c.until, c.running, c.paused)
    else:
        statement = _of_accounts(filters, edges[-1], accounts)
    found: dict[str, Amounts] = {}
    prices: dict[tuple[str, str], int | None] = {}
    for of, plan, region, start, end, stops, now, paused, number in facts.rows(statement):
        runs_on = now and not paused and plan in catalog.plans and not catalog.plans[plan].cycled
        last = edges[-1] if runs_on else stops
        if last <= edges[0]:
            continue
        if (plan, region) not in prices:
            prices[plan, region] = _price(catalog, plan, region)
        price = prices[plan, region]
        amounts = found.setdefault(of, [0] * (len(edges) - 1))
        for place, (low, high) in enumerate(itertools.pairwise(edges)):
            known = amounts[place]
            amounts[place] = (
                None
                if known is None or price is None
                else known
                + number * (_earned(price, start, end, min(high, last)) - _earned(price, start, end, min(low, last)))
            )
    return found


def _of_accounts(filters: Filters, before_us: int, accounts: FromClause) -> Select[Any]:
    """The same by account, of some accounts alone."""
    c, a = relations.cycles.c, relations.accounts.c
    running = (a.cycle_no == c.cycle_no).label("running")
    until = running_until().label("until")
    terms = c.plan, c.region, c.start_at, c.end_at, until, running, a.paused_at.is_not(None)
    columns = c.account_id.label("of"), *terms
    return (
        select(*columns, func.count())
        .join_from(relations.cycles, relations.accounts, a.account_id == c.account_id)
        .where(c.start_at < before_us, relations.of_accounts(relations.cycles, filters))
        .where(c.account_id.in_(select(accounts.c.account_id)))
        .group_by(*columns)
    )


def _earned(price: int, start: int, end: int, at: int) -> int:
    """Straight-line, cycle after cycle of the same length where a plan's cycle is never closed."""
    whole = max(0, (at - start) // (end - start))
    return whole * price + pricing.earned_usd_micro(price, start, end, at - whole * (end - start))


def _price(catalog: Catalog, plan: str, region: str) -> int | None:
    """Per cycle, micro-dollars. Prepaid plans have no subscription; 0 is theirs."""
    if plan not in catalog.plans:
        return None
    found = catalog.plans[plan]
    price = plans.terms(found, region).price_usd_micro
    return 0 if price is None and found.quota_policy == "prepaid" else price


def margin_of(revenue: int | None, cost: int | None) -> tuple[int | None, int | None, int | None, float | None]:
    """Revenue, cost, margin, and margin as a share of the revenue; None where it is unknown."""
    if revenue is None or cost is None:
        return revenue, cost, None, None
    return revenue, cost, revenue - cost, (revenue - cost) / revenue if revenue > 0 else None


def money_frame(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """Rows as a frame; columns of money get ``_usd_micro`` to their name and stay integers or None."""
    whole = {"plan", "model", "account_id", "credit_unit", "margin_share"}
    names = [name if name in whole else f"{name}_usd_micro" for name in columns]
    return pd.DataFrame(rows, columns=names, dtype="object").astype({"margin_share": "float64"})


def sum_known(amounts: Iterable[int | None]) -> int | None:
    """The sum, unknown where a part is."""
    known = list(amounts)
    return None if any(amount is None for amount in known) else sum(amount for amount in known if amount is not None)


def whole_number(number: Any) -> int | None:
    """An exact integer, or None."""
    return None if number is None or number is pd.NA or number != number else int(number)
