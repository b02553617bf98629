"""Who will run out before the reset, how sure that is, and how often such forecasts came true (SPEC 6, run-out risk)."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sqlalchemy import and_, case, func, select

from credit_core.analytics import measures, relations, resampling
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries.surplus import surplus_now
from credit_core.analytics.resampling import OWN_DAYS, Account, Pool
from credit_core.analytics.sync import Facts
from credit_core.policy.customer import risk_of
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import DAY_US, MICRO, checked_zone, from_us, to_us

#: Accounts that are looked at, those nearest to their end first; the others are not in danger on any ledger of this size.
MOST = 10_000
#: Edges of the calibration's bins; those of Low, Medium and High are among them.
EDGES = (0.0, 0.02, 0.1, 0.25, 0.4, 0.6, 0.8, 1.0)
#: Forecasts are looked back on at midnights this far apart, and so many of them.
APART, MOST_FORECASTS = timedelta(days=7), 8
_COLUMNS = (
    "account_id", "user_id", "plan", "region", "chance", "risk", "expected_at", "available_credits", "wanted_credits_per_day",
    "runway_days", "next_reset_at",
)  # fmt: skip


def run_out_risk(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Running accounts of paced plans at the period's end, or as of the newest entry where that is first; most likely first.

    Columns account_id, user_id, plan, region, chance (of asking for more than there is before the reset), risk, expected_at
    (when the middle one of the remainders that run out does), available_credits, wanted_credits_per_day (mean demand for
    fresh of the last complete days, missing without any), runway_days, next_reset_at. Of more than :data:`MOST` accounts
    those nearest to their end.
    """
    last = facts.extent.last_us
    at_us = to_us(filters.period.end) if last is None else min(to_us(filters.period.end), last + 1)
    now = surplus_now(facts, filters)
    if now.empty:
        return now.reindex(columns=list(_COLUMNS))
    today = local_day(from_us(at_us), checked_zone(facts.zone))
    own, pools = _demand(facts, today)
    now["own"] = [own.get(account, []) for account in now["account_id"]]
    now["wanted_credits_per_day"] = [float(np.mean(days)) / MICRO if len(days) else np.nan for days in now["own"]]
    if len(now) > MOST:
        lasts = now["available_credits"] / now["wanted_credits_per_day"]
        now = now.loc[lasts.sort_values().index[:MOST]]
    ends_us = [to_us(instant) for instant in now["next_reset_at"]]
    asked = [
        Account(
            round(row["available_credits"] * MICRO), (end_us - at_us) / DAY_US, row["own"], row["plan"],
            resampling.seed_of(row["account_id"], today),
        )
        for row, end_us in zip(now.to_dict("records"), ends_us, strict=True)
    ]  # fmt: skip
    told = resampling.outlooks(
        asked, pools | {plan: Pool(0, np.array([], np.int64)) for plan in {*now["plan"]} - {*pools}}
    )
    now["chance"] = [one.chance for one in told]
    now["risk"] = [risk_of(one.chance) for one in told]
    days = pd.to_timedelta([np.nan if one.days is None else one.days for one in told], unit="D")
    expected = pd.Timestamp(at_us, unit="us", tz="UTC").tz_convert(facts.zone) + days
    now["expected_at"] = np.minimum(expected, now["next_reset_at"])
    ordered = now.sort_values(["chance", "runway_days", "account_id"], ascending=[False, True, True], ignore_index=True)
    return ordered[list(_COLUMNS)]


def chance_of(facts: Facts, filters: Filters, user_id: str) -> float | None:
    """One user's chance to run out; None where there is nothing to run out of: not paced, paused, or a cycle that is over."""
    found = run_out_risk(facts, filters.narrowed(users=(user_id,)))
    return None if found.empty else float(found["chance"].iloc[0])


def risk_calibration(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Forecasts made on past midnights, a week apart, for cycles that have ended since, and what became of them.

    Columns from_chance, to_chance, forecasts, ran_out, predicted (mean chance), observed (share that met a balance that did
    not cover a request), low, high (95 % Wilson interval of it). Accounts without credits at the midnight are left out.
    """
    parts = [_forecast(facts, filters, at) for at in _midnights(facts)]
    known = pd.concat(parts) if parts else pd.DataFrame({"chance": [], "ran_out": []})
    bins = np.clip(np.searchsorted(EDGES, known["chance"], side="right") - 1, 0, len(EDGES) - 2)
    rows = []
    for place, part in known.groupby(bins, sort=True):
        ran_out, forecasts = int(part["ran_out"].sum()), len(part)
        interval = binomtest(ran_out, forecasts).proportion_ci(method="wilson")
        edge = int(str(place))
        rows.append(
            (
                EDGES[edge],
                EDGES[edge + 1],
                forecasts,
                ran_out,
                float(part["chance"].mean()),
                ran_out / forecasts,
                *interval,
            )
        )
    columns = ["from_chance", "to_chance", "forecasts", "ran_out", "predicted", "observed", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _demand(facts: Facts, today: date) -> tuple[dict[str, list[int]], dict[str, Pool]]:
    """Demand for fresh of the complete days before ``today``: per account its days, zeros included; per plan all of its.

    Days count from the one after the account began, or from its first demand where that was copied from elsewhere.
    """
    f, a = relations.facts.c, relations.accounts.c
    first, zone = today - timedelta(days=OWN_DAYS), checked_zone(facts.zone)
    wanted = measures.total(measures.wanted_uc)(f).label("wanted_uc")
    by_day = (
        select(f.account_id, f.day, wanted)
        .where(f.day >= first, f.day < today, measures.wanted_uc(f) != 0)
        .group_by(f.account_id, f.day)
        .subquery("by_day")
    )
    d = by_day.c
    began = select(a.account_id, a.plan, a.created_at, func.min(d.day), func.list(d.wanted_uc)).select_from(
        relations.accounts.outerjoin(by_day, d.account_id == a.account_id)
    )
    kept = relations.paced(a.plan) & (a.created_at < to_us(first_instant(today, zone)))
    found: dict[str, list[int]] = {}
    spent: dict[str, list[int]] = {}
    days: dict[str, int] = {}
    for account, plan, created_us, first_wanted, amounts in facts.rows(
        began.where(kept).group_by(a.account_id, a.plan, a.created_at).order_by(a.account_id)
    ):
        began_on = local_day(from_us(created_us), zone) + timedelta(days=1)
        since = max(first, min(began_on, first_wanted or began_on))
        count = (today - since).days
        spending = sorted(int(amount) for amount in amounts if amount) if first_wanted else []
        found[account] = spending + [0] * (count - len(spending))
        spent.setdefault(plan, []).extend(spending)
        days[plan] = days.get(plan, 0) + count
    pools = {plan: Pool(days[plan], np.sort(np.array(amounts, dtype=np.int64))) for plan, amounts in spent.items()}
    return found, pools


def _midnights(facts: Facts) -> list[datetime]:
    """Midnights to look back on, the newest first; each has a complete day before it."""
    known = facts.extent
    if known.first_us is None or known.last_us is None:
        return []
    zone = checked_zone(facts.zone)
    oldest, newest = local_day(from_us(known.first_us), zone), local_day(from_us(known.last_us), zone)
    days = [newest - APART * n for n in range(1, 1 + MOST_FORECASTS)]
    return [first_instant(day, zone) for day in days if day > oldest + timedelta(days=1)]


def _forecast(facts: Facts, filters: Filters, at: datetime) -> pd.DataFrame:
    """Chances as of ``at`` of cycles that are over by now, and whether they ran out: chance, ran_out."""
    newest = facts.extent.last_us or 0
    then = run_out_risk(facts, filters.narrowed(period=Period(at - APART, at), compare=None))
    ended = np.array([to_us(instant) <= newest for instant in then["next_reset_at"]], dtype=bool)
    then = then[ended & (then["available_credits"] > 0).to_numpy()]
    f = relations.facts.c
    dry = func.min(case((f.rule == "unaffordable", f.occurred_at)))
    first: dict[str, Any] = dict(
        facts.rows(
            select(f.account_id, dry)
            .where(and_(f.occurred_at >= to_us(at), f.rule == "unaffordable"))
            .group_by(f.account_id)
        )
    )
    ran_out = [first.get(row["account_id"], newest) < to_us(row["next_reset_at"]) for row in then.to_dict("records")]
    return pd.DataFrame(
        {"chance": then["chance"].astype("float64"), "ran_out": pd.Series(ran_out, index=then.index, dtype=bool)}
    )
