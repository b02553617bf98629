"""Reporting days: the calendar days of the reporting zone that a period touches, 23 and 25 hours long ones included."""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

from credit_core.analytics.filters import Period
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import checked_zone, from_us, to_us


class Day(NamedTuple):
    """One reporting day, [start_us, end_us) in microseconds since the epoch."""

    day: date
    start_us: int
    end_us: int


def reporting_days(period: Period, zone: str) -> list[Day]:
    """The days that the period touches, in order."""
    place = checked_zone(zone)
    first = local_day(period.start, place)
    last = local_day(period.end - timedelta(microseconds=1), place)
    count = (last - first).days + 1
    bounds = [to_us(first_instant(first + timedelta(days=n), place)) for n in range(count + 1)]
    return [Day(first + timedelta(days=n), bounds[n], bounds[n + 1]) for n in range(count)]


def end_us(day: date, zone: str) -> int:
    """The instant at which a reporting day ends."""
    return to_us(first_instant(day + timedelta(days=1), checked_zone(zone)))


def day_within(at_us: int, zone: str) -> date | None:
    """The reporting day that an instant lies within; None where it begins one, or is none that has a day."""
    place = checked_zone(zone)
    try:
        day = local_day(from_us(at_us), place)
        return None if first_instant(day, place) == from_us(at_us) else day
    except OverflowError:
        return None
