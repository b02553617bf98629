"""Cycles and calendar days (SPEC 1 and 2.2): where a cycle ends and what is carried over it."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from credit_core.units import DAY_S, portion, ratio


def first_instant(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of local ``day``, in UTC: midnight, or where a clock change skips it the instant after the gap."""
    midnight = datetime.combine(day, time(), tzinfo=zone)
    instant = midnight.astimezone(UTC)
    if instant.astimezone(zone).replace(fold=0) == midnight:
        return instant
    # PEP 495: in a gap, fold=1 reads the time with the offset after the change, fold=0 with the one before it.
    after = midnight.replace(fold=1).utcoffset()
    before = midnight.utcoffset()
    assert before is not None
    assert after is not None
    low, high = sorted((midnight.replace(tzinfo=UTC) - before, midnight.replace(tzinfo=UTC) - after))
    while high - low > timedelta(microseconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).date() < day:
            low = middle
        else:
            high = middle
    return high


def local_day(at: datetime, zone: ZoneInfo) -> date:
    """The calendar day of ``at`` in ``zone``."""
    return at.astimezone(zone).date()


def add_months(anchor: date, months: int) -> date:
    """anchor + n months; a missing day falls on the month's last. Always from the anchor, never chained."""
    index = anchor.year * 12 + anchor.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(anchor.day, calendar.monthrange(year, month + 1)[1]))


def cycle_start(anchor: date, zone: ZoneInfo, number: int) -> datetime:
    """Start of cycle ``number`` (0 is the first), in UTC."""
    return first_instant(add_months(anchor, number), zone)


def number_at(anchor: date, zone: ZoneInfo, at: datetime) -> int:
    """Number of the cycle that ``at`` lies in; negative before the anchor."""
    day = local_day(at, zone)
    number = (day.year - anchor.year) * 12 + day.month - anchor.month
    while cycle_start(anchor, zone, number) > at:
        number -= 1
    while cycle_start(anchor, zone, number + 1) <= at:
        number += 1
    return number


def days_between(start: datetime, end: datetime) -> float:
    """Real elapsed days, 86 400 s each."""
    return (end.astimezone(UTC) - start.astimezone(UTC)).total_seconds() / DAY_S


class Closing(NamedTuple):
    """What happens to the unspent credits of a cycle."""

    kept_uc: int
    carried_uc: int
    expired_uc: int


def close(unspent_uc: int, quota_uc: int, cap_multiple: float, soft_decay: float) -> Closing:
    """kept = min(U, Q) + (1 − δ)·max(0, U − Q); carried = min(kept, max(0, c·Q − Q)); the rest expires (SPEC 2.2).

    Exact in the decimal value of c and δ; each product rounded once, half-even.
    """
    return split(unspent_uc, quota_uc, cap_uc(quota_uc, cap_multiple), *kept_share(soft_decay))


def split(unspent_uc: int, quota_uc: int, most_uc: int, share: int, of: int) -> Closing:
    """:func:`close` in whole numbers, so that it also compiles: ``most_uc`` = c·Q, ``share``/``of`` = 1 − δ."""
    over = max(0, unspent_uc - quota_uc)
    kept = min(unspent_uc, quota_uc) + portion(over, share, of)
    carried = min(kept, max(0, most_uc - quota_uc))
    return Closing(kept, carried, unspent_uc - carried)


def kept_share(soft_decay: float) -> tuple[int, int]:
    """1 − δ as (share, of), exactly."""
    decayed, of = ratio(soft_decay)
    return of - decayed, of


def cap_uc(quota_uc: int, cap_multiple: float) -> int:
    """c·Q in micro-credits: the most that a balance may be right after a reset."""
    return portion(quota_uc, *ratio(cap_multiple))


def cap_at(end: datetime, cap_multiple: float, *, burst_allowance: bool) -> float:
    """c, or c + 1 where the burst allowance is on and the scheduled end lies in 02:00–05:00 UTC."""
    return cap_multiple + 1.0 if burst_allowance and 2 <= end.astimezone(UTC).hour < 5 else cap_multiple


def apportion(quota_uc: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Whole shares of ``quota_uc`` in proportion to ``weights``, which add up to it exactly; none where no weight is positive.

    Largest remainder (Hamilton): each share is its exact proportion rounded down, and what is left goes, one each, to the
    largest remainders; among equal ones to the first by name.
    """
    total = sum(weights.values())
    if total <= 0:
        return {}
    shares = {name: quota_uc * weight // total for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: (-(quota_uc * weights[name] % total), name))
    for name in by_remainder[: quota_uc - sum(shares.values())]:
        shares[name] += 1
    return shares
