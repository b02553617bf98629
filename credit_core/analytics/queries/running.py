"""Which cycles run, and where the middle one of them began: what "this cycle" is for many accounts at once."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import pandas as pd
from sqlalchemy import func, select

from credit_core.analytics import relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.policy.cycles import local_day
from credit_core.units import DAY_S, checked_zone


class Running(NamedTuple):
    """Cycles that run at the newest entry: how many, the day that the middle one began, how many began within a day of it."""

    cycles: int
    began: date
    near: int


def running_cycles(facts: Facts, filters: Filters) -> Running | None:
    """The cycles that run, of the accounts behind the filters; None where none does. Model, cell and period are ignored.

    A cycle begins on a day of its account's own time zone, so cycles that share the calendar month share their first day.
    Accounts without a quota count only where no other is there; paused ones never. Of an even number the earlier middle.
    """
    last = facts.extent.last_us
    if last is None:
        return None
    a = relations.accounts.c
    running = (a.cycle_start_at <= last) & (a.cycle_end_at > last) & a.paused_at.is_(None)
    with_quota = func.count().filter(a.quota_uc > 0)
    found = facts.frame(
        select(a.timezone, a.cycle_start_at, func.count().label("cycles"), with_quota.label("with_quota"))
        .where(running, relations.of_accounts(relations.accounts, filters))
        .group_by(a.timezone, a.cycle_start_at)
    )
    if found.empty:
        return None
    zones = found["timezone"].map(checked_zone)
    began = [local_day(start, zone) for start, zone in zip(found["cycle_start_at"], zones, strict=True)]
    counts = found["with_quota" if found["with_quota"].any() else "cycles"]
    by_day = counts.groupby(pd.to_datetime(began)).sum().sort_index()
    total = int(by_day.sum())
    middle = by_day.index[int((by_day.cumsum() * 2 >= total).argmax())]
    near = by_day[abs((by_day.index - middle).total_seconds()) <= DAY_S]
    return Running(total, middle.date(), int(near.sum()))
