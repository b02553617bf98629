"""Where accounts stood against pace when each reporting day ended: one statement, and how its answers are counted.

Counted by day, plan, region and step of :data:`STEP_DAYS`, days that are over need not be worked out account by account
again (:mod:`credit_core.analytics.carrying`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Date,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    column,
    func,
    or_,
    select,
    values,
)

from credit_core.analytics import relations
from credit_core.analytics.days import Day
from credit_core.policy.lots import PACED_KINDS
from credit_core.units import DAY_US

#: Surplus days from which on an account counts as behind or ahead (SPEC 6).
BEHIND, AHEAD = -3.0, 3.0
#: Surplus is counted in steps of so many days: what is told from the counts is right to half of it, 36 minutes.
STEP_DAYS = 0.05

#: Accounts by where they stood, of days that are over.
day_ends = Table(
    "day_ends",
    MetaData(),
    Column("day", Date),
    Column("plan", Text),
    Column("region", Text),
    Column("step", Integer, comment="surplus, in steps of STEP_DAYS"),
    Column("accounts", BigInteger),
    Column("behind", BigInteger),
    Column("ahead", BigInteger),
)
#: Cycles as they were when that was counted, and the accounts whose cycles are others by now.
cycles_then = relations.cycles.to_metadata(MetaData(), name="cycles_then")
moved = Table("moved", MetaData(), Column("account_id", Text))
FIGURES = ("accounts", "behind", "ahead")


class DayEnds(NamedTuple):
    """What is counted: the days, as reporting days; ``moved``: some accounts' cycles are others by now."""

    days: frozenset[Any]
    moved: bool


def paced_uc(f: Any) -> ColumnElement[Any]:
    """Micro-credits by which an entry changes what is paced."""
    return case((f.lot_kind.in_(sorted(PACED_KINDS)), f.d_avail_uc), else_=0)


def pauses(f: Any) -> ColumnElement[Any]:
    """1 where an entry pauses its account, −1 where it lets it go on."""
    return case((f.kind == "pause", 1), (f.kind == "resume", -1), else_=0)


def at_ends(ended: list[Day], cycles: Table = relations.cycles, only: Table | None = None) -> Select[Any]:
    """day, account_id, plan, region, surplus_days of accounts whose cycle covers the day's end and that are not paused.

    ``only``: of the accounts in that relation. Whether a plan is paced is for the caller to ask.
    """
    bounds = [(day.day, day.end_us) for day in ended]
    days = values(column("day", Date), column("end_us", BigInteger), name="days").data(bounds)
    f, c, d = relations.facts.c, cycles.c, days.c
    # What came before the first day counts as of it.
    day = func.greatest(f.day, ended[0].day).label("day")
    changes = (
        select(f.account_id, day, func.sum(paced_uc(f)).label("paced_uc"), func.sum(pauses(f)).label("pauses"))
        .where(f.day <= ended[-1].day, *(() if only is None else (f.account_id.in_(select(only.c.account_id)),)))
        .group_by(f.account_id, day)
        .subquery("changes")
    )
    account, order = changes.c.account_id, changes.c.day
    states = select(
        account,
        order,
        cast(func.sum(changes.c.paced_uc).over(partition_by=account, order_by=order), BigInteger).label("paced_uc"),
        func.sum(changes.c.pauses).over(partition_by=account, order_by=order).label("pauses"),
        func.lead(order).over(partition_by=account, order_by=order).label("next_day"),
    ).subquery("states")
    held = and_(d.day >= states.c.day, or_(states.c.next_day.is_(None), d.day < states.c.next_day))
    covers = and_(c.account_id == states.c.account_id, c.start_at < d.end_us, c.end_at >= d.end_us)
    length, left = (c.end_at - c.start_at) / float(DAY_US), (c.end_at - d.end_us) / float(DAY_US)
    surplus_days = (states.c.paced_uc * length / c.quota_uc - left).label("surplus_days")
    return (
        select(d.day, c.account_id, c.plan, c.region, surplus_days)
        .select_from(states.join(days, held).join(cycles, covers))
        .where(states.c.pauses == 0, c.quota_uc > 0)
    )


def counted(standing: Select[Any]) -> Select[Any]:
    """The rows of :func:`at_ends` in the columns of :data:`day_ends`."""
    s = standing.subquery("standing").c
    step = cast(func.floor(s.surplus_days / STEP_DAYS + 0.5), BigInteger).label("step")
    figures = (
        func.count().label("accounts"),
        func.count().filter(s.surplus_days < BEHIND).label("behind"),
        func.count().filter(s.surplus_days > AHEAD).label("ahead"),
    )
    return select(s.day, s.plan, s.region, step, *figures).group_by(s.day, s.plan, s.region, step)


def quantiles(steps: npt.NDArray[np.int64], accounts: npt.NDArray[np.int64], shares: list[float]) -> list[float]:
    """Interpolated quantiles in days of counted accounts; ``steps`` ascend."""
    reached = np.cumsum(accounts)
    place = (reached[-1] - 1) * np.array(shares)
    low, high = (
        steps[np.searchsorted(reached, np.array(end, dtype=np.int64), side="right")]
        for end in (np.floor(place), np.ceil(place))
    )
    found = low + (high - low) * (place - np.floor(place))
    return [float(one) for one in found * STEP_DAYS]
