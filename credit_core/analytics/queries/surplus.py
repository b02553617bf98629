"""Are accounts ahead of their pace or behind it: surplus days over time and now, runway, and run-outs (SPEC 4 and 6)."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
from sqlalchemy import BigInteger, ColumnElement, Double, Select, Table, and_, case, cast, func, literal_column, or_, select

from credit_core.analytics import day_ends, measures, relations
from credit_core.analytics.day_ends import AHEAD, BEHIND, DayEnds
from credit_core.analytics.days import Day, reporting_days
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.burn import owners
from credit_core.analytics.queries.series import value
from credit_core.analytics.sync import Facts
from credit_core.policy.plans import CYCLED
from credit_core.units import DAY_US, MICRO, to_us

RUNWAY_DAYS = 7
_QUANTILES = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}


class Dry(NamedTuple):
    """Run-outs, the accounts that had them, the middle one's days, and Σ of their shares of a cycle per active account."""

    run_outs: int
    accounts: int
    median_days: float | None
    share: float | None


def surplus_bands(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Surplus days at the end of each reporting day of the period: accounts, p05, p25, median, p75, p95, behind_share, ahead_share.

    An account's state is the one after its last entry before the reporting midnight, before closings at that instant;
    paused accounts, those of plans that are not paced, and those without a cycle over that midnight are left out. Days that
    have not ended are missing. Quantiles are exact where every account is looked at, and right to half a step of
    :data:`day_ends.STEP_DAYS` where days are counted already; accounts and shares are always exact.
    """
    days = reporting_days(filters.period, facts.zone)
    last = facts.extent.last_us
    ended = [day for day in days if last is not None and day.end_us <= last]
    frame = pd.DataFrame({"day": pd.to_datetime([day.day for day in days])})
    columns = ["day", "accounts", *_QUANTILES, "behind_share", "ahead_share"]
    if not ended:
        return frame.reindex(columns=columns)
    counted = None if filters.users or filters.teams else facts.day_ends()
    found = _bands(facts, filters, ended) if counted is None else _counted_bands(facts, filters, ended, counted)
    found["day"] = pd.to_datetime(found["day"])
    return frame.merge(found, on="day", how="left")[columns]


def _bands(facts: Facts, filters: Filters, ended: list[Day]) -> pd.DataFrame:
    standing = _paced_ends(day_ends.at_ends(ended), filters, relations.cycles).subquery("standing")
    x = standing.c.surplus_days
    quantiles = func.quantile_cont(x, literal_column(f"[{', '.join(str(share) for share in _QUANTILES.values())}]"))
    statement = select(
        standing.c.day,
        func.count().label("accounts"),
        quantiles.label("quantiles"),
        func.avg(case((x < BEHIND, 1.0), else_=0.0)).label("behind_share"),
        func.avg(case((x > AHEAD, 1.0), else_=0.0)).label("ahead_share"),
    ).group_by(standing.c.day)
    found = facts.frame(statement)
    found[list(_QUANTILES)] = pd.DataFrame(
        found.pop("quantiles").to_list(), index=found.index, columns=list(_QUANTILES), dtype="float64"
    )
    return found


def _counted_bands(facts: Facts, filters: Filters, ended: list[Day], there: DayEnds) -> pd.DataFrame:
    """From what is counted of days that are over, mended by accounts whose cycles are others by now; and from the other days."""
    known, rest = ([day for day in ended if (day.day in there.days) is side] for side in (True, False))
    e = day_ends.day_ends.c
    parts = []
    if known:
        within = (e.day >= known[0].day, e.day <= known[-1].day, e.day.in_([day.day for day in known]))
        of_days = select(e.day, e.step, *(e[name] for name in day_ends.FIGURES)).where(*within, _paced(e.plan, filters, e.region))
        parts.append(_by_step(facts, of_days, 1))
        if there.moved:
            for cycles, sign in ((day_ends.cycles_then, -1), (relations.cycles, 1)):
                theirs = day_ends.at_ends(known, cycles, day_ends.moved)
                parts.append(_by_step(facts, day_ends.counted(_paced_ends(theirs, filters, cycles)), sign))
    if rest:
        parts.append(_by_step(facts, day_ends.counted(_paced_ends(day_ends.at_ends(rest), filters, relations.cycles)), 1))
    counts = pd.concat(parts).groupby(["day", "step"], as_index=False)[list(day_ends.FIGURES)].sum()
    rows = []
    for day, part in counts[counts["accounts"] > 0].groupby("day", sort=True):
        accounts, behind, ahead = (int(part[name].sum()) for name in day_ends.FIGURES)
        told = day_ends.quantiles(part["step"].to_numpy(), part["accounts"].to_numpy(), list(_QUANTILES.values()))
        rows.append((day, accounts, *told, behind / accounts, ahead / accounts))
    return pd.DataFrame(rows, columns=["day", "accounts", *_QUANTILES, "behind_share", "ahead_share"])


def _by_step(facts: Facts, rows: Select[Any], sign: int) -> pd.DataFrame:
    r = rows.subquery("rows").c
    sums = (cast(func.sum(r[name]) * sign, BigInteger).label(name) for name in day_ends.FIGURES)
    found = facts.frame(select(r.day, r.step, *sums).group_by(r.day, r.step))
    return found.astype({"step": "int64"} | dict.fromkeys(day_ends.FIGURES, "int64"))


def _paced(plan: ColumnElement[Any], filters: Filters, region: ColumnElement[Any]) -> ColumnElement[bool]:
    kept = [of.in_(names) for of, names in ((plan, filters.plans), (region, filters.regions)) if names]
    return and_(relations.paced(plan), relations.within(plan, filters), *kept)


def _paced_ends(standing: Select[Any], filters: Filters, cycles: Table) -> Select[Any]:
    return standing.where(relations.paced(cycles.c.plan), relations.of_accounts(cycles, filters))


def surplus_now(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Every running account of a titrated plan at the period's end, or as of the newest entry where that is first; most behind first.

    Columns account_id, user_id, plan, region, surplus_days, surplus_credits, paced_credits, available_credits,
    quota_credits, burn_credits_per_day (of the last 7 days), runway_days (available / that), runs_out_at (where before the
    reset), mode (as last decided), next_reset_at.
    """
    last = facts.extent.last_us
    at_us = to_us(filters.period.end) if last is None else min(to_us(filters.period.end), last + 1)
    frame = facts.frame(_at_instant(at_us, filters))
    # Microseconds, so that no account's figures are rounded before they are divided.
    length, left = frame["length_us"] / DAY_US, frame["left_us"] / DAY_US
    quota = frame["quota_uc"].astype("float64")
    frame["surplus_days"] = frame["paced_uc"] * length / quota - left
    frame["surplus_credits"] = (frame["paced_uc"] - quota * left / length) / MICRO
    for name in ("paced", "available", "quota"):
        frame[f"{name}_credits"] = frame[f"{name}_uc"].astype("float64") / MICRO
    burn = frame["burned_uc"].astype("float64") / MICRO / RUNWAY_DAYS
    frame["burn_credits_per_day"] = burn
    frame["runway_days"] = frame["available_credits"] / burn.where(burn > 0)
    empty = pd.Timestamp(at_us, unit="us", tz="UTC").tz_convert(facts.zone) + pd.to_timedelta(
        frame["runway_days"], unit="D"
    )
    frame["runs_out_at"] = empty.where(empty < frame["next_reset_at"])
    columns = [
        "account_id", "user_id", "plan", "region", "surplus_days", "surplus_credits", "paced_credits", "available_credits",
        "quota_credits", "burn_credits_per_day", "runway_days", "runs_out_at", "mode", "next_reset_at",
    ]  # fmt: skip
    return frame[columns].sort_values(["surplus_days", "account_id"]).reset_index(drop=True)


def surplus_by_plan(facts: Facts, filters: Filters) -> pd.DataFrame:
    """By plan, as :func:`surplus_now`: accounts, p05 … p95, behind, on_pace, ahead (accounts), behind_share, ahead_share."""
    rows = []
    for plan, days in surplus_now(facts, filters).groupby("plan", sort=True)["surplus_days"]:
        behind, ahead = int((days < BEHIND).sum()), int((days > AHEAD).sum())
        quantiles = [float(days.quantile(share)) for share in _QUANTILES.values()]
        rows.append(
            (
                plan,
                len(days),
                *quantiles,
                behind,
                len(days) - behind - ahead,
                ahead,
                behind / len(days),
                ahead / len(days),
            )
        )
    columns = ["plan", "accounts", *_QUANTILES, "behind", "on_pace", "ahead", "behind_share", "ahead_share"]
    return pd.DataFrame(rows, columns=columns)


def surplus_histogram(facts: Facts, filters: Filters, width_days: float = 1.0) -> pd.DataFrame:
    """By plan and bin [from_days, to_days) of surplus days, as :func:`surplus_now`: accounts. Empty bins are left out."""
    now = surplus_now(facts, filters)
    bins = (now["surplus_days"] // width_days).astype("int64")
    frame = now.groupby(["plan", bins.rename("bin")]).size().rename("accounts").reset_index()
    frame["from_days"] = frame["bin"] * width_days
    frame["to_days"] = frame["from_days"] + width_days
    return frame[["plan", "from_days", "to_days", "accounts"]]


def run_outs(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Run-outs that began in the period, newest first: a first decision by rule 4, and the time until the next grant.

    Columns account_id, user_id, plan, region, run_out_at, granted_at, dry_days, dry_share (of the cycle; missing for plans
    without one), ongoing. An ongoing one counts up to the newest entry.
    """
    last = facts.extent.last_us
    f = relations.facts.c
    dry, granted = f.rule == "unaffordable", and_(f.kind == "grant", f.line == 1)
    next_grant = func.min(case((granted, f.occurred_at))).over(
        partition_by=f.account_id, order_by=(f.occurred_at, f.id), rows=(1, None)
    )
    events = (
        select(
            f.id,
            f.account_id,
            f.user_id,
            f.plan,
            f.region,
            f.occurred_at,
            case((f.quota_policy.in_(CYCLED), f.cycle_days)).label("cycle_days"),
            f.rule,
            next_grant.label("granted_at"),
        )
        .where(or_(dry, granted), f.occurred_at < to_us(filters.period.end))
        .subquery("events")
    )
    # A grant after the period ends a run-out that began in it.
    after = _first_grants(to_us(filters.period.end)).subquery("after")
    e = events.c
    ended = func.coalesce(e.granted_at, after.c.granted_at)
    first = func.row_number().over(partition_by=(e.account_id, ended), order_by=(e.occurred_at, e.id))
    spells = (
        select(
            e.account_id,
            e.user_id,
            e.plan,
            e.region,
            e.occurred_at.label("run_out_at"),
            ended.label("granted_at"),
            e.cycle_days,
            first.label("place"),
        )
        .select_from(events.outerjoin(after, after.c.account_id == e.account_id))
        .where(e.rule == "unaffordable")
        .subquery("spells")
    )
    s = spells.c
    dry_days = (cast(func.coalesce(s.granted_at, last), Double) - s.run_out_at) / DAY_US
    conditions = [s[name].in_(kept) for name, kept in relations.entry_dimensions(filters) if kept and name != "model"]
    statement = (
        select(
            s.account_id, s.user_id, s.plan, s.region, s.run_out_at, s.granted_at, dry_days.label("dry_days"),
            (dry_days / s.cycle_days).label("dry_share"), s.granted_at.is_(None).label("ongoing"),
        )
        .where(s.place == 1, relations.in_period(s.run_out_at, filters), relations.within(s.plan, filters), *conditions)
        .order_by(s.run_out_at.desc(), s.account_id)
    )  # fmt: skip
    return facts.frame(statement)


def dry_time(facts: Facts, filters: Filters) -> Dry:
    """How long run-outs of the period lasted, and what part of a cycle that is per active account (SPEC 6, dry time)."""
    spells = run_outs(facts, filters)
    active = value(facts, filters, "active_accounts").numerator
    known = spells["dry_share"].dropna()
    return Dry(
        len(spells),
        spells["account_id"].nunique(),
        None if spells.empty else float(spells["dry_days"].median()),
        None if not active else float(known.sum()) / active,
    )


def _first_grants(from_us: int) -> Select[Any]:
    f = relations.facts.c
    first = func.min(f.occurred_at).label("granted_at")
    return (
        select(f.account_id, first)
        .where(f.kind == "grant", f.line == 1, f.occurred_at >= from_us)
        .group_by(f.account_id)
    )


def _at_instant(at_us: int, filters: Filters) -> Select[Any]:
    f, c, a = relations.facts.c, relations.cycles.c, relations.accounts.c
    owner = owners().subquery("owner")
    recent = f.occurred_at >= at_us - RUNWAY_DAYS * DAY_US
    states = (
        select(
            f.account_id,
            measures.total(day_ends.paced_uc)(f).label("paced_uc"),
            measures.total(lambda g: g.d_avail_uc)(f).label("available_uc"),
            measures.total(lambda g: case((recent, measures.spent_uc(g)), else_=0))(f).label("burned_uc"),
            func.sum(day_ends.pauses(f)).label("pauses"),
        )
        .where(f.occurred_at < at_us)
        .group_by(f.account_id)
        .subquery("states")
    )
    s = states.c
    return (
        select(
            s.account_id, owner.c.user_id, c.plan, c.region, s.paced_uc, s.available_uc, s.burned_uc, c.quota_uc, a.mode,
            (c.end_at - c.start_at).label("length_us"), (c.end_at - at_us).label("left_us"), c.end_at.label("next_reset_at"),
        )
        .select_from(
            states.join(relations.cycles, and_(c.account_id == s.account_id, c.start_at < at_us, c.end_at >= at_us))
            .outerjoin(relations.accounts, a.account_id == s.account_id)
            .outerjoin(owner, owner.c.account_id == s.account_id)
        )
        .where(s.pauses == 0, c.quota_uc > 0, relations.paced(c.plan), relations.of_accounts(relations.cycles, filters))
    )  # fmt: skip
