"""Entries that are too old for the copy: where it begins, and what those that are left out had moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from credit_core.analytics.manifest import Left
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import checked_zone, to_us


def begins_us(keep_days: int | None, zone: str, now: datetime) -> int | None:
    """The first instant that is kept: the start of the day in ``zone`` that was ``keep_days`` ago; None keeps all."""
    if keep_days is None:
        return None
    place = checked_zone(zone)
    return to_us(first_instant(local_day(now, place) - timedelta(days=keep_days), place))


def clock() -> datetime:
    """Now; what is too old to be kept is told by it."""
    return datetime.now(UTC)


def parted(entries: pa.Table, begins: int | None) -> tuple[pa.Table, Left]:
    """The entries from that instant on, and what the others moved."""
    if begins is None:
        return entries, Left()
    late = pc.greater_equal(entries["occurred_at"], begins)
    kept = entries.filter(late)
    return kept, Left() if kept.num_rows == entries.num_rows else moved(entries.filter(pc.invert(late)))


def moved(entries: pa.Table) -> Left:
    """What entries moved."""
    return Left(entries.num_rows, *(_sum(entries[name]) for name in ("d_avail_uc", "d_held_uc")))


def _sum(amounts: Any) -> int:
    return pc.sum(amounts).as_py() or 0
