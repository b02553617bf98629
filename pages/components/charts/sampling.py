"""Keeping figures light: what lies beyond 2,000 points is reduced to the highest and lowest of each bucket."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: More points than this are invisible on a screen and slow in a browser (FINDINGS, Streamlit).
MOST_POINTS = 2_000


def thinned(frame: pd.DataFrame, y: str, limit: int = MOST_POINTS) -> pd.DataFrame:
    """At most ``limit`` rows of ``frame`` in their order: per bucket the minimum and maximum of ``y``, and the gaps.

    The first and last row stay. A run of unknown values is kept as one row, so the line still breaks there.
    """
    if len(frame) <= limit:
        return frame
    values = frame[y].to_numpy(dtype=float, na_value=np.nan)
    buckets = np.array_split(np.arange(len(frame)), max(1, (limit - 2) // 3))
    keep = {0, len(frame) - 1}
    for rows in buckets:
        window = values[rows]
        known = ~np.isnan(window)
        if known.any():
            keep.add(int(rows[np.nanargmin(window)]))
            keep.add(int(rows[np.nanargmax(window)]))
        if not known.all():
            keep.add(int(rows[np.argmin(known)]))
    return frame.iloc[sorted(keep)]


def with_gaps(frame: pd.DataFrame, x: str, step: pd.Timedelta) -> pd.DataFrame:
    """``frame`` with an empty row wherever more than one and a half steps are missing between neighbours."""
    if len(frame) < 2:
        return frame
    ordered = frame.sort_values(x, kind="stable")
    before = ordered[x].shift()
    breaks = ordered[x] - before > 1.5 * step
    if not breaks.any():
        return ordered
    empty = pd.DataFrame({x: before[breaks] + step}).reindex(columns=ordered.columns)
    joined = pd.concat([ordered.astype(dict.fromkeys(_integers(ordered), "float64")), empty.dropna(axis=1, how="all")])
    return joined.sort_values(x, kind="stable", ignore_index=True)


def _integers(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame.columns if pd.api.types.is_integer_dtype(frame[c]) or pd.api.types.is_bool_dtype(frame[c])]
