"""What burn is coming to, and on which days it was not as usual."""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

import pandas as pd
from sqlalchemy import func, select

from credit_core.analytics import relations, trend
from credit_core.analytics.days import reporting_days
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries.burn import burn_against_pace
from credit_core.analytics.queries.series import daily
from credit_core.analytics.sync import Facts
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import checked_zone, from_us

#: No forecast reaches further, however long a cycle is.
MOST_DAYS = 31
SUMS = ("middle", "inner_low", "inner_high", "outer_low", "outer_high")


class Forecast(NamedTuple):
    """Running sums of the burn since the period's start, credits, by day from ``since``, the last complete one, to ``until``.

    ``cycles_end`` says whether every running cycle has ended by then.
    """

    sums: pd.DataFrame
    since: date
    until: date
    cycles_end: bool


def burn_forecast(facts: Facts, filters: Filters) -> Forecast | None:
    """Burn to the end of the running cycles, from the last 28 complete days; None where the period is over or days are few.

    ``sums`` begins with the last complete day, whose burn is known: day, middle, the ends of the 50 % and 90 % intervals, and
    pace, which goes on as on that day (missing where there is none).
    """
    last = facts.extent.last_us
    if last is None or not filters.period.start <= from_us(last) < filters.period.end:
        return None
    zone = checked_zone(facts.zone)
    today = local_day(from_us(last), zone)
    past = _days_before(facts, filters, today, trend.LOOKED_BACK)
    ends_us = _last_reset(facts, filters, last)
    whole = today + timedelta(days=MOST_DAYS - 1)
    final = whole if ends_us is None else min(local_day(from_us(ends_us), zone), whole)
    ahead = [today + timedelta(days=n) for n in range((final - today).days + 1)]
    found = trend.fan(
        list(past["value"]), [day.isoweekday() for day in past["day"]], [day.isoweekday() for day in ahead]
    )
    if found is None:
        return None
    begun = _begun(facts, filters, today)
    sums = pd.DataFrame(
        {name: [begun.spent, *(begun.spent + course)] for name, course in zip(SUMS, found, strict=True)}
    )
    sums.insert(0, "day", pd.to_datetime([today - timedelta(days=1), *ahead]))
    sums["pace"] = begun.pace + begun.pace_a_day * sums.index.to_numpy(dtype="float64")
    ended = ends_us is not None and local_day(from_us(ends_us), zone) <= whole
    return Forecast(sums, today - timedelta(days=1), final, ended)


class _Begun(NamedTuple):
    """What the period had come to when ``today`` began, credits."""

    spent: float
    pace: float
    pace_a_day: float


def _begun(facts: Facts, filters: Filters, today: date) -> _Begun:
    zone = checked_zone(facts.zone)
    midnight, before = first_instant(today, zone), first_instant(today - timedelta(days=1), zone)
    yesterday = burn_against_pace(facts, filters.narrowed(period=Period(before, midnight), compare=None))
    slope = float(yesterday["pace_credits"].sum(min_count=1))
    if filters.period.start >= midnight:
        return _Begun(0.0, 0.0 * slope, slope)
    whole = burn_against_pace(facts, filters.narrowed(period=Period(filters.period.start, midnight), compare=None))
    return _Begun(float(whole["spent_credits"].sum()), float(whole["pace_credits"].sum(min_count=1)), slope)


def unusual_days(facts: Facts, filters: Filters, slug: str = "spent") -> pd.DataFrame:
    """Complete days of the period on which a metric was not as usual (:func:`credit_core.analytics.trend.unusual`).

    Columns day, value, usual, score; the most unusual first.
    """
    last = facts.extent.last_us
    columns = ["day", "value", "usual", "score"]
    if last is None:
        return pd.DataFrame(columns=columns)
    zone = checked_zone(facts.zone)
    # The newest day is not over.
    after = min(
        local_day(from_us(last), zone),
        local_day(filters.period.end - timedelta(microseconds=1), zone) + timedelta(days=1),
    )
    first = local_day(filters.period.start, zone)
    if after <= first:
        return pd.DataFrame(columns=columns)
    course = _days_before(facts, filters, after, (after - first).days + 7 * trend.WEEKS, slug)
    values = list(course["value"])
    found = trend.unusual(values, first=7 * trend.WEEKS)
    rows = [(course["day"].iloc[one.place], values[one.place], one.usual, one.score) for one in found]
    return pd.DataFrame(rows, columns=columns).sort_values("score", key=abs, ascending=False, ignore_index=True)


def _days_before(facts: Facts, filters: Filters, day: date, count: int, slug: str = "spent") -> pd.DataFrame:
    """day, value of the ``count`` reporting days before ``day``; a day on which the ledger has nothing at all is missing."""
    zone = checked_zone(facts.zone)
    period = Period(first_instant(day - timedelta(days=count), zone), first_instant(day, zone))
    frame = daily(facts, filters.narrowed(period=period, compare=None), slug)
    assert len(frame) == len(reporting_days(period, facts.zone)) == count
    return frame[["day", "value"]].astype({"value": "float64"})


def _last_reset(facts: Facts, filters: Filters, at_us: int) -> int | None:
    """When the last of the cycles that run now ends; None where none does."""
    c = relations.cycles.c
    running = (c.start_at <= at_us) & (c.end_at > at_us) & (c.quota_uc > 0)
    found = facts.rows(select(func.max(c.end_at)).where(running, relations.of_accounts(relations.cycles, filters)))
    return None if found[0][0] is None else int(found[0][0])
