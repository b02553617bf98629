"""Day, hour and weekday of many instants on a zone's clock, at a few nanoseconds each."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.units import DAY_US, checked_zone

_HOUR_S = 3_600
_SECOND_US = 1_000_000
_HOUR_US = _HOUR_S * _SECOND_US
Whole: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def local_clock(occurred_at: pa.ChunkedArray, zone: str) -> dict[str, pa.Array]:
    """``day`` (a date), ``hour`` (0 to 23) and ``dow`` (1 Monday to 7 Sunday) of instants in microseconds, none missing."""
    instants = occurred_at.to_numpy()
    local = instants + _offsets_us(instants, zone)
    days = local // DAY_US
    return {
        "day": pa.array(days.astype(np.int32)).cast(pa.date32()),
        "hour": pa.array((local // _HOUR_US - days * 24).astype(np.int16)),
        # 1 January 1970 was a Thursday.
        "dow": pa.array(((days + 3) % 7 + 1).astype(np.int16)),
    }


def _offsets_us(instants: Whole, zone: str) -> Whole | int:
    """What is to be added to each instant."""
    if not len(instants):
        return 0
    first, last = int(instants.min()), int(instants.max())
    years = range(_year(first), _year(last) + 1)
    since, offsets = (np.concatenate(parts) for parts in zip(*(_changes(zone, year) for year in years), strict=True))
    at = np.searchsorted(since, [first, last], side="right") - 1
    if at[0] == at[1]:
        return int(offsets[at[0]])
    found: Whole = offsets[np.searchsorted(since, instants, side="right") - 1]
    return found


def _year(instant_us: int) -> int:
    return datetime.fromtimestamp(instant_us // _SECOND_US, UTC).year


@lru_cache(maxsize=256)
def _changes(zone: str, year: int) -> tuple[Whole, Whole]:
    """From which instants on, in a year by UTC, the zone's clock is how far from UTC, both in microseconds.

    Looked at by the hour: no zone changes its clock twice within one.
    """
    place = checked_zone(zone)

    def offset_s(at_s: int) -> int:
        offset = datetime.fromtimestamp(at_s, place).utcoffset()
        assert offset is not None, "the zone is a zone"
        return round(offset.total_seconds())

    start, end = (round(datetime(one, 1, 1, tzinfo=UTC).timestamp()) for one in (year, year + 1))
    since, offsets = [start], [offset_s(start)]
    for hour in range(start, end, _HOUR_S):
        low, high = hour, hour + _HOUR_S
        if offset_s(high) != offsets[-1]:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset_s(middle) == offsets[-1] else (low, middle)
            since.append(high)
            offsets.append(offset_s(high))
    return np.array(since) * _SECOND_US, np.array(offsets) * _SECOND_US
