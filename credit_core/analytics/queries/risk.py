"""Who will run out before the reset, how sure that is, and how often such forecasts came true (SPEC 6, run-out risk)."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    Double,
    FromClause,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    select,
    union_all,
)

from credit_core.analytics import measures, relations, resampling
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import standing
from credit_core.analytics.queries.surplus import LISTED, now_us, running, shown
from credit_core.analytics.resampling import OWN_DAYS, Account, Integers, Pool
from credit_core.analytics.sync import Facts
from credit_core.policy.customer import risk_of
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import DAY_US, MICRO, checked_zone, from_us, to_us

#: Accounts that are looked at: of those with credits left the nearest to their end at their mean demand, then those without.
MOST = 5_000
#: Accounts whose chances are noted down: other filters keep some of the same.
_MOST_NOTED = 4 * MOST
#: Accounts whose days make the pools of all plans, and days of demand of one plan that are drawn from.
MOST_ACCOUNTS, MOST_DAYS = 1 << 15, 1 << 16
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
    those nearest to their end that have not come to it.
    """
    at_us = now_us(facts, filters)
    today = local_day(from_us(at_us), checked_zone(facts.zone))
    demand = _Demand(facts, today)
    nearest = demand.nearest(running(facts, filters))
    now = shown(facts, filters, select(nearest))
    if now.empty:
        return now.reindex(columns=list(_COLUMNS))
    now = now.merge(facts.frame(select(nearest.c.account_id, nearest.c.days, nearest.c.wanted_uc)), on="account_id")
    now = now.fillna({"days": 0, "wanted_uc": 0})
    days = now["days"].astype("float64")
    now["wanted_credits_per_day"] = now["wanted_uc"].astype("float64") / MICRO / days.where(days > 0)
    told = _outlooks(facts, demand, nearest, now, at_us, today)
    now["chance"] = [one.chance for one in told]
    now["risk"] = [risk_of(one.chance) for one in told]
    lead = pd.to_timedelta([np.nan if one.days is None else one.days for one in told], unit="D")
    expected = pd.Series(pd.Timestamp(at_us, unit="us", tz="UTC").tz_convert(facts.zone) + lead, index=now.index)
    now["expected_at"] = expected.mask(expected > now["next_reset_at"], now["next_reset_at"])
    ordered = now.sort_values(["chance", "runway_days", "account_id"], ascending=[False, True, True], ignore_index=True)
    return ordered[list(_COLUMNS)]


def _outlooks(
    facts: Facts, demand: _Demand, nearest: FromClause, now: pd.DataFrame, at_us: int, today: date
) -> list[resampling.Outlook]:
    """Of each account; what is known of it at an instant is the same whichever filters it is behind, and worked out once."""
    noted = facts.notes("outlooks")
    known = {
        account: found for account in now["account_id"].tolist() if (found := noted.get((account, at_us))) is not None
    }
    missing = now[~now["account_id"].isin(known)]
    if len(missing):
        accounts = list(missing["account_id"])
        found = dict(zip(accounts, _drawn(demand, nearest, missing, at_us, today), strict=True))
        known |= found
        if len(noted) > _MOST_NOTED:
            noted.clear()
        noted.update({(account, at_us): outlook for account, outlook in found.items()})
    return [known[account] for account in now["account_id"].tolist()]


def _drawn(
    demand: _Demand, nearest: FromClause, now: pd.DataFrame, at_us: int, today: date
) -> list[resampling.Outlook]:
    own, pools = demand.days(nearest)
    ends_us = now["next_reset_at"].dt.as_unit("us").astype("int64").tolist()
    accounts, plans = now["account_id"].tolist(), now["plan"].tolist()
    asked = [
        Account(
            round(available * MICRO), (end_us - at_us) / DAY_US, _with_zeros(own.get(account), int(days)), plan,
            resampling.seed_of(account, today),
        )
        for account, plan, available, end_us, days in zip(
            accounts, plans, now["available_credits"].tolist(), ends_us, now["days"].tolist(), strict=True
        )
    ]  # fmt: skip
    return resampling.outlooks(asked, pools | {plan: Pool(0, np.array([], np.int64)) for plan in {*plans} - {*pools}})


def _with_zeros(amounts: Integers | None, days: int) -> Integers:
    """What was asked for on so many days."""
    known = np.array([], np.int64) if amounts is None else amounts
    return np.concatenate([known, np.zeros(max(0, days - len(known)), np.int64)])


def running_out(facts: Facts, filters: Filters, before: datetime, limit: int | None = None) -> pd.DataFrame:
    """Rows of :func:`standing.running_out` with risk and chance, which are missing where an account is not looked at."""
    soon = standing.running_out(facts, filters, before, limit)
    users = soon["user_id"]
    # Of those who are listed: the others' ends need not be drawn.
    few = 0 < len(users) <= LISTED and not users.isna().any()
    told = run_out_risk(facts, filters.narrowed(users=tuple(sorted(users))) if few else filters)
    return soon.merge(told[["account_id", "risk", "chance"]], on="account_id", how="left")


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


_WANTED = measures.total(measures.wanted_uc)(relations.facts.c).label("wanted_uc")


class _Demand:
    """Demand for fresh of the complete days before ``today``, zeros included.

    Days count from the one after the account began, or from its first demand where that was copied from elsewhere.
    """

    def __init__(self, facts: Facts, today: date) -> None:
        f, a, place = relations.facts.c, relations.accounts.c, checked_zone(facts.zone)
        self._facts, self._today = facts, today
        self._within = (f.day >= today - timedelta(days=OWN_DAYS), f.day < today)
        # The days of an account that began before all of them are known.
        young = a.created_at >= to_us(first_instant(today - timedelta(days=OWN_DAYS), place))
        self._known = and_(relations.paced(a.plan), a.created_at < to_us(first_instant(today, place)))
        began = cast(func.timezone(facts.zone, func.make_timestamptz(a.created_at)), Date)
        d = self._by_day(select(a.account_id).where(young)).subquery("by_day").c
        first = select(d.account_id, func.min(d.day).label("day")).group_by(d.account_id).subquery("first")
        since = func.coalesce(func.date_diff("day", first.c.day, today), 0)
        days = func.least(OWN_DAYS, func.greatest(0, func.date_diff("day", began, today) - 1, since))
        told = relations.accounts.outerjoin(first, first.c.account_id == a.account_id)
        #: account_id and days of accounts with other days than all: young ones, and those of which none is known.
        self._apart = facts.shared(
            select(a.account_id, cast(case((self._known, days)), BigInteger).label("days"))
            .select_from(told)
            .where(young | ~relations.paced(a.plan))
        )

    def _days(self) -> ColumnElement[int]:
        return case((self._apart.c.account_id.is_(None), OWN_DAYS), else_=self._apart.c.days)

    def _by_day(self, accounts: Select[Any]) -> Select[Any]:
        """account_id, day and wanted_uc, where something was asked for."""
        f = relations.facts.c
        of_those = (*self._within, f.account_id.in_(accounts))
        grouped = select(f.account_id, f.day, _WANTED).where(*of_those).group_by(f.account_id, f.day)
        return grouped.having(_WANTED.element != 0)

    def nearest(self, now: FromClause) -> FromClause:
        """Of running accounts the :data:`MOST` that are nearest to their end, with days (complete ones) and wanted_uc (in all of them).

        Who has nothing left comes last: nothing is to be foretold of them.
        """
        n, f = now.c, relations.facts.c
        asked = select(f.account_id, _WANTED).where(*self._within).group_by(f.account_id).subquery("asked")
        days = self._days()
        lasts = cast(n.available_uc, Double) * days / func.nullif(asked.c.wanted_uc, 0)
        return self._facts.shared(
            select(now, days.label("days"), asked.c.wanted_uc)
            .select_from(
                now.outerjoin(asked, asked.c.account_id == n.account_id)
                .outerjoin(self._apart, self._apart.c.account_id == n.account_id)
            )
            .order_by(n.available_uc <= 0, lasts.is_(None), lasts, n.surplus_days, n.account_id)
            .limit(MOST)
        )  # fmt: skip

    def days(self, nearest: FromClause) -> tuple[dict[str, Integers], dict[str, Pool]]:
        """Of those accounts what each asked for on the days on which it asked, the least first; and the pools of all plans."""
        noted = self._facts.notes("pools")
        pools: dict[str, Pool] | None = noted.get(self._today)
        chosen = self._chosen(nearest, pooled=pools is None)
        d, c = self._by_day(select(chosen.c.account_id)).subquery("by_day").c, chosen.c
        keys = (case((c.own == 1, c.account_id), else_=literal("")).label("account_id"), c.plan, d.wanted_uc)
        counts = select(*keys, func.count().label("days")).where(c.account_id == d.account_id).group_by(*keys)
        found = self._facts.frame(counts).sort_values(["account_id", "wanted_uc"], kind="stable")
        if pools is None:
            days = self._facts.rows(select(c.plan, func.sum(c.days)).where(c.plan != "").group_by(c.plan))
            by_plan = {str(plan): part.sort_values("wanted_uc") for plan, part in found.groupby("plan")}
            pools = {plan: _pool(int(number), by_plan.get(plan, found.head(0))) for plan, number in days}
            noted[self._today] = pools
        own = found[found["account_id"] != ""]
        amounts, times = (own[name].to_numpy(np.int64) for name in ("wanted_uc", "days"))
        starts = np.flatnonzero(own["account_id"].ne(own["account_id"].shift()))
        ends = [*starts[1:], len(own)]
        accounts = own["account_id"].iloc[starts]
        by_account = (np.repeat(amounts[a:b], times[a:b]) for a, b in zip(starts, ends, strict=False))
        return dict(zip(accounts, by_account, strict=True)), pools

    def _chosen(self, nearest: FromClause, *, pooled: bool) -> FromClause:
        """Those accounts (``own``), and with their plan and days those that the pools are of: all, or of very many a part, by hash."""
        nothing, no, yes = literal(""), literal(0), literal(1)
        parts = [select(nearest.c.account_id, nothing.label("plan"), no.label("days"), yes.label("own"))]
        if pooled:
            a, apart = relations.accounts.c, self._apart.c.account_id
            number = self._facts.rows(select(func.count()).select_from(relations.accounts).where(self._known))[0][0]
            all_of_them = select(a.account_id, a.plan, self._days().label("days"), no.label("own")).where(self._known)
            parts.append(all_of_them.select_from(relations.accounts.outerjoin(self._apart, apart == a.account_id)))
            if number > MOST_ACCOUNTS:
                bound = f"{16**6 * MOST_ACCOUNTS // number:06x}"
                parts[1] = parts[1].where(func.substr(func.md5(a.account_id), 1, 6) < bound)
        e = union_all(*parts).subquery("every").c
        # An account may be of both.
        told = (func.max(e[name]).label(name) for name in ("plan", "days", "own"))
        return self._facts.shared(select(e.account_id, *told).group_by(e.account_id))


def _pool(days: int, found: pd.DataFrame) -> Pool:
    spending = np.repeat(found["wanted_uc"].to_numpy(np.int64), found["days"].to_numpy(np.int64))
    if len(spending) <= MOST_DAYS:
        return Pool(days, spending)
    kept = (np.arange(MOST_DAYS) + 0.5) * (len(spending) / MOST_DAYS)
    return Pool(round(days * MOST_DAYS / len(spending)), spending[kept.astype(np.int64)])


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
