"""Burn by the day of the cycle: accounts whose cycles began on different days stand beside each other (SPEC 6, "this cycle")."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import BigInteger, ColumnElement, Select, Subquery, and_, cast, func, or_, select

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.burn import running_until
from credit_core.analytics.queries.surplus import now_us
from credit_core.analytics.sync import Facts
from credit_core.units import DAY_US, MICRO

COLUMNS = ("day", "accounts", "spent_credits", "pace_credits", "accounts_before", "before_credits")


def burn_by_cycle_day(facts: Facts, filters: Filters) -> pd.DataFrame:
    """What an account has spent by the end of each whole day of its cycle, on average; this cycle and the one before it.

    Columns day (1 … L), accounts (that have come so far in the cycle that runs at the period's end), spent_credits,
    pace_credits (their quota spent evenly), accounts_before and before_credits (the same of the cycles before). A day's
    burn is the mean over the accounts that have lived it whole; sums are of those means. Accounts without a quota are left out.
    """
    at_us = now_us(facts, filters)
    c, a = relations.cycles.c, relations.accounts.c
    running = (
        select(c.account_id, c.cycle_no)
        .join_from(relations.cycles, relations.accounts, a.account_id == c.account_id, isouter=True)
        .where(
            c.start_at < at_us,
            running_until() >= at_us,
            c.quota_uc > 0,
            relations.of_accounts(relations.cycles, filters),
        )
        .subquery("running")
    )
    r = running.c
    this = c.cycle_no == r.cycle_no
    looked_at = and_(c.account_id == r.account_id, or_(this, c.cycle_no == r.cycle_no - 1))
    spans = (
        select(
            c.account_id, c.start_at, func.least(c.end_at, at_us).label("until"), this.label("this"), c.quota_uc,
            (c.end_at - c.start_at).label("length_us"),
        )
        .select_from(relations.cycles.join(running, looked_at))
        .where(c.quota_uc > 0)
        .subquery("spans")
    )  # fmt: skip
    lived = facts.frame(_lived(spans))
    spent = facts.frame(_spent(filters, spans))
    if lived.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    days = np.arange(1, int(lived["days"].max()) + 1)
    now, before = (
        _means(days, lived[lived["this"] == which], spent[spent["this"] == which]) for which in (True, False)
    )
    return pd.DataFrame(
        {
            "day": days, "accounts": now["accounts"], "spent_credits": now["spent"], "pace_credits": now["pace"],
            "accounts_before": before["accounts"], "before_credits": before["spent"],
        }
    )  # fmt: skip


def _lived(spans: Subquery) -> Select[Any]:
    """How many accounts have lived how many whole days of either cycle, and what their even pace is a day."""
    s = spans.c
    days = _whole_days(s.until - s.start_at).label("days")
    pace = func.sum(s.quota_uc * float(DAY_US) / s.length_us / MICRO).label("pace_credits")
    return select(s.this, days, func.count().label("accounts"), pace).group_by(s.this, days)


def _spent(filters: Filters, spans: Subquery) -> Select[Any]:
    """What was spent on each day of either cycle that its account has lived whole."""
    s, f = spans.c, relations.facts.c
    day = _whole_days(f.occurred_at - s.start_at)
    whole = and_(f.occurred_at >= s.start_at, (day + 1) * DAY_US <= s.until - s.start_at)
    spent = measures.total(measures.spent_uc)(f)
    # Model and cell are the entry's; the account's own dimensions chose its cycles.
    own = relations.in_dimensions(relations.facts, Filters(filters.period, models=filters.models, cell=filters.cell))
    return (
        select(s.this, (day + 1).label("day"), spent.label("spent_uc"))
        .select_from(relations.facts.join(spans, and_(f.account_id == s.account_id, whole)))
        .where(f.kind.in_(("settle", "import", "refund")), own)
        .group_by(s.this, day)
    )


def _whole_days(span_us: ColumnElement[int]) -> ColumnElement[int]:
    """Division rounds on one engine and cuts on another: what is divided is a multiple."""
    return cast((span_us - span_us % DAY_US) / DAY_US, BigInteger)


def _means(days: npt.NDArray[np.int_], lived: pd.DataFrame, spent: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    """Per day: the accounts that have lived it, and running sums of the mean burn and the mean pace."""
    accounts, pace, burned = (np.zeros(len(days)) for _ in range(3))
    for row in lived.to_dict("records"):
        reached = days <= row["days"]
        accounts += reached * row["accounts"]
        pace += reached * row["pace_credits"]
    for row in spent.to_dict("records"):
        burned[int(row["day"]) - 1] = row["spent_uc"] / MICRO
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "accounts": accounts,
            "spent": np.cumsum(burned / accounts),
            "pace": np.cumsum(pace / accounts),
        }
