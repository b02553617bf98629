"""The anomaly flag (SPEC 3, Limits and hygiene): more fresh ones in an hour than a user's own history explains. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

HISTORY = timedelta(days=7)


def hour_of(at: datetime) -> datetime:
    """The clock hour of ``at``, in UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def most(fresh_at: Iterable[datetime], hour: datetime, factor: float, least_hours: int) -> float | None:
    """factor × the mean of the active hours in the seven days before ``hour``; None under ``least_hours`` of them."""
    hours = Counter(hour_of(at) for at in fresh_at if hour - HISTORY <= at < hour)
    return factor * hours.total() / len(hours) if len(hours) >= least_hours else None


def is_anomaly(fresh: int, most_fresh: float | None, least_fresh: int) -> bool:
    """True where ``fresh`` ones in this hour are at least ``least_fresh`` and more than ``most_fresh``."""
    return most_fresh is not None and fresh >= least_fresh and fresh > most_fresh
