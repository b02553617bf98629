"""Who and what spends, and how that compares with an even pace: Q/L for every account whose cycle runs (SPEC 6, burn rate).

Accounts without a quota have no pace.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import BigInteger, ColumnElement, Double, FromClause, Select, Table, and_, case, cast, func, or_, select

from credit_core.analytics import measures, relations
from credit_core.analytics.days import Day, reporting_days
from credit_core.analytics.filters import Filters, Period, fair
from credit_core.analytics.metrics import checked_dimension, metric
from credit_core.analytics.queries.series import breakdown, covered, daily, elapsed_days, lived_days
from credit_core.analytics.sync import Facts
from credit_core.units import MICRO, from_us, to_us


class Burners(NamedTuple):
    """How many accounts have requests or spending, and rows of :func:`burn_by_account`, all or the first of them."""

    accounts: int
    listed: pd.DataFrame


def burn_against_pace(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Per reporting day and plan: spent_uc, spent_credits, pace_credits, and from the period's start cum_spent_credits, cum_pace_credits.

    Spending is missing after the newest entry, while pace runs on. Pace is missing where models or a cell are filtered.
    """
    return facts.once(_against_pace, filters.narrowed(compare=None))


def _against_pace(facts: Facts, filters: Filters) -> pd.DataFrame:
    days = reporting_days(filters.period, facts.zone)
    spent = daily(facts, filters, "spent", by="plan").rename(
        columns={"numerator": "spent_uc", "value": "spent_credits"}
    )
    pace = _pace_by_day(facts, filters, days)
    frame = spent.drop(columns="denominator").merge(pace, on=["day", "plan"], how="outer").sort_values(["day", "plan"])
    # A plan that only has a pace spent nothing.
    idle = frame["spent_uc"].isna() & frame["day"].isin(lived_days(facts, filters.period))
    frame[["spent_uc", "spent_credits"]] = frame[["spent_uc", "spent_credits"]].mask(idle, 0)
    newest = facts.extent.last_us
    reached = pd.to_datetime([one.day for one in days if newest is not None and one.start_us <= newest])
    frame["cum_spent_credits"] = (
        frame["spent_credits"].fillna(0.0).groupby(frame["plan"]).cumsum().where(frame["day"].isin(reached))
    )
    if filters.models or filters.cell:
        frame["pace_credits"] = float("nan")
    frame["cum_pace_credits"] = frame.groupby("plan")["pace_credits"].cumsum()
    columns = ["day", "plan", "spent_uc", "spent_credits", "pace_credits", "cum_spent_credits", "cum_pace_credits"]
    return frame[columns].reset_index(drop=True)


def burn_by_plan_model(facts: Facts, filters: Filters) -> pd.DataFrame:
    """By plan and model, largest first: spent_uc, spent_credits, credits_per_day, share."""
    names = {"numerator": "spent_uc", "value": "spent_credits"}
    frame = breakdown(facts, filters, "spent", ("plan", "model")).rename(columns=names)
    frame = frame[frame["spent_uc"] != 0].reset_index(drop=True)
    frame["credits_per_day"] = frame["spent_credits"] / elapsed_days(facts, filters.period)
    return frame[["plan", "model", "spent_uc", "spent_credits", "credits_per_day", "share"]]


def top_movers(facts: Facts, filters: Filters, by: str = "user_id", limit: int | None = 10) -> pd.DataFrame:
    """Whose burn changed the most: ``by``, spent_credits, before_credits, change_credits; the largest change first.

    Against the comparison, or without one the period before; an unfinished period over the same elapsed time.
    """
    checked_dimension(metric("spent"), by)
    newest = facts.extent.last_us
    chosen = replace(filters, compare=filters.compare or filters.period.before())
    compared = fair(chosen, None if newest is None else from_us(newest)).compared()
    assert compared is not None
    f = relations.facts.c
    spent = measures.spent_uc(f)
    now, then = relations.in_period(f.occurred_at, filters), relations.in_period(f.occurred_at, compared)
    after = measures.total(lambda _: case((now, spent), else_=0))(f)
    before = measures.total(lambda _: case((then, spent), else_=0))(f)
    statement = (
        select(f[by], after.label("spent_uc"), before.label("before_uc"))
        .where(or_(now, then), relations.in_dimensions(relations.facts, filters), f[by].is_not(None))
        .group_by(f[by])
        .having(after != before)
        .order_by(func.abs(after - before).desc(), f[by])
        .limit(limit)
    )
    frame = facts.frame(statement)
    frame["spent_credits"] = frame["spent_uc"].astype("float64") / MICRO
    frame["before_credits"] = frame["before_uc"].astype("float64") / MICRO
    frame["change_credits"] = (frame["spent_uc"] - frame["before_uc"]).astype("float64") / MICRO
    return frame[[by, "spent_credits", "before_credits", "change_credits"]]


def burn_by_account(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Accounts with requests or spending, largest burn first, with their own pace over the part the ledger covers.

    Columns account_id, user_id, plan, region, spent_uc, spent_credits, credits_per_day, pace_credits, pace_ratio,
    requests, fresh, last_at (the newest request).
    """
    return burners(facts, filters, None).listed


def burners(facts: Facts, filters: Filters, limit: int | None) -> Burners:
    """How many accounts :func:`burn_by_account` has, and the first ``limit`` of them: of no other the pace is worked out."""
    every = _burn_of_accounts(filters).subquery("every")
    order = every.c.spent_uc.desc(), every.c.account_id
    burn = select(every, func.count().over().label("accounts")).order_by(*order).limit(limit).cte("burn")
    only = None if limit is None else burn
    accounts, owner = _narrowed(relations.accounts, only), owners(only).subquery("owner")
    pace = _pace_of_accounts(filters, covered(facts, filters.period), only).subquery("pace")
    statement = (
        select(
            burn.c.account_id, owner.c.user_id, accounts.c.plan, accounts.c.region, burn.c.spent_uc,
            (burn.c.spent_uc / float(MICRO)).label("spent_credits"), (pace.c.pace_uc / MICRO).label("pace_credits"),
            burn.c.requests, burn.c.fresh, burn.c.last_at, burn.c.accounts,
        )
        .select_from(
            burn.outerjoin(pace, pace.c.account_id == burn.c.account_id)
            .outerjoin(accounts, accounts.c.account_id == burn.c.account_id)
            .outerjoin(owner, owner.c.account_id == burn.c.account_id)
        )
        .order_by(burn.c.spent_uc.desc(), burn.c.account_id)
    )  # fmt: skip
    frame = facts.frame(statement)
    number = 0 if frame.empty else int(frame["accounts"].iloc[0])
    if filters.models or filters.cell:
        frame["pace_credits"] = float("nan")
    pace_credits = frame["pace_credits"].astype("float64")
    frame["credits_per_day"] = frame["spent_credits"] / elapsed_days(facts, filters.period)
    frame["pace_ratio"] = frame["spent_credits"] / pace_credits.where(pace_credits > 0)
    first = ["account_id", "user_id", "plan", "region", "spent_uc", "spent_credits", "credits_per_day", "pace_credits"]
    return Burners(number, frame[[*first, "pace_ratio", "requests", "fresh", "last_at"]])


def owners(only: FromClause | None = None) -> Select[tuple[str, str]]:
    """account_id and user_id of personal accounts; of a shared one, its first user by name. ``only``: of those accounts."""
    u = _narrowed(relations.users, only).c
    return select(u.account_id, func.min(u.user_id).label("user_id")).group_by(u.account_id)


def _narrowed(relation: Table, only: FromClause | None) -> FromClause:
    """The rows of a relation whose account is in another; looked for before anything is joined."""
    if only is None:
        return relation
    return select(relation).where(relation.c.account_id.in_(select(only.c.account_id))).subquery(relation.name)


def _burn_of_accounts(filters: Filters) -> Select[tuple[str, int, int, int, int]]:
    f = relations.facts.c
    spent = measures.total(measures.spent_uc)(f)
    asked = func.count().filter(measures.requested(f))
    return (
        select(
            f.account_id,
            spent.label("spent_uc"),
            asked.label("requests"),
            func.count().filter(measures.served_fresh(f)).label("fresh"),
            func.max(f.occurred_at).filter(measures.requested(f)).label("last_at"),
        )
        .where(relations.behind(relations.facts, filters))
        .group_by(f.account_id)
        .having(or_(spent != 0, asked > 0))
    )


def running_until(c: Any = relations.cycles.c, a: Any = relations.accounts.c) -> ColumnElement[int]:
    """End of a cycle, or the instant since which it is paused; from columns of cycles and of accounts."""
    paused = and_(a.cycle_no == c.cycle_no, a.paused_at.is_not(None))
    return case((paused, func.least(c.end_at, a.paused_at)), else_=c.end_at)


def _cycle_spans(facts: Facts, filters: Filters) -> FromClause:
    """Cycles by what they share: many accounts' begin and end at the same instants. Users and teams alone are filtered.

    Columns plan, region, start_at, end_at, until (when it stopped running), running (it is its account's present one),
    paused (its account is), cycles (how many), quota_uc (of all of them).
    """
    c, a = relations.cycles.c, relations.accounts.c
    running = (a.cycle_no == c.cycle_no).label("running")
    keys = (
        c.plan, c.region, c.start_at, c.end_at, running_until().label("until"), running,
        a.paused_at.is_not(None).label("paused"),
    )  # fmt: skip
    # Whoever has no quota, or owes one, has no pace.
    quota = cast(func.sum(func.greatest(c.quota_uc, 0)), BigInteger).label("quota_uc")
    whose = relations.of_accounts(relations.cycles, Filters(filters.period, users=filters.users, teams=filters.teams))
    statement = (
        select(*keys, func.count().label("cycles"), quota)
        .join_from(relations.cycles, relations.accounts, a.account_id == c.account_id, isouter=True)
        .where(whose)
        .group_by(*keys)
    )
    return facts.shared(statement, lasting=True)


def of_spans(spans: FromClause, filters: Filters) -> ColumnElement[bool]:
    """Condition on plan and region of :func:`_cycle_spans`."""
    return relations.of_accounts(spans, filters.narrowed(users=(), teams=()))


def _pace_of_accounts(filters: Filters, part: Period, only: FromClause | None) -> Select[tuple[str, float]]:
    """account_id and pace_uc; ``only``: of the accounts in that relation."""
    cycles, accounts = _narrowed(relations.cycles, only), _narrowed(relations.accounts, only)
    c = cycles.c
    until = running_until(c, accounts.c)
    overlap = func.least(until, to_us(part.end)) - func.greatest(c.start_at, to_us(part.start))
    pace = func.sum(cast(c.quota_uc, Double) * overlap / (c.end_at - c.start_at))
    return (
        select(c.account_id, pace.label("pace_uc"))
        .join_from(cycles, accounts, accounts.c.account_id == c.account_id, isouter=True)
        .where(
            c.start_at < to_us(part.end),
            until > to_us(part.start),
            c.quota_uc > 0,
            relations.of_accounts(cycles, filters),
        )
        .group_by(c.account_id)
    )


def _pace_by_day(facts: Facts, filters: Filters, days: list[Day]) -> pd.DataFrame:
    """day, plan, pace_credits: of each cycle, Q times the share of it that lies in the day and the period."""
    first, last = to_us(filters.period.start), to_us(filters.period.end)
    spans_ = _cycle_spans(facts, filters)
    c = spans_.c
    spans = facts.frame(
        select(
            c.plan,
            c.start_at.label("since_us"),
            c.end_at.label("end_us"),
            c.until.label("until_us"),
            cast(func.sum(c.quota_uc), BigInteger).label("quota_uc"),
        )
        .where(c.start_at < last, c.until > first, c.quota_uc > 0, of_spans(spans_, filters))
        .group_by(c.plan, c.start_at, c.end_at, c.until)
    )
    starts, ends, untils, quotas = (spans[name].to_numpy() for name in ("since_us", "end_us", "until_us", "quota_uc"))
    codes, plans = pd.factorize(spans["plan"], sort=True)
    # What lies before an instant, at each end of a day: cycles by days would be a table too large for a million accounts.
    before = [
        np.clip(np.clip(edge, first, last), starts, untils)
        for edge in (days[0].start_us, *(day.end_us for day in days))
    ]
    paces = np.array(
        [
            np.bincount(codes, quotas / MICRO * (end - start) / (ends - starts), len(plans))
            for start, end in pairwise(before)
        ]
    )
    when = pd.to_datetime([day.day for day in days])
    parts = [
        pd.DataFrame({"day": when, "plan": plan, "pace_credits": paces[:, code]}) for code, plan in enumerate(plans)
    ]
    return (
        pd.concat(parts)
        if parts
        else pd.DataFrame({"day": when[:0], "plan": pd.Series(dtype="str"), "pace_credits": pd.Series(dtype="float64")})
    )
