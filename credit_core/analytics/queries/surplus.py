"""Are accounts ahead of their pace or behind it: surplus days over time and now, runway, and run-outs (SPEC 4 and 6)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Select,
    Table,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from credit_core.analytics import day_ends, measures, relations
from credit_core.analytics.day_ends import AHEAD, BEHIND, DayEnds
from credit_core.analytics.days import Day, reporting_days
from credit_core.analytics.filters import Filters
from credit_core.analytics.present import RECENT_DAYS, recent, states
from credit_core.analytics.queries.burn import owners
from credit_core.analytics.queries.series import value
from credit_core.analytics.sync import Facts
from credit_core.units import DAY_US, MICRO, to_us

#: Accounts and run-outs that a page lists; the file that is downloaded has all.
LISTED = 1_000
_QUANTILES = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
_BANDS = ["day", "accounts", *_QUANTILES, "behind_share", "ahead_share"]


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
    frame = pd.DataFrame({"day": pd.to_datetime([day.day for day in days]).astype("datetime64[us]")})
    if not ended:
        return frame.reindex(columns=_BANDS)
    counted = None if filters.users or filters.teams else facts.day_ends()
    found = _bands(facts, filters, ended) if counted is None else _counted_bands(facts, filters, ended, counted)
    found["day"] = pd.to_datetime(found["day"]).astype("datetime64[us]")
    return frame.merge(found, on="day", how="left")[_BANDS]


def _bands(facts: Facts, filters: Filters, ended: list[Day]) -> pd.DataFrame:
    standing = _paced_ends(day_ends.at_ends(ended), filters, relations.cycles).subquery("standing")
    x = standing.c.surplus_days
    statement = select(
        standing.c.day,
        func.count().label("accounts"),
        _quantiles(x),
        func.avg(case((x < BEHIND, 1.0), else_=0.0)).label("behind_share"),
        func.avg(case((x > AHEAD, 1.0), else_=0.0)).label("ahead_share"),
    ).group_by(standing.c.day)
    return _told_apart(facts.frame(statement))


def _quantiles(x: ColumnElement[Any]) -> ColumnElement[Any]:
    """All of them of the same values, which are sorted once."""
    shares: ColumnElement[Any] = literal_column(f"[{', '.join(str(share) for share in _QUANTILES.values())}]")
    return func.quantile_cont(x, shares).label("quantiles")


def _told_apart(found: pd.DataFrame) -> pd.DataFrame:
    """With a column for each of :func:`_quantiles`."""
    names = list(_QUANTILES)
    found[names] = pd.DataFrame(found.pop("quantiles").to_list(), index=found.index, columns=names, dtype="float64")
    return found


def _counted_bands(facts: Facts, filters: Filters, ended: list[Day], there: DayEnds) -> pd.DataFrame:
    """From what is counted of days that are over, mended by accounts whose cycles are others by now; and from the other days."""
    known, rest = ([day for day in ended if (day.day in there.days) is side] for side in (True, False))
    e = day_ends.day_ends.c
    parts = []
    if known:
        within = (e.day >= known[0].day, e.day <= known[-1].day, e.day.in_([day.day for day in known]))
        of_days = select(e.day, e.step, *(e[name] for name in day_ends.FIGURES)).where(
            *within, _paced(e.plan, filters, e.region)
        )
        parts.append(_by_step(facts, of_days, 1))
        if there.moved:
            for cycles, sign in ((day_ends.cycles_then, -1), (relations.cycles, 1)):
                theirs = day_ends.at_ends(known, cycles, day_ends.moved)
                parts.append(_by_step(facts, day_ends.counted(_paced_ends(theirs, filters, cycles)), sign))
    if rest:
        parts.append(
            _by_step(facts, day_ends.counted(_paced_ends(day_ends.at_ends(rest), filters, relations.cycles)), 1)
        )
    # Of one part the days and steps are in order already, each of them once.
    counts = parts[0]
    if len(parts) > 1:
        counts = pd.concat(parts).groupby(["day", "step"], as_index=False)[list(day_ends.FIGURES)].sum()
    counts = counts[counts["accounts"] > 0]
    if counts.empty:
        return pd.DataFrame(columns=_BANDS)
    # Rows are in order of their days and steps.
    found, first = np.unique(counts["day"].to_numpy(), return_index=True)
    accounts, behind, ahead = (np.add.reduceat(counts[name].to_numpy(), first) for name in day_ends.FIGURES)
    by_day = (np.split(counts[name].to_numpy(), first[1:]) for name in ("step", "accounts"))
    told = np.array(
        [day_ends.quantiles(steps, number, list(_QUANTILES.values())) for steps, number in zip(*by_day, strict=True)]
    )
    values = (found, accounts, *told.T, behind / accounts, ahead / accounts)
    return pd.DataFrame(dict(zip(_BANDS, values, strict=True)))


def _by_step(facts: Facts, rows: Select[Any], sign: int) -> pd.DataFrame:
    r = rows.subquery("rows").c
    sums = (cast(func.sum(r[name]) * sign, BigInteger).label(name) for name in day_ends.FIGURES)
    found = facts.frame(select(r.day, r.step, *sums).group_by(r.day, r.step).order_by(r.day, r.step))
    return found.astype({"step": "int64"} | dict.fromkeys(day_ends.FIGURES, "int64"))


def _paced(plan: ColumnElement[Any], filters: Filters, region: ColumnElement[Any]) -> ColumnElement[bool]:
    kept = [of.in_(names) for of, names in ((plan, filters.plans), (region, filters.regions)) if names]
    return and_(relations.paced(plan), relations.within(plan, filters), *kept)


def _paced_ends(standing: Select[Any], filters: Filters, cycles: Table) -> Select[Any]:
    return standing.where(relations.paced(cycles.c.plan), relations.of_accounts(cycles, filters))


def surplus_now(facts: Facts, filters: Filters, limit: int | None = None) -> pd.DataFrame:
    """Running accounts of titrated plans at the period's end, or as of the newest entry where that is first; most behind first.

    Columns account_id, user_id, plan, region, surplus_days, surplus_credits, paced_credits, available_credits,
    quota_credits, burn_credits_per_day (of the last 7 days), runway_days (available / that), runs_out_at (where before the
    reset), mode (as last decided), next_reset_at. All of them, or the first ``limit``.
    """
    now = running(facts, filters)
    return shown(facts, filters, select(now).order_by(now.c.surplus_days, now.c.account_id).limit(limit))


def soonest(facts: Facts, filters: Filters, limit: int | None = None) -> pd.DataFrame:
    """The accounts of :func:`surplus_now` whose credits end before their reset, the first to do so first; all, or ``limit``."""
    near = _near_end(facts, filters)
    those = select(near).where(near.c.available_uc > 0)
    frame = shown(facts, filters, those.order_by(_ends_us(near.c), near.c.account_id).limit(limit))
    return frame[frame["runs_out_at"].notna()].sort_values(["runs_out_at", "account_id"], ignore_index=True)


def endings(facts: Facts, filters: Filters) -> pd.DataFrame:
    """available_credits and runs_out_at of accounts with nothing left, and of those whose credits end before their reset.

    In no order: what counts and first instants are told from.
    """
    near = _near_end(facts, filters)
    frame = facts.frame(select(near.c.available_uc, near.c.burned_uc, near.c.next_reset_at))
    frame = _with_runway(facts, filters, frame)[["available_credits", "runs_out_at"]]
    return frame[(frame["available_credits"] <= 0) | frame["runs_out_at"].notna()].reset_index(drop=True)


def _near_end(facts: Facts, filters: Filters) -> FromClause:
    """Running accounts that may be among those of :func:`endings`, with what they burn, worked out once."""
    every = _with_burned(facts, filters, running(facts, filters))
    e = every.c
    # A second more than asked for: what the columns say decides.
    runs_out = and_(e.burned_uc > 0, _ends_us(e) < e.left_us + MICRO)
    return facts.shared(select(every).where(or_(e.available_uc <= 0, runs_out)))


def _ends_us(c: Any) -> ColumnElement[Any]:
    """Microseconds that what there is lasts at what was burned lately; missing where nothing was."""
    return cast(c.available_uc, Double) * (RECENT_DAYS * DAY_US) / func.nullif(c.burned_uc, 0)


def running(facts: Facts, filters: Filters) -> FromClause:
    """What :func:`surplus_now` rests on: one row per account, amounts in micro-credits.

    As of the newest entry it is kept (:mod:`credit_core.analytics.present`), else worked out once for all that ask.
    """
    at_us = now_us(facts, filters)
    kept = facts.present(at_us)
    if kept is None:
        return facts.shared(_at_instant(at_us, filters))
    return _of_present(kept, filters).subquery("running")


def _with_burned(facts: Facts, filters: Filters, rows: FromClause) -> FromClause:
    """Rows of :func:`running` with ``burned_uc``, what they spent in the last days before that instant; missing or 0: nothing."""
    if "burned_uc" in rows.c:
        return rows
    spent = facts.shared(recent(now_us(facts, filters))).alias("recent")
    joined = rows.outerjoin(spent, spent.c.account_id == rows.c.account_id)
    return select(rows, spent.c.burned_uc).select_from(joined).subquery("burning")


def sides(now: FromClause) -> tuple[ColumnElement[int], ColumnElement[int], ColumnElement[int]]:
    """Of running accounts: all, those behind and those ahead."""
    x = now.c.surplus_days
    return func.count(), func.count().filter(x < BEHIND), func.count().filter(x > AHEAD)


def now_us(facts: Facts, filters: Filters) -> int:
    """The instant just after the period, or after the newest entry where that comes first."""
    last = facts.extent.last_us
    return to_us(filters.period.end) if last is None else min(to_us(filters.period.end), last + 1)


def shown(facts: Facts, filters: Filters, rows: Select[Any]) -> pd.DataFrame:
    """Rows of :func:`running` with their owners, in the columns of :func:`surplus_now` and its order."""
    # Asked twice, worked out once.
    chosen = select(_with_burned(facts, filters, rows.subquery("rows"))).cte("chosen")
    a = relations.accounts
    owner = owners(chosen).subquery("owner")
    frame = facts.frame(
        select(*chosen.c, owner.c.user_id, a.c["mode"])
        .select_from(
            chosen.outerjoin(a, a.c.account_id == chosen.c.account_id)
            .outerjoin(owner, owner.c.account_id == chosen.c.account_id)
        )
        .order_by(chosen.c.surplus_days, chosen.c.account_id)
    )  # fmt: skip
    # Microseconds, so that no account's figures are rounded before they are divided.
    length, left = frame["length_us"] / DAY_US, frame["left_us"] / DAY_US
    quota = frame["quota_uc"].astype("float64")
    frame["surplus_credits"] = (frame["paced_uc"] - quota * left / length) / MICRO
    for name in ("paced", "quota"):
        frame[f"{name}_credits"] = frame[f"{name}_uc"].astype("float64") / MICRO
    frame = _with_runway(facts, filters, frame)
    columns = [
        "account_id", "user_id", "plan", "region", "surplus_days", "surplus_credits", "paced_credits", "available_credits",
        "quota_credits", "burn_credits_per_day", "runway_days", "runs_out_at", "mode", "next_reset_at",
    ]  # fmt: skip
    return frame[columns]


def _with_runway(facts: Facts, filters: Filters, frame: pd.DataFrame) -> pd.DataFrame:
    """With available_credits, burn_credits_per_day, runway_days, and runs_out_at where that is before the reset."""
    frame["available_credits"] = frame["available_uc"].astype("float64") / MICRO
    # Who spent nothing lately is not among those who did.
    burn = frame["burned_uc"].astype("float64").fillna(0.0) / MICRO / RECENT_DAYS
    frame["burn_credits_per_day"] = burn
    frame["runway_days"] = frame["available_credits"] / burn.where(burn > 0)
    empty = pd.Timestamp(now_us(facts, filters), unit="us", tz="UTC").tz_convert(facts.zone) + pd.to_timedelta(
        frame["runway_days"], unit="D"
    )
    frame["runs_out_at"] = empty.where(empty < frame["next_reset_at"])
    return frame


def surplus_by_plan(facts: Facts, filters: Filters) -> pd.DataFrame:
    """By plan, as :func:`surplus_now`: accounts, p05 … p95, behind, on_pace, ahead (accounts), behind_share, ahead_share."""
    now = running(facts, filters)
    accounts, behind, ahead = sides(now)
    figures = (accounts.label("accounts"), _quantiles(now.c.surplus_days), behind.label("behind"), ahead.label("ahead"))
    frame = _told_apart(facts.frame(select(now.c.plan, *figures).group_by(now.c.plan).order_by(now.c.plan)))
    frame["on_pace"] = frame["accounts"] - frame["behind"] - frame["ahead"]
    for side in ("behind", "ahead"):
        frame[f"{side}_share"] = frame[side] / frame["accounts"]
    return frame[["plan", "accounts", *_QUANTILES, "behind", "on_pace", "ahead", "behind_share", "ahead_share"]]


def surplus_histogram(facts: Facts, filters: Filters, width_days: float = 1.0) -> pd.DataFrame:
    """By plan and bin [from_days, to_days) of surplus days, as :func:`surplus_now`: accounts. Empty bins are left out."""
    now = running(facts, filters)
    bins = cast(func.floor(now.c.surplus_days / width_days), BigInteger).label("bin")
    counts = select(now.c.plan, bins, func.count().label("accounts")).group_by(now.c.plan, bins)
    frame = facts.frame(counts.order_by(now.c.plan, bins))
    frame["from_days"] = frame["bin"] * width_days
    frame["to_days"] = frame["from_days"] + width_days
    return frame[["plan", "from_days", "to_days", "accounts"]]


def run_outs(facts: Facts, filters: Filters, limit: int | None = None) -> pd.DataFrame:
    """Run-outs that began in the period, newest first: a first decision by rule 4, and the time until the next grant.

    Columns account_id, user_id, plan, region, run_out_at, granted_at, dry_days, dry_share (of the cycle; missing for plans
    without one), ongoing. An ongoing one counts up to the newest entry. All of them, or the first ``limit``.
    """
    s = _spells(facts, filters).c
    dry_days, dry_share = _dry(facts, s)
    statement = select(
        s.account_id, s.user_id, s.plan, s.region, s.run_out_at, s.granted_at, dry_days.label("dry_days"),
        dry_share.label("dry_share"), s.granted_at.is_(None).label("ongoing"),
    )  # fmt: skip
    return facts.frame(statement.order_by(s.run_out_at.desc(), s.account_id).limit(limit))


def dry_time(facts: Facts, filters: Filters) -> Dry:
    """How long run-outs of the period lasted, and what part of a cycle that is per active account (SPEC 6, dry time)."""
    spells_ = _spells(facts, filters)
    dry_days, dry_share = (
        one.label(name) for one, name in zip(_dry(facts, spells_.c), ("dry_days", "share"), strict=True)
    )
    told = select(spells_.c.account_id, dry_days, dry_share).subquery("told")
    middle = measures.quantile("0.5", "dry_days")(told.c)
    figures = (func.count(), func.count(told.c.account_id.distinct()), middle, func.sum(told.c.share))
    number, accounts, median, share = facts.rows(select(*figures).select_from(told))[0]
    active = value(facts, filters, "active_accounts").numerator
    return Dry(
        number, accounts, None if not number else float(median), None if not active else float(share or 0.0) / active
    )


def _spells(facts: Facts, filters: Filters) -> FromClause:
    start_us, end_us = to_us(filters.period.start), to_us(filters.period.end)
    found = facts.run_outs(start_us, end_us).subquery("spells")
    kept = (
        found.c[name].in_(names) for name, names in relations.entry_dimensions(filters) if names and name != "model"
    )
    return facts.shared(select(found).where(relations.within(found.c.plan, filters), *kept))


def _dry(facts: Facts, s: Any) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Days of a spell, and the share of a cycle that they are."""
    days = (cast(func.coalesce(s.granted_at, facts.extent.last_us), Double) - s.run_out_at) / DAY_US
    return days, days / s.cycle_days


def _at_instant(at_us: int, filters: Filters) -> Select[Any]:
    standing, cycles = states(at_us).subquery("states"), relations.cycles
    at = literal(at_us, BigInteger)
    joined = standing.join(cycles, cycles.c.account_id == standing.c.account_id)
    runs = and_(_runs(standing.c, cycles, at, filters), relations.paced(cycles.c.plan))
    return select(*_figures(standing.c, cycles.c, at)).select_from(joined).where(runs)


def _of_present(present: FromClause, filters: Filters) -> Select[Any]:
    """As :func:`_at_instant`, of what is kept of now; with ``burned_uc``, as of :func:`recent`."""
    p = present.c
    return select(*_figures(p, p, p.at_us), p.burned_uc).where(_runs(p, present, p.at_us, filters))


def _figures(s: Any, c: Any, at_us: ColumnElement[int]) -> tuple[ColumnElement[Any], ...]:
    """Of an account's state and its cycle."""
    length, left = (c.end_at - c.start_at) / float(DAY_US), (c.end_at - at_us) / float(DAY_US)
    return (
        (cast(s.paced_uc, Double) * length / c.quota_uc - left).label("surplus_days"),
        s.account_id, c.plan, c.region, s.paced_uc, s.available_uc, c.quota_uc,
        (c.end_at - c.start_at).label("length_us"), (c.end_at - at_us).label("left_us"), c.end_at.label("next_reset_at"),
    )  # fmt: skip


def _runs(s: Any, cycles: FromClause, at_us: ColumnElement[int], filters: Filters) -> ColumnElement[bool]:
    c = cycles.c
    within = and_(c.start_at < at_us, c.end_at >= at_us, s.pauses == 0, c.quota_uc > 0)
    return and_(within, relations.of_accounts(cycles, filters))
